"""Values of a copy of a mailbox from one store to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class CopiedMessage(NamedTuple):
    """All that a store knows of a message; times in Unix seconds."""

    uid: str
    """Its unique-id."""

    octets: int
    """About what RETR sends; the copy counts for itself."""

    received: float
    read: float | None
    """When it was read; None: unread.  A store may only know whether it was."""

    hidden: float | None
    """Since when POP3 does not show it; None: it is shown."""

    version: object
    """Changes when the octets may have changed; can be compared."""

    handle: object
    """Where its octets are; for the store alone."""


class MailboxImage(NamedTuple):
    """A mailbox without the octets of its messages."""

    messages: Sequence[CopiedMessage]
    """Those that POP3 shows, in the order of a listing, and then the hidden ones.

    No two have the same unique-id.
    """

    next_uid: int
    """Above every number that the mailbox ever gave as a unique-id."""

    away: str
    """The mark of ``IMailboxClosing.mark_away``; empty: the mailbox is served here."""

    left_out: int = 0
    """Messages in other folders, which POP3 never shows, and which are not copied."""
