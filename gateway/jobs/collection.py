"""Collection of removed mail, in stores that do not free its room at once."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.interfaces import ICollectingStore, ILeader
from gateway.observe.failures import complain

log = Logger()

EVERY = 60.0
"""Seconds between two turns."""

BATCH = 500
"""Messages in one step; after each the leader asks whether it still is the leader."""


class CollectionJob:
    """Has the store collect, in the leader: every minute all that there is."""

    def __init__(self, store: ICollectingStore, leader: ILeader, clock: IReactorTime) -> None:
        self._store = store
        self._leader = leader
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._working: Deferred[None] = succeed(None)
        self._stopped = self._failing = False

    def start(self) -> None:
        """Begin the first turn in a minute."""
        self._timer = self._clock.callLater(EVERY, self._turn)

    def stop(self) -> Deferred[None]:
        """Begin no further step; fires when the last one has ended."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        done: Deferred[None] = Deferred()
        self._working.addCallback(lambda _: done.callback(None))
        return done

    def _turn(self) -> None:
        self._working = Deferred.fromCoroutine(self._collect()).addCallbacks(
            self._went_well, self._failed
        )
        self._working.addCallback(lambda _: None if self._stopped else self.start())

    async def _collect(self) -> None:
        while not self._stopped and await self._leader.is_leader():
            if not await self._store.collect(BATCH):
                return

    def _went_well(self, _: None) -> None:
        self._failing = False

    def _failed(self, failure: Failure) -> None:
        if not self._failing:
            complain(log, "removed mail is not collected", failure)
        self._failing = True
