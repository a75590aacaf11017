"""How fast work goes on that nobody waits for."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

REST = 1.0
"""Seconds between two looks at how much others have to do."""


class Stopping(Exception):
    """The work is not to go on."""


class RateLimit:
    """Holds up one piece of work at a time, so that others come first."""

    def __init__(
        self, clock: IReactorTime, *, rate: float, load: Callable[[], int], most: int
    ) -> None:
        """``rate``: pieces per second.

        While more than ``most`` of the others' work waits, of which ``load``
        tells, nothing goes on.
        """
        self._clock = clock
        self._rate = rate
        self._load = load
        self._most = most
        self._free_at = 0.0
        self._resting: tuple[IDelayedCall, Deferred[None]] | None = None
        self.stopped = False
        """Whether ``stop`` was called."""

    async def wait(self) -> None:
        """Until the next piece may be begun; raises ``Stopping``."""
        while True:
            delay = self._free_at - self._clock.seconds()
            if self._load() > self._most:
                delay = max(delay, REST)
            if delay <= 0 and not self.stopped:
                return
            await self.rest(delay)

    async def rest(self, seconds: float = 0.0) -> None:
        """Wait this many seconds, and at least a moment; raises ``Stopping``."""
        if not self.stopped:
            over = Deferred[None]()
            call = self._clock.callLater(max(seconds, 0.0), over.callback, None)
            self._resting = call, over
            await over
            self._resting = None
        if self.stopped:
            raise Stopping

    def spend(self, pieces: int) -> None:
        """Count this many messages as begun."""
        self._free_at = max(self._free_at, self._clock.seconds()) + pieces / self._rate

    def stop(self) -> None:
        """Have all who wait, now or later, fail with ``Stopping``."""
        self.stopped = True
        if self._resting is not None:
            call, over = self._resting
            call.cancel()
            over.callback(None)
