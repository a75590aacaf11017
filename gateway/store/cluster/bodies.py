"""The body of a message on its way from S3 to a client, no faster than the client reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.iweb import IResponse
from zope.interface import implementer

from gateway.errors import GatewayError, StoreDown
from gateway.interfaces import IBody
from gateway.model import Form
from gateway.store.cluster.blobs import Blobs
from gateway.store.cluster.requests import Missing
from gateway.store.memory_mailbox import BytesBody

HELD = 256 * 1024
"""Octets in memory at which a body is read no further."""

TRIES = 3
"""Connections that may break in one body without a new octet."""

Open = Callable[[int], Deferred[IResponse]]
"""Opens the body at an offset."""


async def stream(
    blobs: Blobs,
    key: UUID,
    length: int,
    form: Form,
    named: str,
    reactor: Any,
    timeout: float,
    is_missing: Callable[[], object] = lambda: None,
) -> IBody:
    """Open a body.  ``named``: its message, for errors.  Raises as ``Blobs.read`` fails.

    ``is_missing`` is called if S3 has no such body.
    """
    if not length:
        return BytesBody(b"", form)

    def open_at(start: int) -> Deferred[IResponse]:
        return blobs.read(key, start, length).addErrback(missing)

    def missing(failure: Failure) -> Failure:
        if failure.check(Missing) is None:
            return failure
        is_missing()
        return Failure(StoreDown(f"{named}: body {key.hex} is missing in S3"))

    return StreamedBody(await open_at(0), open_at, length, form, reactor, timeout)


@implementer(IBody)
class StreamedBody:
    """A body that arrives."""

    def __init__(
        self,
        response: IResponse,
        open_at: Open,
        length: int,
        form: Form,
        reactor: Any,
        timeout: float,
    ) -> None:
        """``response``: that of offset 0; ``timeout``: seconds to wait for the next octets."""
        self.form = form
        self._open_at = open_at
        self._length = length
        self._reactor = reactor
        self._timeout = timeout
        self._pieces: deque[bytes] = deque()
        self._held = self._received = 0
        self._waiting: Deferred[bytes] | None = None
        self._timer: Any = None
        self._tries = 0
        self._broken: GatewayError | None = None
        self._closed = False
        self._part = _Part(self)
        response.deliverBody(self._part)

    # -- the session's side ----------------------------------------------------

    def read_now(self) -> bytes | None:
        """What has arrived."""
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._held = 0
            self._part.resume()
            return data
        if self._received == self._length:
            return b""
        if self._broken is not None:
            raise self._broken
        return None

    def read(self) -> Deferred[bytes]:
        """What arrives next."""
        try:
            data = self.read_now()
        except GatewayError as error:
            return fail(error)
        if data is not None:
            return succeed(data)
        self._waiting = Deferred()
        self._timer = self._reactor.callLater(self._timeout, self._stalled)
        return self._waiting

    def close(self) -> None:
        """Close it.  What is still to come of a small rest comes: a new connection costs more."""
        self._closed = True
        self._stop_timer()
        self._pieces.clear()
        rest = self._length - self._received
        if rest > HELD:
            self._part.stop()
        elif rest and self._broken is None:
            self._timer = self._reactor.callLater(self._timeout, self._give_up)
            self._part.resume()

    def _give_up(self) -> None:
        self._timer = None
        self._part.stop()

    # -- the server's side -----------------------------------------------------

    def arrived(self, data: bytes) -> None:
        """Octets have come."""
        self._tries = 0
        self._received += len(data)
        if self._closed:
            return
        if self._received > self._length:
            self._fail(StoreDown("S3: a body is longer than its Content-Length"))
            return
        if self._waiting is not None:
            self._answer().callback(data)
            return
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= HELD:
            self._part.pause()

    def ended(self) -> None:
        """The connection gives no more."""
        if self._closed:
            self._stop_timer()
        if self._closed or self._broken is not None or self._received == self._length:
            return
        self._tries += 1
        if self._tries == TRIES:
            self._fail(StoreDown(f"S3: a body broke after {self._received} octets"))
            return
        self._open_at(self._received).addCallbacks(self._go_on, self._failed)

    def _go_on(self, response: IResponse) -> None:
        self._part = _Part(self)
        response.deliverBody(self._part)
        if self._closed or self._broken is not None:
            self._part.stop()

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, GatewayError):
            self._fail(failure.value)
        else:
            self._fail(StoreDown(f"S3: internal error: {failure.value}"))

    def _fail(self, error: GatewayError) -> None:
        self._broken = error
        self._part.stop()
        if self._waiting is not None:
            self._answer().errback(error)

    def _stalled(self) -> None:
        self._timer = None
        self._fail(StoreDown(f"S3: no octets for {self._timeout:g} seconds"))

    def _answer(self) -> Deferred[bytes]:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        self._stop_timer()
        return waiting

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class _Part(Protocol):
    """One answer that has octets of the body."""

    def __init__(self, body: StreamedBody) -> None:
        self._body: StreamedBody | None = body
        self._paused = False

    def dataReceived(self, data: bytes) -> None:
        """Octets of the answer."""
        if self._body is not None:
            self._body.arrived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """The answer has ended, whole or not."""
        body, self._body = self._body, None
        if body is not None:
            body.ended()

    def pause(self) -> None:
        """Read no more from the server."""
        transport: Any = self.transport
        if self._body is not None and not self._paused:
            self._paused = True
            transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        transport: Any = self.transport
        if self._paused and self._body is not None:
            self._paused = False
            transport.resumeProducing()

    def stop(self) -> None:
        """Close the connection, in the middle of the answer."""
        body, self._body = self._body, None
        transport: Any = self.transport
        if body is not None and transport is not None:
            transport.stopProducing()
