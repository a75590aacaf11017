"""A line in the log now and then about how often something happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class Counts:
    """Logs what has been counted since the last time, when anything has."""

    log = Logger("pop3gw.counts")

    def __init__(self, clock: IReactorTime, counted: Sequence[Mapping[str, int]]) -> None:
        """``counted`` are numbers that only grow, by what they count."""
        self._counted = counted
        self._before: dict[str, int] = {}
        self._looping = LoopingCall(self.tell)
        self._looping.clock = clock

    def start(self, seconds: float) -> None:
        """From now on every so many seconds; 0: never."""
        if seconds:
            self._looping.start(seconds, now=False)

    def stop(self) -> None:
        """For the last time."""
        if self._looping.running:
            self._looping.stop()
            self.tell()

    def tell(self) -> None:
        """Now."""
        now = {name: number for counts in self._counted for name, number in counts.items()}
        since = {name: number - self._before.get(name, 0) for name, number in now.items()}
        self._before = now
        if any(since.values()):
            words = ", ".join(f"{name} {number}" for name, number in since.items() if number)
            self.log.info(
                "{words}", words=words, **{k.replace(" ", "_"): n for k, n in since.items()}
            )
