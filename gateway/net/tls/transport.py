"""TLS between a protocol and its TCP connection, for a server.

It is what mail servers need of Twisted's ``TLSMemoryBIOProtocol``, with two things more: a client
may finish sending before it has read its replies, and the last reply leaves in one packet with the
close_notify.

A login over TLS takes 1.09 ms of CPU with it, 1.24 without (ECDSA; 1.00 instead of 1.22 if the
session is resumed, 1.36 instead of 1.45 with RSA), of which OpenSSL has 0.3 to 0.6.  RETR of 10 MB
takes 24.9 ms instead of 29.7.

Sessions work over Twisted's TLS too, as on an ``ssl:`` endpoint.  There a client that ends its side
first loses the replies that it has not read yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocolFactory,
    IPushProducer,
    ISSLTransport,
    ISystemHandle,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.net.direct_writer import DirectWriter, Writer
from gateway.net.forwarding import ForwardingFactory

RECORD = 16 * 1024
"""Octets of data in a TLS record, at most (RFC 8446 section 5.1)."""

_MOST_TAKEN = 2 * RECORD
"""Octets of ciphertext that are taken from OpenSSL at a time."""


@implementer(ISSLTransport, ISystemHandle, IConsumer, IPushProducer, IHalfCloseableProtocol)
class TLSTransport(Protocol):
    """The protocol of a TCP connection, and the transport of the protocol that it protects.

    A producer has to be of the kind that pushes.  Whatever else a TCP transport has, it has too.
    """

    transport: Any
    began = False
    """Whether the client has sent anything at all."""

    disconnecting = False

    _connection: Any = None
    """OpenSSL's; None: there is none yet, or no longer."""

    _writer: Writer
    _producer: IPushProducer | None = None
    _paused = False
    """Whether the producer waits for an update of keys."""

    _reason: Failure | None = None
    """Why TLS has failed."""

    _established = False
    _ended = False
    """Nothing goes in or out any more."""

    _input_ended = False
    _stream_ended = False
    """The client has closed its side, often without a close_notify."""

    def __init__(self, tls: Any, protocol: Any) -> None:
        """``tls``: an ``IOpenSSLServerConnectionCreator``."""
        self._tls = tls
        self.inside = protocol
        """The protocol that is protected."""
        self._waiting: list[bytes] = []
        """Data that OpenSSL does not take yet."""
        self._taken: list[bytes] = []
        """Ciphertext that is not sent yet."""

    def connectionMade(self) -> None:
        """TLS begins with the connection."""
        self._begin(DirectWriter(self.transport))
        self.inside.makeConnection(self)

    def take_over(self, transport: Any, writer: Writer) -> None:
        """TLS begins on a connection that the protocol has already."""
        self.transport = transport
        transport.protocol = self
        self._begin(writer)

    def _begin(self, writer: Writer) -> None:
        self._writer = writer
        self._connection = self._tls.serverConnectionForTLS(self)
        self._connection.set_accept_state()

    # -- what the client sends -----------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Octets from the client."""
        self.began = True
        if self._ended:
            return
        self._connection.bio_write(data)
        if not self._established:
            self._shake_hands()
        elif self._waiting:
            self._send_waiting()
        if self._established:
            self._receive()

    def _shake_hands(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return
        except SSL.Error:
            self._fail()
            return
        self._established = True
        if IHandshakeListener.providedBy(self.inside):
            self.inside.handshakeCompleted()
        # The end of the handshake in one packet with a greeting.
        self._send_waiting()

    def _receive(self) -> None:
        connection, received = self._connection, False
        while not self._ended:
            try:
                data = connection.recv(RECORD)
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                self._end_input()
                break
            except SSL.Error:
                self._fail()
                break
            received = True
            if not self.disconnecting:
                self.inside.dataReceived(data)
        if not received:
            # An alert or an update of keys may be answered.  With data this can wait for a reply.
            self._flush()

    def readConnectionLost(self) -> None:
        """The client has closed its side of the TCP connection."""
        self._stream_ended = True
        if not self._ended:
            self._end_input()

    def _end_input(self) -> None:
        """The client sends no more: it ends its commands, not our replies."""
        protocol = IHalfCloseableProtocol(self.inside, None)
        if self.disconnecting:
            self._writer.close()
        elif protocol is None:
            self.loseConnection()
        elif not self._input_ended:
            self._input_ended = True
            protocol.readConnectionLost()

    def writeConnectionLost(self) -> None:
        """Our side closes as a whole only."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The TCP connection is closed."""
        self._ended = True
        self._connection = self._producer = None
        inside, self.inside = self.inside, None
        inside.connectionLost(self._reason or reason)

    # -- what the protocol sends ---------------------------------------------

    def write(self, data: bytes, *, last: bool = False) -> None:
        """As in ``Writer``."""
        if self.disconnecting or self._ended:
            return
        if self._waiting or not self._established:
            self._wait_with(data)
        else:
            self._encrypt(data)
            if not last:
                self._flush()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all of these."""
        self.write(b"".join(data))

    def _wait_with(self, data: bytes) -> None:
        self._waiting.append(data)
        if self._producer is not None and self._established:
            # Before the handshake there is a greeting only.
            self._paused = True
            self._producer.pauseProducing()

    def _send_waiting(self) -> None:
        if self._ended:
            return
        waiting, self._waiting = b"".join(self._waiting), []
        self._encrypt(waiting)
        self._flush()
        if self._waiting or self._ended:
            return
        if self.disconnecting:
            self._notify()
        elif self._paused and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()

    def _encrypt(self, data: bytes) -> None:
        """Have OpenSSL write all of it."""
        connection: SSL.Connection = self._connection
        whole, sent = memoryview(data), 0
        while sent < len(data):
            if sent:
                # OpenSSL's buffer grows with what is in it, and stays so.
                self._take()
            try:
                # One record: less if the client allows no more in one (RFC 6066 section 4).
                sent += connection.send(whole[sent : sent + RECORD])
            except SSL.WantReadError:
                # Only while the client's update of keys has come in part.
                self._wait_with(data[sent:])
                return
            except SSL.Error:
                self._fail()
                return

    def _take(self) -> None:
        """Take what OpenSSL has written."""
        while True:
            try:
                data = self._connection.bio_read(_MOST_TAKEN)
            except SSL.WantReadError:
                return
            self._taken.append(data)
            if len(data) < _MOST_TAKEN:
                return

    def _flush(self) -> None:
        """Send what OpenSSL has written."""
        if self._connection is None:
            return
        self._take()
        if self._taken:
            data, self._taken = b"".join(self._taken), []
            self._writer.write(data)

    def close(self) -> None:
        """As in ``Writer``."""
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: ARG002
        """Pause the producer while too much waits to be sent."""
        self.register(producer)

    def unregisterProducer(self) -> None:
        """There is no producer any more."""
        self.unregister()

    def register(self, producer: Any) -> None:
        """As in ``Writer``."""
        self._producer = producer
        self._writer.register(producer)

    def unregister(self) -> None:
        """As in ``Writer``."""
        self._producer = None
        self._writer.unregister()

    # -- the end -------------------------------------------------------------

    def loseConnection(self) -> None:
        """Send all that waits and a close_notify; then close as soon as the client has.

        To close at once would reset the connection where the client's close_notify comes later,
        and replies that it has not read yet would be lost.
        """
        if self.disconnecting or self._ended:
            return
        if not self._established and (self._stream_ended or not self._waiting):
            self.abortConnection()
            return
        self.disconnecting = True
        if self._stream_ended or not self._waiting:
            self._notify()

    def _notify(self) -> None:
        try:
            closed = self._connection.shutdown()
        except SSL.Error:
            closed = False
        self._flush()
        if closed or self._stream_ended:
            self._writer.close()

    def abortConnection(self) -> None:
        """Close now, without a close_notify: it would say that nothing is missing."""
        self.disconnecting = self._ended = True
        self.transport.abortConnection()

    def _fail(self) -> None:
        """Send OpenSSL's alert, if any, and close."""
        self._reason = Failure()
        self._flush()
        self._ended = True
        # One that is paused would keep the connection open.
        self.unregister()
        self.transport.loseConnection()

    # -- what is known of the connection -------------------------------------

    def getHandle(self) -> Any:
        """OpenSSL's connection; None once it is closed."""
        return self._connection

    def getPeerCertificate(self) -> Any:
        """The client's certificate; None: it has none."""
        return None if self._connection is None else self._connection.get_peer_certificate()

    def getPeer(self) -> Any:
        """The client's address."""
        return self.transport.getPeer()

    def getHost(self) -> Any:
        """Our address."""
        return self.transport.getHost()

    def pauseProducing(self) -> None:
        """Read no more from the client."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read from the client again."""
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The client is not wanted any more."""
        self.transport.stopProducing()

    def __getattr__(self, name: str) -> Any:
        """Options of TCP."""
        return getattr(self.transport, name)


class TLSFactory(ForwardingFactory):
    """Makes connections that begin with TLS."""

    def __init__(self, tls: Any, protocols: IProtocolFactory) -> None:
        """``tls``: an ``IOpenSSLServerConnectionCreator``; ``protocols``: of what is inside."""
        super().__init__(protocols)
        self._tls = tls

    def buildProtocol(self, addr: Any) -> Protocol | None:
        """TLS, and in it the protocol of this client; None: reject it."""
        protocol = super().buildProtocol(addr)
        return None if protocol is None else TLSTransport(self._tls, protocol)


def begin_tls(tls: Any, protocol: Protocol, transport: Any, writer: Writer) -> TLSTransport:
    """Start TLS between ``protocol`` and its transport; returns the new transport.

    ``writer``: the writer of ``transport`` so far.
    """
    secured = TLSTransport(tls, protocol)
    secured.take_over(transport, writer)
    return secured


def is_tls(transport: object) -> bool:
    """Whether it is TLS, ours or that of Twisted, of which the handshake may go on."""
    return isinstance(transport, (TLSTransport, TLSMemoryBIOProtocol))
