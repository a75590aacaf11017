"""How late the event loop is: a timer each second, and the time by which it comes late."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from gateway.observe.looping import looping

EVERY = 1.0
"""Seconds between two measurements."""


class LoopLag:
    """Measures all the time; ``take`` gets seconds."""

    def __init__(self, clock: IReactorTime, take: Callable[[float], object]) -> None:
        self._clock = clock
        self._take = take
        self._due = 0.0
        self._timer = looping(self._look, "lag of the event loop", clock)

    def start(self) -> None:
        """Begin."""
        self._due = self._clock.seconds() + EVERY
        self._timer.start(EVERY, now=False)

    def stop(self) -> None:
        """End."""
        if self._timer.running:
            self._timer.stop()

    def _look(self) -> None:
        now = self._clock.seconds()
        self._take(max(now - self._due, 0.0))
        # A late LoopingCall goes on at the next full interval after its start.
        self._due += EVERY * max(1.0, (now - self._due) // EVERY + 1)
