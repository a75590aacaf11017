"""Disks that tests can fill."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from programs import unavailable


@contextmanager
def small_disk_at(place: Path, *, mebibytes: int) -> Iterator[Path]:
    """A disk of its own in a new directory; skips where we may not mount one, and in CI fails."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, timeout=30, check=False)
    if mounted.returncode:
        unavailable(f"needs root with the right to mount: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], timeout=30, check=True)


def no_room(call: str, pattern: str, number: int = errno.ENOSPC) -> AbstractContextManager[object]:
    """A disk that is full for this call of ``os``, on files whose path is like the pattern."""
    if call == "rename":
        return _no_rename(pattern, number)
    really = getattr(os, call)

    def failing(file: int | str, *rest: Any, **more: Any) -> Any:
        path = os.readlink(f"/proc/self/fd/{file}") if isinstance(file, int) else file
        if fnmatch(path, pattern):
            raise OSError(number, os.strerror(number), path)
        return really(file, *rest, **more)

    return mock.patch.object(os, call, failing)


_barred: list[tuple[str, int]] = []
"""Patterns of files that cannot be renamed just now, and why."""


_disturbers: list[Callable[[object], None]] = []
"""What happens right before a rename."""


@contextmanager
def _no_rename(pattern: str, number: int) -> Iterator[None]:
    """The same for ``os.rename`` and for ours, which is no function of ``os``."""
    _hook()
    _barred.append((pattern, number))
    try:
        yield
    finally:
        _barred.pop()


@cache
def _hook() -> None:
    """Once, since an audit hook stays as long as the process."""

    def failing(event: str, args: tuple[Any, ...]) -> None:
        if event != "os.rename":
            return
        for disturb in _disturbers:
            disturb(args[0])
        for pattern, number in _barred:
            if fnmatch(args[0], pattern):
                raise OSError(number, os.strerror(number), args[0])

    sys.addaudithook(failing)


def state_of(directory: Path) -> dict[Path, tuple[int, ...]]:
    """What any change below a directory would change."""
    return {
        path: (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for path in (directory, *directory.rglob("*"))
        for status in [path.lstat()]
    }


@contextmanager
def renamed_before(call: str, times: int = 1) -> Iterator[Counter[str]]:
    """Each message gets other flags right before the first ``times`` calls of ``os`` for it.

    As an IMAP client would have it at the very worst moment.  Counts the calls
    by base name.
    """
    calls: Counter[str] = Counter()

    def disturb(path: object) -> None:
        folder, _, name = str(path).rpartition("/")
        base, _, flags = name.partition(":2,")
        if folder.endswith(("/cur", "/new")) and calls[base] < times:
            calls[base] += 1
            other = flags.replace("F", "") if "F" in flags else f"F{flags}"
            target = f"{os.path.dirname(folder)}/cur/{base}:2,{other}"
            # Not by ``os.rename``, whose caller may be the one to disturb.
            os.link(str(path), target)
            os.unlink(str(path))

    if call == "rename":
        _hook()
        _disturbers.append(disturb)
        try:
            yield calls
        finally:
            _disturbers.remove(disturb)
        return
    really, unlink = getattr(os, call), os.unlink

    def disturbed(path: Any, *rest: Any, **more: Any) -> Any:
        with mock.patch.object(os, "unlink", unlink):
            disturb(path)
        return really(path, *rest, **more)

    with mock.patch.object(os, call, disturbed):
        yield calls
