"""A worker's questions to its parent, and what it knows of the parent."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from gateway.errors import Overloaded, PeerGone, TookTooLong
from gateway.events import Emit, ParentAway, ParentBack
from gateway.processes.channel import Channel

ANSWER_WITHIN = 3.0
"""Seconds after which a worker decides without its parent."""

ASK_AGAIN = 1.0
"""Seconds between questions whether a parent that did not answer is back."""

HERE = "here"
"""The question; the parent answers anything."""


class ParentLink:
    """All admissions of a worker share one."""

    def __init__(self, channel: Channel, clock: IReactorTime, workers: int, emit: Emit) -> None:
        self.channel = channel
        self.is_away = False
        """The parent did not answer; it is not asked until it does."""
        self._clock = clock
        self._workers = workers
        self._emit = emit
        self._since = 0.0

    def ask(self, name: str, body: object) -> Deferred[Any]:
        """The parent's answer; fails if there is none, at once while the parent is away."""
        if self.is_away:
            return fail(PeerGone("the parent process does not answer"))
        return self.channel.ask(name, body, within=ANSWER_WITHIN).addErrback(self._unanswered)

    def _unanswered(self, failure: Failure) -> Failure:
        if failure.check(PeerGone, TookTooLong, Overloaded):
            self.failed()
        return failure

    def failed(self) -> None:
        """The parent did not answer in time."""
        if self.is_away:
            return
        self.is_away, self._since = True, self._clock.seconds()
        self._emit(ParentAway(self._workers))
        self._ask_whether_back()

    def _ask_whether_back(self) -> None:
        asked = self.channel.ask(HERE, within=ASK_AGAIN)
        asked.addCallbacks(self._back, self._still_away)

    def _back(self, _: object) -> None:
        self.is_away = False
        self._emit(ParentBack(round(self._clock.seconds() - self._since)))

    def _still_away(self, _: Failure) -> None:
        # After the end of the parent this process ends soon.
        if not self.channel.is_lost:
            self._clock.callLater(ASK_AGAIN, self._ask_whether_back)
