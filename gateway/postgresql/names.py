"""What PostgreSQL can hold as a name of a mailbox or as a unique-id."""

from __future__ import annotations

from gateway.errors import BadMailboxName

LONGEST = 1000
"""Octets of a name: an index of PostgreSQL takes some more."""


def is_text(text: str) -> bool:
    """Whether it is such a name: without NUL and lone surrogates, not empty, not too long."""
    try:
        return 0 < len(text.encode()) <= LONGEST and "\0" not in text
    except UnicodeEncodeError:
        return False


def check_name(name: str) -> None:
    """Raise ``BadMailboxName`` unless a mailbox can have this name."""
    if not is_text(name):
        wanted = f"expected a name of 1 to {LONGEST} octets without NUL"
        raise BadMailboxName(f"{wanted}, found {name[:80]!r}")
