"""A time limit for one wait after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class TimeLimit:
    """One timer for many waits: it finds out when it is due whether a later one has begun.

    A timer of its own for each wait would cost more than what is waited for.
    """

    __slots__ = ("_due", "_reactor", "_timer")

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._due = 0.0
        self._timer: Any = None

    def begin(self, seconds: float, expired: Callable[[], None]) -> None:
        """Call ``expired`` after ``seconds``, unless it begins again or is stopped before.

        ``expired`` is the same until ``stop``, and finds out whether anybody waits.
        """
        self._due = self._reactor.seconds() + seconds
        if self._timer is None:
            # Only the timer refers to it: who has a limit is freed without the garbage collector.
            self._timer = self._reactor.callLater(seconds, self._look, expired)
        elif self._timer.getTime() > self._due:
            self._timer.reset(seconds)

    def stop(self) -> None:
        """Nobody waits any more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self, expired: Callable[[], None]) -> None:
        self._timer = None
        left = self._due - self._reactor.seconds()
        if left > 0:
            self._timer = self._reactor.callLater(left, self._look, expired)
        else:
            expired()
