"""How busy the rest of the machine is: what other programs use while a row is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from bench.figures.results import QUIET
from bench.setup import processes

_BUSY = (0, 1, 2)
"""Columns of /proc/stat: user, nice and system, in ticks (proc(5)).

Not what interrupts took: the packets of the loopback are in our own time already.
"""

_STOLEN = 7
"""What a hypervisor gave to other machines is foreign too."""


def busy(stat: str) -> float:
    """Seconds for which processors were not idle, of all of them together since the start."""
    fields = [int(number) for number in stat.splitlines()[0].split()[1:]]
    return sum(fields[at] for at in (*_BUSY, _STOLEN)) * processes.TICK


def share(used: float, own: float, elapsed: float, processors: int) -> float:
    """The part of the machine that others used: of ``used`` seconds of CPU ``own`` were ours.

    Ticks are 10 ms long, so a short time can bring less than nothing: that is 0.
    """
    return max(0.0, used - own) / (elapsed * processors)


class Meter:
    """Measures foreign load from when it is made; our own are this process and all its children."""

    def __init__(self) -> None:
        self._begun = self._now()

    def foreign(self) -> float:
        """The share of the machine that other programs have used so far."""
        elapsed, used, own = (
            now - before for now, before in zip(self._now(), self._begun, strict=True)
        )
        return share(used, own, max(elapsed, 0.001), os.cpu_count() or 1)

    def _now(self) -> tuple[float, float, float]:
        stat = Path("/proc/stat").read_text()
        return time.monotonic(), busy(stat), processes.cpu(os.getpid())


def wait(most: float, say: Callable[[str], None]) -> float:
    """Return the foreign load once it is low enough, or after ``most`` seconds."""
    end = time.monotonic() + most
    while True:
        meter = Meter()
        time.sleep(1.0)
        load = meter.foreign()
        if load <= QUIET or time.monotonic() > end:
            return load
        say(f"waiting: other programs use {load:.0%} of the machine")
