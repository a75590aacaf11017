"""The audit: a line of JSON for every message, on stable storage before the message goes.

Room for lines is reserved behind the end of the file, so that on a full disk
users can still delete.  Blocks: for a worker.  Several processes may write to one file.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from gateway.durable import FULL, allocate, sync_directory, write_all
from gateway.errors import NoRoom, StoreDown
from gateway.model import Removed
from gateway.units import time_text

__all__ = ["Audit"]

RESERVED = 4 * 1024 * 1024
"""Octets behind the end of the file that only the audit can use: more than 10,000 lines."""

_OVERHEAD = 16 * 1024
"""Octets of a file's blocks that may hold metadata."""

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_PRECISION = "milliseconds"


class Audit:
    """Appends to a file, and starts another when it has grown large."""

    def __init__(
        self, path: str, *, max_octets: int, keep: int, now: Callable[[], float] = time.time
    ) -> None:
        """``keep``: how many old files stay: ``path`` with ``.1``, the latest, ``.2`` and so on."""
        self.path = path
        self._max_octets = max_octets
        self._keep = keep
        self._now = now

    def __call__(self, removed: Iterable[Removed]) -> None:
        """Write a line for each, all or none; raises ``StoreDown``, ``NoRoom`` on a full disk."""
        when = time_text(self._now(), _PRECISION)
        lines = "".join([_line(when, one) for one in removed]).encode("ascii")
        if not lines:
            return
        try:
            with self._opened(len(lines)) as file:
                _append(file, lines)
        except OSError as error:
            kind = NoRoom if error.errno in FULL else StoreDown
            raise kind(f"{self.path}: {error.strerror or error}") from error

    def reserve(self) -> None:
        """Make the file and reserve its room, before the disk is full.  Raises ``OSError``."""
        with self._opened(0) as file:
            _make_room(file, 0)

    @contextmanager
    def _opened(self, octets: int) -> Iterator[int]:
        """The file, locked; rotated before if ``octets`` more would exceed its largest size."""
        may_rotate = True
        while True:
            if not os.path.lexists(self.path):
                self._take_next()
            file = os.open(self.path, _FLAGS, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not self._is_current(file):
                    continue
                status = os.fstat(file)
                size = status.st_size
                if status.st_nlink > 1:
                    # A process died in ``_take_next``.
                    self._drop_next()
                if may_rotate and size and size + octets > self._max_octets:
                    may_rotate = self._rotate(file, size)
                    continue
                if not size:
                    sync_directory(self._directory)
                yield file
                return
            finally:
                os.close(file)

    @property
    def _next(self) -> str:
        return f"{self.path}.next"

    @property
    def _directory(self) -> str:
        return os.path.dirname(self.path) or "."

    def _is_current(self, file: int) -> bool:
        """Whether the path still names this file, after waiting for the lock."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(file))
        except FileNotFoundError:
            return False

    def _rotate(self, file: int, size: int) -> bool:
        """Give every file the next number; the caller has the current one locked.

        The next file gets its room first.  On a full disk it gets none: then the
        answer is False, and the current file goes on growing.
        """
        self._drop_next()
        try:
            made = os.open(self._next, _FLAGS | os.O_EXCL, 0o600)
            try:
                allocate(made, 0, RESERVED)
            finally:
                os.close(made)
        except OSError as error:
            self._drop_next()
            if error.errno not in FULL:
                raise
            return False
        for number in range(self._keep - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.rename(self.path, f"{self.path}.1")
        self._take_next()
        os.ftruncate(file, size)
        return True

    def _take_next(self) -> None:
        """Give the next file, if there is one, the current name, unless that is taken.

        One may be left over from a process that died in ``_rotate``.
        """
        with suppress(OSError):
            os.link(self._next, self.path)
        self._drop_next()

    def _drop_next(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._next)


def _append(file: int, lines: bytes) -> None:
    """Write all lines to stable storage, or leave the file as it was."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        # Another process died while it wrote: end its half line.
        lines = b"\n" + lines
    _make_room(file, len(lines))
    try:
        write_all(file, lines)
        os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise


def _make_room(file: int, octets: int) -> None:
    """Reserve room for ``octets`` and for later lines.

    Raises ``OSError`` if there is none, before anything is written: truncating
    a half line would free the room that is left.
    """
    status = os.fstat(file)
    left = status.st_blocks * 512 - status.st_size - _OVERHEAD
    if left >= octets + RESERVED // 2:
        return
    full = None
    for more in (RESERVED, RESERVED // 16, 0):
        try:
            allocate(file, status.st_size, octets + more)
        except OSError as error:
            if error.errno not in FULL:
                raise
            full = error
        else:
            return
    if full is not None and left < octets:
        raise full


def _line(when: str, removed: Removed) -> str:
    fields = {
        "time": when,
        "action": removed.action,
        "mailbox": removed.mailbox,
        "uid": removed.uid,
        "message_id": removed.message_id,
        "size": removed.size,
        "received": time_text(removed.received, _PRECISION),
        "read": None if removed.read is None else time_text(removed.read, _PRECISION),
        "rule": removed.cause.rule,
        "session": removed.cause.session,
        "client": removed.cause.client,
        "operator": removed.cause.operator,
    }
    return json.dumps(fields) + "\n"
