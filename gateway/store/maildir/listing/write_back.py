"""Tells from a file's time whether the kernel has written it to disk, though the clock may jump.

A file with an ``mtime`` long ago needs no sync.  But after the clock was set ahead, one that was
written a moment before looks as old.
"""

from __future__ import annotations

import time
from collections.abc import Callable

AFTER = 600.0
"""Seconds after which the kernel has written data back to disk; Linux's default is 30."""

JUMP = 60.0
"""Seconds by which the time of day must jump to count; less makes no young file look so old."""


class WriteBack:
    """The clocks of a process, observed from its start."""

    def __init__(
        self,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``now`` in Unix seconds; ``monotonic`` in seconds, no matter since when."""
        self._now = now
        self._monotonic = monotonic
        self._apart = now() - monotonic()
        # Times from before the start are believed, or each mailbox would cost a sync after it.
        self._steady_since = float("-inf")

    def is_done(self, changed: float) -> bool:
        """Whether a file of this ``mtime``, in Unix seconds, is on disk without a sync."""
        now, monotonic = self._now(), self._monotonic()
        if abs(now - monotonic - self._apart) > JUMP:
            # First what makes other threads doubt.
            self._steady_since = monotonic
            self._apart = now - monotonic
        return min(now - changed, monotonic - self._steady_since) >= AFTER


WRITE_BACK = WriteBack()
"""That of this process, and of those it was forked from."""
