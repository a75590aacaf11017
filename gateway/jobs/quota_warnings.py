"""Quota warnings to users with a full or nearly full mailbox, and a list to an administrator."""

from __future__ import annotations

from collections.abc import Callable, Set
from contextlib import suppress
from math import ceil
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import GatewayError
from gateway.events import (
    Emit,
    MessageDelivered,
    Problem,
    QuotaCheckFailed,
    QuotaExceeded,
    QuotaWarningSent,
    Subscription,
)
from gateway.interfaces import IDelivery, ILeader, IWarningState
from gateway.jobs.notices import post
from gateway.jobs.turns import in_turns
from gateway.mailboxes.owners import Owners
from gateway.mailboxes.recipients import Recipients
from gateway.model import Account, Level, Limits, Usage, WarningChange
from gateway.observe.failures import meets_all, problem_in
from gateway.observe.log import emit_to_log
from gateway.quota.verdict import level

log = Logger()

CHECK_AGAIN = 300.0
"""Seconds between two checks of a mailbox that goes on to reject mail: the one before may have
failed, and a warning may be due once more.  Only the leader has rounds, and any process rejects."""

MOST_REJECTED = 10_000
"""Rejected messages that are remembered, one of a mailbox."""

LISTEN = 60.0
"""Most seconds between two looks at who leads, and from the start to the first round."""

Compose = Callable[[Account, Usage, Limits, Level], bytes]
"""The message that warns a user."""


class Rejected(NamedTuple):
    """A message that a mailbox had no room for."""

    octets: int
    checked: float
    """When the mailbox was checked because of it, in Unix seconds."""


class QuotaWarner:
    """Checks mailboxes after each change, and all of them in rounds, if this process leads.

    The level of a mailbox counts, not what changed it: a lowered limit warns as well
    as a delivery.
    """

    def __init__(
        self,
        recipients: Recipients,
        owners: Owners,
        store: IDelivery,
        state: IWarningState,
        leader: ILeader,
        compose: Compose,
        *,
        interval: float,
        now: Callable[[], float],
        after_round: Callable[[], Deferred[None]] = lambda: succeed(None),
        emit: Emit = emit_to_log,
    ) -> None:
        """``after_round`` sends the digest, and does not fail.

        Each kind of warning is sent to a user once per ``interval``; times in seconds.
        """
        self._recipients = recipients
        self._owners = owners
        self._store = store
        self._state = state
        self._leader = leader
        self._compose = compose
        self._interval = interval
        self._now = now
        self._after_round = after_round
        self._emit = emit
        self._looking: dict[str, bool] = {}
        """Mailboxes that are being checked; True: they have changed meanwhile."""
        self._idle: Deferred[None] | None = None
        """Fires when no mailbox is being checked any more."""
        self._rejected: dict[str, Rejected] = {}
        """What a mailbox had no room for and still has none for; the latest is last."""
        self._stopped = False
        self._sweeping = LoopingCall(self._sweep, 0.0)
        self._next_round = 0.0
        self._swept: Deferred[Any] = succeed(None)
        self._mailboxes: Callable[[], Deferred[list[str]]] = lambda: succeed([])

    def start(
        self, clock: IReactorTime, every: float, mailboxes: Callable[[], Deferred[list[str]]]
    ) -> None:
        """Check all ``mailboxes`` at this interval in seconds, one after the other.

        The first round begins soon, also of a process that leads only later: each may be restarted
        more often than that.
        """
        self._mailboxes = mailboxes
        listen = every / ceil(every / LISTEN)
        # One look may come late and the next in time: they are less than ``listen`` apart.
        self._sweeping = LoopingCall(self._sweep, every - listen / 2)
        self._sweeping.clock = clock
        self._swept = self._sweeping.start(listen, now=False)

    @property
    def subscription(self) -> Subscription:
        """Check a mailbox that mail came into, or that had no room for it."""
        return {
            MessageDelivered: lambda event: self.look(event.account),
            QuotaExceeded: self.over_quota,
        }

    def stop(self) -> Deferred[None]:
        """Begin no more checks; fires when no mailbox is being checked any more.

        By then every recorded warning is delivered.
        """
        self._stopped = True
        if self._sweeping.running:
            self._sweeping.stop()
        return Deferred.fromCoroutine(self._settle())

    async def _settle(self) -> None:
        await self._swept
        if self._looking:
            self._idle = Deferred()
            await self._idle

    # -- one mailbox ---------------------------------------------------------

    def look(self, account: Account) -> Deferred[None]:
        """Check a mailbox that has changed; fires when the warning, if one is due, is sent."""
        if account.mailbox in self._looking:
            self._looking[account.mailbox] = True
        if self._stopped or account.mailbox in self._looking:
            return succeed(None)
        self._looking[account.mailbox] = False
        checked = Deferred.fromCoroutine(self._check(account))
        return checked.addErrback(self._failed, account).addCallback(self._looked, account)

    def over_quota(self, event: QuotaExceeded) -> None:
        """Check a mailbox at the first message that did not fit, and then every few minutes."""
        mailbox, now = event.account.mailbox, self._now()
        known = self._rejected.get(mailbox)
        if known is not None and 0 <= now - known.checked < min(CHECK_AGAIN, self._interval):
            return
        self._rejected.pop(mailbox, None)
        self._rejected[mailbox] = Rejected(max(event.octets, 1), now)
        if len(self._rejected) > MOST_REJECTED:
            # If it rejects mail again, it is checked again.
            del self._rejected[next(iter(self._rejected))]
        self.look(event.account)

    async def _check(self, account: Account) -> None:
        limits = self._recipients.limits(account)
        rejected = self._rejected.get(account.mailbox)
        usage = await self._recipients.usage(account)
        found = level(usage, limits, rejected.octets if rejected else 0)
        if found is not Level.OVER and self._rejected.get(account.mailbox) is rejected:
            self._rejected.pop(account.mailbox, None)
        change = await self._state.weigh(account.mailbox, found, self._now(), self._interval)
        if change.notice is not None:
            await self._send(account, change, self._compose(account, usage, limits, change.notice))
            self._emit(QuotaWarningSent(account.name, change.notice))

    async def _send(self, account: Account, change: WarningChange, message: bytes) -> None:
        try:
            await post(self._store, account, message)
        except BaseException:
            # The next check tries again.
            with suppress(GatewayError):
                await self._state.take_back(account.mailbox, change)
            raise

    def _failed(self, failure: Failure, account: Account) -> None:
        self._check_failed(account.mailbox, failure)

    def _looked(self, _: None, account: Account) -> Any:
        if self._looking.pop(account.mailbox) and not self._stopped:
            return self.look(account)
        if self._idle is not None and not self._looking:
            idle, self._idle = self._idle, None
            idle.callback(None)
        return None

    # -- all of them ---------------------------------------------------------

    def _sweep(self, every: float) -> Deferred[Any]:
        """A round, if one is due; failures of one mailbox or of all are logged."""
        if self._sweeping.clock.seconds() < self._next_round:
            return succeed(None)
        round_ = Deferred.fromCoroutine(self._round(every))
        return round_.addErrback(self._round_failed)

    def _round_failed(self, failure: Failure) -> None:
        self._check_failed("", failure)
        assert failure.value is not None
        if meets_all(failure.value):
            # After an outage, as of a directory that starts later than this server, at once.
            self._next_round = 0.0

    def _check_failed(self, mailbox: str, failure: Failure) -> None:
        what = "internal error: quota check mailbox={name}"
        problem = problem_in(failure, log, what, name=mailbox)
        self._emit(QuotaCheckFailed(mailbox, problem))

    async def _round(self, every: float) -> None:
        """Check one mailbox after the other, in a loop: recursion would exhaust the stack."""
        if not await self._leader.is_leader():
            return
        self._next_round = self._sweeping.clock.seconds() + every
        names = await self._mailboxes()
        gone: set[str] = set()
        async for name in in_turns(names, self._sweeping.clock):
            if not self._sweeping.running:
                return
            try:
                account = await self._owners.owner(name)
                if account is not None:
                    await self.look(account)
                else:
                    gone.add(name)
            except Exception as error:
                if meets_all(error):
                    raise
                # The name of a directory on disk may be no valid mailbox name.
                self._emit(QuotaCheckFailed(name, Problem(type(error), str(error))))
        await self._forget(gone)
        await self._after_round()

    async def _forget(self, gone: Set[str]) -> None:
        """A mailbox that nobody has here is full for nobody, whatever it was before."""
        known = await self._state.warning_states(Level.NORMAL) if gone else {}
        async for name in in_turns(gone & known.keys(), self._sweeping.clock):
            await self._state.weigh(name, Level.NORMAL, self._now(), self._interval)
