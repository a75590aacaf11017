"""Octets to lines, with a limit of length."""

from __future__ import annotations

from collections.abc import Callable


class LineTooLong:
    """The result of ``take_line``, once, for a line over the limit."""


TOO_LONG = LineTooLong()


class LineBuffer:
    """Buffers received octets and returns lines.

    CRLF and a lone LF end a line, since scripts and terminals send LF; a lone CR does not.
    A line over the limit is dropped as it arrives and reported once, at its end, so that
    its tail is never parsed as a command.
    """

    __slots__ = ("_at", "_data", "_skipping", "length")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._skipping = False
        self.length = 0
        """Octets that are buffered."""

    def go_on_as(self, other: LineBuffer) -> None:
        """Hand all that is buffered to another buffer, which is new."""
        other._data, other._at, other._skipping = self._data, self._at, self._skipping
        other.length = self.length

    def feed(self, data: bytes) -> None:
        """Add received octets."""
        self._data = self._data[self._at :] + data if self.length else data
        self._at = 0
        self.length = len(self._data)

    def starts_with(self, word: bytes) -> bool:
        """Whether the next line begins with ``word``, in any case."""
        return self._data[self._at : self._at + len(word)].upper() == word

    def take_line(
        self, limit: int, longer: Callable[[], int] | None = None
    ) -> bytes | LineTooLong | None:
        """The next line without its end, or ``TOO_LONG``; None: no complete line.

        ``limit`` is the most octets a line may have, its end included; ``longer`` is called
        for the limit of a line that has more, which may be another.
        """
        start = self._at
        end = self._data.find(b"\n", start)
        size = self.length if end < 0 else end + 1 - start
        if longer is not None and size >= limit:
            limit = longer()
        if end < 0:
            if self._skipping or size >= limit:
                self._skipping = True
                self.clear()
            return None
        self._at = end + 1
        self.length -= size
        if self._skipping or size > limit:
            self._skipping = False
            return TOO_LONG
        if end > start and self._data[end - 1] == 0x0D:
            end -= 1
        return self._data[start:end]

    def take(self, most: int) -> bytes:
        """Up to ``most`` octets, regardless of lines; ``b""``: none."""
        start = self._at
        data = self._data[start : start + most]
        self._at += len(data)
        self.length -= len(data)
        return data

    def give_back(self, count: int) -> None:
        """Put back the last ``count`` octets that were taken."""
        self._at -= count
        self.length += count

    def clear(self) -> None:
        """Discard the buffer; the rest of a line that is being skipped is still skipped."""
        self._data = b""
        self._at = self.length = 0
