"""Work that may wait, so that what should not wait need not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

TURN = 0.002
"""Seconds of such work between two looks at the sockets."""


class Turns:
    """Does at once what little there is, and the rest in turns.

    Two hundred clients that log in at one moment make as many events, each of
    them short; whoever is logged in already would wait for all of them.
    """

    log = Logger("pop3gw.turns")

    def __init__(self, clock: Callable[[], IReactorTime]) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._paid = 0.0
        """When all that was done at once will have taken no more than half of the time."""

    def take(self, work: Callable[[], None]) -> None:
        """Have ``work`` done now, or when those that came before it are done."""
        clock = self._clock()
        begun = clock.seconds()
        if self._waiting or self._paid - begun >= TURN:
            if not self._waiting:
                clock.callLater(0, self._turn)
            self._waiting.append(work)
        else:
            work()
            self._paid = max(self._paid, begun) + 2 * (clock.seconds() - begun)

    def _turn(self) -> None:
        clock = self._clock()
        end = clock.seconds() + TURN
        while self._waiting:
            try:
                self._waiting[0]()
            except Exception:
                self.log.failure("a fault of ours")
            # Not before it is done: what it brings about comes behind the others.
            self._waiting.popleft()
            if self._waiting and clock.seconds() >= end:
                clock.callLater(0, self._turn)
                return
