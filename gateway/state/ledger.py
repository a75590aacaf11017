"""What pop3gw keeps beside the mail: a small SQLite file in the state directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from zope.interface import implementer

from gateway.errors import LedgerUnusable
from gateway.interfaces import IState, Run
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
from gateway.state.login_rows import LoginRows
from gateway.state.mailbox_rows import MailboxRows
from gateway.state.retention_rows import RetentionRows
from gateway.state.warning_rows import WarningRows

__all__ = ["LedgerState"]

T = TypeVar("T")


class Ledger(WarningRows, RetentionRows, MailboxRows, LoginRows):
    """The open file with all its rows.  Blocks: for a worker."""


@implementer(IState)
class LedgerState:
    """An ``IState`` in a ledger, which is opened once in this process: when first needed.

    Where that fails, the next call tries again.  Once closed it is not opened again.
    """

    def __init__(self, directory: str, run: Run) -> None:
        """``directory``: the state directory; ``run``: does what blocks."""
        self._directory = directory
        self._run = run
        self._ledger: Ledger | None = None
        self._opening = Lock()
        self._asked: set[Deferred[Any]] = set()
        """Without an answer yet."""
        self._stopping = self._closed = False

    # -- warnings and digests -------------------------------------------------

    def weigh(
        self, mailbox: str, level: Level, now: float, interval: float
    ) -> Deferred[WarningChange]:
        """Record how full a mailbox is."""
        return self._ask(lambda ledger: ledger.weigh(mailbox, level, now, interval))

    def take_back(self, mailbox: str, change: WarningChange) -> Deferred[bool]:
        """The warning was not sent."""
        return self._ask(lambda ledger: ledger.take_back(mailbox, change))

    def warning_states(self, least: Level) -> Deferred[Mapping[str, WarningState]]:
        """The mailboxes that were last found at ``least`` or above."""
        return self._ask(lambda ledger: ledger.warning_states(least))

    def is_digest_due(self, recipient: str, now: float, interval: float) -> Deferred[bool]:
        """Whether ``recipient`` was sent none for ``interval`` seconds."""
        return self._ask(lambda ledger: ledger.is_digest_due(recipient, now, interval))

    def take_digest(
        self, recipient: str, now: float, interval: float
    ) -> Deferred[DigestClaim | None]:
        """The right to send one, if it is due."""
        return self._ask(lambda ledger: ledger.take_digest(recipient, now, interval))

    def return_digest(self, recipient: str, claim: DigestClaim) -> Deferred[bool]:
        """The digest was not sent."""
        return self._ask(lambda ledger: ledger.return_digest(recipient, claim))

    # -- retention ------------------------------------------------------------

    def last_scans(self) -> Deferred[Mapping[str, LastScan]]:
        """What retention found, by mailbox."""
        return self._ask(Ledger.last_scans)

    def keep_scan(self, mailbox: str, scan: LastScan) -> Deferred[None]:
        """Store it in place of the one before."""
        return self._ask(lambda ledger: ledger.keep_scan(mailbox, scan))

    def forget_scan(self, mailbox: str) -> Deferred[None]:
        """Delete what is known of the mailbox."""
        return self._ask(lambda ledger: ledger.forget_scan(mailbox))

    def count_removed(self, day: int, messages: int) -> Deferred[int]:
        """Count ``messages`` more as removed on ``day``."""
        return self._ask(lambda ledger: ledger.count_removed(day, messages))

    def add_order(self, mailbox: str, order: RetentionOrder) -> Deferred[None]:
        """Have retention visit a mailbox."""
        return self._ask(lambda ledger: ledger.add_order(mailbox, order))

    def orders(self) -> Deferred[Mapping[str, RetentionOrder]]:
        """The orders that are not done, by mailbox."""
        return self._ask(Ledger.orders)

    def finish_order(self, mailbox: str, order: RetentionOrder) -> Deferred[None]:
        """The order is done."""
        return self._ask(lambda ledger: ledger.finish_order(mailbox, order))

    def keep_forecast(self, mailbox: str, due: Sequence[DueDay]) -> Deferred[None]:
        """Store it in place of the one before."""
        return self._ask(lambda ledger: ledger.keep_forecast(mailbox, due))

    def forecasts(self, after: str, most: int) -> Deferred[Mapping[str, Sequence[DueDay]]]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        return self._ask(lambda ledger: ledger.forecasts(after, most))

    def keep_expire(self, known: KnownExpire) -> Deferred[None]:
        """Store what is announced as EXPIRE."""
        return self._ask(lambda ledger: ledger.keep_expire(known))

    def find_expire(self) -> Deferred[KnownExpire | None]:
        """What is announced as EXPIRE."""
        return self._ask(Ledger.find_expire)

    # -- mailboxes ------------------------------------------------------------

    def begin_rename(self, mailbox: str, target: str) -> Deferred[None]:
        """Record a rename that begins."""
        return self._ask(lambda ledger: ledger.begin_rename(mailbox, target))

    def find_rename(self, mailbox: str) -> Deferred[str | None]:
        """The target of a rename that did not end."""
        return self._ask(lambda ledger: ledger.find_rename(mailbox))

    def finish_rename(self, mailbox: str) -> Deferred[None]:
        """Give all that is known of the mailbox to the target."""
        return self._ask(lambda ledger: ledger.finish_rename(mailbox))

    def drop_rename(self, mailbox: str) -> Deferred[None]:
        """The rename has not begun."""
        return self._ask(lambda ledger: ledger.drop_rename(mailbox))

    def forget_mailbox(self, mailbox: str) -> Deferred[None]:
        """Delete all that is known of the mailbox."""
        return self._ask(lambda ledger: ledger.forget_mailbox(mailbox))

    # -- logins ---------------------------------------------------------------

    def keep_logins(self, logins: Mapping[str, LastLogin]) -> Deferred[None]:
        """Store logins; the later stays."""
        return self._ask(lambda ledger: ledger.keep_logins(logins))

    def last_logins(self, after: str, most: int) -> Deferred[Mapping[str, LastLogin]]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        return self._ask(lambda ledger: ledger.last_logins(after, most))

    def find_logins(self, mailboxes: Sequence[str]) -> Deferred[Mapping[str, LastLogin]]:
        """Those of these mailboxes."""
        return self._ask(lambda ledger: ledger.find_logins(mailboxes))

    def logins_since(self) -> Deferred[float | None]:
        """The time of the first login that was stored."""
        return self._ask(Ledger.logins_since)

    # -- unique-ids -----------------------------------------------------------

    def high_water(self, place: str, least: int) -> int:
        """A ``HighWater``; paths below the state directory are kept relative to it."""
        # So that a state directory that is moved keeps its numbers.
        is_below = place.startswith(os.path.join(self._directory, ""))
        name = os.path.relpath(place, self._directory) if is_below else place
        return self._opened().high_water(name, least)

    def raise_high_water(self, by: int) -> Deferred[None]:
        """Raise every number by ``by``."""
        return self._ask(lambda ledger: ledger.raise_high_water(by))

    # -- the file -------------------------------------------------------------

    def _ask(self, work: Callable[[Ledger], T]) -> Deferred[T]:
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

    def _opened(self) -> Ledger:
        with self._opening:
            if self._closed:
                raise self._over()
            if self._ledger is None:
                self._ledger = Ledger(self._directory)
            return self._ledger

    def _over(self) -> LedgerUnusable:
        return LedgerUnusable(f"{self._directory}: the server stops, and asks no more")

    def close(self) -> Deferred[None]:
        """Close the file, if it is open, once all who asked have their answers.

        Who asks later gets ``LedgerUnusable``: opened again, the file would stay open, and
        SQLite would leave its -wal and -shm files.
        """
        self._stopping = True
        answered: Deferred[Any] = DeferredList(self._asked)
        return answered.addCallback(self._close)

    def _close(self, _: object) -> Deferred[None]:
        return succeed(None) if self._ledger is None else self._run(self.close_now)

    def close_now(self) -> None:
        """The same at once.  Blocks: for a worker, or for where no reactor runs any more."""
        with self._opening:
            self._stopping = self._closed = True
            ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.close()
