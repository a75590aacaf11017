"""What one session has marked in the listing that all sessions of its mailbox share."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from gateway.model import Listing
from gateway.pop3.refusals import Refused


def natural(text: bytes) -> int | None:
    """A number of any length; None where there is none.

    No maildrop has as much as 19 digits can count: what is longer is cut.
    """
    return int(text.lstrip(b"0")[:19] or b"0") if text.isdigit() else None


PIECE = 32 * 1024
"""Octets of a listing that are looked at in one go."""


class Marks:
    """Which messages are removed at QUIT, and which were read; by index, from 0."""

    __slots__ = ("_octets", "listing", "removed", "retrieved", "unread")

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.removed: set[int] = set()
        """By DELE (RFC 1939 section 5)."""
        self._octets = 0
        """How much they have."""
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
        self._octets += self.listing.sizes[index]

    def reset(self) -> None:
        """RSET: nothing is to be removed."""
        self.removed.clear()
        self._octets = 0

    def left(self) -> tuple[int, int]:
        """How many messages are not removed, and their octets, as STAT says it."""
        return len(self.listing) - len(self.removed), self.listing.octets - self._octets

    def lines_left(self, lines: bytes) -> Iterator[bytes]:
        """Of one line for each message of the listing those of what is not removed.

        A piece at a time, for of a hundred thousand lines it takes long to find some.
        """
        if not self.removed:
            yield lines
            return
        source, index = BytesIO(lines), 0
        while some := source.readlines(PIECE):
            numbered = enumerate(some, index)
            yield b"".join([text for number, text in numbered if number not in self.removed])
            index += len(some)
