"""The last login to each mailbox: rows of the ledger.  Blocks: for a worker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.model import LastLogin
from gateway.state.ledger_file import LedgerFile

_KEEP = """
    INSERT INTO last_logins VALUES (?, ?, ?, ?) ON CONFLICT
    DO UPDATE SET at = excluded.at, method = excluded.method, network = excluded.network
    WHERE excluded.at > last_logins.at
"""
_AFTER = "SELECT * FROM last_logins WHERE mailbox > :after ORDER BY mailbox LIMIT :most"
_OF = "SELECT * FROM last_logins WHERE mailbox IN (SELECT value FROM json_each(:mailboxes))"


class LoginRows(LedgerFile):
    """Last logins, and since when they are known."""

    def keep_logins(self, logins: Mapping[str, LastLogin]) -> None:
        """Store all of them in one transaction."""
        if logins:
            first = min(login.at for login in logins.values())
            self._do("INSERT INTO logins_since VALUES (1, :at) ON CONFLICT DO NOTHING", at=first)
            self._do_many(_KEEP, [(name, *one) for name, one in logins.items()])

    def last_logins(self, after: str, most: int) -> dict[str, LastLogin]:
        """Those of up to ``most`` mailboxes with names after ``after``."""
        return _logins(self._do(_AFTER, after=after, most=most))

    def find_logins(self, mailboxes: Sequence[str]) -> dict[str, LastLogin]:
        """Those of these mailboxes."""
        return _logins(self._do(_OF, mailboxes=json.dumps(list(mailboxes))))

    def logins_since(self) -> float | None:
        """The time of the first login that was stored."""
        return next((float(at) for (at,) in self._do("SELECT at FROM logins_since")), None)


def _logins(rows: list[tuple[Any, ...]]) -> dict[str, LastLogin]:
    return {mailbox: LastLogin(*rest) for mailbox, *rest in rows}
