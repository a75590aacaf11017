"""A line in the log now and then: how often caches knew the answer."""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gateway.events import CacheLookup, Subscription
from gateway.observe.looping import looping


class Counts:
    """Counts events, and logs the numbers since the last line, if there are any."""

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._since: Counter[str] = Counter()
        self._looping = looping(self.tell, "counts", clock)

    @property
    def subscription(self) -> Subscription:
        """What is counted."""
        return {CacheLookup: self._count}

    def _count(self, event: CacheLookup) -> None:
        self._since[f"{event.cache} {event.outcome}"] += 1

    def start(self, seconds: float) -> None:
        """Log at this interval from now on, in seconds; 0: never."""
        if self._looping.running and self._looping.interval != seconds:
            self.stop()
        if seconds and not self._looping.running:
            self._looping.start(seconds, now=False)

    def stop(self) -> None:
        """Log for the last time."""
        if self._looping.running:
            self._looping.stop()
            self.tell()

    def tell(self) -> None:
        """Log now."""
        since, self._since = self._since, Counter()
        if since:
            words = ", ".join(f"{name} {number}" for name, number in since.items())
            self.log.info("{words}", words=words)
