"""An ``IState`` of rows that block: each question is answered in a thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredList, fail, succeed

from gateway.errors import LedgerUnusable
from gateway.interfaces import Run
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

if TYPE_CHECKING:
    from gateway.state.cluster.state import ClusterRows
    from gateway.state.ledger import Ledger

R = TypeVar("R", "Ledger", "ClusterRows")
T = TypeVar("T")


class RowsState(ABC, Generic[R]):
    """All methods of an ``IState``; ``_opened`` has the rows."""

    def __init__(self, run: Run) -> None:
        """``run``: does what blocks."""
        self._run = run
        self._asked: set[Deferred[None]] = set()
        """Fire when those who asked have their answers."""
        self._stopping = self._closed = False

    @abstractmethod
    def _opened(self) -> R:
        """The rows, for a thread."""

    @abstractmethod
    def _is_open(self) -> bool:
        """Whether ``_close`` has anything to close."""

    @abstractmethod
    def _close(self) -> None:
        """Close what the rows are in.  Blocks."""

    def _ask(self, work: Callable[[R], T]) -> Deferred[T]:
        if self._stopping:
            return fail(self._over())
        done: Deferred[None] = Deferred()
        self._asked.add(done)

        def finish(result: T) -> T:
            self._asked.discard(done)
            done.callback(None)
            return result

        answer: Deferred[T] = self._run(lambda: work(self._opened()))
        return answer.addBoth(finish)

    def _over(self) -> LedgerUnusable:
        return LedgerUnusable("the state is closed: the server stops")

    # -- the end --------------------------------------------------------------

    def close(self) -> Deferred[None]:
        """Close it once all who asked have their answers.

        Who asks later gets ``LedgerUnusable``.
        """
        self._stopping = True
        answered: Deferred[Any] = DeferredList(self._asked)
        return answered.addCallback(self._close_in_thread)

    def _close_in_thread(self, _: object) -> Deferred[None]:
        return self._run(self.close_now) if self._is_open() else succeed(None)

    def close_now(self) -> None:
        """The same at once.  Blocks: for a worker, or for where no reactor runs any more."""
        self._stopping = self._closed = True
        self._close()

    # -- warnings and digests -------------------------------------------------

    def weigh(
        self, mailbox: str, level: Level, now: float, interval: float
    ) -> Deferred[WarningChange]:
        """Record how full a mailbox is."""
        return self._ask(lambda rows: rows.weigh(mailbox, level, now, interval))

    def take_back(self, mailbox: str, change: WarningChange) -> Deferred[bool]:
        """The warning was not sent."""
        return self._ask(lambda rows: rows.take_back(mailbox, change))

    def warning_states(self, least: Level) -> Deferred[Mapping[str, WarningState]]:
        """The mailboxes that were last found at ``least`` or above."""
        return self._ask(lambda rows: rows.warning_states(least))

    def is_digest_due(self, recipient: str, now: float, interval: float) -> Deferred[bool]:
        """Whether ``recipient`` was sent none for ``interval`` seconds."""
        return self._ask(lambda rows: rows.is_digest_due(recipient, now, interval))

    def take_digest(
        self, recipient: str, now: float, interval: float
    ) -> Deferred[DigestClaim | None]:
        """The right to send one, if it is due."""
        return self._ask(lambda rows: rows.take_digest(recipient, now, interval))

    def return_digest(self, recipient: str, claim: DigestClaim) -> Deferred[bool]:
        """The digest was not sent."""
        return self._ask(lambda rows: rows.return_digest(recipient, claim))

    # -- retention ------------------------------------------------------------

    def last_scans(self, after: str, most: int) -> Deferred[Mapping[str, LastScan]]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        return self._ask(lambda rows: rows.last_scans(after, most))

    def find_scans(self, mailboxes: Sequence[str]) -> Deferred[Mapping[str, LastScan]]:
        """Those of these mailboxes."""
        return self._ask(lambda rows: rows.find_scans(mailboxes))

    def keep_scan(self, mailbox: str, scan: LastScan) -> Deferred[None]:
        """Store it in place of the one before."""
        return self._ask(lambda rows: rows.keep_scan(mailbox, scan))

    def forget_scan(self, mailbox: str) -> Deferred[None]:
        """Delete what is known of the mailbox."""
        return self._ask(lambda rows: rows.forget_scan(mailbox))

    def count_removed(self, day: int, messages: int) -> Deferred[int]:
        """Count ``messages`` more as removed on ``day``."""
        return self._ask(lambda rows: rows.count_removed(day, messages))

    def count_purged(self, day: int, messages: int) -> Deferred[int]:
        """The same for hidden messages."""
        return self._ask(lambda rows: rows.count_purged(day, messages))

    def add_order(self, mailbox: str, order: RetentionOrder) -> Deferred[None]:
        """Have retention visit a mailbox."""
        return self._ask(lambda rows: rows.add_order(mailbox, order))

    def orders(self) -> Deferred[Mapping[str, RetentionOrder]]:
        """The orders that are not done, by mailbox."""
        return self._ask(lambda rows: rows.orders())

    def finish_order(self, mailbox: str, order: RetentionOrder) -> Deferred[None]:
        """The order is done."""
        return self._ask(lambda rows: rows.finish_order(mailbox, order))

    def keep_forecast(self, mailbox: str, due: Sequence[DueDay]) -> Deferred[None]:
        """Store it in place of the one before."""
        return self._ask(lambda rows: rows.keep_forecast(mailbox, due))

    def forecasts(self, after: str, most: int) -> Deferred[Mapping[str, Sequence[DueDay]]]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        return self._ask(lambda rows: rows.forecasts(after, most))

    def keep_expire(self, known: KnownExpire) -> Deferred[None]:
        """Store what is announced as EXPIRE."""
        return self._ask(lambda rows: rows.keep_expire(known))

    def find_expire(self) -> Deferred[KnownExpire | None]:
        """What is announced as EXPIRE."""
        return self._ask(lambda rows: rows.find_expire())

    # -- mailboxes ------------------------------------------------------------

    def begin_rename(self, mailbox: str, target: str) -> Deferred[None]:
        """Record a rename that begins."""
        return self._ask(lambda rows: rows.begin_rename(mailbox, target))

    def find_rename(self, mailbox: str) -> Deferred[str | None]:
        """The target of a rename that did not end."""
        return self._ask(lambda rows: rows.find_rename(mailbox))

    def finish_rename(self, mailbox: str) -> Deferred[None]:
        """Give all that is known of the mailbox to the target."""
        return self._ask(lambda rows: rows.finish_rename(mailbox))

    def drop_rename(self, mailbox: str) -> Deferred[None]:
        """The rename has not begun."""
        return self._ask(lambda rows: rows.drop_rename(mailbox))

    def forget_mailbox(self, mailbox: str) -> Deferred[None]:
        """Delete all that is known of the mailbox."""
        return self._ask(lambda rows: rows.forget_mailbox(mailbox))

    # -- logins ---------------------------------------------------------------

    def keep_logins(self, logins: Mapping[str, LastLogin]) -> Deferred[None]:
        """Store logins; the later stays."""
        return self._ask(lambda rows: rows.keep_logins(logins))

    def last_logins(self, after: str, most: int) -> Deferred[Mapping[str, LastLogin]]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        return self._ask(lambda rows: rows.last_logins(after, most))

    def find_logins(self, mailboxes: Sequence[str]) -> Deferred[Mapping[str, LastLogin]]:
        """Those of these mailboxes."""
        return self._ask(lambda rows: rows.find_logins(mailboxes))

    def logins_since(self) -> Deferred[float | None]:
        """The time of the first login that was stored."""
        return self._ask(lambda rows: rows.logins_since())

    # -- unique-ids -----------------------------------------------------------

    def high_water(self, place: str, least: int) -> int:
        """A ``HighWater``."""
        return self._opened().high_water(place, least)

    def raise_high_water(self, by: int) -> Deferred[None]:
        """Raise every number by ``by``."""
        return self._ask(lambda rows: rows.raise_high_water(by))
