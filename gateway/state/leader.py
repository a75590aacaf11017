"""Leader election by file lock: of several processes one does what is done once."""

from __future__ import annotations

import os
from threading import Lock

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from gateway.errors import LedgerUnusable
from gateway.flock import locked
from gateway.interfaces import ILeader, Run

NAME = "leader.lock"
"""The file in the state directory."""


class LeaderLock:
    """A file's ``flock``, which the kernel takes back when its process ends.  Blocks, briefly.

    So no other process takes over too early, and none waits after a crash.
    """

    def __init__(self, path: str) -> None:
        """The file is made where it is missing, and stays."""
        self.path = path
        self._file: int | None = None
        self._one_at_a_time = Lock()

    def take(self) -> bool:
        """Whether it is ours, now or since an earlier call; raises ``LedgerUnusable``."""
        with self._one_at_a_time:
            if self._file is None:
                try:
                    self._file = self._take()
                except OSError as error:
                    raise LedgerUnusable(f"{self.path}: {error.strerror}") from error
            return self._file is not None

    def _take(self) -> int | None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return locked(os.open(self.path, flags, 0o600))

    def give_back(self) -> None:
        """Let another process take it."""
        with self._one_at_a_time:
            if self._file is not None:
                os.close(self._file)
                self._file = None


@implementer(ILeader)
class FlockLeader:
    """An ``ILeader`` among the processes that use the same state directory."""

    def __init__(self, directory: str, run: Run) -> None:
        """``run``: does what blocks."""
        self._lock = LeaderLock(os.path.join(directory, NAME))
        self._run = run
        self._is_led = False
        self._resigned = False

    def is_leader(self) -> Deferred[bool]:
        """Whether the lock is ours; it is taken where it is free, but not after ``resign``."""

        def take() -> bool:
            self._is_led = False
            is_ours = self._lock.take()
            self._is_led = True
            return is_ours

        return succeed(False) if self._resigned else self._run(take)

    @property
    def is_led(self) -> bool:
        """Whether this or another process had the lock when this one last asked."""
        return self._is_led

    def resign(self) -> Deferred[None]:
        """Give the lock back."""
        self._resigned = True
        return self._run(self._lock.give_back)
