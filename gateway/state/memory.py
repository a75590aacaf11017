"""An ``IState`` and an ``ILeader`` that last as long as the process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from gateway.interfaces import RAISED, ILeader, IState
from gateway.model import (
    DigestClaim,
    DueDay,
    KnownExpire,
    LastLogin,
    LastScan,
    Level,
    RetentionOrder,
    WarningChange,
    WarningState,
)
from gateway.quota.warnings import UNKNOWN, step

__all__ = ["MemoryLeader", "MemoryState"]


@implementer(IState)
class MemoryState:
    """State in dictionaries: for tests, and for servers that keep none."""

    def __init__(self) -> None:
        self._warnings: dict[str, WarningState] = {}
        self._digests: dict[str, float] = {}
        self._scans: dict[str, LastScan] = {}
        self._forecasts: dict[str, Sequence[DueDay]] = {}
        self._orders: dict[str, RetentionOrder] = {}
        self._gone: dict[int, tuple[int, int]] = {}
        """Removed and purged messages, by day."""
        self._expire: KnownExpire | None = None
        self._logins: dict[str, LastLogin] = {}
        self._logins_since: float | None = None
        self._marks: dict[str, int] = {}
        self._renames: dict[str, str] = {}

    # -- warnings and digests -------------------------------------------------

    def weigh(
        self, mailbox: str, level: Level, now: float, interval: float
    ) -> Deferred[WarningChange]:
        """Record how full a mailbox is."""
        was = self._warnings.get(mailbox, UNKNOWN)
        state, notice = step(was, level, now, interval)
        self._keep(mailbox, state)
        return succeed(WarningChange(was, state, notice))

    def take_back(self, mailbox: str, change: WarningChange) -> Deferred[bool]:
        """The warning was not sent."""
        is_current = self._warnings.get(mailbox, UNKNOWN) == change.now
        if is_current:
            self._keep(mailbox, change.was)
        return succeed(is_current)

    def _keep(self, mailbox: str, state: WarningState) -> None:
        self._warnings[mailbox] = state
        if state == UNKNOWN:
            del self._warnings[mailbox]

    def warning_states(self, least: Level) -> Deferred[Mapping[str, WarningState]]:
        """The mailboxes that were last found at ``least`` or above."""
        states = sorted(self._warnings.items())
        return succeed({name: state for name, state in states if state.level >= least})

    def is_digest_due(self, recipient: str, now: float, interval: float) -> Deferred[bool]:
        """Whether ``recipient`` was sent none for ``interval`` seconds."""
        return succeed(self._is_due(recipient, now, interval))

    def _is_due(self, recipient: str, now: float, interval: float) -> bool:
        sent = self._digests.get(recipient)
        if sent is not None and sent > now:
            sent = self._digests[recipient] = now
        return sent is None or now - sent >= interval

    def take_digest(
        self, recipient: str, now: float, interval: float
    ) -> Deferred[DigestClaim | None]:
        """The right to send one, if it is due."""
        was = self._digests.get(recipient)
        if not self._is_due(recipient, now, interval):
            return succeed(None)
        self._digests[recipient] = now
        return succeed(DigestClaim(was, now))

    def return_digest(self, recipient: str, claim: DigestClaim) -> Deferred[bool]:
        """The digest was not sent."""
        is_current = self._digests.get(recipient) == claim.now
        if is_current:
            del self._digests[recipient]
            if claim.was is not None:
                self._digests[recipient] = claim.was
        return succeed(is_current)

    # -- retention ------------------------------------------------------------

    def last_scans(self, after: str, most: int) -> Deferred[Mapping[str, LastScan]]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        names = sorted(name for name in self._scans if name > after)
        return succeed({name: self._scans[name] for name in names[:most]})

    def find_scans(self, mailboxes: Sequence[str]) -> Deferred[Mapping[str, LastScan]]:
        """Those of these mailboxes."""
        return succeed({name: self._scans[name] for name in mailboxes if name in self._scans})

    def keep_scan(self, mailbox: str, scan: LastScan) -> Deferred[None]:
        """Store it in place of the one before."""
        self._scans[mailbox] = scan
        return succeed(None)

    def forget_scan(self, mailbox: str) -> Deferred[None]:
        """Delete what is known of the mailbox."""
        self._scans.pop(mailbox, None)
        return succeed(None)

    def count_removed(self, day: int, messages: int) -> Deferred[int]:
        """Count ``messages`` more as removed on ``day``."""
        return succeed(self._count(day, removed=messages)[0])

    def count_purged(self, day: int, messages: int) -> Deferred[int]:
        """The same for hidden messages."""
        return succeed(self._count(day, purged=messages)[1])

    def _count(self, day: int, *, removed: int = 0, purged: int = 0) -> tuple[int, int]:
        before = self._gone.get(day, (0, 0))
        self._gone = {day: (before[0] + removed, before[1] + purged)}
        return self._gone[day]

    def add_order(self, mailbox: str, order: RetentionOrder) -> Deferred[None]:
        """Have retention visit a mailbox."""
        was = self._orders.get(mailbox, order)
        release = order if order.released_at is not None else was
        self._orders[mailbox] = release._replace(given=max(was.given, order.given))
        return succeed(None)

    def orders(self) -> Deferred[Mapping[str, RetentionOrder]]:
        """The orders that are not done, by mailbox."""
        return succeed(dict(self._orders))

    def finish_order(self, mailbox: str, order: RetentionOrder) -> Deferred[None]:
        """The order is done."""
        if self._orders.get(mailbox) == order:
            del self._orders[mailbox]
        return succeed(None)

    def keep_forecast(self, mailbox: str, due: Sequence[DueDay]) -> Deferred[None]:
        """Store it in place of the one before."""
        self._forecasts.pop(mailbox, None)
        if due:
            self._forecasts[mailbox] = list(due)
        return succeed(None)

    def forecasts(self, after: str, most: int) -> Deferred[Mapping[str, Sequence[DueDay]]]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        # As SQLite orders text, by its UTF-8.
        names = sorted(name for name in self._forecasts if name > after)
        return succeed({name: self._forecasts[name] for name in names[:most]})

    def keep_expire(self, known: KnownExpire) -> Deferred[None]:
        """Store what is announced as EXPIRE."""
        self._expire = known
        return succeed(None)

    def find_expire(self) -> Deferred[KnownExpire | None]:
        """What is announced as EXPIRE."""
        return succeed(self._expire)

    # -- mailboxes ------------------------------------------------------------

    @property
    def _by_mailbox(self) -> tuple[dict[str, Any], ...]:
        return (self._warnings, self._scans, self._forecasts, self._orders, self._logins)

    def begin_rename(self, mailbox: str, target: str) -> Deferred[None]:
        """Record a rename that begins."""
        self._renames[mailbox] = target
        return succeed(None)

    def find_rename(self, mailbox: str) -> Deferred[str | None]:
        """The target of a rename that did not end."""
        return succeed(self._renames.get(mailbox))

    def finish_rename(self, mailbox: str) -> Deferred[None]:
        """Give all that is known of the mailbox to the target."""
        if mailbox in self._renames:
            for known in self._by_mailbox:
                if mailbox in known:
                    known[self._renames[mailbox]] = known.pop(mailbox)
        return self.drop_rename(mailbox)

    def drop_rename(self, mailbox: str) -> Deferred[None]:
        """The rename has not begun."""
        self._renames.pop(mailbox, None)
        return succeed(None)

    def forget_mailbox(self, mailbox: str) -> Deferred[None]:
        """Delete all that is known of the mailbox."""
        for known in self._by_mailbox:
            known.pop(mailbox, None)
        return succeed(None)

    # -- logins ---------------------------------------------------------------

    def keep_logins(self, logins: Mapping[str, LastLogin]) -> Deferred[None]:
        """Store logins; the later stays."""
        if logins and self._logins_since is None:
            self._logins_since = min(login.at for login in logins.values())
        for mailbox, login in logins.items():
            if login.at > self._logins.get(mailbox, login._replace(at=float("-inf"))).at:
                self._logins[mailbox] = login
        return succeed(None)

    def last_logins(self, after: str, most: int) -> Deferred[Mapping[str, LastLogin]]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        names = sorted(name for name in self._logins if name > after)
        return succeed({name: self._logins[name] for name in names[:most]})

    def find_logins(self, mailboxes: Sequence[str]) -> Deferred[Mapping[str, LastLogin]]:
        """Those of these mailboxes."""
        return succeed({name: self._logins[name] for name in mailboxes if name in self._logins})

    def logins_since(self) -> Deferred[float | None]:
        """The time of the first login that was stored."""
        return succeed(self._logins_since)

    # -- unique-ids -----------------------------------------------------------

    def high_water(self, place: str, least: int) -> int:
        """A ``HighWater``."""
        if least:
            self._marks[place] = max(least, self._marks.get(place, 0))
        return self._marks.get(place, 0)

    def raise_high_water(self, by: int) -> Deferred[None]:
        """Raise every number by ``by``."""
        self._marks.setdefault(RAISED, 0)
        self._marks = {place: mark + by for place, mark in self._marks.items()}
        return succeed(None)

    def close(self) -> Deferred[None]:
        """Nothing is open."""
        return succeed(None)


@implementer(ILeader)
class MemoryLeader:
    """A candidate among those that were given the same ``seat``; alone, it leads."""

    def __init__(self, seat: list[object] | None = None) -> None:
        """``seat``: holds the leader, if there is one."""
        self._seat = [] if seat is None else seat
        self._resigned = False

    def is_leader(self) -> Deferred[bool]:
        """Whether the seat is this one's, which takes it if it is free."""
        if not self._seat and not self._resigned:
            self._seat.append(self)
        return succeed(self in self._seat)

    @property
    def is_led(self) -> bool:
        """Whether the seat is taken."""
        return bool(self._seat)

    def resign(self) -> Deferred[None]:
        """Leave the seat."""
        self._resigned = True
        if self in self._seat:
            self._seat.remove(self)
        return succeed(None)
