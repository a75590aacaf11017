"""Count calls: the shape of a cost, without a clock."""

from __future__ import annotations

import sys
from collections import Counter
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


def system_calls_of(work: Callable[[], object]) -> Counter[str]:
    """How often ``work`` calls each function of ``os`` and ``fcntl`` that asks the kernel."""
    calls: Counter[str] = Counter()

    def count(_: object, event: str, what: object) -> None:
        if event == "c_call" and getattr(what, "__module__", "") in ("posix", "fcntl"):
            calls[what.__name__] += 1  # type: ignore[attr-defined]

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    del calls["fspath"]
    return calls
