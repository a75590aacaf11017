"""The rate limit of background work."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

REST = 1.0
"""Seconds between two looks at the load."""


class Stopping(Exception):
    """The server is stopping: end the work."""


class RateLimit:
    """Delays background work, message by message, so that sessions come first."""

    def __init__(
        self, clock: IReactorTime, *, rate: float, load: Callable[[], int], most: int
    ) -> None:
        """``rate``: messages per second.

        Background work pauses while ``load``, the number of outstanding requests of
        sessions, exceeds ``most``.
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
        """Wait until the next batch may begin; raises ``Stopping``."""
        while True:
            delay = self._free_at - self._clock.seconds()
            if self._load() > self._most:
                delay = max(delay, REST)
            if delay <= 0 and not self.stopped:
                return
            await self.rest(delay)

    async def rest(self, seconds: float = 0.0) -> None:
        """Wait this many seconds, at least one reactor turn; raises ``Stopping``."""
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
        """Make every current and later wait fail with ``Stopping``."""
        self.stopped = True
        if self._resting is not None:
            call, over = self._resting
            call.cancel()
            over.callback(None)
