"""Pending output, in slices."""

from __future__ import annotations

from collections.abc import Sequence

SLICE = 128 * 1024
"""Most octets that ``take`` returns."""


class Outgoing:
    """Pieces in, slices out.

    A large piece, such as a rendered listing, stays a shared object and is copied slice by
    slice, so a slow reader costs one slice.
    """

    __slots__ = ("_pieces", "length")

    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview] = []
        self.length = 0
        """Octets of pending output."""

    @property
    def pieces(self) -> Sequence[bytes | memoryview]:
        """What is pending."""
        return tuple(self._pieces)

    def go_on_as(self, other: Outgoing) -> None:
        """Hand all that is pending to another one, which is new."""
        other._pieces, other.length = self._pieces, self.length

    def put(self, piece: bytes) -> None:
        """Add a piece at the end."""
        self._pieces.append(piece)
        self.length += len(piece)

    def take(self) -> bytes:
        """The next octets to send; ``b""``: none."""
        pieces = self._pieces
        if self.length <= SLICE:
            self._pieces, self.length = [], 0
            return b"".join(pieces)
        count = room = 0
        while room + len(pieces[count]) <= SLICE:
            room += len(pieces[count])
            count += 1
        head = pieces[:count]
        del pieces[:count]
        first = memoryview(pieces[0])
        head.append(first[: SLICE - room])
        pieces[0] = first[SLICE - room :]
        self.length -= SLICE
        return b"".join(head)
