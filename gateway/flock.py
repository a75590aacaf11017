"""The ``flock`` of an open file, which the kernel takes back when its process ends."""

from __future__ import annotations

import fcntl
import os


def locked(file: int) -> int | None:
    """The file with its lock; None: another process has it, and the file is closed.

    Raises ``OSError``, for a file system without locks for example, and then it is closed, too.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except BaseException:
        os.close(file)
        raise
    return file
