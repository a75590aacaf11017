"""Writing all of it, making it last, and room for it.  Blocks: for a worker."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What says that there is no room."""

_KEEP_SIZE = 1


def write_all(file: int, data: bytes) -> None:
    """Write all of it, in as many pieces as it takes.  Raises ``OSError``."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def sync_directory(path: str) -> None:
    """Make a directory's entries last.  Raises ``OSError``."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def allocate(file: int, start: int, octets: int) -> None:
    """Have the disk's room for these octets of a file, which stays as long as it is.

    Nothing happens on a file system that cannot do so.  Raises ``OSError``.
    """
    call = _fallocate()
    if call is None or call(file, _KEEP_SIZE, start, octets) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV):
        raise OSError(number, os.strerror(number))


@cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    """The C library's own: Python's ``posix_fallocate`` makes the file longer."""
    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return call
