"""Buffers of a session that tell what goes through them, for a trace."""

from __future__ import annotations

from typing import Protocol

from gateway.wire.lines import LineBuffer, LineTooLong
from gateway.wire.outgoing import Outgoing


class Heard(Protocol):
    """What a session tells of its line."""

    def line(self, line: bytes | LineTooLong) -> None:
        """The session takes a line of the client."""

    def content(self, data: bytes) -> None:
        """The session takes octets of a message."""

    def gave_back(self, count: int) -> None:
        """The last ``count`` of these octets were no content."""

    def sent(self, piece: bytes) -> None:
        """The session replies."""


class TappedLines(LineBuffer):
    """A ``LineBuffer`` that tells what is taken from it."""

    __slots__ = ("_heard",)

    def __init__(self, heard: Heard) -> None:
        super().__init__()
        self._heard = heard

    def take_line(self, limit: int) -> bytes | LineTooLong | None:
        """As ``LineBuffer.take_line``."""
        line = super().take_line(limit)
        if line is not None:
            self._heard.line(line)
        return line

    def take(self, most: int) -> bytes:
        """As ``LineBuffer.take``."""
        data = super().take(most)
        if data:
            self._heard.content(data)
        return data

    def give_back(self, count: int) -> None:
        """As ``LineBuffer.give_back``."""
        super().give_back(count)
        self._heard.gave_back(count)


class TappedOutgoing(Outgoing):
    """An ``Outgoing`` that tells what is put into it."""

    __slots__ = ("_heard",)

    def __init__(self, heard: Heard) -> None:
        super().__init__()
        self._heard = heard

    def put(self, piece: bytes) -> None:
        """As ``Outgoing.put``."""
        super().put(piece)
        self._heard.sent(piece)
