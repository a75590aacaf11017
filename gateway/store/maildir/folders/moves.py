"""Rename files without replacing existing ones.  Blocks: call it in a thread.

``rename`` replaces a file with the new name: in a Maildir, where other programs create
names too, that would be a message.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache

_AT_FDCWD = -100
_NOREPLACE = 1

_NOT_THERE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})
"""Errors of a file system, such as NFS, or a kernel without such a rename."""


def move(
    source: str, target: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    """Rename, unless ``target`` exists.  Raises ``FileExistsError`` or another ``OSError``.

    Relative paths start from the open directories.  On a file system without such a rename
    the file briefly has both names, and after a crash until
    ``gateway.store.maildir.folders.duplicates`` sees it.
    """
    start = _AT_FDCWD if src_dir_fd is None else src_dir_fd
    end = _AT_FDCWD if dst_dir_fd is None else dst_dir_fd
    # As ``os.rename`` does, which has -1 for the working directory.
    sys.audit("os.rename", source, target, max(start, -1), max(end, -1))
    number = _renamed(start, os.fsencode(source), end, os.fsencode(target))
    if number in _NOT_THERE:
        move_by_link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
    elif number:
        raise OSError(number, os.strerror(number), source, None, target)


def move_directory(source: str, target: str) -> None:
    """As ``move``, for a directory."""
    try:
        move(source, target)
    except PermissionError:
        # No file system links directories.
        move_by_look(source, target)


def move_by_look(source: str, target: str) -> None:
    """Rename a directory unless ``target`` exists; may replace an empty one made meanwhile."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    os.rename(source, target)


def move_by_link(
    source: str, target: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    """Rename in two steps: link, unlink."""
    os.link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=False)
    os.unlink(source, dir_fd=src_dir_fd)


def _renamed(start: int, source: bytes, end: int, target: bytes) -> int:
    """Call renameat2; returns 0 or the errno."""
    call = _renameat2()
    if call is None:
        return errno.ENOSYS
    if call(start, source, end, target, _NOREPLACE) == 0:
        return 0
    return ctypes.get_errno()


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """The C library's renameat2, which Python lacks; None: the library lacks it too."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = (
            *(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p),
            ctypes.c_uint,
        )
    return call
