"""What one session has marked in the listing that all sessions of its mailbox share."""

from __future__ import annotations

from gateway.model import Listing
from gateway.pop3.refusals import Refused


def natural(text: bytes) -> int | None:
    """A number of any length; None where there is none.

    No maildrop has as much as 19 digits can count: what is longer is cut.
    """
    return int(text.lstrip(b"0")[:19] or b"0") if text.isdigit() else None


class Marks:
    """Which messages are removed at QUIT, and which were read; by index, from 0."""

    __slots__ = ("listing", "removed", "retrieved", "unread")

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.removed: set[int] = set()
        """By DELE (RFC 1939 section 5)."""
        self.retrieved: set[int] = set()
        """By RETR, and to the end."""
        self.unread: set[int] = set()
        """Could not be had when last asked for: DELE does not mark them."""

    def index(self, number: bytes) -> int:
        """The one door from a client's number to a message; raises ``Refused``."""
        counted = natural(number)
        if not counted:
            raise Refused("bad_number")
        index = counted - 1
        if index >= len(self.listing):
            raise Refused("no_message")
        if index in self.removed:
            raise Refused("already_marked")
        return index

    def remove(self, number: bytes) -> None:
        """DELE; raises ``Refused``.

        A client that was refused a message, and deletes it all the same, would
        destroy the only copy.
        """
        index = self.index(number)
        if index in self.unread:
            raise Refused("unread")
        self.removed.add(index)

    def left(self) -> tuple[int, int]:
        """How many messages are not removed, and their octets, as STAT says it."""
        listing, removed = self.listing, self.removed
        octets = listing.octets - sum([listing.sizes[index] for index in removed])
        return len(listing) - len(removed), octets

    def lines_left(self, lines: bytes) -> bytes:
        """Of one line for each message of the listing those of what is not removed."""
        if not self.removed:
            return lines
        kept = [
            text
            for index, text in enumerate(lines.splitlines(keepends=True))
            if index not in self.removed
        ]
        return b"".join(kept)
