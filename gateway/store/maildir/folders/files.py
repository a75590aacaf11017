"""Files: read messages from the page cache or in a thread; create new files safely."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from gateway.durable import FULL, write_all
from gateway.errors import MailboxUnusable, MessageUnreadable, NoRoom, SizeChanged, StoreDown
from gateway.interfaces import IBody, Run
from gateway.model import Form
from gateway.wire.body import Measure

log = Logger()

CHUNK = 128 * 1024
"""Octets per read."""


_PERMANENT = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP), ""),
    errno.EISDIR: " in place of a file: move it away",
}
"""Errors that an administrator must repair, and the cure."""


def store_error(error: OSError, path: str = "file") -> StoreDown | MailboxUnusable:
    """The store's error for an ``OSError``: temporary, no room, or for the administrator.

    ``path``: the file, if the error does not name it.
    """
    kind: type[StoreDown | MailboxUnusable] = StoreDown
    if error.errno in _PERMANENT:
        kind = MailboxUnusable
    elif error.errno in FULL:
        kind = NoRoom
    elif error.errno == errno.EBADMSG:
        kind = MessageUnreadable
    cure = _PERMANENT.get(error.errno or 0, "")
    return kind(f"{error.filename or path}: {error.strerror or error}{cure}")


def no_link(path: str, flags: int, directory: int | None = None) -> int:
    """An ``opener`` that follows no link of a user, and does not wait for a fifo.

    A relative path starts from an open ``directory``.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(path, flags, 0o666, dir_fd=directory)


def open_new(path: str, mode: int) -> int:
    """Open a new file for writing; replaces an existing one.  Raises ``OSError``."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def keep_owner(file: int, path: str) -> None:
    """Give a new file the owner and mode of the one it replaces, or else of its directory.

    Dovecot, which may run as another user, must read and write it.
    """
    try:
        old = _status_of(path) or os.stat(os.path.dirname(path))
        os.fchmod(file, old.st_mode & 0o666)
        os.fchown(file, old.st_uid, old.st_gid)
    except PermissionError:
        return


def replace(path: str, data: bytes, *, sync: bool) -> os.stat_result:
    """Replace a file by one with this content; returns its status.

    ``sync``: sync the content to disk first.  Raises ``OSError``, and then the old file
    stays.
    """
    written = f"{path}.pop3gw"
    try:
        made = open_new(written, 0o600)
        try:
            write_all(made, data)
            if sync:
                os.fsync(made)
            keep_owner(made, path)
            status = os.fstat(made)
        finally:
            os.close(made)
        os.rename(written, path)
    except OSError:
        remove(written)
        raise
    return status


def keep_copy(path: str, other: str) -> None:
    """Keep a copy of a file under another name, if possible."""
    with suppress(OSError), open(path, "rb", opener=no_link) as file:
        replace(other, file.read(), sync=False)


def _status_of(path: str) -> os.stat_result | None:
    """A file's own; None where there is none, or a link or another name of somebody's file."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else None


def remove(path: str) -> None:
    """Remove a file, if possible."""
    with suppress(OSError):
        os.unlink(path)


_MESSAGE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class NotRegular(FileNotFoundError):
    """Raised for a link, a directory or a device in place of a message."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ENOENT, "not a regular file", path)


def open_message(path: str, directory: int | None = None) -> tuple[int, os.stat_result]:
    """A descriptor and the file's status.  A relative path starts from an open ``directory``.

    Raises ``OSError``, ``FileNotFoundError`` included, and ``NotRegular`` for links and
    devices, which a user may have put into a Maildir.
    """
    try:
        file = os.open(path, _MESSAGE, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise NotRegular(path) from None
        raise
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        os.close(file)
        raise NotRegular(path)
    return file, status


def read_at_once(file: int, size: int) -> bytes | None:
    """All ``size`` octets of an open file; None: reading would wait for the disk, or fail."""
    buffer = bytearray(size)
    try:
        got = os.preadv(file, (buffer,), 0, os.RWF_NOWAIT)
    except OSError:
        return None
    # Under memory pressure it returns fewer.
    return bytes(buffer) if got == size else None


def version_of(status: os.stat_result) -> int:
    """A number that changes when the file is written to.

    It combines size and ``mtime`` in one signed 64-bit integer, since a mailbox keeps one
    per message.  It is the same in all threads.
    """
    return hash((status.st_size, status.st_mtime_ns))


@implementer(IBody)
class FileBody:
    """One open message file."""

    __slots__ = ("_at", "_counted", "_done", "_file", "_no_nuls", "_path", "_run", "_size", "form")

    def __init__(
        self,
        file: int,
        size: int,
        form: Form,
        *,
        path: str,
        no_nuls: bool,
        run: Run,
    ) -> None:
        """``path``: for the log."""
        self.form = form
        self._path = path
        self._file = file
        self._size = size
        self._at = 0
        self._no_nuls = no_nuls
        self._run = run
        self._counted: Measure | None = None
        self._done: Callable[[Measure], None] | None = None

    def count(self, counted: Measure, done: Callable[[Measure], None]) -> None:
        """Feed all octets to ``counted``; call ``done`` with it after the last one."""
        self._counted, self._done = counted, done

    def read_now(self) -> bytes | None:
        """The next chunk if it is in the page cache."""
        wanted = min(CHUNK, self._size - self._at)
        if wanted <= 0:
            return b""
        buffer = bytearray(wanted)
        try:
            got = os.preadv(self._file, (buffer,), self._at, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return None
            raise store_error(error, self._path) from error
        return self._took(bytes(buffer) if got == wanted else bytes(buffer[:got]))

    def read(self) -> Deferred[bytes]:
        """The next chunk, read in a thread."""
        return self._run(self._pread).addCallback(self._took)

    def _pread(self) -> bytes:
        try:
            return os.pread(self._file, CHUNK, self._at)
        except OSError as error:
            raise store_error(error, self._path) from error

    def _took(self, data: bytes) -> bytes:
        if not data:
            raise SizeChanged(f"{self._path}: the file ended before its size")
        self._at += len(data)
        if self._counted is not None and self._done is not None:
            self._counted.feed(data)
            if self._at == self._size:
                self._done(self._counted)
        return data.replace(b"\0", b"\x80") if self._no_nuls else data

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def complain(place: object, fault: str, found: Sequence[str]) -> None:
    """Log the number of ``found`` and the first one in one line, if there are any."""
    if found:
        log.warn(
            "{place}: {count} {fault}, the first is {first}",
            place=place,
            count=len(found),
            fault=fault,
            first=found[0],
        )
