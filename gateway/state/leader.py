"""Of several processes one does what is to be done once.  Blocks, for a moment."""

from __future__ import annotations

import fcntl
import os

from gateway.errors import LedgerUnusable


class LeaderLock:
    """A file's ``flock``: whoever has it, the kernel takes it back when the process ends.

    So there is no time after which another may take over too early, and none
    to wait for after a crash.
    """

    def __init__(self, path: str) -> None:
        """The file is made where it is missing, and stays."""
        self.path = path
        self._file: int | None = None

    def take(self) -> bool:
        """Whether it is ours, now or since an earlier call; raises ``LedgerUnusable``."""
        if self._file is not None:
            return True
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise LedgerUnusable(f"{self.path}: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except OSError as error:
            os.close(file)
            raise LedgerUnusable(f"{self.path}: {error.strerror}") from error
        self._file = file
        return True

    def give_back(self) -> None:
        """The next who asks may have it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
