"""What retention knows of mailboxes and unique-ids: rows in PostgreSQL.  Blocks."""

from __future__ import annotations

import os
from collections.abc import Sequence

from psycopg.types.json import Jsonb

from gateway.interfaces import RAISED
from gateway.model import DueDay, KnownExpire, LastScan, RetentionOrder
from gateway.postgresql.database import Cursor, Database
from gateway.postgresql.epochs import begin_epoch
from gateway.postgresql.names import is_text

_SCAN = "mailbox, policy, due, looked, messages, stopped, hidden"


class RetentionRows:
    """Scans, orders, counts of removals, EXPIRE, high-water marks."""

    _database: Database

    # -- retention -----------------------------------------------------------

    def last_scans(self, after: str, most: int) -> dict[str, LastScan]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        rows = self._database.read(
            f"SELECT {_SCAN} FROM pop3gw.scan WHERE mailbox > %s ORDER BY mailbox LIMIT %s",
            (after, most),
        )
        return {mailbox: LastScan(*rest) for mailbox, *rest in rows}

    def find_scans(self, mailboxes: Sequence[str]) -> dict[str, LastScan]:
        """Those of these mailboxes."""
        rows = self._database.read(
            f"SELECT {_SCAN} FROM pop3gw.scan WHERE mailbox = ANY(%s::text[])",
            ([name for name in mailboxes if is_text(name)],),
        )
        return {mailbox: LastScan(*rest) for mailbox, *rest in rows}

    def keep_scan(self, mailbox: str, scan: LastScan) -> None:
        """Store it in place of the one before."""
        self._database.write(
            f"INSERT INTO pop3gw.scan ({_SCAN})"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (mailbox) DO UPDATE SET"
            " policy = excluded.policy, due = excluded.due, looked = excluded.looked,"
            " messages = excluded.messages, stopped = excluded.stopped, hidden = excluded.hidden",
            (mailbox, *scan),
        )

    def forget_scan(self, mailbox: str) -> None:
        """Delete what is known of the mailbox."""
        self._database.write("DELETE FROM pop3gw.scan WHERE mailbox = %s", (mailbox,))

    def count_removed(self, day: int, messages: int) -> int:
        """Count ``messages`` more as removed on ``day``; how many that makes."""
        return self._count(day, removed=messages)[0]

    def count_purged(self, day: int, messages: int) -> int:
        """The same for hidden messages."""
        return self._count(day, purged=messages)[1]

    def _count(self, day: int, *, removed: int = 0, purged: int = 0) -> tuple[int, int]:
        (totals,) = self._database.read(
            "WITH others AS (DELETE FROM pop3gw.removal WHERE day <> %(day)s)"
            " INSERT INTO pop3gw.removal (day, messages, purged)"
            " VALUES (%(day)s, %(removed)s, %(purged)s) ON CONFLICT (day) DO UPDATE"
            " SET messages = removal.messages + %(removed)s, purged = removal.purged + %(purged)s"
            " RETURNING messages, purged",
            {"day": day, "removed": removed, "purged": purged},
        )
        return int(totals[0]), int(totals[1])

    def add_order(self, mailbox: str, order: RetentionOrder) -> None:
        """Have retention visit a mailbox; an order without a release leaves an earlier one."""
        self._database.write(
            "INSERT INTO pop3gw.retention_order AS known (mailbox, given, released_at, policy)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (mailbox) DO UPDATE SET"
            " given = greatest(known.given, excluded.given),"
            " released_at = coalesce(excluded.released_at, known.released_at),"
            " policy = CASE WHEN excluded.released_at IS NULL THEN known.policy"
            " ELSE excluded.policy END",
            (mailbox, *order),
        )

    def orders(self) -> dict[str, RetentionOrder]:
        """The orders that are not done, by mailbox."""
        rows = self._database.read(
            "SELECT mailbox, given, released_at, policy FROM pop3gw.retention_order"
        )
        return {mailbox: RetentionOrder(*rest) for mailbox, *rest in rows}

    def finish_order(self, mailbox: str, order: RetentionOrder) -> None:
        """The order is done; one that was given meanwhile stays."""
        self._database.write(
            "DELETE FROM pop3gw.retention_order"
            " WHERE mailbox = %s AND given = %s"
            " AND released_at IS NOT DISTINCT FROM %s::float8 AND policy = %s",
            (mailbox, *order),
        )

    def keep_forecast(self, mailbox: str, due: Sequence[DueDay]) -> None:
        """Store it in place of the one before; without days it is deleted."""
        if due:
            self._database.write(
                "INSERT INTO pop3gw.forecast (mailbox, due) VALUES (%s, %s)"
                " ON CONFLICT (mailbox) DO UPDATE SET due = excluded.due",
                (mailbox, Jsonb([list(one) for one in due])),
            )
        else:
            self._database.write("DELETE FROM pop3gw.forecast WHERE mailbox = %s", (mailbox,))

    def forecasts(self, after: str, most: int) -> dict[str, list[DueDay]]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        rows = self._database.read(
            "SELECT mailbox, due FROM pop3gw.forecast WHERE mailbox > %s ORDER BY mailbox LIMIT %s",
            (after, most),
        )
        return {mailbox: [DueDay(*one) for one in due] for mailbox, due in rows}

    # -- CAPA ----------------------------------------------------------------

    def keep_expire(self, known: KnownExpire) -> None:
        """Store it in place of the one before."""
        self._database.write(
            "INSERT INTO pop3gw.announced_expire (expire, until) VALUES (%s, %s)"
            " ON CONFLICT (id) DO UPDATE SET expire = excluded.expire, until = excluded.until",
            known,
        )

    def find_expire(self) -> KnownExpire | None:
        """The one that is stored."""
        rows = self._database.read("SELECT expire, until FROM pop3gw.announced_expire")
        return next((KnownExpire(*row) for row in rows), None)

    # -- unique-ids ----------------------------------------------------------

    def high_water(self, place: str, least: int) -> int:
        """The number beyond all unique-ids that were shown of a mailbox, raised to ``least``."""
        # A path need not be UTF-8.
        name = os.fsencode(place).decode("utf-8", "backslashreplace")
        if least:
            rows = self._database.read(
                "INSERT INTO pop3gw.high_water (place, uid) VALUES (%s, %s) ON CONFLICT (place)"
                " DO UPDATE SET uid = greatest(high_water.uid, excluded.uid) RETURNING uid",
                (name, least),
            )
        else:
            rows = self._database.read(
                "SELECT uid FROM pop3gw.high_water WHERE place = %s", (name,)
            )
        return next((int(uid) for (uid,) in rows), 0)

    def raise_high_water(self, by: int) -> None:
        """Raise every number by ``by``, and the uids of all mailboxes that are or were."""

        def raise_all(cursor: Cursor, _: bool) -> None:
            cursor.execute(
                "INSERT INTO pop3gw.high_water (place, uid) VALUES (%s, 0) ON CONFLICT DO NOTHING",
                (RAISED,),
            )
            cursor.execute("UPDATE pop3gw.high_water SET uid = uid + %s", (by,))
            begin_epoch(cursor, by)

        self._database.transact(raise_all)
