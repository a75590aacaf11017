"""Count calls: the shape of a cost, without a clock."""

from __future__ import annotations

import sys
from collections.abc import Callable


def calls_of(work: Callable[[], object]) -> int:
    """Calls of Python and C functions that ``work`` makes, each step of a generator included.

    The least of three runs: a garbage collection may come in between.
    """
    return min(_calls_of(work) for _ in range(3))


def _calls_of(work: Callable[[], object]) -> int:
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls
