"""Disks that tests can fill."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from unittest import mock

import pytest


@contextmanager
def small_disk_at(place: Path, *, mebibytes: int) -> Iterator[Path]:
    """A disk of its own in a new directory; skips where we may not mount one, and in CI fails."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, timeout=30, check=False)
    if mounted.returncode:
        reason = f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs root with the right to mount; {reason}")
        pytest.skip(reason)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], timeout=30, check=True)


def no_room(call: str, pattern: str, number: int = errno.ENOSPC) -> AbstractContextManager[object]:
    """A disk that is full for this call of ``os``, on files whose path is like the pattern."""
    really = getattr(os, call)

    def failing(file: int | str, *rest: Any, **more: Any) -> Any:
        path = os.readlink(f"/proc/self/fd/{file}") if isinstance(file, int) else file
        if fnmatch(path, pattern):
            raise OSError(number, os.strerror(number), path)
        return really(file, *rest, **more)

    return mock.patch.object(os, call, failing)


def state_of(directory: Path) -> dict[Path, tuple[int, ...]]:
    """What any change below a directory would change."""
    return {
        path: (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for path in (directory, *directory.rglob("*"))
        for status in [path.lstat()]
    }
