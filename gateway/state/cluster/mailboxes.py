"""Last logins, and what is known of a mailbox that is renamed or deleted.  Blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.model import LastLogin
from gateway.postgresql.database import Cursor, Database
from gateway.postgresql.names import check_name, is_text

TABLES = ("warning", "scan", "forecast", "retention_order", "last_login")
"""Those with a row for a mailbox."""

_LOGIN = "mailbox, at, method, network"


class MailboxRows:
    """Renames, deletions and logins."""

    _database: Database

    def begin_rename(self, mailbox: str, target: str) -> None:
        """Record a rename that begins.  Raises ``BadMailboxName``."""
        for name in (mailbox, target):
            check_name(name)
        self._database.write(
            "INSERT INTO pop3gw.rename (mailbox, target) VALUES (%s, %s)"
            " ON CONFLICT (mailbox) DO UPDATE SET target = excluded.target",
            (mailbox, target),
        )

    def find_rename(self, mailbox: str) -> str | None:
        """The target of a rename that did not end."""
        if not is_text(mailbox):
            return None
        rows = self._database.read(
            "SELECT target FROM pop3gw.rename WHERE mailbox = %s", (mailbox,)
        )
        return next((str(target) for (target,) in rows), None)

    def finish_rename(self, mailbox: str) -> None:
        """Move all rows to the target, and forget the rename, in one transaction."""

        def finish(cursor: Cursor, _: bool) -> None:
            row = cursor.execute(
                "DELETE FROM pop3gw.rename WHERE mailbox = %s RETURNING target", (mailbox,)
            ).fetchone()
            if row is None:
                return
            names = {"mailbox": mailbox, "target": row[0]}
            for table in TABLES:
                # What was known of the target goes only where something takes its place.
                cursor.execute(
                    f"DELETE FROM pop3gw.{table} WHERE mailbox = %(target)s AND EXISTS"
                    f" (SELECT FROM pop3gw.{table} WHERE mailbox = %(mailbox)s)",
                    names,
                )
                cursor.execute(
                    f"UPDATE pop3gw.{table} SET mailbox = %(target)s WHERE mailbox = %(mailbox)s",
                    names,
                )

        self._database.transact(finish)

    def drop_rename(self, mailbox: str) -> None:
        """Forget the rename."""
        self._database.write("DELETE FROM pop3gw.rename WHERE mailbox = %s", (mailbox,))

    def forget_mailbox(self, mailbox: str) -> None:
        """Delete all rows of the mailbox."""

        def forget(cursor: Cursor, _: bool) -> None:
            for table in TABLES:
                cursor.execute(f"DELETE FROM pop3gw.{table} WHERE mailbox = %s", (mailbox,))

        self._database.transact(forget)

    # -- logins ----------------------------------------------------------------

    def keep_logins(self, logins: Mapping[str, LastLogin]) -> None:
        """Store all of them at once; of two to one mailbox the later stays."""
        if not logins:
            return
        # In one order in all processes: they wait for each other, and never in a circle.
        rows = sorted((name, *login) for name, login in logins.items())
        mailboxes, times, methods, networks = map(list, zip(*rows, strict=True))

        def keep(cursor: Cursor, _: bool) -> None:
            cursor.execute(
                "INSERT INTO pop3gw.logins_since (at) VALUES (%s) ON CONFLICT DO NOTHING",
                (min(times),),
            )
            cursor.execute(
                f"INSERT INTO pop3gw.last_login AS known ({_LOGIN})"
                " SELECT * FROM unnest(%s::text[], %s::float8[], %s::text[], %s::text[])"
                " ON CONFLICT (mailbox) DO UPDATE"
                " SET at = excluded.at, method = excluded.method, network = excluded.network"
                " WHERE excluded.at > known.at",
                (mailboxes, times, methods, networks),
            )

        self._database.transact(keep)

    def last_logins(self, after: str, most: int) -> dict[str, LastLogin]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        rows = self._database.read(
            f"SELECT {_LOGIN} FROM pop3gw.last_login WHERE mailbox > %s ORDER BY mailbox LIMIT %s",
            (after, most),
        )
        return {mailbox: LastLogin(*rest) for mailbox, *rest in rows}

    def find_logins(self, mailboxes: Sequence[str]) -> dict[str, LastLogin]:
        """Those of these mailboxes."""
        rows = self._database.read(
            f"SELECT {_LOGIN} FROM pop3gw.last_login WHERE mailbox = ANY(%s::text[])",
            ([*mailboxes],),
        )
        return {mailbox: LastLogin(*rest) for mailbox, *rest in rows}

    def logins_since(self) -> float | None:
        """The time of the first login that was stored."""
        rows = self._database.read("SELECT at FROM pop3gw.logins_since")
        return next((float(at) for (at,) in rows), None)
