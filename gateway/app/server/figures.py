"""The figures of the whole server: of one process, or of the parent and its workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from gateway.app.server.observers import Observer
from gateway.app.server.questions import Questions
from gateway.observe.figures import Figures, Snapshot
from gateway.observe.history import History
from gateway.observe.looping import looping
from gateway.observe.totals import Totals
from gateway.processes.channel import Channel

EVERY = 10.0
"""Seconds between two looks at the workers: what one counts that is killed meanwhile is lost."""

ANSWER_WITHIN = 1.0
"""Seconds that a worker has: one that hangs counts as it last answered."""

QUESTION = "figures"
"""What operators ask the server, and the parent a worker, which also tells it when it ends."""


class ServerFigures:
    """Adds up the figures of all processes, and knows the last hour."""

    def __init__(
        self,
        clock: IReactorTime,
        own: Figures,
        channels: Callable[[], Mapping[int, Channel]] = dict,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``own``: of this process; ``channels``: of the workers that respond, if there are any.

        ``now`` in Unix seconds.
        """
        self._own = own
        self._channels = channels
        self._now = now
        self._totals = Totals()
        self._history = History(now())
        self._asking: list[Deferred[Snapshot]] | None = None
        """Who waits for the answers of the workers; None: they are not being asked."""
        self._timer = looping(self._look, "history", clock)

    def start(self) -> None:
        """Keep what workers have counted, and count minutes."""
        self._timer.start(EVERY, now=False)

    def stop(self) -> None:
        """End."""
        if self._timer.running:
            self._timer.stop()

    def observer(self, questions: Questions) -> Observer:
        """This, as what starts and stops with the server; it answers these ``questions``."""
        questions.answer(QUESTION, lambda _: self.snapshot())
        questions.answer("history", lambda _: self.history())
        return Observer({}, self.start, self.stop)

    def join(self, channel: Channel) -> None:
        """A worker begins at the other end of this channel."""
        self._totals.begin(channel)
        channel.handle(QUESTION, lambda snapshot: self._totals.take(channel, snapshot))

    def leave(self, channel: Channel) -> None:
        """The worker has ended; what it counted stays."""
        self._totals.end(channel)

    def snapshot(self) -> Deferred[Snapshot]:
        """The figures of the server now, in a second at most; fails if one of its own does."""
        asked = Deferred[Snapshot]()
        if self._asking is not None:
            self._asking.append(asked)
            return asked
        self._asking = [asked]
        answers = [self._ask(channel) for channel in self._channels().values()]
        asked_all: Deferred[Any] = DeferredList(answers, consumeErrors=True)
        asked_all.addCallback(lambda _: self._totals.snapshot(self._own.snapshot()))
        asked_all.addBoth(self._answer)
        return asked

    def _ask(self, channel: Channel) -> Deferred[None]:
        asked = channel.ask(QUESTION, within=ANSWER_WITHIN)
        return asked.addCallback(lambda snapshot: self._totals.take(channel, snapshot))

    def _answer(self, found: Snapshot | Failure) -> None:
        asking, self._asking = self._asking, None
        for asked in asking or ():
            asked.callback(found)

    def history(self) -> Deferred[list[Mapping[str, Any]]]:
        """What ``History.rows`` has."""

        def rows(found: Snapshot) -> list[Mapping[str, Any]]:
            return self._history.rows(self._now(), found)

        return self.snapshot().addCallback(rows)

    def _look(self) -> Deferred[None]:
        def take(found: Snapshot) -> None:
            self._history.take(self._now(), found)

        return self.snapshot().addCallback(take)
