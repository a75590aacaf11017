"""Shares of the machine: processes that may use no more than part of a processor (cgroups)."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.setup.servers import NotAvailable

ROOT = Path("/sys/fs/cgroup")
PERIOD = 50_000
"""Microseconds in which a share is spent."""

_NUMBERS = itertools.count(1)


@contextlib.contextmanager
def limited(groups: Iterable[tuple[Iterable[int], float]]) -> Iterator[None]:
    """Give each group of processes, and all that they start, a share: 0.5 is half a processor.

    They get it also where other programs are busy.

    Raises ``NotAvailable``.
    """
    made: list[Path] = []
    try:
        for pids, share in groups:
            made.append(_made(share))
            for pid in pids:
                (made[-1] / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        _remove(made)
        raise NotAvailable(f"no cgroup for shares of the CPU: {error}") from error
    try:
        yield
    finally:
        _remove(made)


def _made(share: float) -> Path:
    name = f"pop3gw-bench-{os.getpid()}-{next(_NUMBERS)}"
    quota = round(share * PERIOD)
    first = ROOT / "cpu"
    if (first / "cpu.cfs_quota_us").exists():
        group = first / name
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(quota))
        (group / "cpu.shares").write_text(str(20 * 1024))
    else:
        group = ROOT / name
        group.mkdir()
        (group / "cpu.max").write_text(f"{quota} {PERIOD}")
        (group / "cpu.weight").write_text(str(20 * 100))
    return group


def _remove(groups: Iterable[Path]) -> None:
    """Move the processes back, and remove the groups."""
    for group in groups:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (group.parent / "cgroup.procs").write_text(pid)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.05)
