"""The audit: a line of JSON for every message, on stable storage before the message goes.

Blocks: for a worker.  Several processes may write to one file.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from gateway.durable import sync_directory, write_all
from gateway.errors import StoreDown
from gateway.model import Removed
from gateway.units import time_text

__all__ = ["Audit"]

_PRECISION = "milliseconds"


class Audit:
    """Appends to a file, and starts another when it has grown large."""

    def __init__(
        self, path: str, *, max_octets: int, keep: int, now: Callable[[], float] = time.time
    ) -> None:
        """So many old files are kept: ``path`` with ``.1``, the latest, ``.2`` and so on."""
        self.path = path
        self._max_octets = max_octets
        self._keep = keep
        self._now = now

    def __call__(self, removed: Iterable[Removed]) -> None:
        """Write a line for each, all or none; raises ``StoreDown``."""
        when = self._now()
        lines = "".join([_line(when, one) for one in removed]).encode("ascii")
        if not lines:
            return
        try:
            with self._opened(len(lines)) as file:
                _append(file, lines)
        except OSError as error:
            raise StoreDown(f"{self.path}: {error.strerror or error}") from error

    @contextmanager
    def _opened(self, octets: int) -> Iterator[int]:
        """The file, locked, with room for so many more octets."""
        while True:
            file = os.open(
                self.path,
                os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
            )
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not self._is_current(file):
                    continue
                size = os.fstat(file).st_size
                if size and size + octets > self._max_octets:
                    self._rotate()
                    continue
                if not size:
                    sync_directory(os.path.dirname(self.path) or ".")
                yield file
                return
            finally:
                os.close(file)

    def _is_current(self, file: int) -> bool:
        """Whether nobody has put another in its place while we waited for the lock."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(file))
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        """Give every file the next number, by whoever has the current one locked."""
        for number in range(self._keep - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.rename(self.path, f"{self.path}.1")


def _append(file: int, lines: bytes) -> None:
    """Write all of it and make it last, or leave the file as it was."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        # Another process died while it wrote: its half line must not spoil ours.
        lines = b"\n" + lines
    try:
        write_all(file, lines)
        os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise


def _line(when: float, removed: Removed) -> str:
    said = {
        "time": time_text(when, _PRECISION),
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
    }
    return json.dumps(said) + "\n"
