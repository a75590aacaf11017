"""Bodies on the local disk: those that were read lately, up to a number of octets.

A body never changes, so what is here is right for as long as it is asked for.  Nothing is
synced, and nothing of an earlier process is used: a file may be torn by a crash.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import Overloaded, StoreDown
from gateway.flock import locked
from gateway.interfaces import Run
from gateway.store.maildir.folders.files import read_at_once

log = Logger()

LARGEST = 256 * 1024
"""Octets of a body that is kept: of a larger one the transfer costs most, not the request."""

WAITING = 4 * 1024 * 1024
"""Octets that wait to be written; what comes meanwhile is not kept."""

PREFIX = "bodies-"

ABANDONED = 60.0
"""Seconds after which a directory without a lock belongs to nobody."""


class Place(NamedTuple):
    """The directory of a process."""

    path: str
    lock: int
    """A descriptor that holds its lock."""


class BodyCache:
    """The bodies that one process keeps.  The least recently used one goes first."""

    def __init__(self, directory: str, most: int, run: Run) -> None:
        """``most``: octets; ``directory``: each process makes its own in it, with the first body.

        Raises ``ValueError`` if ``directory`` is of no use.
        """
        self._directory = directory
        self._most = most
        self._run = run
        self._sizes: OrderedDict[UUID, int] = OrderedDict()
        self._writing: set[UUID] = set()
        self._held = self._waiting = 0
        self._is_beginning = self._is_closed = False
        self._place: Place | None = None
        try:
            os.scandir(directory).close()
            if not os.access(directory, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise ValueError(f"body_cache: {directory}: {error.strerror}") from None

    def close(self) -> None:
        """Remove all, in a thread."""
        self._is_closed = True
        self._sizes.clear()
        self._held = 0
        place, self._place = self._place, None
        if place is not None:
            self._give_back(place)

    def _give_back(self, place: Place) -> None:
        # Under another name nothing is written to it any more.
        closed = f"{place.path}.closed"
        with suppress(OSError):
            os.rename(place.path, closed)

        def failed(failure: Failure) -> None:
            os.close(place.lock)
            _not_removed(failure)

        self._run(lambda: _remove(closed, place.lock)).addErrback(failed)

    def has(self, key: UUID) -> bool:
        """Whether a body is here."""
        return key in self._sizes

    def read_now(self, key: UUID, length: int) -> bytes | None:
        """A body, if it is here and can be read without waiting.  Never raises."""
        if self._place is None or key not in self._sizes:
            return None
        self._sizes.move_to_end(key)
        try:
            with _opened(_path(self._place, key), length) as file:
                return read_at_once(file, length) or None
        except OSError:
            self._drop(key)
            return None

    async def find(self, key: UUID, length: int) -> bytes | None:
        """A body, if it is here and can be read.  Never raises."""
        body = self.read_now(key, length)
        if body is not None or self._place is None or key not in self._sizes:
            return body
        try:
            # The thread opens it again: it may read on when nobody waits for it any more.
            return await self._run(partial(_read, _path(self._place, key), length))
        except Overloaded:
            return None
        except OSError:
            self._drop(key)
            return None

    def wants(self, length: int) -> bool:
        """Whether a body of this length would be kept."""
        fits = 0 < length <= min(LARGEST, self._most) and self._waiting + length <= WAITING
        return fits and not self._is_closed

    def keep(self, key: UUID, body: bytes) -> Deferred[None]:
        """Keep a whole body, unless it is here already.  Never fails.

        What comes before there is a directory is not kept.
        """
        if self._place is None:
            self._begin()
        if self._place is None or key in self._sizes or key in self._writing:
            return succeed(None)
        self._waiting += len(body)
        self._writing.add(key)

        def written(result: object) -> None:
            self._waiting -= len(body)
            self._writing.discard(key)
            if self._is_closed:
                return
            if isinstance(result, Failure):
                # Threads that are busy say nothing of the disk.
                if not result.check(Overloaded):
                    self._give_up(result)
                return
            self._sizes[key] = len(body)
            self._held += len(body)
            while self._held > self._most:
                self._drop(next(iter(self._sizes)))

        return self._run(partial(_write, _path(self._place, key), body)).addBoth(written)

    def _begin(self) -> None:
        """Make the directory: not before a server runs, and as the user that it runs as."""
        if self._is_beginning or self._is_closed:
            return
        self._is_beginning = True

        def begun(place: Place) -> None:
            if self._is_closed:
                self._give_back(place)
                return
            self._place = place
            self._run(lambda: _remove_abandoned(self._directory)).addErrback(_not_removed)

        def failed(failure: Failure) -> None:
            self._is_beginning = False
            if not failure.check(Overloaded):
                self._give_up(failure)

        self._run(lambda: _make_place(self._directory)).addCallbacks(begun, failed)

    def _give_up(self, failure: Failure) -> None:
        if self._is_closed:
            return
        log.warn(
            "{fault}; bodies come from S3 until the next start", fault=failure.getErrorMessage()
        )
        self.close()

    def _drop(self, key: UUID) -> None:
        self._held -= self._sizes.pop(key, 0)
        if self._place is not None:
            with suppress(OSError):
                os.unlink(_path(self._place, key))


def _path(place: Place, key: UUID) -> str:
    return f"{place.path}/{key.hex}"


@contextmanager
def _opened(path: str, length: int) -> Iterator[int]:
    """The descriptor of a file of this length.  Raises ``OSError``."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if os.fstat(file).st_size != length:
            raise _torn(path)
        yield file
    finally:
        os.close(file)


def _read(path: str, length: int) -> bytes:
    """A whole file.  Blocks.  Raises ``OSError``."""
    with _opened(path, length) as file:
        body = os.pread(file, length, 0)
    if len(body) != length:
        raise _torn(path)
    return body


def _torn(path: str) -> OSError:
    return OSError(errno.EIO, "not as long as what was written", path)


def _write(path: str, body: bytes) -> None:
    """Blocks.  Raises ``StoreDown``."""
    try:
        with open(f"{path}.new", "wb") as file:
            file.write(body)
        os.rename(f"{path}.new", path)
    except OSError as error:
        raise StoreDown(f"body_cache: {path}: {error.strerror}") from error


def _make_place(directory: str) -> Place:
    """Blocks.  Raises ``StoreDown``."""
    try:
        path = tempfile.mkdtemp(prefix=PREFIX, dir=directory)
        try:
            lock = _locked(path)
            if lock is None:
                raise BlockingIOError(errno.EAGAIN, "another process has its lock")
        except OSError:
            os.rmdir(path)
            raise
    except OSError as error:
        raise StoreDown(f"body_cache: {directory}: {error.strerror}") from error
    return Place(path, lock)


def _locked(place: str) -> int | None:
    """A descriptor that holds the lock of a directory; None: a living process has it."""
    return locked(os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW))


def _remove(place: str, lock: int) -> None:
    """Blocks."""
    shutil.rmtree(place, ignore_errors=True)
    os.close(lock)


def _remove_abandoned(directory: str) -> None:
    """Remove what processes that were killed have left.  Blocks."""
    for found in Path(directory).glob(f"{PREFIX}*"):
        with suppress(OSError):
            # A new one may not be locked yet.
            if time.time() - found.stat().st_mtime < ABANDONED:
                continue
            lock = _locked(str(found))
            if lock is not None:
                _remove(str(found), lock)


def _not_removed(failure: Failure) -> None:
    """The next process that starts tries it again."""
    if not failure.check(Overloaded):
        log.failure("internal error: body_cache", failure)
