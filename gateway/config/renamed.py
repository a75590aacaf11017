"""Settings that had another name before the first release."""

from __future__ import annotations

from collections.abc import Mapping

RENAMED: Mapping[str, str] = {
    "state": "state_dir",
    "tls.self_made": "tls.self_signed",
    "store.workers": "store.threads",
    "directory.workers": "directory.threads",
    "lmtp.workers": "lmtp.threads",
    "lmtp.detail": "lmtp.recipient_delimiter",
    "retention.busy": "retention.pause_above_queue",
    "retention.backlog_share": "retention.max_removal_share",
    "retention.backlog_least": "retention.max_removal_least",
}
"""Old key to new key.  An old key is an error that names the new one."""
