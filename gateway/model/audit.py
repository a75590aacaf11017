"""The audit, as it is searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from attrs import field, frozen


@frozen
class AuditEntry:
    """A message that was removed, hidden or restored; times in Unix seconds."""

    at: float
    action: str
    """``discard``: removed.  ``hide``: hidden.  ``purge``: removed later.  ``restore``: back."""

    mailbox: str
    uid: str
    message_id: str | None
    """The Message-ID of the header."""

    octets: int
    received: float
    read: float | None
    rule: str
    """The rule of retention; empty: none."""

    session: str
    """The id of the POP3 session in the log; empty: none."""

    client: str
    operator: str
    """Who asked for it; empty: no operator."""


@frozen
class AuditQuery:
    """Which entries are wanted."""

    fields: Mapping[str, str] = field(factory=dict)
    """Values that fields of an entry must have, by name: any with text."""

    since: float = 0.0
    until: float | None = None
    """None: no end."""

    def fits(self, entry: AuditEntry) -> bool:
        """Whether the entry is wanted."""
        if entry.at < self.since or (self.until is not None and entry.at >= self.until):
            return False
        return all(getattr(entry, name) == value for name, value in self.fields.items())


class AuditLines(NamedTuple):
    """What a search found."""

    lines: list[AuditEntry]
    cursor: str
    """Where the next search goes on; empty: there is nothing more."""

    damaged: int = 0
    """Lines that are no entry of the log.  With ``fields`` only those that have the values."""
