"""The audit as rows: all their SQL.  Blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable

from psycopg import errors

from gateway.errors import StoreDown
from gateway.model import AuditEntry, AuditLines, AuditQuery, Removed
from gateway.postgresql.database import Cursor, Database, store_error

PAGE = 10_000
"""Rows that one search reads at most."""

DAY = 86_400

_LATEST = 4_000_000_000.0
"""A time that is not before any entry; the database knows no time that is much later."""


class NotAudited(StoreDown):
    """The database refuses the entries: nothing is removed."""


def name_of(cursor: Cursor, mailbox: int) -> str:
    """The name for the entries of a mailbox that the transaction has locked."""
    cursor.execute("SELECT name FROM pop3gw.mailbox WHERE id = %s", (mailbox,))
    ((name,),) = cursor.fetchall()
    return str(name)


_WRITE = """\
INSERT INTO pop3gw.audit (at, action, mailbox, uid, message_id, octets, received, read,
                          rule, session, client, operator)
SELECT statement_timestamp(), action, mailbox, uid, message_id, octets,
       to_timestamp(received), to_timestamp(read), rule, session, client, operator
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::float8[],
            %s::float8[], %s::text[], %s::text[], %s::text[], %s::text[])
    WITH ORDINALITY AS entry (action, mailbox, uid, message_id, octets, received,
                              read, rule, session, client, operator, number)
ORDER BY number"""


def write(cursor: Cursor, removed: Iterable[Removed]) -> None:
    """Write an entry for each, as a step of the transaction.  Raises ``NotAudited``."""
    rows = [_row(one) for one in removed]
    if not rows:
        return
    try:
        cursor.execute(_WRITE, [[*column] for column in zip(*rows, strict=True)])
    except errors.InsufficientPrivilege as error:
        raise NotAudited(str(store_error(error))) from error


def _row(one: Removed) -> tuple[object, ...]:
    cause = one.cause
    return (
        *map(_storable, (one.action, one.mailbox, one.uid)),
        None if one.message_id is None else _storable(one.message_id),
        *(one.size, one.received, one.read),
        *map(_storable, (cause.rule, cause.session, cause.client, cause.operator)),
    )


def _storable(text: str) -> str:
    """The text as PostgreSQL can hold it: a Message-ID may have any octets."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


_MATCHED = ("action", "uid", "message_id", "rule", "session", "client", "operator")
"""The columns that a search may compare, besides the mailbox."""

# Rows that do not fit are read, and not sent; the last one tells where the next search goes on.
_SEARCH = """\
SELECT number = %(page)s, fits, id, extract(epoch FROM at)::float8, action, mailbox, uid,
       message_id, octets, extract(epoch FROM received)::float8,
       extract(epoch FROM read)::float8, rule, session, client, operator
FROM (
    SELECT audit.*, {fits} AS fits, row_number() OVER (ORDER BY at DESC, id DESC) AS number
    FROM pop3gw.audit WHERE {among} ORDER BY at DESC, id DESC LIMIT %(page)s
) AS part
WHERE fits OR number = %(page)s ORDER BY at DESC, id DESC LIMIT %(most)s + 1"""

_MOMENT = "'epoch'::timestamptz + %(microseconds)s * interval '1 microsecond'"


def search(
    database: Database, query: AuditQuery, cursor: str, most: int, *, page: int = PAGE
) -> AuditLines:
    """Up to ``most`` entries, the newest first, as ``IAuditStore.search_audit``."""
    values: dict[str, object] = {"page": page, "most": most}
    values |= {name: _storable(text) for name, text in query.fields.items()}
    among = ["at >= to_timestamp(%(since)s)"]
    values["since"] = _moment(query.since)
    if query.until is not None:
        among.append("at < to_timestamp(%(until)s)")
        values["until"] = _moment(query.until)
    if "mailbox" in query.fields:
        among.append("mailbox = %(mailbox)s")
    if cursor:
        among.append(f"(at, id) < ({_MOMENT}, %(id)s)")
        values["microseconds"], values["id"] = _place(cursor)
    fits = [f"coalesce({name} = %({name})s, false)" for name in _MATCHED if name in query.fields]
    statement = _SEARCH.format(among=" AND ".join(among), fits=" AND ".join(fits) or "true")
    found, after = AuditLines([], ""), ""
    for is_last, is_wanted, number, *columns in database.read(statement, values):
        if is_wanted and len(found.lines) == most:
            return found._replace(cursor=after)
        entry = AuditEntry(*columns)
        after = f"{round(entry.at * 1e6)}:{number}"
        if is_wanted:
            found.lines.append(entry)
        if is_last:
            return found._replace(cursor=after)
    return found


def _moment(seconds: float) -> float:
    # In this order it is a number too where ``seconds`` is none.
    return min(_LATEST, max(0.0, seconds))


def _place(cursor: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,16}):([0-9]{1,18})", cursor, re.ASCII)
    if not found:
        raise ValueError(f"{cursor[:60]!r} is no cursor: take it from the answer before")
    return int(found[1]), int(found[2])


_EXPIRE = """\
DELETE FROM pop3gw.audit WHERE (at, id) IN (
    SELECT at, id FROM pop3gw.audit WHERE at < now() - %s * interval '1 second'
    ORDER BY at, id LIMIT %s
)"""


def expire(database: Database, days: int, most: int) -> int:
    """Remove up to ``most`` entries that are older; returns how many there were.

    With 0 days it removes none: this gateway writes no entries, and others keep theirs.
    """
    if not days:
        return 0
    return database.transact(lambda cursor, _: cursor.execute(_EXPIRE, (days * DAY, most)).rowcount)
