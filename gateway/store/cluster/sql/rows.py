"""What is read of the tables: all SQL that changes nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from gateway.errors import MaildropBusy, NoSuchMailbox
from gateway.model import Contents, StoredMessage, Usage
from gateway.postgresql.database import Database
from gateway.postgresql.names import is_text

Message = tuple[int, int]
"""The id of a mailbox, and a uid in it."""


class State(NamedTuple):
    """The version of a mailbox: two listings of one state are equal."""

    mailbox: int
    epoch: int
    generation: int
    layout: int
    """While it stays, a change is a new message at the end."""

    next_uid: int
    is_closed: bool = False
    """Nobody may log in, deliver or remove."""


HELD = "coalesce(held_until > now(), false)"
"""Whether a copy holds a mailbox."""

CLOSED = f"(away <> '' OR {HELD})"
"""Whether a mailbox is closed."""


def closed(name: str) -> MaildropBusy:
    """The error for a closed mailbox."""
    return MaildropBusy(f"{name}: is being copied to another place, or that serves it")


class Packed(NamedTuple):
    """A listing as it comes: packed, in the order of its messages."""

    state: State
    numbers: bytes
    """Of each message its uid and 4 * octets + form, 8 octets each."""

    bodies: bytes
    """Of each message the key of its body, 16 octets."""

    unique_ids: Mapping[str, str]
    """Uid to unique-id, where that is another."""


def find_states(database: Database, names: Sequence[str]) -> dict[str, State]:
    """The mailboxes of these names."""
    rows = database.read(
        f"SELECT name, id, epoch, generation, layout, next_uid, {CLOSED}"
        " FROM pop3gw.mailbox WHERE name = ANY(%s)",
        ([*names],),
    )
    return {name: State(*state) for name, *state in rows}


class Box(NamedTuple):
    """What a delivery knows of a mailbox before it changes it."""

    id: int
    layout: int
    """As in ``State``."""

    is_closed: bool
    contents: Contents


def find_boxes(database: Database, names: Sequence[str]) -> dict[str, Box]:
    """The mailboxes of these names."""
    found = database.read(
        f"SELECT name, id, layout, {CLOSED}, octets, messages, hidden_octets, hidden_messages"
        " FROM pop3gw.mailbox WHERE name = ANY(%s)",
        ([*names],),
    )
    return {
        name: Box(mailbox, layout, is_closed, contents_of(*numbers))
        for name, mailbox, layout, is_closed, *numbers in found
    }


Layout = tuple[int, int]
"""Epoch and layout: while they stay, no message of the mailbox went away."""


def find_layouts(database: Database, mailboxes: Sequence[int]) -> dict[int, Layout]:
    """The layouts of the mailboxes of these ids."""
    query = "SELECT id, epoch, layout FROM pop3gw.mailbox WHERE id = ANY(%s::bigint[])"
    rows = database.read(query, ([*mailboxes],))
    return {mailbox: (epoch, layout) for mailbox, epoch, layout in rows}


# With the mailboxes as a value PostgreSQL plans for their partitions only: half the cost.
_SHOWN = """\
SELECT mailbox, uid FROM pop3gw.message
WHERE mailbox = ANY(%(mailboxes)s::bigint[]) AND uid = ANY(%(uids)s::bigint[])
AND (mailbox, uid) IN (SELECT * FROM unnest(%(mailboxes)s::bigint[], %(uids)s::bigint[]))
AND hidden IS NULL"""


def find_shown(database: Database, messages: Sequence[Message]) -> dict[Message, bool]:
    """Those of these messages that POP3 shows."""
    return dict.fromkeys(database.read(_SHOWN, _asked(messages)), True)


def find_headers(database: Database, messages: Sequence[Message]) -> dict[Message, bytes]:
    """The headers of those of these messages that POP3 shows: each up to 64 KiB."""
    rows = database.read(
        f"SELECT mailbox, uid, head.octets FROM ({_SHOWN}) AS shown"
        " JOIN pop3gw.head USING (mailbox, uid) WHERE mailbox = ANY(%(mailboxes)s::bigint[])",
        _asked(messages),
    )
    return {(mailbox, uid): head for mailbox, uid, head in rows}


def _asked(messages: Sequence[Message]) -> dict[str, list[int]]:
    mailboxes, uids = zip(*messages, strict=True)
    return {"mailboxes": [*mailboxes], "uids": [*uids]}


# One statement has one view of the database: the listing is that of the state.
_LISTING = """\
SELECT id, epoch, generation, layout, next_uid, listing.*
FROM pop3gw.mailbox, LATERAL (
    SELECT string_agg(int8send(uid) || int8send(octets * 4 + form), '' ORDER BY position, uid),
           string_agg(uuid_send(body), '' ORDER BY position, uid),
           jsonb_object_agg(uid, unique_id) FILTER (WHERE unique_id IS NOT NULL)
    FROM pop3gw.message WHERE message.mailbox = %(mailbox)s AND uid >= %(since)s
    AND hidden IS NULL
) AS listing
WHERE id = %(mailbox)s"""


def listing(database: Database, mailbox: int, since: int) -> Packed:
    """The messages of a mailbox with a uid from ``since`` on.  Raises ``NoSuchMailbox``."""
    rows = database.read(_LISTING, {"mailbox": mailbox, "since": since})
    if not rows:
        raise NoSuchMailbox(f"mailbox {mailbox} was deleted")
    *state, numbers, bodies, unique_ids = rows[0]
    return Packed(State(*state), numbers or b"", bodies or b"", unique_ids or {})


def names(database: Database) -> list[str]:
    """The names of all mailboxes, sorted."""
    return [name for (name,) in database.read("SELECT name FROM pop3gw.mailbox ORDER BY name")]


def contents(database: Database, name: str) -> Contents:
    """What the counters of a mailbox have.  Raises ``NoSuchMailbox``."""
    rows = database.read(
        "SELECT octets, messages, hidden_octets, hidden_messages"
        " FROM pop3gw.mailbox WHERE name = %s",
        (name,),
    )
    if not rows:
        raise NoSuchMailbox(name)
    return contents_of(*rows[0])


def contents_of(octets: int, messages: int, hidden_octets: int, hidden_messages: int) -> Contents:
    """What columns of these names have."""
    return Contents(Usage(octets, messages), Usage(hidden_octets, hidden_messages))


class Gone(NamedTuple):
    """A body that lost messages a while ago."""

    body: UUID
    copies: Sequence[int]
    """Which losses: those that are due."""

    at: datetime
    """When the last of these was."""

    is_used: bool
    """Whether another message has it, or had it until lately."""


# By the index of times: few rows are read of however many wait.
_GONE = """\
WITH due AS (
    SELECT body, copy, at FROM pop3gw.gone
    WHERE at < now() - %(age)s * interval '1 second'
    AND at > coalesce(%(after)s, '-infinity'::timestamptz)
    ORDER BY at LIMIT %(most)s
)
SELECT body, array_agg(copy), max(at),
    EXISTS (SELECT FROM pop3gw.message WHERE message.body = due.body)
    OR EXISTS (SELECT FROM pop3gw.gone AS later WHERE later.body = due.body
               AND later.at >= now() - %(age)s * interval '1 second')
FROM due GROUP BY body ORDER BY max(at)"""


def find_gone(
    database: Database, seconds: float, most: int, after: datetime | None = None
) -> list[Gone]:
    """Bodies that lost messages at least this long ago, the oldest first.

    Those of the ``most`` oldest losses, or of those ``after`` a time.
    """
    rows = database.read(_GONE, {"age": seconds, "most": most, "after": after})
    return [Gone(*row) for row in rows]


COLUMNS = (
    "uid, unique_id, octets, extract(epoch FROM received)::float8,"
    " extract(epoch FROM read)::float8, extract(epoch FROM hidden)::float8"
)
"""What ``Kept`` has."""


class Kept(NamedTuple):
    """The data of a message; times in Unix seconds."""

    uid: int
    carried: str | None
    octets: int
    received: float
    read: float | None
    hidden: float | None
    """Since when it is hidden."""

    @property
    def unique_id(self) -> str:
        """As clients know it."""
        return str(self.uid) if self.carried is None else self.carried

    @property
    def stored(self) -> StoredMessage:
        """For retention; a hidden message: since when it is hidden."""
        since = self.received if self.hidden is None else self.hidden
        return StoredMessage(since, self.unique_id, self.octets, self.read)


def messages(database: Database, name: str, *, hidden: bool) -> list[StoredMessage]:
    """All messages that are shown, or all that are hidden.  Raises ``NoSuchMailbox``."""
    mailbox = find_id(database, name)
    wanted = "IS NOT NULL" if hidden else "IS NULL"
    rows = database.read(
        f"SELECT {COLUMNS} FROM pop3gw.message WHERE mailbox = %s AND hidden {wanted}"
        " ORDER BY position, uid",
        (mailbox,),
    )
    return [Kept(*row).stored for row in rows]


def find_id(database: Database, name: str) -> int:
    """The id of a mailbox.  Raises ``NoSuchMailbox``."""
    rows = database.read("SELECT id FROM pop3gw.mailbox WHERE name = %s", (name,))
    if not rows:
        raise NoSuchMailbox(name)
    found: int = rows[0][0]
    return found


def find_head(database: Database, name: str, unique_id: str) -> bytes | None:
    """The header of a message, shown or hidden.  Raises ``NoSuchMailbox``."""
    rows = database.read(
        "SELECT head.octets FROM pop3gw.message JOIN pop3gw.head USING (mailbox, uid)"
        f" WHERE mailbox = %s AND {MATCHES}",
        (find_id(database, name), *as_ids([unique_id])),
    )
    return rows[0][0] if rows else None


MATCHES = "(uid = ANY(%s::bigint[]) AND unique_id IS NULL OR unique_id = ANY(%s::text[]))"
"""Whether a message has one of these unique-ids: the two lists of ``as_ids``."""

_UID = re.compile(r"[1-9][0-9]{0,17}")


def as_ids(unique_ids: Collection[str]) -> tuple[list[int], list[str]]:
    """The uids that unique-ids may stand for, and all that the database can compare with."""
    texts = [text for text in unique_ids if is_text(text)]
    return [int(text) for text in texts if _UID.fullmatch(text)], texts


def taken(rows: Sequence[Any]) -> list[Kept]:
    """Rows of ``COLUMNS``."""
    return [Kept(*row) for row in rows]


# -- verification --------------------------------------------------------------


class Stored(NamedTuple):
    """A message with a body."""

    body: UUID
    mailbox: int
    uid: int
    octets: int


def totals(database: Database) -> tuple[int, int]:
    """How many mailboxes there are, and how many messages by their counters."""
    ((mailboxes, messages),) = database.read(
        "SELECT count(*), coalesce(sum(messages + hidden_messages), 0)::bigint FROM pop3gw.mailbox"
    )
    return mailboxes, messages


def stored(database: Database, after: Stored, most: int) -> list[Stored]:
    """Up to ``most`` messages with bodies after this one, in the order of their bodies."""
    found = database.read(
        "SELECT body, mailbox, uid, octets FROM pop3gw.message"
        " WHERE (body, mailbox, uid) > (%s, %s, %s) AND octets > 0"
        " ORDER BY body, mailbox, uid LIMIT %s",
        (*after[:3], most),
    )
    return [Stored(*row) for row in found]


def find_known(database: Database, bodies: Sequence[UUID]) -> set[UUID]:
    """Those of these bodies that a message has, or that wait to be collected."""
    found = database.read(
        "SELECT body FROM pop3gw.message WHERE body = ANY(%(bodies)s::uuid[])"
        " UNION SELECT body FROM pop3gw.gone WHERE body = ANY(%(bodies)s::uuid[])",
        {"bodies": [*bodies]},
    )
    return {body for (body,) in found}


class Counted(NamedTuple):
    """A mailbox, its counters, and what there is."""

    mailbox: int
    name: str
    counters: Contents
    contents: Contents


# Counters and messages of one moment: it is one statement.
_COUNTED = """\
SELECT id, name, octets, messages, hidden_octets, hidden_messages, counted.*
FROM (SELECT * FROM pop3gw.mailbox WHERE id > %s ORDER BY id LIMIT %s) AS mailbox, LATERAL (
    SELECT coalesce(sum(octets) FILTER (WHERE hidden IS NULL), 0)::bigint,
           count(*) FILTER (WHERE hidden IS NULL),
           coalesce(sum(octets) FILTER (WHERE hidden IS NOT NULL), 0)::bigint,
           count(*) FILTER (WHERE hidden IS NOT NULL)
    FROM pop3gw.message WHERE message.mailbox = mailbox.id
) AS counted
ORDER BY id"""


def counted(database: Database, after: int, most: int) -> list[Counted]:
    """Up to ``most`` mailboxes with ids after this one."""
    return [
        Counted(mailbox, name, contents_of(*numbers[:4]), contents_of(*numbers[4:]))
        for mailbox, name, *numbers in database.read(_COUNTED, (after, most))
    ]
