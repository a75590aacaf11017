"""Whether something is there.  Blocks.

``os.path.exists`` and its like say no whenever nobody can say: while a file server is away, on a
disk with faults.  Here a no is one, since mailboxes are made, forgotten and reported by it.
"""

from __future__ import annotations

import os
import stat


def is_there(path: str) -> bool:
    """Whether there is anything at this path, a link included.  Raises ``OSError``."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_directory(path: str) -> bool:
    """Whether the path leads to a directory.  Raises ``OSError``."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
