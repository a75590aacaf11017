"""What every store tells the audit of a message, and what it does where nothing is handed in."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.model import Limits, Reason, Removed, StoredMessage, Usage

LONGEST_ID = 998
"""Octets of a Message-ID that are written down."""

END_OF_HEADER = re.compile(rb"(?:^|\n)\r?\n")
_MESSAGE_ID = re.compile(rb"^message-id[ \t]*:((?:[^\r\n]|\r(?!\n)|\r?\n[ \t])*)", re.I | re.M)
_FOLD = re.compile(rb"\r?\n")


def no_limits(usage: Usage, size: int, limits: Limits) -> None:
    """An ``Admit`` of a store that has room for all."""


def no_audit(_: Iterable[Removed]) -> None:
    """An ``Audit`` where none is wanted: nothing is even read for it."""


def entry(
    action: str, mailbox: str, kept: StoredMessage, named: str | None, cause: Reason
) -> Removed:
    """One message for the audit; ``named``: its Message-ID."""
    return Removed(
        action=action,
        mailbox=mailbox,
        uid=kept.uid,
        message_id=named,
        size=kept.octets,
        received=kept.received,
        read=kept.read,
        cause=cause,
    )


def message_id_in(head: bytes) -> str | None:
    """The Message-ID of a message that begins with ``head``; None where there is none."""
    match = _MESSAGE_ID.search(END_OF_HEADER.split(head, 1)[0])
    if match is None:
        return None
    # Longer than a line of a header may be it is nobody's Message-ID (RFC 5322
    # section 2.1.1), and would take the room of thousands of lines of the audit.
    named = _FOLD.sub(b"", match[1]).strip()[:LONGEST_ID]
    return named.decode("utf-8", "replace") or None
