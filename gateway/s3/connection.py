"""One connection to S3: a request at a time, and its answer as it comes.

llhttp reads the heads of answers, and bodies that do not say their length.  docs/cluster.md has
what a request costs by this and by Twisted's ``Agent``.
"""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Sequence
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.direct_writer import DirectWriter
from gateway.s3.answers import Lost, Response, length_in
from gateway.s3.signing import EMPTY
from gateway.s3.time_limit import TimeLimit

SMALL = 64 * 1024
"""Octets up to which a content leaves with the head of its request."""

LONGEST_HEAD = 64 * 1024
"""Octets that may come without any of the body among them: a head, a trailer, a chunk extension."""

READ = 96 * 1024
"""Octets that are read at once: each reading costs a turn of the reactor.

With 256 KiB a body of 10 MB took no less.
"""

READ_OF_TLS = 128 * 1024
"""The same over TLS, which passes on records of 16 KiB: those of one reading go on together."""

SHORT = 64 * 1024
"""Octets of the longest body that is passed on only when all of it is here.

If it breaks before, the request is lost, and nobody has seen a part of it.
"""


class Content:
    """What a request sends: pieces, their length and their digest."""

    def __init__(self, pieces: Sequence[bytes] = (), digest: str = "") -> None:
        """``digest``: the SHA-256 in hex; empty: it is computed."""
        self.pieces = pieces
        self.length = sum(map(len, pieces))
        self.digest = digest or (_digest(pieces) if pieces else EMPTY)


def _digest(pieces: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


class Keeper(typing.Protocol):
    """Who keeps a connection, and hears what becomes of it."""

    def keep(self, connection: Connection) -> None:
        """Its request is done."""

    def lost(self, connection: Connection) -> None:
        """It is closed."""

    def forget(self, connection: Connection) -> None:
        """Use it no more."""


class Connection(Protocol):
    """One connection.  llhttp's callbacks only note what it found."""

    def __init__(self, reactor: Any, keeper: Keeper) -> None:
        self._reactor = reactor
        self._keeper = keeper
        self._answer: Deferred[Response] | None = None
        self._response: Response | None = None
        self._producer: _Sender | None = None
        self._parser: Any = None
        self._limit = TimeLimit(reactor)
        """For the head, and for each further piece of a short body."""
        self._within = 0.0
        """Its seconds."""
        self._later: Any = None
        """What passes on the pieces that are here, in the next turn of the reactor."""
        self._paused = False
        self._lost = ""
        self._headers: dict[bytes, bytes] = {}
        """Of the head that is here, by their names in lower case."""
        self._fields: dict[bytes, bytes] = {}
        # llhttp calls this for each header field: without a function of ours it costs a tenth.
        self.on_header = self._fields.__setitem__
        self._begin()

    def _begin(self) -> None:
        """Wait for the head of an answer."""
        self._fields.clear()
        self._head = self._status = 0
        self._pieces: list[bytes] = []
        self._rest = 0
        """Octets of the body that are still to come; below 0: llhttp finds its end."""
        self._has_head = self._is_short = self._is_whole = self._is_kept = False

    def connectionMade(self) -> None:
        """Ready for a request."""
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        self._is_tls = isinstance(transport, TLSMemoryBIOProtocol)
        if self._is_tls:
            transport.transport.bufferSize = READ_OF_TLS
        else:
            transport.bufferSize = READ
        self._writer = DirectWriter(transport)

    # -- the request -----------------------------------------------------------

    def ask(self, head: bytes, content: Content, within: float) -> Deferred[Response]:
        """Send a request."""
        answer: Deferred[Response] = Deferred(self._cancelled)
        self._answer = answer
        self._parser = HttpResponseParser(self)
        self._begin()
        self._within = within
        self._limit.begin(within, self._expired)
        if content.length <= SMALL:
            self._writer.write(b"".join([head, *content.pieces]))
        else:
            self._writer.write(head)
            self._producer = _Sender(self.transport, content.pieces, self._sent)
        return answer

    def _expired(self) -> None:
        if self._answer is not None:
            self.abort(f"no answer within {self._within:.0f} seconds")

    def _cancelled(self, _: object) -> None:
        # It fails with CancelledError: a loss would be a reason to ask again.
        self._answer = None
        self.abort("cancelled")

    def _sent(self) -> None:
        self._producer = None

    def abort(self, reason: str) -> None:
        """Close it now."""
        # Twisted reports the loss in a later turn of the reactor: no request may come before.
        self._keeper.forget(self)
        self._lost = self._lost or reason
        transport: Any = self.transport
        transport.abortConnection()
        self._end()

    def pause(self) -> None:
        """Read no more."""
        transport: Any = self.transport
        if not self._paused:
            self._paused = True
            transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        transport: Any = self.transport
        if self._paused:
            self._paused = False
            transport.resumeProducing()

    # -- the answer ------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Octets of the answer."""
        if self._parser is None:
            self.abort("an answer to no request")
            return
        if self._rest > 0:
            self._take(data)
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            # What follows a whole answer does not spoil it.
            if not self._is_whole:
                self.abort(f"expected HTTP, found {_reason(error)}")
                return
            self._is_kept = False
        # Chunks may have extensions, and trailers, of which the parser keeps the last one.
        self._head = 0 if self._pieces or self._is_whole else self._head + len(data)
        if self._head > LONGEST_HEAD:
            self.abort(f"more than {LONGEST_HEAD} octets of no body")
        elif self._has_head:
            # Fields after the body are trailers, which no answer of S3 needs.
            self._fields.clear()
            self._go_on()

    def _take(self, data: bytes) -> None:
        """Octets of a body with a known length: llhttp would copy each of them."""
        rest = self._rest
        self._rest -= len(data)
        if self._rest <= 0:
            self._is_whole = True
            if self._rest < 0:
                self._is_kept = False
                data = data[:rest]
        self._pieces.append(data)
        if self._is_whole or not self._is_tls:
            self._go_on()
        elif self._later is None:
            # Each record comes by itself, and in a moment the others that were read with it.
            self._later = self._reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        """Pass on what was noted; of a short body only the whole."""
        self._wait_no_more()
        if self._is_short and not self._is_whole:
            self._limit.begin(self._within, self._expired)
            return
        pieces, self._pieces = self._pieces, []
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        response = self._response
        if response is None:
            self._begin_answer(data)
            return
        if data:
            response.feed(data)
        # Who takes it may have closed the connection.
        if self._is_whole and self._response is response:
            self._free()
            response.end(None)

    def _wait_no_more(self) -> None:
        later, self._later = self._later, None
        if later is not None and later.active():
            later.cancel()

    def _begin_answer(self, data: bytes) -> None:
        """The head is here, and perhaps some of the body, or all."""
        answer, self._answer = self._answer, None
        assert answer is not None
        if self._is_whole:
            # The next request may take the connection at once.
            self._free()
            answer.callback(Response(self._status, self._headers, self, data))
            return
        self._response = response = Response(self._status, self._headers, self)
        answer.callback(response)
        if data and self._response is response:
            response.feed(data)

    def _free(self) -> None:
        """The answer is whole: keep the connection for the next request, or close it."""
        self._response = self._parser = None
        self.resume()
        # What was not sent yet of the request would be taken for the next one.
        if self._is_kept and self._producer is None:
            self._keeper.keep(self)
        else:
            self.abort("ended")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is closed."""
        self._lost = self._lost or f"{type(reason.value).__name__}: {reason.value}"
        self._keeper.lost(self)
        if self._later is not None:
            self._go_on()
        response = self._response
        if response is not None and response.is_open_ended and reason.check(ConnectionDone):
            self._response = None
            response.end(None)
        self._end()

    def _end(self) -> None:
        """Tell whoever waits."""
        self._limit.stop()
        self._wait_no_more()
        self._parser = None
        answer, self._answer = self._answer, None
        response, self._response = self._response, None
        if answer is not None:
            answer.errback(Lost(self._lost))
        if response is not None:
            response.end(Lost(self._lost))

    # -- llhttp's callbacks ----------------------------------------------------
    #
    # One segment may have more than one answer.  Only the first one counts that is not an
    # interim one.

    def on_headers_complete(self) -> None:
        """The head is here."""
        if self._has_head:
            return
        self._status = self._parser.get_status_code()
        self._has_head = self._status >= 200
        # White space around a value is none of it (RFC 9110 section 5.5); llhttp leaves some.
        self._headers = {name.lower(): value.strip(b" \t") for name, value in self._fields.items()}
        # The rest of a longer body (206) is passed on as it comes: somebody waits for each piece.
        length, is_all = length_in(self._headers), self._status != 206
        self._is_short = is_all and 0 <= length <= SHORT
        self._is_kept = self._parser.should_keep_alive()
        if self._has_head:
            self._rest = length

    def on_body(self, data: bytes) -> None:
        """Some of the body."""
        if not self._is_whole:
            self._pieces.append(data)
            self._rest -= len(data)

    def on_message_complete(self) -> None:
        """The answer is whole, or it was an interim one."""
        if self._has_head:
            self._is_whole = True
        else:
            self._begin()

    def on_message_begin(self) -> None:
        """An answer begins: a second one to this request makes the connection useless."""
        self._is_kept = False


def _reason(error: Exception) -> str:
    if isinstance(error, HttpParserUpgrade):
        # It names the octet after which the other protocol begins.
        return "a change to another protocol"
    return str(error)


@implementer(IPullProducer)
class _Sender:
    """Writes pieces as the connection takes them."""

    def __init__(self, transport: Any, pieces: Sequence[bytes], done: Any) -> None:
        self._transport = transport
        self._pieces = iter(pieces)
        self._done = done
        transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """Write the next one."""
        piece = next(self._pieces, None)
        if piece is not None:
            self._transport.write(piece)
        else:
            self._transport.unregisterProducer()
            self._done()

    def stopProducing(self) -> None:
        """The connection is gone."""
