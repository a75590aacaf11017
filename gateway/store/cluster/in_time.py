"""Questions to the database of which the time limit begins before a thread is free."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred

from gateway.errors import Overloaded
from gateway.interfaces import Run

T = TypeVar("T")


def in_time(run: Run, timeout: float, now: Callable[[], float] = time.monotonic) -> Run:
    """As ``run``, but work that has waited for a thread for ``timeout`` seconds is not begun.

    It fails with ``Overloaded``.  While a database hangs, each piece of work takes a thread for
    all of its time limit: what waits behind many of them would wait for minutes.
    """

    def run_in_time(work: Callable[[], T], /) -> Deferred[T]:
        since = now()

        def begin() -> T:
            if now() - since > timeout:
                raise Overloaded(f"no thread was free within {timeout:g} seconds")
            return work()

        return run(begin)

    return run_in_time
