"""What retention knows of mailboxes and unique-ids: rows of the ledger.  Blocks: for a worker."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from gateway.interfaces import RAISED
from gateway.model import DueDay, KnownExpire, LastScan, RetentionOrder
from gateway.state.ledger_file import LedgerFile

_SCANNED = """
    INSERT INTO retention VALUES (:mailbox, :policy, :due, :looked, :messages, :stopped, :hidden)
    ON CONFLICT DO UPDATE SET policy = :policy, due = :due, looked = :looked,
    messages = :messages, stopped = :stopped, hidden = :hidden
"""
_SCANS_AFTER = "SELECT * FROM retention WHERE mailbox > :after ORDER BY mailbox LIMIT :most"
_SCANS_OF = "SELECT * FROM retention WHERE mailbox IN (SELECT value FROM json_each(:mailboxes))"

_ORDER = """
    INSERT INTO orders VALUES (:mailbox, :given, :released_at, :policy) ON CONFLICT
    DO UPDATE SET given = max(given, :given), released_at = ifnull(:released_at, released_at),
    policy = iif(:released_at IS NULL, policy, :policy)
"""
_COUNT = """
    INSERT INTO removals VALUES (:day, :removed, :purged) ON CONFLICT
    DO UPDATE SET messages = messages + :removed, purged = purged + :purged
    RETURNING messages, purged
"""

_FORECAST = """
    INSERT INTO forecasts VALUES (:mailbox, :due) ON CONFLICT DO UPDATE SET due = :due
"""

_ANNOUNCE = """
    INSERT INTO announced VALUES ('EXPIRE', :expire, :until)
    ON CONFLICT DO UPDATE SET arguments = :expire, until = :until
"""

_RAISE = """
    INSERT INTO high_water VALUES (:maildir, :least) ON CONFLICT
    DO UPDATE SET uid = max(uid, :least) RETURNING uid
"""

_BEGIN_RAISED = "INSERT INTO high_water VALUES (:maildir, 0) ON CONFLICT DO NOTHING"


class RetentionRows(LedgerFile):
    """Scans, orders, counts of removals, high-water marks."""

    # -- retention -----------------------------------------------------------

    def last_scans(self, after: str, most: int) -> dict[str, LastScan]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        return _scans(self._do(_SCANS_AFTER, after=after, most=most))

    def find_scans(self, mailboxes: Sequence[str]) -> dict[str, LastScan]:
        """Those of these mailboxes."""
        return _scans(self._do(_SCANS_OF, mailboxes=json.dumps(list(mailboxes))))

    def keep_scan(self, mailbox: str, scan: LastScan) -> None:
        """Store it in place of the one before."""
        self._do(_SCANNED, mailbox=mailbox, **scan._asdict())

    def forget_scan(self, mailbox: str) -> None:
        """Delete what is known of the mailbox."""
        self._do("DELETE FROM retention WHERE mailbox = :mailbox", mailbox=mailbox)

    def add_order(self, mailbox: str, order: RetentionOrder) -> None:
        """Have retention visit a mailbox; an order without a release leaves an earlier one."""
        self._do(_ORDER, mailbox=mailbox, **order._asdict())

    def orders(self) -> dict[str, RetentionOrder]:
        """The orders that are not done, by mailbox."""
        rows = self._do("SELECT mailbox, given, released_at, policy FROM orders")
        return {mailbox: RetentionOrder(*rest) for mailbox, *rest in rows}

    def finish_order(self, mailbox: str, order: RetentionOrder) -> None:
        """The order is done; one that was given meanwhile stays."""
        self._do(
            "DELETE FROM orders WHERE mailbox = :mailbox AND given = :given"
            " AND released_at IS :released_at AND policy = :policy",
            mailbox=mailbox,
            **order._asdict(),
        )

    def count_removed(self, day: int, messages: int) -> int:
        """Count ``messages`` more as removed on ``day``; how many that makes."""
        return self._count(day, removed=messages)[0]

    def count_purged(self, day: int, messages: int) -> int:
        """The same for hidden messages."""
        return self._count(day, purged=messages)[1]

    def _count(self, day: int, *, removed: int = 0, purged: int = 0) -> tuple[int, int]:
        (totals,) = self._do(_COUNT, day=day, removed=removed, purged=purged)
        self._do("DELETE FROM removals WHERE day != :day", day=day)
        return int(totals[0]), int(totals[1])

    def keep_forecast(self, mailbox: str, due: Sequence[DueDay]) -> None:
        """Store it in place of the one before; without days it is deleted."""
        if due:
            self._do(_FORECAST, mailbox=mailbox, due=json.dumps(due, separators=(",", ":")))
        else:
            self._do("DELETE FROM forecasts WHERE mailbox = :mailbox", mailbox=mailbox)

    def forecasts(self, after: str, most: int) -> dict[str, list[DueDay]]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        rows = self._do(
            "SELECT mailbox, due FROM forecasts WHERE mailbox > :after"
            " ORDER BY mailbox LIMIT :most",
            after=after,
            most=most,
        )
        return {mailbox: [DueDay(*one) for one in json.loads(due)] for mailbox, due in rows}

    # -- CAPA ----------------------------------------------------------------

    def keep_expire(self, known: KnownExpire) -> None:
        """Store it in place of the one before."""
        self._do(_ANNOUNCE, **known._asdict())

    def find_expire(self) -> KnownExpire | None:
        """The one that is stored."""
        rows = self._do("SELECT arguments, until FROM announced WHERE capability = 'EXPIRE'")
        return next((KnownExpire(*row) for row in rows), None)

    # -- unique-ids ----------------------------------------------------------

    def high_water(self, place: str, least: int = 0) -> int:
        """The number beyond all unique-ids that were shown of a mailbox, raised to ``least``.

        0: none is known.  A raise waits for the disk: after a loss of power it is what is left.
        """
        # SQLite takes no text that is not UTF-8, which a path need not be.
        name = os.fsencode(place).decode("utf-8", "backslashreplace")
        if least:
            rows = self._do_lastingly(_RAISE, maildir=name, least=least)
        else:
            rows = self._do("SELECT uid FROM high_water WHERE maildir = :maildir", maildir=name)
        return next((int(uid) for (uid,) in rows), 0)

    def raise_high_water(self, by: int) -> None:
        """Raise every number by ``by``, that of ``RAISED`` from 0."""
        self._do(_BEGIN_RAISED, maildir=RAISED)
        self._do_lastingly("UPDATE high_water SET uid = uid + :by", by=by)


def _scans(rows: list[tuple[Any, ...]]) -> dict[str, LastScan]:
    return {mailbox: LastScan(*rest) for mailbox, *rest in rows}
