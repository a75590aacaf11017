"""The directories of a Maildir, opened safely (``folders.way``), and the files in them.

If only root and this process's user can change the path, it stays valid and no descriptor is
kept.  Otherwise a descriptor stays open, and files are reached from it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from gateway.errors import GatewayError, MailboxUnusable, NoSuchMailbox
from gateway.store.maildir.folders.moves import move
from gateway.store.maildir.folders.there import is_directory, is_there
from gateway.store.maildir.folders.way import (
    NOTHING,
    Directory,
    Trusted,
    entered,
    found_again,
    found_in,
    way_to,
)

FOLDERS = ("new", "cur")
"""Directories of messages; ``new`` first, to see a message that moves to ``cur``."""

ALL = ("tmp", *FOLDERS)

_CLOSED = -1

_NO_LINK = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

T = TypeVar("T", bound=Exception)


class Place:
    """A directory of a mailbox, open until ``close``."""

    def __init__(
        self,
        name: str,
        status: os.stat_result,
        file: int | None = None,
        trusted: Trusted = NOTHING,
    ) -> None:
        """``name``: its path; ``file``: an open descriptor, without which the path has to do."""
        self.name = name
        self.status = status
        self.path = name if file is None else f"/proc/self/fd/{file}"
        """A path that the kernel resolves to it whatever others change."""
        self.trusted = trusted
        """The part of its path that the next ``open_place`` need not check."""
        self.is_fixed = file is None
        """It is reached by its path, which only root and this process's user could change then."""
        self._file = file
        self._folders: dict[str, Place] = {}

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
                return _place_of(path, entered(above, name, make=make))
            if (status := found_in(self.path, self.status, name)) is not None:
                return Place(path, status)
            file = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
            try:
                above = Directory(file, os.fstat(file), fixed=True)
                return _place_of(path, entered(above, name, make=make))
            finally:
                os.close(file)
        except OSError as error:
            error.filename = path
            raise

    def at(self, file: str) -> str:
        """The path of a file in it, or in a folder as ``cur/...``; raises as ``folder``."""
        folder, _, name = file.rpartition("/")
        return f"{self.folder(folder).path if folder else self.path}/{name}"

    def reach(self, file: str) -> tuple[str, int | None]:
        """A file as in ``at`` for functions of ``os``: a path, and the ``dir_fd`` it starts from.

        It costs half of what the path alone does, which leads through /proc to the descriptor.
        """
        folder, _, name = file.rpartition("/")
        place = (self._folders.get(folder) or self.folder(folder)) if folder else self
        return (f"{place.path}/{name}", None) if place.is_fixed else (name, place._file)

    def open(self, file: str, flags: int, mode: int = 0o666) -> int:
        """A descriptor; follows no link of a user, and does not wait for a fifo."""
        path, start = self.reach(file)
        try:
            return os.open(path, flags | _NO_LINK, mode, dir_fd=start)
        except OSError as error:
            error.filename = f"{self.name}/{file}"
            raise

    def open_directory(self) -> int:
        """A descriptor of the directory itself, to lock or to sync it."""
        path, start = (self.path, None) if self.is_fixed else (".", self._file)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=start)

    def check_still_there(self, file: int) -> None:
        """Raise ``FileNotFoundError`` if ``file``, opened before, was renamed or deleted.

        A lock on such a mailbox excludes nobody from the next one of its name.
        """
        status = os.fstat(file)
        # One that is reached by its descriptor cannot lose its path.
        is_there = not self.is_fixed or os.path.samestat(status, os.stat(self.path))
        if not (status.st_nlink and is_there):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name)

    def stat(self) -> os.stat_result:
        """Its status now.  Raises ``OSError``."""
        return os.stat(self.path if self._file is None else self._file)

    def sync(self) -> None:
        """Make its entries last.  Raises ``OSError``."""
        directory = self.open_directory()
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def lstat(self, file: str) -> os.stat_result:
        """The status of a file, a link's own."""
        path, start = self.reach(file)
        try:
            return os.lstat(path, dir_fd=start)
        except OSError as error:
            error.filename = f"{self.name}/{file}"
            raise

    def exists(self, file: str) -> bool:
        """Whether there is a file of this name, or a link.  Raises ``OSError``."""
        try:
            self.lstat(file)
        except FileNotFoundError:
            return False
        return True

    def has(self, file: str, status: os.stat_result) -> bool:
        """Whether this very file has the name, and no other.  Raises ``OSError``."""
        try:
            return os.path.samestat(self.lstat(file), status)
        except FileNotFoundError:
            return False

    def unlink(self, file: str) -> None:
        """Remove a file."""
        path, start = self.reach(file)
        try:
            os.unlink(path, dir_fd=start)
        except OSError as error:
            error.filename = f"{self.name}/{file}"
            raise

    def remove(self, name: str) -> None:
        """Remove an empty directory in it."""
        path, start = self.reach(name)
        try:
            os.rmdir(path, dir_fd=start)
        except OSError as error:
            error.filename = f"{self.name}/{name}"
            raise

    @contextmanager
    def above(self) -> Iterator[tuple[Place, str]]:
        """The directory that it lies in now, open during a ``with``, and its name there.

        Raises ``FileNotFoundError`` if it has another name, or ``OSError``.
        """
        here = self.open_directory()
        try:
            file = os.open("..", os.O_PATH | os.O_CLOEXEC, dir_fd=here)
        finally:
            os.close(here)
        name = os.path.basename(os.path.realpath(self.name))
        found = Place(os.path.dirname(self.name), os.fstat(file), file)
        try:
            if not found.has(name, self.status):
                raise FileNotFoundError(errno.ENOENT, "is another directory now", self.name)
            yield found, name
        finally:
            found.close()

    def link(self, file: str, to: str) -> None:
        """Give a file another name too."""
        (source, start), (target, end) = self.reach(file), self.reach(to)
        try:
            os.link(source, target, src_dir_fd=start, dst_dir_fd=end)
        except OSError as error:
            error.filename, error.filename2 = f"{self.name}/{file}", f"{self.name}/{to}"
            raise

    def move(self, file: str, to: str) -> None:
        """Rename a file, unless there is one of the other name; raises as ``moves.move``."""
        (source, start), (target, end) = self.reach(file), self.reach(to)
        try:
            move(source, target, src_dir_fd=start, dst_dir_fd=end)
        except OSError as error:
            error.filename, error.filename2 = f"{self.name}/{file}", f"{self.name}/{to}"
            raise

    @property
    def stays(self) -> bool:
        """Whether it stays valid after ``close``: it and its folders have no descriptor."""
        return self.is_fixed and all(folder.stays for folder in self._folders.values())

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
            if not place.is_fixed:
                text = re.sub(rf"{place.path}(?!\d)", lambda _: place.name, text)  # noqa: B023
        return text


def _place_of(name: str, directory: Directory) -> Place:
    """The place of an open directory, of which it closes the descriptor or keeps it."""
    if directory.fixed:
        os.close(directory.file)
    file = None if directory.fixed else directory.file
    return Place(name, directory.status, file, directory.trusted)


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
        with lent(place):
            yield place
    finally:
        place.close()


@contextmanager
def lent(place: Place) -> Iterator[Place]:
    """A Maildir that somebody else has open; errors tell its path as those of ``opened``."""
    try:
        yield place
    except (OSError, GatewayError) as error:
        place.worded(error)
        raise


def ensure_maildir(maildir: str, *, create: bool) -> None:
    """Create missing parts of a Maildir, if ``create`` is set.

    Raises ``NoSuchMailbox``, ``MailboxUnusable`` or ``OSError``.
    """
    if not create:
        raise NoSuchMailbox(f"{maildir} is not a Maildir")
    if is_there(maildir) and not is_directory(maildir):
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
        path = maildir if maildir.startswith("/") else os.path.join(os.getcwd(), maildir)
        if (status := found_again(path, trusted)) is not None:
            place = Place(maildir, status, trusted=trusted)
        else:
            place = _place_of(maildir, way_to(path, make=make, trusted=trusted))
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
