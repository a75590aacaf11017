"""The lock that Dovecot and we share on a Maildir's uidlist."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache

from gateway.durable import write_all
from gateway.errors import StoreDown
from gateway.store.maildir.folders.files import no_link, open_new

STALE = 120.0
"""Seconds after which Dovecot takes a lock file for a dead program's, and so do we."""

AHEAD = 3600.0
"""Seconds by which no clock of a file server that works is ahead of ours."""


@contextmanager
def flocked(
    directory: str,
    *,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> Iterator[None]:
    """Keep our own processes out of a directory for the length of a ``with``.

    They queue on its ``flock``, which the kernel gives back when one of them
    dies.  Blocks, so it belongs on a worker.  Raises ``StoreDown`` after
    ``timeout`` seconds, or ``OSError``.
    """
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _until(lambda: _flocked(file), now() + timeout, directory, sleep, now)
        yield
    finally:
        os.close(file)


@contextmanager
def lock_file(
    path: str,
    *,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> Iterator[None]:
    """Hold ``path`` + ``.lock`` (made with O_EXCL); the caller has the directory ``flocked``.

    Among our own processes it is never contended; it is there for other
    programs.  A lock of a dead process is removed.  Raises as ``flocked`` does.
    """
    lock = path + ".lock"
    held = _until(lambda: _made(lock, now), now() + timeout, lock, sleep, now)
    try:
        yield
    finally:
        _give_back(lock, held)


@contextmanager
def dotlock(
    path: str,
    *,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> Iterator[None]:
    """Hold both locks; raises as they do after ``timeout`` seconds."""
    begun = now()
    with flocked(os.path.dirname(path), timeout=timeout, sleep=sleep, now=now):
        left = begun + timeout - now()
        with lock_file(path, timeout=left, sleep=sleep, now=now):
            yield


def _until(
    attempt: Callable[[], int | None],
    deadline: float,
    lock: str,
    sleep: Callable[[float], None],
    now: Callable[[], float],
) -> int:
    """The descriptor that an attempt has come by."""
    pause = 0.002
    while (held := attempt()) is None:
        if now() >= deadline:
            raise StoreDown(f"{lock} is held by another program")
        sleep(pause)
        pause = min(pause * 2, 0.1)
    return held


def _flocked(directory: int) -> int | None:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return directory


def _made(lock: str, now: Callable[[], float]) -> int | None:
    """Try to make the lock file, which appears with its content or not at all, and keep it open."""
    mark = _mark()
    ours = f"{lock}.pop3gw"
    file = _ready(ours, mark)
    made = False
    try:
        os.link(ours, lock)
        made = True
    except FileExistsError:
        if _abandoned(lock, mark, now):
            with suppress(FileNotFoundError):
                os.unlink(lock)
    finally:
        if not made:
            os.close(file)
    return file if made else None


def _ready(ours: str, mark: bytes) -> int:
    """The file that the lock file will be another name of.

    It stays, since to make one and remove it is what a lock would cost most:
    ext4 looks for an inode that was not freed a moment ago.
    """
    try:
        file = no_link(ours, os.O_RDONLY)
        try:
            if os.read(file, len(mark) + 1) == mark:
                # Others see by its age whether its owner still lives.
                os.utime(file)
                return file
        except OSError:
            os.close(file)
            raise
        os.close(file)
    except OSError:
        # Another user's, or a link; or there is none.
        pass
    file = open_new(ours, 0o666)
    try:
        write_all(file, mark)
    except OSError:
        os.close(file)
        with suppress(OSError):
            os.unlink(ours)
        raise
    return file


def _give_back(lock: str, held: int) -> None:
    """Remove the lock file, unless another program took it for a dead one's and made its own.

    That can still happen between our look and our ``unlink``, which no system
    call joins: a moment at the end of a hold of ``STALE`` seconds.
    """
    try:
        # Ours is open, so that its inode cannot be another file's by now.
        if os.path.samestat(os.lstat(lock), os.fstat(held)):
            os.unlink(lock)
    except FileNotFoundError:
        return
    finally:
        os.close(held)


@cache
def _mark() -> bytes:
    """What we write into a lock file, the same for all who share this kernel's ``flock``."""
    try:
        # Containers on one machine have host names of their own, and new ones after a restart.
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return b"pop3gw " + file.read().strip()
    except OSError:
        return f"pop3gw {socket.gethostname()}".encode()


def _abandoned(lock: str, mark: bytes, now: Callable[[], float]) -> bool:
    """Whether the writer of a lock file is dead, or it has stood for too long."""
    try:
        status = os.lstat(lock)
        with open(lock, "rb", opener=no_link) as file:
            content = file.read(len(mark) + 1)
    except FileNotFoundError:
        return False
    # Anybody may set the one time to what is yet to come; the other is when that was done.
    age = now() - min(status.st_mtime, status.st_ctime)
    # We hold the flock, so a process of ours that left its mark has died.
    return content == mark or age > STALE or age < -AHEAD
