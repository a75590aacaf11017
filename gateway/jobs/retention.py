"""Retention in the leader: one timer for all mailboxes, set to the earliest due time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import NoSuchMailbox, RetentionMalformed
from gateway.events import (
    Emit,
    MessagesExpired,
    RetentionPostponed,
    RetentionStopped,
)
from gateway.interfaces import ILeader, IState, Run
from gateway.jobs.arrivals import Arrivals
from gateway.jobs.expunger import NOTHING, Budget, Expunger, Outcome, Trust
from gateway.jobs.rate_limit import RateLimit, Stopping
from gateway.jobs.turns import drain, in_turns, merged, without
from gateway.mailboxes.owners import AllMailboxes
from gateway.mailboxes.pieces import in_pieces
from gateway.model import Account, LastScan, RetentionOrder
from gateway.observe.failures import meets_all, problem_in
from gateway.observe.log import emit_to_log
from gateway.retention.policies import Policies
from gateway.retention.removal_guard import expected_after
from gateway.retention.schedule import Schedule, jitter

log = Logger()

LISTEN = 60.0
"""Seconds between two looks at orders, at the time of day, and at who leads."""

ORDERS_EVERY = 100
"""Mailboxes after which the job reads operators' orders again."""

SPREAD = 0.25
"""Share of the interval between rounds over which mailboxes with the same due time are spread."""

MOST_COUNTED = 1000
"""Mailboxes that are due, counted for figures."""

_FIRST_DELAY, _LONGEST_DELAY = 60.0, 6 * 3600.0
"""Seconds until a mailbox that failed is tried again: the first time, and at most."""

HOW_TO_GO_ON = "pop3gw retention release --config FILE"


@frozen
class Mailboxes:
    """All mailboxes and their owners."""

    all_mailboxes: AllMailboxes
    policies: Policies

    async def names(self) -> list[str]:
        """All of them, sorted."""
        return await self.all_mailboxes.names()

    async def account(self, name: str) -> Account | None:
        """The owner of a mailbox; None: it has none, or another server has the mailbox."""
        return await self.all_mailboxes.owner(name)


class RetentionJob:
    """Visits each mailbox when something is due in it.

    A round finds new mailboxes and changed policies; each other mailbox costs one
    directory request.  Failures are logged and retried with growing delays, and do not
    hold up other mailboxes; only an outage of the directory or the store postpones all.
    """

    def __init__(
        self,
        mailboxes: Mailboxes,
        expunger: Expunger,
        budget: Budget,
        rate_limit: RateLimit,
        state: IState,
        leader: ILeader,
        run: Run,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        every: float,
        listen: float = LISTEN,
        emit: Emit = emit_to_log,
    ) -> None:
        """``run`` does what takes time by the number of mailboxes.

        ``every``: seconds between two rounds, and between two visits to a mailbox.

        ``now`` in Unix seconds, which may jump as ``clock`` may not.
        """
        self._mailboxes = mailboxes
        self._expunger = expunger
        self._budget = budget
        self._rate_limit = rate_limit
        self._state = state
        self._leader = leader
        self._run = run
        self._clock = clock
        self._now = now
        self._every = every
        self._listen = listen
        self._emit = emit
        self._schedule = Schedule()
        self._arrivals = Arrivals(state, self._tell, self._postponed, clock=clock, every=every)
        self._orders: dict[str, RetentionOrder] = {}
        self._stopped: set[str] = set()
        """Mailboxes in which the removal guard stopped the last visit."""
        self._failures: dict[str, int] = {}
        """How often each mailbox has failed since its last success."""
        self._leading = False
        self._latest = NOTHING
        """The latest value of ``now``."""
        self._next_round = self._next_hearing = 0.0
        self._waits_for = ""
        """Why the last turn failed, as it was logged; empty: it did not."""
        self._unchecked: list[str] = []
        """Mailboxes that an interrupted round has not checked, the next one last."""
        self._timer: IDelayedCall | None = None
        self._running: Deferred[None] = succeed(None)

    def start(self) -> None:
        """Begin."""
        self._set_timer(0)

    @property
    def is_leading(self) -> bool:
        """Whether this process removed mail when it last looked."""
        return self._leading

    def readings(self, now: float) -> Iterator[tuple[str, float]]:
        """Figures of this job, by name; at ``now``, in Unix seconds."""
        due = self._schedule.next_due()
        yield "mailboxes", len(self._schedule)
        yield "mailboxes_due", self._schedule.count_due(now, MOST_COUNTED)
        yield "mailboxes_stopped", len(self._stopped)
        yield "overdue_seconds", max(now - due, 0.0) if due is not None else 0.0

    def stop(self) -> Deferred[None]:
        """End; fires when the current step is done."""
        told = self._arrivals.stop()
        self._rate_limit.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        # A separate Deferred: cancelling it does not cancel the step.
        ended = Deferred[None]()
        self._running.addCallback(lambda _: told).addCallback(ended.callback)
        return ended

    def delivered(self, account: Account) -> None:
        """A message arrived: the mailbox or its policy may be new."""
        self._arrivals.delivered(account.mailbox, self._mailboxes.policies.text(account))

    async def _tell(self, name: str) -> None:
        """Have the leader visit a mailbox that is new or has a new policy."""
        if not self._leading:
            await self._state.add_order(name, RetentionOrder(self._now()))
        elif name not in self._failures:
            self._schedule.put(name, self._now())
            if self._timer is not None and self._timer.active():
                self._set_timer(0)

    # -- the timer ----------------------------------------------------------------

    def _set_timer(self, delay: float) -> None:
        if self._rate_limit.stopped:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._clock.callLater(delay, self._begin)

    def _begin(self) -> None:
        done: Deferred[None] = Deferred.fromCoroutine(self._turn())
        self._running = done.addCallbacks(self._rest, self._turn_failed)

    def _turn_failed(self, failure: Failure) -> None:
        why = str(failure.value)
        if not failure.check(Stopping) and why != self._waits_for:
            assert failure.value is not None
            self._postponed("", failure.value)
            self._waits_for = why
        self._set_timer(self._listen)

    def _rest(self, _: None) -> None:
        self._waits_for = ""
        delay = min(self._listen, self._next_round - self._clock.seconds())
        due = self._schedule.next_due()
        if due is not None:
            delay = min(delay, due - self._now())
        self._set_timer(max(delay, 0.0) if self._leading else self._listen)

    async def _turn(self) -> None:
        if not await self._leader.is_leader():
            if self._leading:
                # Nobody has told the leader of what came since this one led no more.
                self._arrivals.forget()
            self._leading = False
            await self._let_go()
            return
        # A wrong clock may have postponed mailboxes.
        if not self._leading or self._now() < self._latest - self._listen:
            # What is delivered meanwhile is an order, and heard afterwards.
            self._leading = False
            await self._recall()
            self._leading = True
        self._latest = self._now()
        await self._hear()
        if self._clock.seconds() >= self._next_round:
            await self._round()
            # It may have taken long: who leads is asked before any visit.
            return
        end = self._clock.seconds() + self._listen
        for _ in range(ORDERS_EVERY):
            if (first := self._schedule.next_due()) is None or first > self._now():
                break
            # As this may; and a visit reads the policy after it.
            await self._rate_limit.wait()
            if self._clock.seconds() >= end or not (due := self._schedule.take(self._now(), 1)):
                break
            await self._guarded(due[0], self._visit)

    async def _let_go(self) -> None:
        """Hold nothing of what only the leader needs: it grows with the number of mailboxes."""
        schedule, self._schedule = self._schedule, Schedule()
        unchecked, self._unchecked = self._unchecked, []
        sums = self._budget.let_go()
        self._orders, self._stopped, self._failures = {}, set(), {}
        held = (*schedule.let_go(), *sums, unchecked)
        if any(held):
            await self._run(lambda: drain(*held))

    async def _recall(self) -> None:
        """Take from the state what the last leader left."""
        self._stopped.clear()
        now = self._now()
        async for piece in in_pieces(self._state.last_scans):
            async for name, look in in_turns(piece.items(), self._clock):
                self._take(name, look, now)

    def _take(self, name: str, look: LastScan, now: float) -> None:
        self._budget.holds(name, look.messages)
        self._budget.hides(name, look.hidden)
        if look.stopped:
            self._stopped.add(name)
        # A scan with a time in the future was made by a wrong clock.
        self._put(name, now if look.looked > now else look.due)

    async def _hear(self) -> None:
        """Read new orders of operators; where there are very many, in a tenth of the time."""
        began = self._clock.seconds()
        if began < self._next_hearing:
            return
        orders: Mapping[str, RetentionOrder] = await self._state.orders()
        known = self._orders
        new = await self._run(
            lambda: [name for name, order in orders.items() if known.get(name) != order]
        )
        async for name in in_turns(new, self._clock):
            self._schedule.put(name, self._now())
        self._orders = dict(orders)
        self._next_hearing = 10 * self._clock.seconds() - 9 * began

    def _put(self, name: str, due: float | None) -> None:
        later = jitter(name, self._every * SPREAD)
        self._schedule.put(name, None if due is None else due + later)

    # -- rounds ---------------------------------------------------------

    async def _round(self) -> None:
        if not self._unchecked:
            self._unchecked = await self._all()
        while part := self._unchecked[-ORDERS_EVERY:]:
            scans = await self._state.find_scans(part)
            for name in reversed(part):
                await self._rate_limit.wait()
                self._unchecked.pop()
                await self._guarded(name, partial(self._check, scans.get(name)))
            await self._rate_limit.rest()
        self._next_round = self._clock.seconds() + self._every

    async def _all(self) -> list[str]:
        """The names of all mailboxes, and of those with scans, the first one last.

        What is known of others goes: operators have renamed or deleted them.
        """
        names = await self._mailboxes.names()
        scanned: list[str] = []
        async for piece in in_pieces(self._state.last_scans):
            scanned += piece
        found = await self._run(lambda: merged(names, scanned)[::-1])
        gone = await self._run(lambda: without(found, [*self._budget.names(), *self._stopped]))
        async for name in in_turns(gone, self._clock):
            self._budget.forget(name)
            self._stopped.discard(name)
        return found

    async def _check(self, known: LastScan | None, name: str) -> None:
        """Scan the mailbox if it is new, or has a new policy."""
        account = await self._mailboxes.account(name)
        text = "" if account is None else self._mailboxes.policies.text(account)
        if text == (known.policy if known else ""):
            if known is not None and name not in self._schedule:
                # An operator may have given a mailbox this name.
                self._take(name, known, self._now())
            return
        if account is None or not text:
            await self._forget(name)
            return
        policy = self._mailboxes.policies.policy(account)
        try:
            outcome = await self._expunger.look(account, policy)
        except NoSuchMailbox:
            await self._forget(name)
            return
        await self._keep(known, name, text, outcome)
        self._put(name, outcome.due)

    # -- visits ---------------------------------------------------------

    async def _guarded(self, name: str, work: Callable[[str], Awaitable[None]]) -> None:
        try:
            await work(name)
        except Stopping:
            raise
        except Exception as error:
            self._failed(name, error)
            if meets_all(error):
                raise

    def _failed(self, name: str, error: Exception) -> None:
        if meets_all(error):
            # Not this mailbox's fault: it waits no longer than the others.
            self._schedule.put(name, self._now() + _FIRST_DELAY)
            return
        failed = self._failures[name] = self._failures.get(name, 0) + 1
        if isinstance(error, RetentionMalformed):
            # Wait until somebody corrects the policy; each round logs it again.
            self._emit(RetentionStopped(name, f"retention keeps everything: {error}"))
            self._schedule.put(name, None)
            return
        self._postponed(name, error)
        delay = min(_FIRST_DELAY * 2.0 ** min(failed - 1, 20), _LONGEST_DELAY)
        self._schedule.put(name, self._now() + delay)

    def _postponed(self, name: str, error: BaseException) -> None:
        what = "internal error: retention mailbox={name}"
        problem = problem_in(Failure(error), log, what, name=name)
        self._emit(RetentionPostponed(name, problem))

    async def _visit(self, name: str) -> None:
        """Remove what is due, and schedule the next visit."""
        order = self._orders.get(name)
        account = await self._mailboxes.account(name)
        text = "" if account is None else self._mailboxes.policies.text(account)
        finished = True
        if account is None or not text:
            await self._forget(name)
        else:
            try:
                finished = await self._clear(account, text, order)
            except NoSuchMailbox:
                # It was deleted or renamed.  If it comes back, it is new.
                await self._forget(name)
        if finished and order is not None:
            await self._state.finish_order(name, order)
            self._orders.pop(name, None)

    async def _clear(self, account: Account, text: str, order: RetentionOrder | None) -> bool:
        name = account.mailbox
        policy = self._mailboxes.policies.policy(account)
        released = NOTHING
        if order is not None and order.released_at is not None and order.policy == text:
            released = order.released_at
        known = (await self._state.find_scans([name])).get(name)
        expected = expected_after(known, text, self._now())
        outcome = await self._expunger.clear(account, policy, Trust(released, expected))
        if outcome.removed:
            hidden = bool(policy.hide)
            self._emit(MessagesExpired(name, outcome.removed, outcome.messages, hidden))
        if outcome.stopped and outcome.finished:
            cure = f"{outcome.stopped}; to go on: {HOW_TO_GO_ON} {name}"
            self._emit(RetentionStopped(name, cure))
        await self._keep(known, name, text, outcome)
        if not outcome.finished:
            self._schedule.put(name, outcome.due)
        elif outcome.due is not None:
            self._put(name, max(outcome.due, self._now() + self._every))
        return outcome.finished

    async def _keep(self, known: LastScan | None, name: str, text: str, outcome: Outcome) -> None:
        looked = self._now()
        if known is not None and not outcome.finished:
            # The next visit does what is left, and asks the guard no more of it.
            looked = known.looked
        look = LastScan(
            text, outcome.due, looked, outcome.messages, outcome.stopped, outcome.hidden
        )
        await self._state.keep_scan(name, look)
        await self._state.keep_forecast(name, outcome.forecast)
        if look.stopped:
            self._stopped.add(name)
        else:
            self._stopped.discard(name)
        self._failures.pop(name, None)

    async def _forget(self, name: str) -> None:
        await self._state.keep_forecast(name, ())
        await self._state.forget_scan(name)
        self._arrivals.forget_one(name)
        self._failures.pop(name, None)
        self._stopped.discard(name)
        self._budget.forget(name)
        self._schedule.put(name, None)
