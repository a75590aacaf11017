"""Who has the tables locked that a step of the schema names.  Blocks."""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.postgresql.database import Cursor

# Every role may read these columns, also those of other roles.  The row of ``version`` is that of
# all migrations, and comes last: what else the step needs says more.
_HOLDERS = """\
SELECT virtualtransaction, locked.name, pg_locks.pid, usename::text, application_name
FROM (SELECT pg_class.oid, nspname || '.' || relname AS name
      FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace) AS locked
JOIN pg_locks ON relation = locked.oid
LEFT JOIN pg_stat_activity AS session ON session.pid = pg_locks.pid
WHERE granted AND locked.name = ANY(%s::text[]) AND pg_locks.pid IS DISTINCT FROM pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY locked.name = 'pop3gw.version', pg_locks.pid, locked.name"""


class _Holder(NamedTuple):
    transaction: str
    table: str
    pid: int | None
    user: str | None
    application: str | None

    def __str__(self) -> str:
        if self.pid is None:
            return "a prepared transaction"
        if self.user is None:
            return f"process {self.pid} of PostgreSQL"
        program = f", application {self.application}" if self.application else ""
        return f"a session of user {self.user} (pid {self.pid}{program})"


class LockHolders:
    """Who has a table of a step locked, for as long as the step waits.

    While it waits nobody asks, and once it has given up it waits for nobody.  So this looks before
    and after: transactions of gateways are short, and are not among those of both looks.
    """

    def __init__(self, text: str) -> None:
        self._tables = [*{"pop3gw.version", *re.findall(r"pop3gw\.\w+", text)}]
        self._before: set[str] = set()

    def look(self, cursor: Cursor) -> None:
        """Look before the step."""
        self._before = {one.transaction for one in self._find(cursor)}

    def name(self, cursor: Cursor) -> str:
        """Those that are still there."""
        found: dict[str, _Holder] = {}
        for one in self._find(cursor):
            if one.transaction in self._before:
                found.setdefault(one.transaction, one)
        if not found:
            return "another session has a lock that it needs"
        first, *others = found.values()
        more = f", and {len(others)} more," if others else ""
        return f"{first}{more} has {first.table} locked"

    def _find(self, cursor: Cursor) -> list[_Holder]:
        return [_Holder(*row) for row in cursor.execute(_HOLDERS, (self._tables,)).fetchall()]
