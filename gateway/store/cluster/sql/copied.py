"""The SQL of copies of whole mailboxes: what is read of one, and what is written to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from gateway.errors import MaildropBusy, NoSuchMailbox
from gateway.model import CopiedMessage, Form, MailboxImage
from gateway.postgresql.database import Cursor, Database
from gateway.store.cluster.bodies.keys import Where
from gateway.store.cluster.sql import changes
from gateway.store.cluster.sql.changes import NEXT, Locked
from gateway.store.cluster.sql.delivery_rows import New
from gateway.store.cluster.sql.lease_rows import LEASE
from gateway.store.cluster.sql.rows import COLUMNS, MATCHES, Kept, as_ids, find_id
from gateway.store.copy_marks import check_mark

SAME = 0.002
"""Seconds by which equal times may differ: a Maildir has some in milliseconds."""

LARGEST = 2**32
"""The largest number that makes the next uid of a mailbox rise above it."""


def image(database: Database, name: str) -> MailboxImage:
    """A mailbox without the octets of its messages.  Raises ``NoSuchMailbox``."""
    mailbox = find_id(database, name)
    rows = database.read(
        f"SELECT {COLUMNS}, body, form FROM pop3gw.message WHERE mailbox = %s"
        " ORDER BY hidden IS NOT NULL, position, uid",
        (mailbox,),
    )
    # After the messages: it is above them all.
    found = database.read(
        f"SELECT {NEXT}, away FROM pop3gw.mailbox WHERE id = %s",
        (mailbox,),
    )
    if not found:
        raise NoSuchMailbox(name)
    ((next_uid, away),) = found
    return MailboxImage([_message(row) for row in rows], next_uid, away)


def _message(row: Sequence[Any]) -> CopiedMessage:
    *columns, body, form = row
    kept = Kept(*columns)
    return CopiedMessage(
        kept.unique_id,
        kept.octets,
        kept.received,
        kept.read,
        kept.hidden,
        body,
        Where(body, kept.octets, Form(form)),
    )


_TAKE = f"""\
WITH box AS (
    UPDATE pop3gw.mailbox SET
        next_uid = greatest({NEXT}, %(above)s, %(uid)s + 1), epoch = pop3gw.epoch(),
        generation = generation + 1, layout = layout + 1,
        octets = octets + %(octets)s * %(shown)s, messages = messages + %(shown)s,
        hidden_octets = hidden_octets + %(octets)s * (1 - %(shown)s),
        hidden_messages = hidden_messages + 1 - %(shown)s
    WHERE id = %(mailbox)s
    RETURNING id
), placed AS (
    INSERT INTO pop3gw.message
        (mailbox, uid, unique_id, position, octets, form, body, copy, received, read, hidden)
    SELECT id, %(uid)s, %(unique_id)s, %(uid)s, %(octets)s, %(form)s, %(body)s, %(copy)s,
        to_timestamp(%(received)s), to_timestamp(%(read)s), to_timestamp(%(hidden)s) FROM box
)
INSERT INTO pop3gw.head (mailbox, uid, octets) SELECT id, %(uid)s, %(head)s FROM box"""


class CopiedTo(NamedTuple):
    """A mailbox that is copied to, and the mark of the copy."""

    name: str
    mark: str


def lock_away(cursor: Cursor, place: CopiedTo) -> Locked:
    """Lock a mailbox; raises ``MaildropBusy`` if it does not have the mark."""
    box = changes.lock(cursor, place.name, closed_too=True)
    cursor.execute("SELECT away FROM pop3gw.mailbox WHERE id = %s", (box.id,))
    ((found,),) = cursor.fetchall()
    check_mark(place.name, found, place.mark)
    return box


def take(cursor: Cursor, box: Locked, message: CopiedMessage, new: New) -> None:
    """Add a message with its unique-id, in place of one that has it."""
    numbers, _ = as_ids([message.uid])
    number = numbers[0] if numbers else 0
    taken = cursor.execute(
        f"SELECT uid, {MATCHES} FROM pop3gw.message WHERE mailbox = %s"
        " AND (uid = %s OR unique_id = %s)",
        (*as_ids([message.uid]), box.id, number, message.uid),
    ).fetchall()
    if same := [uid for uid, is_same in taken if is_same]:
        changes.remove(cursor, box, same)
    is_free = number not in {uid for uid, is_same in taken if not is_same}
    is_number = 0 < number < max(box.next_uid, LARGEST)
    uid = number if is_number and is_free else box.next_uid
    cursor.execute(
        _TAKE,
        {
            **new._asdict(),
            "form": int(new.form),
            "mailbox": box.id,
            "uid": uid,
            "above": number + 1 if is_number else 1,
            "unique_id": None if str(uid) == message.uid else message.uid,
            "shown": int(message.hidden is None),
            "received": message.received,
            "read": message.read,
            "hidden": message.hidden,
        },
    )


# -- making one like another -----------------------------------------------------


class _Row(NamedTuple):
    uid: int
    position: int
    received: float
    read: float | None
    hidden: float | None


_CHANGE = """\
UPDATE pop3gw.message SET position = new.position, received = to_timestamp(new.received),
    read = to_timestamp(new.read), hidden = to_timestamp(new.hidden)
FROM unnest(%s::bigint[], %s::bigint[], %s::float8[], %s::float8[], %s::float8[])
    AS new(uid, position, received, read, hidden)
WHERE message.mailbox = %s AND message.uid = new.uid"""


def adjust(cursor: Cursor, box: Locked, wanted: MailboxImage) -> None:
    """Make a mailbox like ``wanted``, as far as its messages are there."""
    cursor.execute(
        f"SELECT {COLUMNS}, position FROM pop3gw.message WHERE mailbox = %s ORDER BY position, uid",
        (box.id,),
    )
    there = {}
    for *columns, position in cursor.fetchall():
        kept = Kept(*columns)
        there[kept.unique_id] = _Row(kept.uid, position, kept.received, kept.read, kept.hidden)
    places = {one.uid: place for place, one in enumerate(wanted.messages, 1)}
    if gone := [row.uid for unique_id, row in there.items() if unique_id not in places]:
        changes.remove(cursor, box, gone)
    ranks = [places[unique_id] for unique_id in there if unique_id in places]
    is_in_order = ranks == sorted(ranks)
    present = [one for one in wanted.messages if one.uid in there]
    changed = []
    for place, one in enumerate(present, 1):
        old = there[one.uid]
        # As many places as uids: a new message still comes behind them.
        position = old.position if is_in_order else place
        new = _Row(old.uid, position, one.received, one.read, one.hidden)
        if position != old.position or not _are_alike(old[2:], new[2:]):
            changed.append(new)
    if changed:
        cursor.execute(_CHANGE, (*map(list, zip(*changed, strict=True)), box.id))
    cursor.execute(
        f"UPDATE pop3gw.mailbox SET next_uid = greatest({NEXT}, %s), epoch = pop3gw.epoch()"
        " WHERE id = %s",
        (wanted.next_uid, box.id),
    )
    changes.recount(cursor, box)


def _are_alike(times: Sequence[float | None], others: Sequence[float | None]) -> bool:
    return all(
        one is other if one is None or other is None else abs(one - other) <= SAME
        for one, other in zip(times, others, strict=True)
    )


# -- closing ---------------------------------------------------------------------


def mark_away(cursor: Cursor, name: str, mark: str, instead_of: str | None) -> None:
    """Close a mailbox with a mark, or open it; creates a missing one.

    Raises ``MaildropBusy`` if it has neither this mark nor ``instead_of``, if that is named.
    """
    changes.create(cursor, name)
    if instead_of is not None:
        cursor.execute("SELECT away FROM pop3gw.mailbox WHERE name = %s FOR UPDATE", (name,))
        ((found,),) = cursor.fetchall()
        # If the commit before was not answered, it has this one.
        if found != mark:
            check_mark(name, found, instead_of)
    cursor.execute("UPDATE pop3gw.mailbox SET away = %s WHERE name = %s", (mark, name))


def take_hold(database: Database, mailbox: int, holder: UUID) -> bool:
    """Close a mailbox until its hold ends; False: somebody else holds it."""

    def work(cursor: Cursor, _: bool) -> bool:
        # Waits for changes that have begun.
        box = changes.lock_id(cursor, mailbox, closed_too=True)
        try:
            changes.check_alone(cursor, box)
        except MaildropBusy:
            return False
        cursor.execute(
            "UPDATE pop3gw.mailbox SET held_by = %s, held_until = now() + %s * interval '1 second'"
            " WHERE id = %s AND (held_until IS NULL OR held_until < now() OR held_by = %s)"
            " RETURNING true",
            (holder, LEASE, mailbox, holder),
        )
        return cursor.fetchone() is not None

    return database.transact(work)


def renew_holds(database: Database, held: Mapping[UUID, int]) -> None:
    """Extend holds, by holder, as far as nobody else has their mailboxes."""
    database.write(
        "UPDATE pop3gw.mailbox SET held_until = now() + %s * interval '1 second'"
        " WHERE id = ANY(%s::bigint[]) AND held_by = ANY(%s::uuid[])",
        (LEASE, [*held.values()], [*held]),
    )


def end_hold(database: Database, mailbox: int, holder: UUID) -> None:
    """End a hold."""
    database.write(
        "UPDATE pop3gw.mailbox SET held_by = NULL, held_until = NULL"
        " WHERE id = %s AND held_by = %s",
        (mailbox, holder),
    )
