"""A message that is being delivered: a file in ``tmp``.  Blocks: call it in a thread."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import cache
from hashlib import blake2b
from itertools import count
from stat import S_IMODE
from typing import NamedTuple

from gateway.durable import write_all
from gateway.errors import GatewayError, StoreDown
from gateway.store.maildir.folders.files import remove, store_error
from gateway.store.maildir.folders.moves import move
from gateway.store.maildir.folders.place import Place
from gateway.wire.body import Canonical

HELD = 256 * 1024
"""Octets above which a message is written to its file before it is complete."""

PIECE = 1024 * 1024
"""Octets to copy at once."""

_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOENT})
"""Errors of ``link`` after which the file is copied."""

_sequence = count(1)


def unique_name(now_ns: int) -> str:
    """A unique Maildir name; ``now_ns`` since 1970."""
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    # Fixed width, so that names sort by time.
    unique = f"M{nanoseconds // 1000:06d}P{os.getpid()}Q{next(_sequence)}"
    return f"{seconds}.{unique}.{_host()}"


@cache
def _host() -> str:
    return host_part(socket.gethostname())


def host_part(host: str) -> str:
    """A host in a Maildir name, without ``/`` and ``:`` (cr.yp.to/proto/maildir.html)."""
    return host.replace("/", "\\057").replace(":", "\\072")


class Draft:
    """A message being written; one thread at a time until it is complete, then any number.

    The file has the octets that RETR sends: CRLF line ends, the last one included.  So
    the size is the same on disk and on the wire, and readers need not convert.
    """

    def __init__(
        self,
        now_ns: int,
        *,
        convert_cr: bool,
        share: bool = True,
        received_ns: int | None = None,
    ) -> None:
        """``share``: whether mailboxes may share one file by hard links.

        ``received_ns``: the time of the file, if it came earlier, since 1970.
        """
        self._received_ns = received_ns
        self.held = 0
        """Octets in memory."""
        self.size = 0
        """Octets stored."""
        self._name = unique_name(now_ns)
        self._convert_cr = convert_cr
        self._share = share
        self._text = Canonical(convert_cr=convert_cr)
        self._parts: list[bytes] = []
        self._file = -1
        self._paths: list[str] = []
        self._home: Place | None = None
        """The directories that its name in ``tmp`` needs, if a call has left them open."""
        self._named = f"tmp/{self._name}"
        """The path of its file, for the log."""
        self._owner = Owner(0, 0, 0)
        self._digest: blake2b | None = None
        """Of the octets written, if others than this process's user may write to the file."""
        self._complete = False
        self._spilled = False
        self._broken: GatewayError | None = None

    def take(self, data: bytes) -> None:
        """Add octets; does not block."""
        self._parts.append(data)
        self.held += len(data)

    def spill(self, opened: Callable[[], AbstractContextManager[Place]]) -> None:
        """Write the octets in memory to its file; if it has none yet, in the Maildir ``opened``.

        Raises ``StoreDown``, or as ``opened`` does, and then the draft is lost.
        """
        try:
            if self._file < 0:
                with opened() as maildir:
                    self._open(maildir)
                    self.keep_name(maildir)
            self._spilled = True
            self._write(self._text.feed(b"".join(self._parts)))
        except GatewayError as error:
            self._lose(error)
            raise
        except OSError as error:
            lost = store_error(error, self._named)
            self._lose(lost)
            raise lost from error
        finally:
            self._parts.clear()
            self.held = 0

    def _lose(self, error: GatewayError) -> None:
        self._broken = error
        self.discard()

    def complete(self, maildir: Place) -> None:
        """Sync the message to disk, in this Maildir's ``tmp`` if it has no file yet.

        A second call does nothing.  If it fails while all octets are in memory, another
        Maildir may be tried.  Raises ``OSError``, or as ``spill`` does.
        """
        if self._broken is not None:
            raise self._broken
        if self._complete:
            return
        try:
            if self._file < 0:
                self._open(maildir)
            text = self._text.feed(b"".join(self._parts)) + self._text.finish()
            self._write(text)
            if self._received_ns is not None:
                os.utime(self._file, ns=(self._received_ns, self._received_ns))
            os.fsync(self._file)
        except OSError as error:
            # The file may be in another mailbox than the one that this is called for.
            error.filename = error.filename or self._named
            if self._spilled:
                self._broken = store_error(error)
            self.discard()
            self._text, self.size = Canonical(convert_cr=self._convert_cr), 0
            raise
        self._complete = True
        self._parts.clear()

    def _open(self, maildir: Place) -> None:
        file = f"tmp/{self._name}"
        self._named = f"{maildir}/{file}"
        self._owner = _owner_of(maildir)
        self._file = maildir.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, self._owner.mode)
        self._paths.append(maildir.at(file))
        self._digest = blake2b() if self._owner.lets_others_write else None
        _give(self._file, self._owner)

    def keep_name(self, maildir: Place) -> None:
        """Keep what its name in ``tmp`` needs, if it still has one, when this Maildir is closed."""
        if self._paths and self._home is None:
            self._home = maildir.hand_over("tmp")

    def _write(self, data: bytes) -> None:
        write_all(self._file, data)
        self.size += len(data)
        if self._digest is not None:
            self._digest.update(data)

    def place(self, maildir: Place, name: str, folder: str = "new") -> None:
        """Link it into ``new`` or ``cur`` as ``name``.  Raises ``OSError`` if that fails.

        Mailboxes of one owner on one file system share the file if ``share`` is set.
        """
        if self._owner != _owner_of(maildir):
            self._copy(maildir, name, folder)
            return
        try:
            # The first mailbox gets the file itself, the others links.
            path = self._paths.pop()
        except IndexError:
            if self._share:
                self._link(maildir, name, folder)
            else:
                self._copy(maildir, name, folder)
            return
        try:
            _move(path, maildir, f"{folder}/{name}", os.fstat(self._file))
        except OSError as error:
            self._paths.append(path)
            # Another file system, or another program cleaned ``tmp``.
            if error.errno not in _NO_LINKS:
                raise
            self._copy(maildir, name, folder)

    def _link(self, maildir: Place, name: str, folder: str) -> None:
        """Another hard link to the file, whatever its current name is."""
        try:
            # Python makes the call that follows links only with a ``dir_fd``.
            os.link(
                f"/proc/self/fd/{self._file}",
                maildir.at(f"{folder}/{name}"),
                src_dir_fd=self._file,
                follow_symlinks=True,
            )
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._copy(maildir, name, folder)

    def _copy(self, maildir: Place, name: str, folder: str) -> None:
        path = maildir.at(f"tmp/{name}")
        owner = _owner_of(maildir)
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, owner.mode)
        try:
            try:
                _give(made, owner)
                if not self._fill(made):
                    raise StoreDown(f"{self._named}: was changed before {maildir} had it")
                if self._received_ns is not None:
                    os.utime(made, ns=(self._received_ns, self._received_ns))
                os.fsync(made)
                status = os.fstat(made)
            finally:
                os.close(made)
            _move(path, maildir, f"{folder}/{name}", status)
        except BaseException:
            remove(path)
            raise

    def _fill(self, made: int) -> bool:
        """Copy the octets; whether they are those that were received.

        The first mailbox's owner has the file, and may change what the others would get.
        """
        digest, at = blake2b(), 0
        # No more than that: whoever makes it longer could do so as fast as this reads.
        while at <= self.size and (data := os.pread(self._file, PIECE, at)):
            write_all(made, data)
            digest.update(data)
            at += len(data)
        is_same = self._digest is None or digest.digest() == self._digest.digest()
        return at == self.size and is_same

    @property
    def is_settled(self) -> bool:
        """Whether it is complete or lost."""
        return self._complete or self._broken is not None

    @property
    def is_pending(self) -> bool:
        """Whether ``discard`` has something to remove."""
        return bool(self._paths)

    def discard(self) -> None:
        """Close the file, and remove it from ``tmp``."""
        for path in self._paths:
            remove(path)
        self._paths.clear()
        if self._home is not None:
            self._home.close()
            self._home = None
        file, self._file = self._file, -1
        if file >= 0:
            with suppress(OSError):
                os.close(file)


def _move(path: str, maildir: Place, file: str, status: os.stat_result) -> None:
    """Move a message out of ``tmp``.  Raises ``OSError``, and then it is not there."""
    try:
        target, directory = maildir.reach(file)
        move(path, target, dst_dir_fd=directory)
    except OSError:
        # A move by link may have left the first name, which goes with what the dead leave in tmp.
        with suppress(OSError):
            if maildir.has(file, status):
                return
        raise


class Owner(NamedTuple):
    """Owner and mode of a message file."""

    user: int
    group: int
    mode: int

    @property
    def lets_others_write(self) -> bool:
        """Whether a user other than this process's may write to the file."""
        return self.user != os.geteuid() or bool(self.mode & 0o020)


def _owner_of(maildir: Place) -> Owner:
    """Owner and mode of messages in this Maildir."""
    status = maildir.status
    # Never world-readable, whatever the mode of the directory.
    return Owner(status.st_uid, status.st_gid, S_IMODE(status.st_mode) & 0o660 | 0o600)


def _give(file: int, owner: Owner) -> None:
    """Change the owner of a new file, if permitted."""
    status = os.fstat(file)
    with suppress(PermissionError):
        if S_IMODE(status.st_mode) != owner.mode:
            os.fchmod(file, owner.mode)
        if (status.st_uid, status.st_gid) != (owner.user, owner.group):
            os.fchown(file, owner.user, owner.group)
