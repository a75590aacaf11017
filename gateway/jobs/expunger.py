"""Retention in one mailbox: scan it, ask the removal guard, remove in batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby
from math import inf
from typing import Any

from attrs import frozen

from gateway.errors import GatewayError
from gateway.interfaces import IRemovalState, IRetentionStore, Run
from gateway.jobs.rate_limit import RateLimit
from gateway.model import Account, DueDay, Reason, StoredMessage
from gateway.retention.due import next_look, over
from gateway.retention.forecast import forecast
from gateway.retention.removal_guard import HIDDEN_MAIL, STORE, Guard, objection
from gateway.retention.rules import Expired, Policy, Rule, doomed
from gateway.retention.text import text_of

FRESH = 30.0
"""Seconds for which a scan is used; then other mailboxes have their turn, and it is made anew.

A message that is read meanwhile then falls under the rule for read mail.
"""

DAY = 86_400

NOTHING = -inf
"""For ``released``: no operator has released anything."""


@frozen
class Outcome:
    """The result of a visit."""

    messages: int
    """Messages that are left."""

    hidden: int
    """Hidden messages that are left, if the policy purges them."""

    due: float | None
    """Time of the next scan, in Unix seconds; None: nothing can be due."""

    removed: int = 0
    stopped: str | None = None
    """Why the rest waits for an operator's release."""

    finished: bool = True
    """False: there is more to do at once."""

    forecast: Sequence[DueDay] = ()
    """What will go day by day."""


class Budget:
    """How much of the whole store may be removed in a day without an operator's release."""

    def __init__(self, guard: Guard, state: IRemovalState, now: Callable[[], float]) -> None:
        """``now`` in Unix seconds."""
        self._guard = guard
        self._state = state
        self._now = now
        self._shown, self._hidden = _Sum(), _Sum()

    def holds(self, mailbox: str, messages: int) -> None:
        """Record how many messages the mailbox shows; the sum over all mailboxes is the store."""
        self._shown.put(mailbox, messages)

    def hides(self, mailbox: str, messages: int) -> None:
        """Record how many messages of the mailbox are hidden, if its policy purges them."""
        self._hidden.put(mailbox, messages)

    def forget(self, mailbox: str) -> None:
        """Record that the mailbox is gone."""
        self.holds(mailbox, 0)
        self.hides(mailbox, 0)

    def names(self) -> list[str]:
        """The mailboxes that show or hide messages, in any order."""
        return [*self._shown.numbers, *self._hidden.numbers]

    def let_go(self) -> tuple[dict[str, int], dict[str, int]]:
        """Forget all mailboxes; returns their numbers, for a thread to empty (``drain``)."""
        known = self._shown.numbers, self._hidden.numbers
        self._shown, self._hidden = _Sum(), _Sum()
        return known

    async def objection(self, wanted: int) -> str | None:
        """Why ``wanted`` more may not be removed today; None: they may."""
        if not wanted:
            return None
        gone = await self.count(0)
        return objection(self._guard, gone + wanted, gone + self._shown.total, STORE)

    async def purge_objection(self, wanted: int) -> str | None:
        """The same for hidden messages."""
        if not wanted:
            return None
        gone = await self.count_purged(0)
        return objection(self._guard, gone + wanted, gone + self._hidden.total, HIDDEN_MAIL)

    async def count(self, messages: int) -> int:
        """Count removals; returns today's total."""
        total: int = await self._state.count_removed(self._day(), messages)
        return total

    async def count_purged(self, messages: int) -> int:
        """The same for hidden messages."""
        total: int = await self._state.count_purged(self._day(), messages)
        return total

    def _day(self) -> int:
        return int(self._now() // DAY)


class _Sum:
    """A number for each mailbox, and their sum."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.total = 0

    def put(self, mailbox: str, number: int) -> None:
        """Set the number of a mailbox in place of the one before."""
        self.total += number - self.numbers.pop(mailbox, 0)
        if number:
            self.numbers[mailbox] = number


@frozen
class Found:
    """What a scan found."""

    kept: Sequence[StoredMessage]
    hidden: Sequence[StoredMessage]
    """Empty if the policy purges nothing."""

    removals: Sequence[Expired]
    purges: Sequence[Expired]


@frozen
class Trust:
    """Until when what is due may go without being counted by the guard, in Unix seconds."""

    released: float = NOTHING
    """What was due then was released."""

    expected_after: float = inf
    """Hidden messages that became due later are expected to go."""

    def counted(self, due: Iterable[Expired]) -> int:
        """How many of these the guard counts."""
        return sum(
            self.released < one.due
            and (one.rule is not Rule.HIDE or one.due <= self.expected_after)
            for one in due
        )


class Expunger:
    """Scans a mailbox and removes what is due, in batches."""

    def __init__(
        self,
        store: IRetentionStore,
        rate_limit: RateLimit,
        budget: Budget,
        guard: Guard,
        *,
        batch: int,
        run: Run,
        now: Callable[[], float],
        seconds: Callable[[], float],
    ) -> None:
        """``batch``: messages in one batch; ``run`` does what takes time by the number of messages.

        ``now`` in Unix seconds, ``seconds`` of any clock.
        """
        self._store = store
        self._rate_limit = rate_limit
        self._budget = budget
        self._guard = guard
        self._batch = batch
        self._run = run
        self._now = now
        self._seconds = seconds

    async def look(self, account: Account, policy: Policy) -> Outcome:
        """Scan, and change nothing; raises as a store does, and ``Stopping``."""
        found = await self._scan(account, policy)
        due, due_by_day = await self._ahead(found.kept, found.hidden, policy)
        return Outcome(len(found.kept), len(found.hidden), due, forecast=due_by_day)

    async def clear(self, account: Account, policy: Policy, trust: Trust) -> Outcome:
        """Remove what is due, unless that is too much; raises as a store does, and ``Stopping``."""
        found = await self._scan(account, policy)
        began = self._seconds()
        stopped = await self._objection(account, found, trust)
        until = trust.released if stopped else inf
        batches = await self._run(lambda: self._batches(found, until))
        gone: set[str] = set()
        removed, done = 0, 0
        for batch in batches:
            await self._rate_limit.wait()
            if self._seconds() - began > FRESH:
                break
            removed += await self._take(account, policy, batch, trust)
            gone.update(one.message.uid for one in batch)
            done += 1
        kept = await self._run(lambda: _without(gone, found.kept))
        self._budget.holds(account.mailbox, len(kept))
        hidden = await self._hidden(account, policy) if gone else found.hidden
        due, due_by_day = await self._ahead(kept, hidden, policy)
        finished = done == len(batches)
        if not finished:
            due = self._now()
        elif stopped:
            due = None
        return Outcome(len(kept), len(hidden), due, removed, stopped, finished, due_by_day)

    async def _scan(self, account: Account, policy: Policy) -> Found:
        now = self._now()
        kept = await self._store.scan(account)
        self._budget.holds(account.mailbox, len(kept))
        hidden = await self._hidden(account, policy)

        def due() -> Found:
            return Found(kept, hidden, doomed(kept, policy, now), over(hidden, policy, now))

        found: Found = await self._run(due)
        return found

    async def _ahead(
        self, kept: Sequence[StoredMessage], hidden: Sequence[StoredMessage], policy: Policy
    ) -> tuple[float | None, Sequence[DueDay]]:
        """When to scan next, and what will go day by day."""
        now = self._now()

        def found() -> tuple[float | None, Sequence[DueDay]]:
            return next_look(kept, hidden, policy, now), forecast(kept, policy, now)

        return await self._run(found)

    async def _objection(self, account: Account, found: Found, trust: Trust) -> str | None:
        """Why only what is released may go; None: all that is due may."""
        mailbox = f"mailbox {account.mailbox}"
        removals, purges = await self._run(
            lambda: (trust.counted(found.removals), trust.counted(found.purges))
        )
        return (
            objection(self._guard, removals, len(found.kept), mailbox)
            or objection(self._guard, purges, len(found.hidden), f"the hidden mail of {mailbox}")
            or await self._budget.purge_objection(purges)
            or await self._budget.objection(removals)
        )

    def _batches(self, found: Found, until: float) -> list[Sequence[Expired]]:
        """Batches of messages of one rule each, of those that were due at ``until``."""
        batches: list[Sequence[Expired]] = []
        due = (one for one in (*found.removals, *found.purges) if one.due <= until)
        for _, same in groupby(sorted(due, key=_by_rule), key=_by_rule):
            group = list(same)
            batches += [group[at : at + self._batch] for at in range(0, len(group), self._batch)]
        return batches

    async def _take(
        self, account: Account, policy: Policy, batch: Sequence[Expired], trust: Trust
    ) -> int:
        """Remove, hide or purge messages of one rule; how many that were shown are gone."""
        rule, uids = batch[0].rule, [one.message.uid for one in batch]
        cause = Reason(rule=_rule_text(policy, rule))
        counted = trust.counted(batch)
        self._rate_limit.spend(len(uids))
        is_purge = rule is Rule.HIDE
        take = self._store.purge if is_purge else self._remove_by(policy)
        done = 0
        # Counted afterwards: what fails is tried again and again, and would use up the day.
        try:
            done = await take(account, uids, cause)
        except GatewayError as error:
            done = (error.done or {}).get("messages", 0)
            raise
        finally:
            if gone := min(done, counted):
                await (self._budget.count_purged if is_purge else self._budget.count)(gone)
        return 0 if is_purge else done

    def _remove_by(self, policy: Policy) -> Callable[..., Any]:
        """What the policy does to a message that is shown."""
        return self._store.hide if policy.hide else self._store.remove

    async def _hidden(self, account: Account, policy: Policy) -> Sequence[StoredMessage]:
        """The hidden messages, if the policy removes hidden messages."""
        hidden = [] if policy.hide is None else await self._store.list_hidden(account)
        self._budget.hides(account.mailbox, len(hidden))
        return hidden


def _without(gone: Collection[str], kept: Sequence[StoredMessage]) -> Sequence[StoredMessage]:
    return [one for one in kept if one.uid not in gone] if gone else kept


def _by_rule(one: Expired) -> Rule:
    return one.rule


def _rule_text(policy: Policy, name: str) -> str:
    """One rule of the policy, as its text has it."""
    return text_of(Policy(**{name: getattr(policy, name)}))
