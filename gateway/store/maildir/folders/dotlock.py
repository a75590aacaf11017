"""The lock on a uidlist, shared with Dovecot."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache

from twisted.logger import Logger

from gateway.durable import write_all
from gateway.errors import StoreDown
from gateway.store.maildir.folders.files import no_link, open_new
from gateway.store.maildir.folders.place import Place

log = Logger()

STALE = 120.0
"""Seconds after which a lock file counts as stale, as in Dovecot."""

WATCHED = 10_000
"""Lock files of other programs for which a process remembers when it saw them first."""


@contextmanager
def flocked(
    maildir: Place,
    *,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Hold the ``flock`` of a Maildir, which excludes other processes of pop3gw.

    The kernel releases it when a process dies.  Blocks: call it in a thread.  Raises
    ``StoreDown`` after ``timeout`` seconds, or ``OSError``: ``FileNotFoundError`` too if
    the directory was renamed or deleted meanwhile.
    """
    file = maildir.open_directory()
    try:
        _until(lambda: _flocked(file), now() + timeout, maildir.name, sleep, now)
        maildir.check_still_there(file)
        yield
    finally:
        os.close(file)


@contextmanager
def lock_file(
    maildir: Place,
    name: str,
    *,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
    unix_time: Callable[[], float] = time.time,
) -> Iterator[None]:
    """Hold ``name`` + ``.lock`` (made with O_EXCL); the caller has the Maildir ``flocked``.

    It excludes other programs; among processes of pop3gw the ``flock`` does.  A lock of a
    dead process is removed: ``unix_time`` tells its age, ``now`` how long it stays the same.
    Raises as ``flocked`` does.
    """
    lock = f"{name}.lock"
    named = f"{maildir.name}/{lock}"
    held = _until(lambda: _made(maildir, lock, now, unix_time), now() + timeout, named, sleep, now)
    try:
        yield
    finally:
        _give_back(maildir, lock, held)


@contextmanager
def dotlock(
    maildir: Place,
    name: str,
    *,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
    unix_time: Callable[[], float] = time.time,
) -> Iterator[None]:
    """Hold both locks; raises as they do, after ``timeout`` seconds."""
    begun = now()
    with flocked(maildir, timeout=timeout, sleep=sleep, now=now):
        left = begun + timeout - now()
        with lock_file(maildir, name, timeout=left, sleep=sleep, now=now, unix_time=unix_time):
            yield


def _until(
    attempt: Callable[[], int | None],
    deadline: float,
    lock: str,
    sleep: Callable[[float], None],
    now: Callable[[], float],
) -> int:
    """The descriptor of a successful attempt."""
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


def _made(
    maildir: Place, lock: str, now: Callable[[], float], unix_time: Callable[[], float]
) -> int | None:
    """Try to create the lock file atomically with its content, and keep it open."""
    mark = _mark()
    ours = f"{lock}.pop3gw"
    file = _ready(maildir, ours, mark)
    made = False
    try:
        maildir.link(ours, lock)
        made = True
    except FileExistsError:
        if _abandoned(maildir, lock, mark, now, unix_time):
            with suppress(FileNotFoundError):
                maildir.unlink(lock)
    finally:
        if not made:
            os.close(file)
    return file if made else None


def _ready(maildir: Place, ours: str, mark: bytes) -> int:
    """The file that the lock file is a hard link to.

    It stays, because creating and removing a file is the largest cost of a lock: ext4
    avoids inodes that were freed recently.
    """
    try:
        file = maildir.open(ours, os.O_RDONLY)
        try:
            if os.read(file, len(mark) + 1) == mark:
                # Other programs detect stale locks by their age.
                os.utime(file)
                return file
        except OSError:
            os.close(file)
            raise
        os.close(file)
    except OSError:
        # Another user's file, a link, or none.
        pass
    file = open_new(maildir.at(ours), 0o666)
    try:
        write_all(file, mark)
    except OSError:
        os.close(file)
        with suppress(OSError):
            maildir.unlink(ours)
        raise
    return file


def _give_back(maildir: Place, lock: str, held: int) -> None:
    """Remove the lock file, unless another program replaced it as stale.

    A replacement between check and ``unlink`` is possible, only after a hold of ``STALE``
    seconds: no system call does both.  One that cannot be removed is only logged: what was done
    under it is done, other processes of pop3gw take it over at once, and Dovecot when it is stale.
    """
    try:
        # Ours is open, so its inode cannot belong to another file.
        if maildir.has(lock, os.fstat(held)):
            maildir.unlink(lock)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warn("{maildir}/{lock} stays: {error}", maildir=maildir, lock=lock, error=error)
    finally:
        os.close(held)


@cache
def _mark() -> bytes:
    """The content of a lock file, the same for all processes on this kernel."""
    try:
        # Not the host name: containers on one machine have different, changing ones.
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return b"pop3gw " + file.read().strip()
    except OSError:
        return f"pop3gw {socket.gethostname()}".encode()


def _abandoned(
    maildir: Place,
    lock: str,
    mark: bytes,
    now: Callable[[], float],
    unix_time: Callable[[], float],
) -> bool:
    """Whether the lock file is stale: its process is dead, or it is too old."""
    try:
        status = maildir.lstat(lock)
        with open(maildir.at(lock), "rb", opener=no_link) as file:
            content = file.read(len(mark) + 1)
    except FileNotFoundError:
        return False
    # We hold the flock, so the process of pop3gw that wrote it is dead.
    if content == mark:
        return True
    # mtime can be set to the future; ctime is when that was done.
    age = unix_time() - min(status.st_mtime, status.st_ctime)
    # Its times are of a clock that was set back since, or of a file server's that is ahead:
    # then it looks young for as long as they differ.
    return age > STALE or now() - _first_seen(_version_of(status), now) > STALE


_Version = tuple[int, int, int, int]


def _version_of(status: os.stat_result) -> _Version:
    """A program that holds its lock for long touches it."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(maxsize=WATCHED)
def _first_seen(_: _Version, now: Callable[[], float]) -> float:
    """When this process first found the lock file to be so, by this clock."""
    return now()
