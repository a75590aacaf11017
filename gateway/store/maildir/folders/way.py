"""Open the directories on the way to a Maildir, and check each.

The owner of a directory can put a link to another user's Maildir into it, and can replace
it during the check.  So each directory is opened from its parent without following links,
and checked after it was opened.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import NamedTuple

from gateway.errors import MailboxUnusable

LINKS = 40
"""Most links to follow in a path, as in Linux."""

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Trusted(NamedTuple):
    """A directory that was reached safely: who finds the same one there need not check the way."""

    depth: int = 0
    """The number of leading names of a path that lead to it; 0: none is trusted."""

    device: int = 0
    inode: int = 0

    def has(self, status: os.stat_result) -> bool:
        """Whether this is the status of it."""
        return (status.st_dev, status.st_ino) == (self.device, self.inode)


NOTHING = Trusted()


class Directory(NamedTuple):
    """An open directory on the path to a mailbox."""

    file: int
    status: os.stat_result
    fixed: bool
    """Only root and this process's user can replace it at its path."""

    trusted: Trusted = NOTHING
    """What of its path stays valid."""


def way_to(
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
    names = _names_of(path)
    if start is None or path.startswith("/"):
        here = _trusted(names, trusted) or _trusted(names, NOTHING)
        assert here is not None, "there is a root"
    else:
        here = start._replace(file=os.dup(start.file), trusted=NOTHING)
    trusted = here.trusted
    for depth, name in enumerate(names[trusted.depth :], trusted.depth + 1):
        try:
            there = entered(here, name, links, make=make)
        finally:
            os.close(here.file)
        here = there
        if here.fixed:
            trusted = Trusted(depth, here.status.st_dev, here.status.st_ino)
    return Directory(here.file, here.status, here.fixed, trusted)


def _names_of(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def found_again(path: str, trusted: Trusted) -> os.stat_result | None:
    """The status of a directory that only root and this process's user can replace at its path.

    None: not all of its path is ``trusted``, or it leads to another one now.
    """
    if trusted.depth != len(_names_of(path)):
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status if trusted.has(status) else None


def found_in(path: str, above: os.stat_result, name: str) -> os.stat_result | None:
    """The status of a directory in one that was ``found_again``.

    None: another user can replace it, or it is no directory that may be there: ``entered`` says
    why.
    """
    if not _only_ours(above):
        return None
    try:
        status = os.lstat(f"{path}/{name}")
    except OSError:
        return None
    return status if stat.S_ISDIR(status.st_mode) and _may_be_there(above, status) else None


def _trusted(names: list[str], trusted: Trusted) -> Directory | None:
    """The trusted directory on the way of these names, or the root; None: it is another one now."""
    try:
        file = os.open("/" + "/".join(names[: trusted.depth]), os.O_PATH | os.O_CLOEXEC)
    except OSError:
        if not trusted.depth:
            raise
        return None
    status = os.fstat(file)
    if trusted.depth and not trusted.has(status):
        os.close(file)
        return None
    return Directory(file, status, fixed=True, trusted=trusted)


def entered(above: Directory, name: str, links: int = LINKS, *, make: bool = False) -> Directory:
    """A descriptor of a name in a directory, if only permitted users could create it."""
    try:
        file = os.open(name, _LOOK, dir_fd=above.file)
    except FileNotFoundError:
        if not make:
            raise
        file = _made(above, name)
    try:
        status = os.fstat(file)
        if not stat.S_ISDIR(status.st_mode):
            if stat.S_ISLNK(status.st_mode):
                return _followed(above, name, file, status, links)
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
    found = way_to(os.readlink("", dir_fd=file), above, links - 1)
    os.close(file)
    return found._replace(fixed=found.fixed and above.fixed and _only_ours(above.status))


def _made(above: Directory, name: str) -> int:
    """Create and open a directory, to last; if root does, with the owner of its parent."""
    # Also one that another process makes just now, perhaps without its sync yet.
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=above.file)
        if os.geteuid() == 0:
            file = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=above.file)
            try:
                os.fchown(file, above.status.st_uid, above.status.st_gid)
                os.fsync(file)
            finally:
                os.close(file)
    # Mail that is synced below it would be lost with it.
    entries = os.open(".", _READ, dir_fd=above.file)
    try:
        os.fsync(entries)
    finally:
        os.close(entries)
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
    if status.st_uid == above.st_uid:
        return True
    ours = (0, os.geteuid())
    return status.st_uid in ours or above.st_uid in ours


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
