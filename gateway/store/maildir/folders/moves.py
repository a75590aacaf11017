"""A file gets another name, and never the name of a file that is there.

``rename`` replaces what has the new name.  In a Maildir, where other programs
make names too, that would be somebody's mail.  Blocks: for a worker.
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
"""What says that the file system, NFS for one, or the kernel has no such rename."""


def move(source: str, target: str) -> None:
    """Rename, if nothing is called ``target``.  Raises ``FileExistsError`` or another ``OSError``.

    Where the file system has no such rename, the file has both names for a
    moment, and after a death until ``gateway.store.maildir.folders.duplicates`` sees it.
    """
    sys.audit("os.rename", source, target, -1, -1)
    number = _renamed(os.fsencode(source), os.fsencode(target))
    if number in _NOT_THERE:
        move_by_link(source, target)
    elif number:
        raise OSError(number, os.strerror(number), source, None, target)


def move_by_link(source: str, target: str) -> None:
    """The same in two steps."""
    os.link(source, target, follow_symlinks=False)
    os.unlink(source)


def _renamed(source: bytes, target: bytes) -> int:
    """0, or the error's number."""
    call = _renameat2()
    if call is None:
        return errno.ENOSYS
    if call(_AT_FDCWD, source, _AT_FDCWD, target, _NOREPLACE) == 0:
        return 0
    return ctypes.get_errno()


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """The C library's own, since Python has none; None in a library that has none either."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = (
            *(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p),
            ctypes.c_uint,
        )
    return call
