"""Content of DATA and BDAT, and the order of the replies."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.lmtp.replies import Reply
from gateway.wire.incoming import DotUnstuffing
from gateway.wire.lines import LineBuffer
from gateway.wire.outgoing import SLICE

PIECE = SLICE // 2 - 128
"""Octets to process at once; if all were LFs, the result would still be one slice."""


class Dotted:
    """The content after DATA, up to the line with the dot."""

    __slots__ = ("_unstuffing", "ended")

    last = True

    def __init__(self) -> None:
        self._unstuffing = DotUnstuffing()
        self.ended = False
        """Whether the content is complete."""

    def take(self, source: LineBuffer) -> bytes | None:
        """The next octets without dot-stuffing; None: nothing arrived."""
        data = source.take(PIECE)
        if not data:
            return None
        data = self._unstuffing.feed(data)
        if self._unstuffing.surplus is not None:
            source.give_back(self._unstuffing.surplus)
            self.ended = True
        return data


class Chunk:
    """A chunk of known size after BDAT (RFC 3030)."""

    __slots__ = ("_left", "_size", "last")

    def __init__(self, size: int, *, last: bool) -> None:
        self._size = self._left = size
        self.last = last
        """Whether it is the last chunk of its message."""

    @property
    def ended(self) -> bool:
        """Whether the content is complete."""
        return not self._left

    def take(self, source: LineBuffer) -> bytes | None:
        """The next octets; None: nothing arrived."""
        data = source.take(min(PIECE, self._left))
        if self._left and not data:
            return None
        self._left -= len(data)
        return data

    @property
    def noted(self) -> Reply:
        """The reply to the chunk, unless it is the last one of its message."""
        return Reply(250, "2.0.0", f"{self._size} octets")


class Outcomes:
    """One reply per recipient: known in any order, sent in the order of RCPT."""

    __slots__ = ("_known", "_told", "unknown")

    def __init__(self, count: int) -> None:
        self._known: dict[int, Reply] = {}
        self._told = 0
        self.unknown = set(range(count))
        """The recipients without a reply."""

    def put(self, index: int, reply: Reply) -> Iterator[Reply]:
        """Take the reply of a recipient; returns the replies that can be sent now."""
        self.unknown.remove(index)
        self._known[index] = reply
        while self._told in self._known:
            yield self._known.pop(self._told)
            self._told += 1
