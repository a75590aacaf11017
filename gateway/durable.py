"""Writing all of it, and making it last.  Blocks: for a worker."""

from __future__ import annotations

import os


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
