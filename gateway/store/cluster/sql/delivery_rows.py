"""The rows of a message that comes in."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from gateway.model import Form, Usage
from gateway.postgresql.database import Cursor
from gateway.store.cluster.sql.changes import NEXT, Locked
from gateway.store.cluster.sql.rows import CLOSED, Box


class New(NamedTuple):
    """A message for one recipient."""

    body: UUID
    copy: int
    """Of the recipients of the body: which."""

    octets: int
    form: Form
    head: bytes

    @property
    def values(self) -> dict[str, object]:
        """As parameters."""
        return {**self._asdict(), "form": int(self.form)}


def _delivery(condition: str, more: str = "") -> str:
    """The statement that adds a message to the mailbox of which ``condition`` is true."""
    return f"""\
WITH box AS (
    UPDATE pop3gw.mailbox SET
        next_uid = {NEXT} + 1, epoch = pop3gw.epoch(), generation = generation + 1,
        octets = octets + %(octets)s, messages = messages + 1{more}
    WHERE {condition}
    RETURNING id, next_uid - 1 AS uid
), placed AS (
    INSERT INTO pop3gw.message (mailbox, uid, position, octets, form, body, copy)
    SELECT id, uid, uid, %(octets)s, %(form)s, %(body)s, %(copy)s FROM box
)
INSERT INTO pop3gw.head (mailbox, uid, octets) SELECT id, uid, %(head)s FROM box"""


# An attempt that was not answered may not even have begun.  It finds another layout.
_DELIVER = _delivery("id = %(mailbox)s", ", layout = layout + %(again)s")


def deliver(cursor: Cursor, box: Locked, new: New, *, again: bool = False) -> None:
    """Add a message; ``again``: that of ``delivery_alone`` may have been sent before."""
    cursor.execute(_DELIVER, {**new.values, "mailbox": box.id, "again": int(again)})


# PostgreSQL waits for who has the row locked, and then looks at the conditions again.
_DELIVER_ALONE = _delivery(f"""\
id = %(mailbox)s AND name = %(name)s AND layout = %(layout)s AND NOT {CLOSED}
    AND octets + hidden_octets * %(hidden)s <= %(octets_before)s
    AND messages + hidden_messages * %(hidden)s <= %(messages_before)s""")


def delivery_alone(
    box: Box, name: str, new: New, room: Usage, *, count_hidden: bool
) -> tuple[str, dict[str, object]]:
    """The statement that adds a message without a transaction around it, and its parameters.

    It changes nothing if the mailbox has another name by now, has lost messages since ``box``,
    is closed, or has more than ``room``, where ``count_hidden`` messages count too; nor after
    ``deliver`` with ``again``.
    """
    return _DELIVER_ALONE, {
        **new.values,
        "mailbox": box.id,
        "name": name,
        "layout": box.layout,
        "hidden": int(count_hidden),
        "octets_before": room.octets,
        "messages_before": room.messages,
    }


def is_delivered(cursor: Cursor, new: New) -> bool:
    """Whether this was done already, even if the message is gone again."""
    row = cursor.execute(
        "SELECT EXISTS (SELECT FROM pop3gw.message WHERE body = %(body)s AND copy = %(copy)s)"
        " OR EXISTS (SELECT FROM pop3gw.gone WHERE body = %(body)s AND copy = %(copy)s)",
        {"body": new.body, "copy": new.copy},
    ).fetchone()
    return bool(row and row[0])
