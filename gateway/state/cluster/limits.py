"""Limits that hold in the whole cluster: rows of sessions, logins and wrong passwords.  Blocks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from zope.interface import implementer

from gateway.interfaces import ISharedLimits
from gateway.model import Entrance, Forgiveness, Guess, SessionChange
from gateway.postgresql.database import Database

LEASE = 60.0
"""Seconds after which the sessions of a process that has died count no more."""

OVERLAP = 10.0
"""Seconds that are read twice: a row may be committed after one that is younger."""

MOST = 2000
"""Guesses that are read at once: the latest."""

REMOVE_EVERY = 60.0
"""Seconds between two removals of old guesses."""

_JOIN = """\
WITH old AS (DELETE FROM pop3gw.member WHERE id = %s OR until < now() - interval '1 day')
INSERT INTO pop3gw.member (until) VALUES (now() + %s * interval '1 second') RETURNING id"""

# An attempt that fails renews nothing: once a term is over, others may have begun in its place.
_RENEW = """\
UPDATE pop3gw.member SET until = now() + %s * interval '1 second'
WHERE id = %s AND until > now() RETURNING true"""

_COUNT = "SELECT box, verdict, amount FROM pop3gw.count_sessions(%s, %s, %s::jsonb)"

_EXCHANGE = """\
WITH written AS (
    INSERT INTO pop3gw.guess (writer, name, host, digest, account, is_answer, is_right, forgiven)
    SELECT %(writer)s, name, host, digest, account, is_answer, is_right, forgiven
    FROM jsonb_to_recordset(%(told)s::jsonb) AS one
        (name text, host text, digest text, account text, is_answer boolean, is_right boolean,
         forgiven jsonb)
)
SELECT extract(epoch FROM now())::float8, found.*
FROM (SELECT) one LEFT JOIN (
    SELECT id, forgiven, name, host, digest, account, is_answer, is_right FROM pop3gw.guess
    WHERE at > greatest(to_timestamp(%(since)s), now() - %(window)s * interval '1 second')
    AND writer <> %(writer)s
    ORDER BY id DESC LIMIT %(most)s
) found ON true"""

_END_DELAY = "UPDATE pop3gw.login SET at = NULL WHERE mailbox = %s"

_NO_GUESS = Guess("", "", "", "", False, True)
"""What an older gateway takes a row for in which an operator forgives."""

_REMOVE = "DELETE FROM pop3gw.guess WHERE at < now() - %s * interval '1 second'"


@implementer(ISharedLimits)
class ClusterLimits:
    """An ``ISharedLimits`` in PostgreSQL; times are by its clock."""

    lease = LEASE

    def __init__(self, database: Database, seconds: Callable[[], float] = time.monotonic) -> None:
        """``seconds``: a clock of this process."""
        self._database = database
        self._seconds = seconds
        self._writer = uuid4()
        self._since = 0.0
        self._read: set[int] = set()
        self._removed = seconds()

    def join(self, before: int) -> int:
        """Begin a term."""
        ((member,),) = self._database.read(_JOIN, (before, LEASE))
        return int(member)

    def renew(self, member: int) -> bool:
        """Begin the term anew."""
        return bool(self._database.read(_RENEW, (LEASE, member)))

    def count(
        self, member: int, per_user: int, changes: Sequence[SessionChange]
    ) -> Mapping[str, Entrance]:
        """Count what has changed."""
        asked = json.dumps([one._asdict() for one in changes])
        rows = self._database.read(_COUNT, (member, per_user, asked))
        return {box: _entrance(verdict, amount) for box, verdict, amount in rows}

    def exchange(
        self, told: Sequence[Guess | Forgiveness], window: float
    ) -> Sequence[Guess | Forgiveness]:
        """Write guesses and what is forgiven, and read those of others."""
        for one in told:
            # A statement for each: nothing that is locked waits for another row.
            for mailbox in one.mailboxes if isinstance(one, Forgiveness) else ():
                self._database.write(_END_DELAY, (mailbox,))
        asked = {
            "writer": self._writer,
            "told": json.dumps([_columns(one) for one in told]),
            "since": self._since,
            "window": window,
            "most": MOST,
        }
        rows = self._database.read(_EXCHANGE, asked)
        self._since = rows[0][0] - OVERLAP
        found = {row[1]: _told(*row[2:]) for row in reversed(rows) if row[1] is not None}
        new = [one for key, one in found.items() if key not in self._read]
        self._read = {*found}
        if self._seconds() - self._removed > REMOVE_EVERY:
            self._removed = self._seconds()
            self._database.write(_REMOVE, (window,))
        return new

    def close(self, member: int = 0) -> None:
        """End the term, and close the connections."""
        try:
            if member:
                self._database.write("DELETE FROM pop3gw.member WHERE id = %s", (member,))
        finally:
            self._database.close()


def _columns(one: Guess | Forgiveness) -> dict[str, Any]:
    if isinstance(one, Forgiveness):
        return {**_NO_GUESS._asdict(), "forgiven": one._asdict()}
    return one._asdict()


def _told(forgiven: dict[str, Any] | None, *guess: Any) -> Guess | Forgiveness:
    if forgiven is None:
        return Guess(*guess)
    return Forgiveness(tuple(forgiven["names"]), forgiven["address"], tuple(forgiven["mailboxes"]))


def _entrance(verdict: int, amount: float) -> Entrance:
    return {
        0: Entrance(),
        1: Entrance(sessions=int(amount)),
        2: Entrance(since=amount),
    }[verdict]
