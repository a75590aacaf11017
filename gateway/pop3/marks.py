"""The marks of a session; the listing is shared by all sessions of the mailbox."""

from __future__ import annotations

from collections.abc import Iterator, Set
from io import BytesIO

from gateway.model import Listing
from gateway.pop3.refusals import Refused

PIECE = 32 * 1024
"""Octets of a listing to process at once."""


_NONE: frozenset[int] = frozenset()


def _with(marks: Set[int], index: int) -> set[int]:
    # Most sessions mark nothing, and three empty sets take an eighth of the memory of an idle one.
    own = marks if type(marks) is set else set(marks)
    own.add(index)
    return own


class Marks:
    """Messages to remove at QUIT, and messages that were read; by index, from 0."""

    __slots__ = ("_octets", "listing", "removed", "retrieved", "unread")

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.removed: Set[int] = _NONE
        """Messages marked by DELE (RFC 1939 section 5)."""
        self._octets = 0
        """Their octets."""
        self.retrieved: Set[int] = _NONE
        """Messages sent completely by RETR."""
        self.unread: Set[int] = _NONE
        """Messages that could not be read when last requested: DELE does not mark them."""

    def index(self, number: bytes) -> int:
        """The index of the message with a client's number; raises ``Refused``."""
        if not number.isdigit() or (index := int(number) - 1) < 0:
            raise Refused("bad_number")
        if index >= len(self.listing.sizes):
            raise Refused("no_message")
        if index in self.removed:
            raise Refused("already_marked")
        return index

    def remove(self, number: bytes) -> None:
        """DELE; raises ``Refused``.

        A client that deletes a message which it could not read would destroy the only
        copy.
        """
        index = self.index(number)
        if index in self.unread:
            raise Refused("unread")
        self.removed = _with(self.removed, index)
        self._octets += self.listing.sizes[index]

    def reset(self) -> None:
        """RSET: remove all marks of DELE."""
        self.removed = _NONE
        self._octets = 0

    def sent(self, index: int, *, retrieved: bool) -> None:
        """The message could be read, and was sent; ``retrieved``: completely, by RETR."""
        if index in self.unread:
            self.unread = self.unread - {index}
        if retrieved:
            self.retrieved = _with(self.retrieved, index)

    def unreadable(self, index: int) -> None:
        """The message could not be read."""
        self.unread = _with(self.unread, index)

    def left(self) -> tuple[int, int]:
        """Number and octets of messages without a mark, for STAT."""
        return len(self.listing.sizes) - len(self.removed), self.listing.octets - self._octets

    def lines_left(self, lines: bytes) -> Iterator[bytes]:
        """The lines of messages without a mark, from one line per message of the listing.

        In pieces, because a hundred thousand lines take long.
        """
        if not self.removed:
            yield lines
            return
        source, index = BytesIO(lines), 0
        while some := source.readlines(PIECE):
            numbered = enumerate(some, index)
            yield b"".join([text for number, text in numbered if number not in self.removed])
            index += len(some)


NO_MARKS = Marks(Listing((), ()))
"""Before the login."""


class SessionCounts:
    """Counts of a session, for its log line."""

    __slots__ = ("removed", "retr", "retr_octets", "top", "top_octets")

    def __init__(self) -> None:
        self.retr = self.retr_octets = self.top = self.top_octets = self.removed = 0
