"""Whether users could have a server of root read others' files by hard links in their Maildirs."""

from __future__ import annotations

import os
from contextlib import suppress

from gateway.app.first_start import User
from gateway.config.settings import Settings
from gateway.store.maildir.kind import MaildirSettings

SYSCTL = "/proc/sys/fs/protected_hardlinks"
"""1: users can link only what they own, or may read and write (proc_sys_fs(5)).

systemd sets it; the kernel's own default is 0.
"""


def hard_links_remark(settings: Settings, user: User | None, sysctl: str = SYSCTL) -> str:
    """The danger and its cure, for the log; empty: there is none, or nobody can tell.

    ``user``: that which the process changes to; None: it stays who it is.
    """
    is_root = user is None and os.geteuid() == 0
    if not is_root or not isinstance(settings.store, MaildirSettings):
        return ""
    with suppress(OSError), open(sysctl, encoding="ascii") as file:
        # A check of owners would refuse the mail that root has copied into a user's Maildir.
        if file.read().strip() == "0":
            return (
                "fs.protected_hardlinks is 0 and pop3gw runs as root: who can write to a Maildir"
                " can read and change any file of its disk by a hard link to it;"
                " sysctl fs.protected_hardlinks=1, and a line in /etc/sysctl.d to keep it"
            )
    return ""
