"""Answers of S3: their head, and the body as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from twisted.internet.defer import Deferred


class Lost(Exception):
    """No whole answer came, and why."""


class Receiver(Protocol):
    """What takes the octets of an answer."""

    def arrived(self, data: bytes) -> None:
        """The next octets."""

    def ended(self, lost: Lost | None) -> None:
        """That was all; ``lost``: why it is not whole."""


class Source(Protocol):
    """What an answer comes from: a connection."""

    def pause(self) -> None:
        """Read no more."""

    def resume(self) -> None:
        """Read on."""

    def abort(self, reason: str) -> None:
        """Close it."""


def length_in(headers: Mapping[bytes, bytes]) -> int:
    """The octets of the body, as the head says; -1: it does not."""
    text = headers.get(b"content-length", b"")
    return int(text) if text.isdigit() else -1


class Response:
    """An answer of which the head is here; the body is too, or comes."""

    __slots__ = (
        *("_is_ended", "_lost", "_pieces", "_receiver", "_source", "headers", "status", "whole"),
    )

    def __init__(
        self,
        status: int,
        headers: dict[bytes, bytes],
        source: Source,
        whole: bytes | None = None,
    ) -> None:
        """``headers``: by their names in lower case; ``whole``: as below."""
        self.status = status
        self.headers = headers
        self.whole = whole
        """The body, if all of it is here already: nothing more comes, and nothing is open."""
        self._source = source
        self._receiver: Receiver | None = None
        self._pieces: list[bytes] = [whole] if whole else []
        self._is_ended = whole is not None
        self._lost: Lost | None = None

    @property
    def length(self) -> int:
        """As ``length_in``; at -1 the end may be too early."""
        return length_in(self.headers)

    @property
    def is_open_ended(self) -> bool:
        """Whether the body ends with the connection."""
        return not self.headers.keys() & {b"content-length", b"transfer-encoding"}

    def deliver(self, receiver: Receiver) -> None:
        """Give the body to a receiver, now or as it comes.  Called once."""
        self._receiver = receiver
        pieces, self._pieces = self._pieces, []
        self.resume()
        if pieces:
            receiver.arrived(b"".join(pieces))
        if self._is_ended and self._receiver is not None:
            receiver.ended(self._lost)

    def pause(self) -> None:
        """Read no more from the server."""
        if not self._is_ended:
            self._source.pause()

    def resume(self) -> None:
        """Read on."""
        if not self._is_ended:
            self._source.resume()

    def stop(self) -> None:
        """Close the connection, unless the body is whole; the receiver gets no more."""
        self._receiver = None
        if not self._is_ended:
            self._source.abort("stopped")

    # -- the connection's side -------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Octets have come."""
        if self._receiver is not None:
            self._receiver.arrived(data)
        else:
            self._pieces.append(data)
            self._source.pause()

    def end(self, lost: Lost | None) -> None:
        """No more come."""
        self._is_ended, self._lost = True, lost
        if self._receiver is not None:
            self._receiver.ended(lost)


class Collector:
    """Joins the octets of an answer."""

    def __init__(self, response: Response, most: int) -> None:
        """``most``: close the connection after as many octets."""
        self.whole: Deferred[bytes] = Deferred(lambda _: response.stop())
        """Fails with ``Lost``."""
        self._response = response
        self._pieces: list[bytes] = []
        self._left = most
        response.deliver(self)

    def arrived(self, data: bytes) -> None:
        """A piece."""
        self._pieces.append(data[: self._left])
        self._left -= len(self._pieces[-1])
        if not self._left:
            self._response.stop()
            self.whole.callback(b"".join(self._pieces))

    def ended(self, lost: Lost | None) -> None:
        """The end, or a broken connection."""
        if lost is None:
            self.whole.callback(b"".join(self._pieces))
        else:
            self.whole.errback(lost)
