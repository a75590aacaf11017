"""Octets to lines, with a limit of length."""

from __future__ import annotations

from typing import final


@final
class LineTooLong:
    """The result of ``take_line``, once, for a line over the limit."""


TOO_LONG = LineTooLong()


class LineBuffer:
    """Buffers received octets and returns lines.

    CRLF and a lone LF end a line, since scripts and terminals send LF; a lone CR does not.
    A line over the limit is dropped as it arrives and reported once, at its end, so that
    its tail is never parsed as a command.
    """

    __slots__ = ("_at", "_skipping", "data")

    def __init__(self) -> None:
        self.data = b""
        """What is buffered, some of it taken already; empty: nothing waits."""
        self._at = 0
        self._skipping = False

    def __len__(self) -> int:
        return len(self.data) - self._at

    def go_on_as(self, other: LineBuffer) -> None:
        """Hand all that is buffered to another buffer, which is new."""
        other.data, other._at, other._skipping = self.data, self._at, self._skipping

    def feed(self, data: bytes) -> None:
        """Add received octets."""
        self.data = self.data[self._at :] + data if self.data else data
        self._at = 0

    def starts_with(self, word: bytes) -> bool:
        """Whether the next line begins with ``word``, in any case."""
        return self.data[self._at : self._at + len(word)].upper() == word

    def take_line(self, limit: int) -> bytes | LineTooLong | None:
        """The next line without its end, or ``TOO_LONG``; None: no complete line.

        ``limit`` is the most octets a line may have, its end included.
        """
        end = self.data.find(b"\n", self._at)
        if end < 0:
            if self._skipping or len(self) >= limit:
                self._skipping = True
                self.clear()
            return None
        data, start, self._at = self.data, self._at, end + 1
        if self._at == len(data):
            self.data, self._at = b"", 0
        if self._skipping or end + 1 - start > limit:
            self._skipping = False
            return TOO_LONG
        if end > start and data[end - 1] == 0x0D:
            end -= 1
        return data[start:end]

    def take(self, most: int) -> bytes:
        """Up to ``most`` octets, regardless of lines; ``b""``: none."""
        start = self._at
        data = self.data[start : start + most]
        self._at += len(data)
        return data

    def give_back(self, count: int) -> None:
        """Put back the last ``count`` octets that were taken."""
        self._at -= count

    def clear(self) -> None:
        """Discard the buffer; the rest of a line that is being skipped is still skipped."""
        self.data = b""
        self._at = 0
