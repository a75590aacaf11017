"""Bodies on the local disk: those that were read lately, up to a number of octets.

A body never changes, so what is here is right for as long as it is asked for.  Nothing is
synced, and nothing of an earlier process is used: a file may be torn by a crash.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import StoreDown
from gateway.interfaces import IBody, Run
from gateway.model import Form
from gateway.store.maildir.folders.files import FileBody

log = Logger()

LARGEST = 256 * 1024
"""Octets of a body that is kept: of a larger one the transfer costs most, not the request."""

WAITING = 4 * 1024 * 1024
"""Octets that wait to be written; what comes meanwhile is not kept."""

PREFIX = "bodies-"

ABANDONED = 60.0
"""Seconds after which a directory without a lock belongs to nobody."""


class BodyCache:
    """The bodies that one process keeps.  The least recently used one goes first."""

    def __init__(self, directory: str, most: int, run: Run) -> None:
        """``most``: octets; ``directory``: each process makes its own in it.

        Raises ``ValueError`` if it cannot.
        """
        self._most = most
        self._run = run
        self._sizes: OrderedDict[UUID, int] = OrderedDict()
        self._held = self._waiting = 0
        try:
            self._place = tempfile.mkdtemp(prefix=PREFIX, dir=directory)
            self._lock = _locked(self._place)
        except OSError as error:
            raise ValueError(f"body_cache: {directory}: {error.strerror}") from None
        run(lambda: _remove_abandoned(directory))

    def close(self) -> None:
        """Remove all."""
        self._most = 0
        shutil.rmtree(self._place, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def find(self, key: UUID, length: int, form: Form) -> IBody | None:
        """A body, if it is here."""
        if key not in self._sizes:
            return None
        path = self._path(key)
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            self._forget(key)
            return None
        if os.fstat(file).st_size != length:
            os.close(file)
            self._forget(key)
            return None
        self._sizes.move_to_end(key)
        return FileBody(file, length, form, path=path, no_nuls=False, run=self._run)

    def wants(self, length: int) -> bool:
        """Whether a body of this length would be kept."""
        return 0 < length <= min(LARGEST, self._most) and self._waiting + length <= WAITING

    def keep(self, key: UUID, body: bytes) -> Deferred[None]:
        """Keep a whole body.  Never fails."""
        self._waiting += len(body)

        def written(result: object) -> None:
            self._waiting -= len(body)
            if isinstance(result, Failure):
                self._give_up(result)
            elif key not in self._sizes:
                self._sizes[key] = len(body)
                self._held += len(body)
                while self._held > self._most:
                    self._drop(next(iter(self._sizes)))

        return self._run(lambda: self._write(key, body)).addBoth(written)

    def _write(self, key: UUID, body: bytes) -> None:
        """Blocks."""
        path = self._path(key)
        try:
            with open(f"{path}.new", "wb") as file:
                file.write(body)
            os.rename(f"{path}.new", path)
        except OSError as error:
            raise StoreDown(f"body_cache: {path}: {error.strerror}") from error

    def _give_up(self, failure: Failure) -> None:
        if self._most:
            self._most = 0
            log.warn(
                "{fault}; bodies come from S3 until the next start", fault=failure.getErrorMessage()
            )

    def _drop(self, key: UUID) -> None:
        self._forget(key)
        with suppress(OSError):
            os.unlink(self._path(key))

    def _forget(self, key: UUID) -> None:
        self._held -= self._sizes.pop(key)

    def _path(self, key: UUID) -> str:
        return f"{self._place}/{key.hex}"


def _locked(place: str) -> int | None:
    """A descriptor that holds the lock of a directory; None: a living process has it."""
    file = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _remove_abandoned(directory: str) -> None:
    """Remove what processes that were killed have left.  Blocks."""
    for found in Path(directory).glob(f"{PREFIX}*"):
        with suppress(OSError):
            # A new one may not be locked yet.
            if time.time() - found.stat().st_mtime < ABANDONED:
                continue
            lock = _locked(str(found))
            if lock is not None:
                shutil.rmtree(found, ignore_errors=True)
                os.close(lock)
