"""The settings of worker processes: ``[processes]``."""

from __future__ import annotations

import os
from math import ceil
from typing import Any, Literal

from attrs import field, frozen

from gateway.config import checks as check
from gateway.endpoints import shown

Workers = int | Literal["auto"]

MOST = 64


def _check_workers(value: Any) -> None:
    if value != "auto" and not (type(value) is int and 1 <= value <= MOST):
        raise ValueError(f'expected 1 to {MOST} or "auto", found {shown(value)}')


@frozen
class Processes:
    """``[processes]``: worker processes, each of which serves all listeners."""

    workers: Workers = field(default=1, **check.checked(_check_workers))
    hang_timeout: float = field(default=30.0, **check.within(3, 3600))

    @property
    def count(self) -> int:
        """The number of workers; ``auto``: one for each processor."""
        return processors() if self.workers == "auto" else self.workers


def processors(quota: str = "/sys/fs/cgroup/cpu.max") -> int:
    """The processors that this process may use; ``quota``: the file of its cgroup's limit."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        with open(quota, encoding="ascii") as file:
            time, period = file.read().split()
        allowed = ceil(int(time) / int(period))
    except (OSError, ValueError):
        # No cgroup of version 2, or "max": no limit.
        allowed = MOST
    return max(1, min(count or 1, allowed, MOST))
