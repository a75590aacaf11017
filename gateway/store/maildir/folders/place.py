"""Open the directories of a Maildir safely.

The owner of a directory can put a link to another user's Maildir into it, and can replace
it during the check.  So each directory is opened from its parent without following links,
and checked after it was opened.  If only root and this process's user can change the
path, the path stays valid and no descriptor is kept.  Otherwise a descriptor stays open,
and files are reached through it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

from gateway.errors import GatewayError, MailboxUnusable, NoSuchMailbox

FOLDERS = ("new", "cur")
"""Directories of messages; ``new`` first, to see a message that moves to ``cur``."""

ALL = ("tmp", *FOLDERS)

LINKS = 40
"""Most links to follow in a path, as in Linux."""

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

_CLOSED = -1

T = TypeVar("T", bound=Exception)


class Trusted(NamedTuple):
    """A directory that was reached safely: who finds the same one there need not check the way."""

    depth: int = 0
    """The number of leading names of a path that lead to it; 0: none is trusted."""

    device: int = 0
    inode: int = 0


NOTHING = Trusted()


class Directory(NamedTuple):
    """An open directory on the path to a mailbox."""

    file: int
    status: os.stat_result
    fixed: bool
    """Only root and this process's user can replace it at its path."""

    trusted: Trusted = NOTHING
    """What of its path stays valid."""


class Place:
    """A directory of a mailbox, open until ``close``."""

    def __init__(self, name: str, directory: Directory) -> None:
        """``name``: its path."""
        self.name = name
        self.status = directory.status
        self.path = name if directory.fixed else f"/proc/self/fd/{directory.file}"
        """A path that the kernel resolves to it whatever others change."""
        self.trusted = directory.trusted
        """The part of its path that the next ``open_place`` need not check."""
        self._is_fixed = directory.fixed
        self._file: int | None = None if directory.fixed else directory.file
        self._folders: dict[str, Place] = {}
        if directory.fixed:
            os.close(directory.file)

    def __str__(self) -> str:
        return self.name

    def folder(self, name: str, *, make: bool = False) -> Place:
        """A directory in it, by its name; ``make``: create it if it is missing.

        Raises ``MailboxUnusable`` for one of another user, or ``OSError``.
        """
        found = self._folders.get(name)
        if found is None:
            found = self._folders[name] = self._enter(name, make=make)
        return found

    def hand_over(self, name: str) -> Place:
        """A directory in it that stays open after ``close``; the caller closes it."""
        return self._folders.pop(name)

    @contextmanager
    def visit(self, name: str) -> Iterator[Place]:
        """A directory in it, open during a ``with``; raises as ``folder``."""
        found = self._enter(name)
        try:
            yield found
        finally:
            found.close()

    def _enter(self, name: str, *, make: bool = False) -> Place:
        path = f"{self.name}/{name}"
        try:
            if self._file is not None:
                above = Directory(self._file, self.status, fixed=False)
                return Place(path, _entered(above, name, LINKS, make=make))
            file = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
            try:
                above = Directory(file, os.fstat(file), self._is_fixed)
                return Place(path, _entered(above, name, LINKS, make=make))
            finally:
                os.close(file)
        except OSError as error:
            error.filename = path
            raise

    def at(self, file: str) -> str:
        """The path of a file in it, or in a folder as ``cur/...``; raises as ``folder``."""
        folder, _, name = file.rpartition("/")
        return f"{self.folder(folder).path if folder else self.path}/{name}"

    def to_open(self, file: str) -> tuple[str, int | None]:
        """A file as in ``at`` for ``os.open``: a path, and the ``dir_fd`` that it starts from.

        It costs less than the path alone, which leads through /proc to the descriptor.
        """
        folder, _, name = file.rpartition("/")
        place = (self._folders.get(folder) or self.folder(folder)) if folder else self
        return (f"{place.path}/{name}", None) if place._is_fixed else (name, place._file)

    @property
    def stays(self) -> bool:
        """Whether it stays valid after ``close``: it and its folders have no descriptor."""
        return self._is_fixed and all(folder.stays for folder in self._folders.values())

    def close(self) -> None:
        """Close its descriptors."""
        for folder in self._folders.values():
            folder.close()
        if self._file is not None and self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED

    def worded(self, error: T) -> T:
        """The error with paths that an administrator knows, not those of /proc."""
        if isinstance(error, OSError):
            if isinstance(error.filename, str):
                error.filename = self._in_words(error.filename)
        else:
            error.args = tuple(self._in_words(str(text)) for text in error.args)
        return error

    def _in_words(self, text: str) -> str:
        for place in (*self._folders.values(), self):
            if not place._is_fixed:
                text = re.sub(rf"{place.path}(?!\d)", lambda _: place.name, text)  # noqa: B023
        return text


@contextmanager
def opened(
    maildir: str,
    *,
    create: bool | None = None,
    folders: tuple[str, ...] = FOLDERS,
    trusted: Trusted = NOTHING,
) -> Iterator[Place]:
    """A Maildir with these ``folders``, open during a ``with``.

    ``create``: whether to create what is missing; None: raise ``FileNotFoundError``.
    ``trusted``: as for ``open_place``.  Raises ``NoSuchMailbox``, ``MailboxUnusable`` or
    ``OSError``.
    """
    try:
        place = open_place(maildir, folders, trusted=trusted)
    except FileNotFoundError:
        if create is None:
            raise
        ensure_maildir(maildir, create=create)
        place = open_place(maildir, folders)
    try:
        yield place
    except (OSError, GatewayError) as error:
        place.worded(error)
        raise
    finally:
        place.close()


def ensure_maildir(maildir: str, *, create: bool) -> None:
    """Create missing parts of a Maildir, if ``create`` is set.

    Raises ``NoSuchMailbox``, ``MailboxUnusable`` or ``OSError``.
    """
    if not create:
        raise NoSuchMailbox(f"{maildir} is not a Maildir")
    if os.path.lexists(maildir) and not os.path.isdir(maildir):
        raise MailboxUnusable(f"{maildir} is not a directory")
    make_maildir(maildir)


def make_maildir(maildir: str) -> None:
    """Create a Maildir and missing directories above it, accessible to its user only.

    If root creates it, it gets the owner of its parent, so that Dovecot's user may enter.
    """
    open_place(maildir, ALL, make=True).close()


def open_place(
    maildir: str, folders: tuple[str, ...], *, make: bool = False, trusted: Trusted = NOTHING
) -> Place:
    """Open a Maildir, which the caller closes; raises as ``Place.folder``.

    ``trusted``: that of an earlier ``Place`` of this path.
    """
    try:
        path = maildir if os.path.isabs(maildir) else os.path.join(os.getcwd(), maildir)
        place = Place(maildir, _way_to(path, make=make, trusted=trusted))
    except OSError as error:
        error.filename = maildir
        raise
    try:
        for folder in folders:
            place.folder(folder, make=make)
    except BaseException:
        place.close()
        raise
    return place


def _way_to(
    path: str,
    start: Directory | None = None,
    links: int = LINKS,
    *,
    make: bool = False,
    trusted: Trusted = NOTHING,
) -> Directory:
    """Open the directory at a path; checks every directory on the way that is not ``trusted``.

    A relative path begins at ``start``.
    """
    names = [name for name in path.split("/") if name not in ("", ".")]
    if start is None or path.startswith("/"):
        here = _trusted(names, trusted) or _trusted(names, NOTHING)
        assert here is not None, "there is a root"
    else:
        here = start._replace(file=os.dup(start.file), trusted=NOTHING)
    trusted = here.trusted
    for depth, name in enumerate(names[trusted.depth :], trusted.depth + 1):
        try:
            there = _entered(here, name, links, make=make)
        finally:
            os.close(here.file)
        here = there
        if here.fixed:
            trusted = Trusted(depth, here.status.st_dev, here.status.st_ino)
    return here._replace(trusted=trusted)


def _trusted(names: list[str], trusted: Trusted) -> Directory | None:
    """The trusted directory on the way of these names, or the root; None: it is another one now."""
    try:
        file = os.open("/" + "/".join(names[: trusted.depth]), os.O_PATH | os.O_CLOEXEC)
    except OSError:
        if not trusted.depth:
            raise
        return None
    status = os.fstat(file)
    if trusted.depth and (status.st_dev, status.st_ino) != trusted[1:]:
        os.close(file)
        return None
    return Directory(file, status, fixed=True, trusted=trusted)


def _entered(above: Directory, name: str, links: int, *, make: bool = False) -> Directory:
    """A descriptor of a name in a directory, if only permitted users could create it."""
    try:
        file = os.open(name, _LOOK, dir_fd=above.file)
    except FileNotFoundError:
        if not make:
            raise
        file = _made(above, name)
    try:
        status = os.fstat(file)
        if stat.S_ISLNK(status.st_mode):
            return _followed(above, name, file, status, links)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not _may_be_there(above.status, status):
            raise MailboxUnusable(
                f"{_path_of(file)} belongs to user {status.st_uid}, and the directory it lies in"
                f" to user {above.status.st_uid}: chown one of them"
            )
    except BaseException:
        os.close(file)
        raise
    return Directory(file, status, above.fixed and _only_ours(above.status))


def _followed(
    above: Directory, name: str, file: int, status: os.stat_result, links: int
) -> Directory:
    """The target of a link, if an administrator made it."""
    if not (_is_ours(status) and _is_ours(above.status)):
        raise MailboxUnusable(
            f"{_path_of(above.file)}/{name} is a link that user {_other(status, above.status)}"
            " could have made: only in a directory of root's or of pop3gw's user are links followed"
        )
    if not links:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    found = _way_to(os.readlink("", dir_fd=file), above, links - 1)
    os.close(file)
    return found._replace(fixed=found.fixed and above.fixed and _only_ours(above.status))


def _made(above: Directory, name: str) -> int:
    """Create and open a directory; if root does, with the owner of its parent."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=above.file)
        if os.geteuid() == 0:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(name, flags, dir_fd=above.file)
            try:
                os.fchown(file, above.status.st_uid, above.status.st_gid)
            finally:
                os.close(file)
    return os.open(name, _LOOK, dir_fd=above.file)


def _is_ours(status: os.stat_result) -> bool:
    """Whether root or this process's user owns it, and it is not world-writable."""
    mode = status.st_mode
    is_open = stat.S_ISDIR(mode) and mode & stat.S_IWOTH and not mode & stat.S_ISVTX
    return status.st_uid in (0, os.geteuid()) and not is_open


def _only_ours(status: os.stat_result) -> bool:
    """Whether no other user can replace entries of this directory."""
    others = stat.S_IWGRP | stat.S_IWOTH
    return _is_ours(status) and not (status.st_mode & others and not status.st_mode & stat.S_ISVTX)


def _may_be_there(above: os.stat_result, status: os.stat_result) -> bool:
    """Whether a directory may be in its parent: users have only their own in theirs."""
    return status.st_uid in (0, os.geteuid(), above.st_uid) or above.st_uid in (0, os.geteuid())


def _other(*statuses: os.stat_result) -> int:
    """The owner of one of them who is neither root nor this process's user."""
    return next((one.st_uid for one in statuses if not _is_ours(one)), 0)


def _path_of(file: int) -> str:
    """The path of an open directory, for messages."""
    try:
        return os.readlink(f"/proc/self/fd/{file}")
    except OSError:
        # In a ``chroot`` there may be no /proc.
        return "..."
