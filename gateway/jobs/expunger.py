"""Retention in one mailbox: scan it, ask the removal guard, remove in batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from math import inf

from attrs import frozen

from gateway.interfaces import IRetentionState, IRetentionStore, Run
from gateway.jobs.rate_limit import RateLimit
from gateway.model import Account, DueDay, Reason, StoredMessage
from gateway.retention.due import next_look, over
from gateway.retention.forecast import forecast
from gateway.retention.removal_guard import Guard, objection
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

    def __init__(self, guard: Guard, state: IRetentionState, now: Callable[[], float]) -> None:
        """``now`` in Unix seconds."""
        self._guard = guard
        self._state = state
        self._now = now
        self._messages: dict[str, int] = {}
        self._total = 0

    def holds(self, mailbox: str, messages: int) -> None:
        """Record how many messages the mailbox has; the sum over all mailboxes is the store."""
        self._total += messages - self._messages.get(mailbox, 0)
        self._messages[mailbox] = messages

    async def objection(self, wanted: int) -> str | None:
        """Why ``wanted`` more may not be removed today; None: they may."""
        if not wanted:
            return None
        gone = await self.count(0)
        return objection(self._guard, gone + wanted, gone + self._total, "the store within a day")

    async def count(self, messages: int) -> int:
        """Count removals; returns today's total."""
        day = int(self._now() // DAY)
        total: int = await self._state.count_removed(day, messages)
        return total


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
        kept = await self._store.scan(account)
        self._budget.holds(account.mailbox, len(kept))
        hidden = await self._hidden(account, policy)
        due, due_by_day = await self._ahead(kept, set(), hidden, policy)
        return Outcome(len(kept), due, forecast=due_by_day)

    async def clear(self, account: Account, policy: Policy, released: float) -> Outcome:
        """Remove what is due, unless that is too much; raises as a store does, and ``Stopping``.

        ``released``: what was due then goes however much it is, in Unix seconds.
        """
        began, now = self._seconds(), self._now()
        kept = await self._store.scan(account)
        self._budget.holds(account.mailbox, len(kept))
        wanted, asked = await self._run(lambda: _wanted(kept, policy, now, released))
        stopped = await self._objection(account, asked, len(kept))
        batches = await self._run(lambda: self._batches(wanted, released if stopped else inf))
        gone: set[str] = set()
        removed = 0
        for batch in batches:
            await self._rate_limit.wait()
            if self._seconds() - began > FRESH:
                break
            removed += await self._remove(account, policy, batch, released)
            gone.update(one.message.uid for one in batch)
        left = len(kept) - len(gone)
        self._budget.holds(account.mailbox, left)
        finished = len(gone) == sum(map(len, batches))
        hidden = await self._purge(account, policy) if finished else ()
        due, due_by_day = await self._ahead(kept, gone, hidden, policy)
        if not finished:
            now = self._now()
            return Outcome(left, now, removed, finished=False, forecast=due_by_day)
        return Outcome(left, None if stopped else due, removed, stopped, forecast=due_by_day)

    async def _ahead(
        self,
        kept: Sequence[StoredMessage],
        gone: Collection[str],
        hidden: Collection[StoredMessage],
        policy: Policy,
    ) -> tuple[float | None, Sequence[DueDay]]:
        """When to scan next without those that are ``gone``, and what will go day by day."""
        now = self._now()

        def found() -> tuple[float | None, Sequence[DueDay]]:
            left = [one for one in kept if one.uid not in gone] if gone else kept
            return next_look(left, hidden, policy, now), forecast(left, policy, now)

        return await self._run(found)

    async def _objection(self, account: Account, asked: int, total: int) -> str | None:
        where = f"mailbox {account.mailbox}"
        return objection(self._guard, asked, total, where) or await self._budget.objection(asked)

    def _batches(self, wanted: Sequence[Expired], until: float) -> list[Sequence[Expired]]:
        """Batches of messages of one rule each, of those that were due at ``until``."""
        found: list[Sequence[Expired]] = []
        due = (one for one in wanted if one.due <= until)
        for _, same in groupby(sorted(due, key=_by_rule), key=_by_rule):
            group = list(same)
            found += [group[at : at + self._batch] for at in range(0, len(group), self._batch)]
        return found

    async def _remove(
        self, account: Account, policy: Policy, batch: Sequence[Expired], released: float
    ) -> int:
        """Remove or hide messages of one rule; how many are gone."""
        uids = [one.message.uid for one in batch]
        cause = Reason(rule=_rule_text(policy, batch[0].rule))
        self._rate_limit.spend(len(uids))
        remove = self._store.hide if policy.hide else self._store.remove
        done: int = await remove(account, uids, cause)
        # Afterwards: what fails is tried again and again, and would use up the day.
        await self._budget.count(min(done, sum(one.due > released for one in batch)))
        return done

    async def _hidden(self, account: Account, policy: Policy) -> Collection[StoredMessage]:
        """The hidden messages, if the policy removes hidden messages."""
        return [] if policy.hide is None else await self._store.list_hidden(account)

    async def _purge(self, account: Account, policy: Policy) -> list[StoredMessage]:
        """Remove what was hidden for long enough; what is still hidden."""
        hidden = await self._hidden(account, policy)
        if not hidden:
            return []
        now = self._now()
        old = await self._run(lambda: [one.uid for one in over(hidden, policy, now)])
        cause = Reason(rule=_rule_text(policy, "hide"))
        for at in range(0, len(old), self._batch):
            await self._rate_limit.wait()
            self._rate_limit.spend(len(old[at : at + self._batch]))
            await self._store.purge(account, old[at : at + self._batch], cause)
        gone = set(old)
        return await self._run(lambda: [one for one in hidden if one.uid not in gone])


def _wanted(
    kept: Sequence[StoredMessage], policy: Policy, now: float, released: float
) -> tuple[Sequence[Expired], int]:
    """What is due, and how much of it no operator has released."""
    found = doomed(kept, policy, now)
    return found, sum(one.due > released for one in found)


def _by_rule(one: Expired) -> Rule:
    return one.rule


def _rule_text(policy: Policy, name: str) -> str:
    """One rule of the policy, as its text has it."""
    return text_of(Policy(**{name: getattr(policy, name)}))
