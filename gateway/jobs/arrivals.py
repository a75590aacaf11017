"""Deliveries to mailboxes that retention does not know, or knows with another policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from gateway.interfaces import IRetentionState

MOST = 10_000
"""Mailboxes that are remembered, and that wait to be asked about; rounds find the others."""

REST = 10.0
"""Seconds without questions after one that failed: each failure is a line in the log."""

PIECE = 100
"""Mailboxes that are asked about at once."""


class Arrivals:
    """Asks the state about mailboxes that get mail, and tells of those that it knows otherwise.

    No process holds what the state knows of all mailboxes.  Of those that were asked about lately
    the policy is remembered, so a busy mailbox costs a question in ``every`` seconds.
    """

    def __init__(
        self,
        state: IRetentionState,
        tell: Callable[[str], Awaitable[None]],
        failed: Callable[[str, BaseException], None],
        *,
        clock: IReactorTime,
        every: float,
    ) -> None:
        """``tell`` takes the name of a mailbox that is new or has a new policy.

        ``failed`` is called with the mailbox that could not be told of, or with an empty name
        where the state did not answer.
        """
        self._state = state
        self._tell = tell
        self._failed = failed
        self._clock = clock
        self._every = every
        self._known: dict[str, str] = {}
        """Policies by mailbox: those that need no question."""
        self._known_until = self._rests_until = 0.0
        self._waiting: dict[str, str] = {}
        self._asking: Deferred[None] | None = None
        self._stopped = False

    def delivered(self, mailbox: str, policy: str) -> None:
        """A message arrived in a mailbox that has this policy now; empty: it has none."""
        now = self._clock.seconds()
        if now >= self._known_until:
            self.forget()
        if self._known.get(mailbox) == policy or self._stopped:
            return
        if mailbox in self._waiting or len(self._waiting) < MOST:
            self._waiting[mailbox] = policy
        if self._asking is None and now >= self._rests_until:
            self._asking = Deferred()
            asked = Deferred.fromCoroutine(self._ask()).addErrback(self._lost)
            asked.addBoth(self._asked)

    def forget(self) -> None:
        """Ask about every mailbox anew."""
        self._known = {}
        self._known_until = self._clock.seconds() + self._every

    def forget_one(self, mailbox: str) -> None:
        """Ask about this one anew."""
        self._known.pop(mailbox, None)

    def stop(self) -> Deferred[None]:
        """Take no more; fires when it has told of all that waits."""
        self._stopped = True
        return succeed(None) if self._asking is None else self._asking

    async def _ask(self) -> None:
        while self._waiting:
            names = [*self._waiting][:PIECE]
            asked = {name: self._waiting.pop(name) for name in names}
            scans = await self._state.find_scans(names)
            for name, policy in asked.items():
                if self._known.get(name) == policy:
                    continue
                scan = scans.get(name)
                if policy != (scan.policy if scan else "") and not await self._told(name):
                    if self._stopped:
                        # No end waits for a state that fails one name after the other.
                        return
                    continue
                self._known[name] = policy
                if len(self._known) > MOST:
                    del self._known[next(iter(self._known))]

    async def _told(self, mailbox: str) -> bool:
        try:
            await self._tell(mailbox)
        except Exception as error:
            self._rest()
            self._failed(mailbox, error)
            return False
        return True

    def _lost(self, failure: Failure) -> None:
        # The next delivery to each of them asks again, or a round finds them.
        self._waiting = {}
        self._rest()
        assert failure.value is not None
        self._failed("", failure.value)

    def _rest(self) -> None:
        self._rests_until = self._clock.seconds() + REST

    def _asked(self, outcome: Failure | None) -> Failure | None:
        asking, self._asking = self._asking, None
        assert asking is not None
        asking.callback(None)
        return outcome
