"""What changes the tables: all SQL of transactions that write.

Each function is one step of a transaction.  The first is ``lock`` or ``lock_id``: who holds
the row of a mailbox is alone in changing the mailbox.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from psycopg import errors

from gateway.errors import MailboxExists, MaildropBusy, NoSuchMailbox
from gateway.model import Contents
from gateway.postgresql.database import Cursor
from gateway.postgresql.epochs import JUMP
from gateway.store.cluster.sql.rows import (
    CLOSED,
    COLUMNS,
    HELD,
    MATCHES,
    Gone,
    Kept,
    Stored,
    as_ids,
    closed,
    contents_of,
    taken,
)
from gateway.store.copy_marks import away, held


def _next(table: str) -> str:
    """The next uid of a row, in this epoch.

    Each epoch since that of the row may have given ids, and lost them.  One that is lower is
    another server's: a dump was restored there, and ``move-ids`` was forgotten.
    """
    return (
        f"{table}.next_uid + CASE WHEN {table}.epoch = pop3gw.epoch() THEN 0"
        f" ELSE {JUMP}::bigint * greatest(pop3gw.epoch() - {table}.epoch, 1) END"
    )


NEXT = _next("mailbox")


_FIRST = f"1 + (pop3gw.epoch()::bigint - 1) * {JUMP}"
"""The first uid of a mailbox that is made in this epoch: one of its name may have been lost."""


_CHANGED = (
    f"next_uid = {NEXT}, epoch = pop3gw.epoch(), generation = generation + 1, layout = layout + 1"
)


class Locked(NamedTuple):
    """A mailbox that no other transaction changes."""

    id: int
    next_uid: int
    """Of the next message, in this epoch."""

    contents: Contents


def lock(cursor: Cursor, name: str, *, closed_too: bool = False) -> Locked:
    """Lock a mailbox to the end of the transaction.

    Raises ``NoSuchMailbox``, or ``MaildropBusy`` if it is closed, unless ``closed_too``.
    """
    return _locked(cursor, "name = %s", name, closed_too=closed_too)


def lock_id(cursor: Cursor, mailbox: int, *, closed_too: bool = False) -> Locked:
    """As ``lock``, by its id: it may have another name by now."""
    return _locked(cursor, "id = %s", mailbox, closed_too=closed_too)


def _locked(cursor: Cursor, which: str, value: str | int, *, closed_too: bool) -> Locked:
    row = cursor.execute(
        f"SELECT id, {NEXT}, {CLOSED},"
        " octets, messages, hidden_octets, hidden_messages"
        f" FROM pop3gw.mailbox WHERE {which} FOR NO KEY UPDATE",
        (value,),
    ).fetchone()
    if row is None:
        raise NoSuchMailbox(str(value))
    mailbox, next_uid, is_closed, *numbers = row
    if is_closed and not closed_too:
        raise closed(str(value))
    return Locked(mailbox, next_uid, contents_of(*numbers))


# -- mailboxes -----------------------------------------------------------------


def create(cursor: Cursor, name: str) -> None:
    """Create a mailbox, unless there is one."""
    cursor.execute(
        f"INSERT INTO pop3gw.mailbox (name, next_uid) VALUES (%s, {_FIRST}) ON CONFLICT DO NOTHING",
        (name,),
    )
    # A statement of its own: it sees what the transaction that freed the name has left.
    _continue_ids(cursor, name)


def _continue_ids(cursor: Cursor, name: str) -> None:
    cursor.execute(
        f"UPDATE pop3gw.mailbox SET next_uid = {_next('former_name')}, epoch = pop3gw.epoch()"
        " FROM pop3gw.former_name"
        " WHERE mailbox.name = %s AND former_name.name = mailbox.name"
        f" AND {NEXT} < {_next('former_name')}",
        (name,),
    )


def has_name(cursor: Cursor, mailbox: int, name: str) -> bool:
    """Whether the mailbox of this id has this name."""
    cursor.execute("SELECT FROM pop3gw.mailbox WHERE id = %s AND name = %s", (mailbox, name))
    return cursor.fetchone() is not None


def _leave_name(cursor: Cursor, name: str, next_uid: int) -> None:
    cursor.execute(
        "INSERT INTO pop3gw.former_name (name, next_uid) VALUES (%s, %s) ON CONFLICT (name)"
        f" DO UPDATE SET next_uid = greatest({_next('former_name')}, excluded.next_uid),"
        " epoch = excluded.epoch",
        (name, next_uid),
    )


def rename(cursor: Cursor, box: Locked, name: str, target: str) -> None:
    """Give a mailbox another name.

    Raises ``MaildropBusy``, also where a copy has closed it: its name has to stay closed.  Raises
    ``MailboxExists``, also where clients of the target would see an old unique-id on another
    message.
    """
    check_alone(cursor, box)
    if check_not_held(cursor, box, name):
        raise away(name)
    try:
        if name == target:
            raise errors.UniqueViolation
        cursor.execute(_RENAME, {"mailbox": box.id, "name": name, "target": target})
    except errors.UniqueViolation:
        raise MailboxExists(f"there is a mailbox {target} already") from None
    if cursor.execute(_KNOWN, {"mailbox": box.id, "target": target}).fetchone() is not None:
        raise MailboxExists(
            f"{target} had another mailbox, and its clients may know unique-ids of {name} for other"
            " messages: choose a name that no mailbox had"
        )
    _leave_name(cursor, name, box.next_uid)
    _continue_ids(cursor, target)


# The next mailbox of the old name continues there, and this one a jump further: it may come back.
_RENAME = f"""\
UPDATE pop3gw.mailbox SET name = %(target)s, next_uid = {NEXT} + {JUMP}, epoch = pop3gw.epoch(),
    left_at = left_at || jsonb_build_object(%(name)s::text, {NEXT})
WHERE id = %(mailbox)s"""

# Messages of other mailboxes had these ids under that name, or might have; those that this one
# had there are the same.
_KNOWN = """\
SELECT FROM pop3gw.mailbox
JOIN pop3gw.former_name ON former_name.name = %(target)s
JOIN pop3gw.message ON message.mailbox = %(mailbox)s AND unique_id IS NULL
    AND uid >= coalesce((left_at ->> %(target)s)::bigint, 0) AND uid < former_name.next_uid
WHERE id = %(mailbox)s LIMIT 1"""


def delete(cursor: Cursor, box: Locked, name: str) -> None:
    """Delete a mailbox without messages."""
    cursor.execute("DELETE FROM pop3gw.mailbox WHERE id = %s", (box.id,))
    _leave_name(cursor, name, box.next_uid)


def move_ids(cursor: Cursor, box: Locked, by: int) -> int:
    """Raise the next uid; returns it."""
    cursor.execute(
        "UPDATE pop3gw.mailbox SET next_uid = %s, epoch = pop3gw.epoch() WHERE id = %s",
        (box.next_uid + by, box.id),
    )
    return box.next_uid + by


def recount(cursor: Cursor, box: Locked) -> Contents:
    """Set the counters to what is there; returns that."""
    row = cursor.execute(
        f"""\
WITH counted AS (
    SELECT count(*) FILTER (WHERE hidden IS NULL) AS messages,
           coalesce(sum(octets) FILTER (WHERE hidden IS NULL), 0)::bigint AS octets,
           count(*) FILTER (WHERE hidden IS NOT NULL) AS hidden_messages,
           coalesce(sum(octets) FILTER (WHERE hidden IS NOT NULL), 0)::bigint AS hidden_octets
    FROM pop3gw.message WHERE mailbox = %(mailbox)s
)
UPDATE pop3gw.mailbox SET octets = counted.octets, messages = counted.messages,
    hidden_octets = counted.hidden_octets, hidden_messages = counted.hidden_messages,
    {_CHANGED}
FROM counted WHERE id = %(mailbox)s
RETURNING counted.octets, counted.messages, counted.hidden_octets, counted.hidden_messages""",
        {"mailbox": box.id},
    ).fetchone()
    assert row is not None
    return contents_of(*row)


# -- exclusive sessions ----------------------------------------------------------


def check_alone(cursor: Cursor, box: Locked) -> None:
    """Raise ``MaildropBusy`` while an exclusive session has the mailbox open."""
    cursor.execute("SELECT FROM pop3gw.lease WHERE mailbox = %s AND until > now()", (box.id,))
    if cursor.fetchone() is not None:
        raise MaildropBusy(f"mailbox {box.id}: a session has it open: end it first")


def check_not_held(cursor: Cursor, box: Locked, name: str) -> str:
    """The mark of a copy, if it has one; raises ``MaildropBusy`` while a copy holds the mailbox."""
    # ``now()`` is when the transaction began: a hold that ended while it waited counts still.
    cursor.execute(f"SELECT away, {HELD} FROM pop3gw.mailbox WHERE id = %s", (box.id,))
    ((mark, is_held),) = cursor.fetchall()
    if is_held:
        raise held(name)
    return str(mark)


# -- messages ------------------------------------------------------------------


def find(
    cursor: Cursor, box: Locked, unique_ids: Collection[str], *, hidden: bool = False
) -> list[Kept]:
    """Those of these messages that are shown, or that are hidden, in the order of a listing."""
    return _find(cursor, box, MATCHES, as_ids(unique_ids), hidden=hidden)


def find_uids(cursor: Cursor, box: Locked, uids: Collection[int]) -> list[Kept]:
    """Those of these messages that are shown, in the order of a listing."""
    return _find(cursor, box, "uid = ANY(%s::bigint[])", ([*uids],), hidden=False)


def some(cursor: Cursor, box: Locked, most: int, *, hidden: bool) -> list[Kept]:
    """Some of the messages that are shown, or that are hidden."""
    wanted = "IS NOT NULL" if hidden else "IS NULL"
    cursor.execute(
        f"SELECT {COLUMNS} FROM pop3gw.message WHERE mailbox = %s AND hidden {wanted}"
        " ORDER BY uid LIMIT %s",
        (box.id, most),
    )
    return taken(cursor.fetchall())


def _find(
    cursor: Cursor, box: Locked, matches: str, values: tuple[object, ...], *, hidden: bool
) -> list[Kept]:
    wanted = "IS NOT NULL" if hidden else "IS NULL"
    cursor.execute(
        f"SELECT {COLUMNS} FROM pop3gw.message WHERE mailbox = %s AND {matches}"
        f" AND hidden {wanted} ORDER BY position, uid",
        (box.id, *values),
    )
    return taken(cursor.fetchall())


def heads(cursor: Cursor, box: Locked, uids: Collection[int]) -> Mapping[int, bytes]:
    """The headers of these messages."""
    cursor.execute(
        "SELECT uid, octets FROM pop3gw.head WHERE mailbox = %s AND uid = ANY(%s::bigint[])",
        (box.id, [*uids]),
    )
    return dict(cursor.fetchall())


# Of the rows that were changed, as they are now: so counters are exact whatever was asked for.
_SUMS = """\
counted AS (
    SELECT coalesce(sum(octets) FILTER (WHERE hidden IS NULL), 0)::bigint AS octets,
           count(*) FILTER (WHERE hidden IS NULL) AS messages,
           coalesce(sum(octets) FILTER (WHERE hidden IS NOT NULL), 0)::bigint AS hidden_octets,
           count(*) FILTER (WHERE hidden IS NOT NULL) AS hidden_messages
    FROM changed
)"""

_REMOVE = f"""\
WITH changed AS (
    DELETE FROM pop3gw.message WHERE mailbox = %(mailbox)s AND uid = ANY(%(uids)s::bigint[])
    RETURNING octets, hidden, body, copy
), heads AS (
    DELETE FROM pop3gw.head WHERE mailbox = %(mailbox)s AND uid = ANY(%(uids)s::bigint[])
), queued AS (
    INSERT INTO pop3gw.gone (body, copy) SELECT body, copy FROM changed ON CONFLICT DO NOTHING
), {_SUMS}
UPDATE pop3gw.mailbox SET
    octets = mailbox.octets - counted.octets,
    messages = mailbox.messages - counted.messages,
    hidden_octets = mailbox.hidden_octets - counted.hidden_octets,
    hidden_messages = mailbox.hidden_messages - counted.hidden_messages,
    {_CHANGED}
FROM counted WHERE id = %(mailbox)s"""

_HIDE = f"""\
WITH changed AS (
    UPDATE pop3gw.message SET hidden = now()
    WHERE mailbox = %(mailbox)s AND uid = ANY(%(uids)s::bigint[]) AND hidden IS NULL
    RETURNING octets, hidden
), {_SUMS}
UPDATE pop3gw.mailbox SET
    octets = mailbox.octets - counted.hidden_octets,
    messages = mailbox.messages - counted.hidden_messages,
    hidden_octets = mailbox.hidden_octets + counted.hidden_octets,
    hidden_messages = mailbox.hidden_messages + counted.hidden_messages,
    {_CHANGED}
FROM counted WHERE id = %(mailbox)s"""

_RESTORE = f"""\
WITH changed AS (
    UPDATE pop3gw.message SET hidden = NULL, received = now()
    WHERE mailbox = %(mailbox)s AND uid = ANY(%(uids)s::bigint[]) AND hidden IS NOT NULL
    RETURNING octets, hidden
), {_SUMS}
UPDATE pop3gw.mailbox SET
    octets = mailbox.octets + counted.octets,
    messages = mailbox.messages + counted.messages,
    hidden_octets = mailbox.hidden_octets - counted.octets,
    hidden_messages = mailbox.hidden_messages - counted.messages,
    {_CHANGED}
FROM counted WHERE id = %(mailbox)s"""


def remove(cursor: Cursor, box: Locked, uids: Collection[int]) -> None:
    """Remove messages, shown or hidden; their bodies wait in ``gone``."""
    cursor.execute(_REMOVE, {"mailbox": box.id, "uids": [*uids]})


def hide(cursor: Cursor, box: Locked, uids: Collection[int]) -> None:
    """Hide messages from POP3."""
    cursor.execute(_HIDE, {"mailbox": box.id, "uids": [*uids]})


def restore(cursor: Cursor, box: Locked, uids: Collection[int]) -> None:
    """Show hidden messages again; their age restarts."""
    cursor.execute(_RESTORE, {"mailbox": box.id, "uids": [*uids]})


def mark_read(cursor: Cursor, mailbox: int, uids: Collection[int]) -> None:
    """Mark messages as read, unless the mailbox is closed; without a lock: no listing shows it."""
    cursor.execute(
        "UPDATE pop3gw.message SET read = now() FROM pop3gw.mailbox"
        " WHERE mailbox = %s AND uid = ANY(%s::bigint[]) AND read IS NULL"
        f" AND id = mailbox AND NOT {CLOSED}",
        (mailbox, [*uids]),
    )


def forget_gone(cursor: Cursor, found: Collection[Gone]) -> None:
    """Forget what ``rows.find_gone`` has found, and nothing that is due since."""
    losses = [(one.body, copy) for one in found for copy in one.copies]
    cursor.execute(
        "DELETE FROM pop3gw.gone USING unnest(%s::uuid[], %s::integer[]) AS one (body, copy)"
        " WHERE gone.body = one.body AND gone.copy = one.copy",
        ([body for body, _ in losses], [copy for _, copy in losses]),
    )


# -- verification --------------------------------------------------------------


def find_box(cursor: Cursor, mailbox: int) -> tuple[str, Locked] | None:
    """The name of a mailbox, and the mailbox locked; None: it was deleted."""
    try:
        box = lock_id(cursor, mailbox, closed_too=True)
    except NoSuchMailbox:
        return None
    row = cursor.execute("SELECT name FROM pop3gw.mailbox WHERE id = %s", (mailbox,)).fetchone()
    assert row is not None
    return row[0], box


def find_stored(cursor: Cursor, one: Stored) -> Kept | None:
    """A message, shown or hidden, if it is still there with this body."""
    cursor.execute(
        f"SELECT {COLUMNS} FROM pop3gw.message WHERE mailbox = %s AND uid = %s AND body = %s",
        (one.mailbox, one.uid, one.body),
    )
    found = taken(cursor.fetchall())
    return found[0] if found else None
