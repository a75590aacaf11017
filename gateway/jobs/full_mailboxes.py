"""Counts the mailboxes that are full, or nearly: for figures."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from gateway.errors import GatewayError
from gateway.events import Emit, QuotaLevelsCounted
from gateway.interfaces import ILeader, IWarningState
from gateway.model import Level
from gateway.observe.looping import looping

EVERY = 60.0
"""Seconds between two counts."""


class FullMailboxes:
    """Counts by what quota warnings found; the leader does it."""

    def __init__(
        self, clock: IReactorTime, state: IWarningState, leader: ILeader, emit: Emit
    ) -> None:
        self._state = state
        self._leader = leader
        self._emit = emit
        self._timer = looping(self.count, "count of full mailboxes", clock)
        self._ended: Deferred[Any] = succeed(None)

    def start(self) -> None:
        """Count now, and each minute."""
        self._ended = self._timer.start(EVERY)

    def stop(self) -> Deferred[None]:
        """End; fires when the present count is done.  Nobody knows the numbers any more."""
        if self._timer.running:
            self._timer.stop()
        ended = Deferred[None]()

        def forget(_: object) -> None:
            self._emit(QuotaLevelsCounted(None, None))
            ended.callback(None)

        self._ended.addCallback(forget)
        return ended

    async def count(self) -> None:
        """Count, and emit the numbers; an outage, which is logged elsewhere, changes none."""
        try:
            if await self._leader.is_leader():
                states = await self._state.warning_states(Level.WARN)
                found = Counter(state.level for state in states.values())
                self._emit(QuotaLevelsCounted(found[Level.WARN], found[Level.OVER]))
        except GatewayError:
            return
