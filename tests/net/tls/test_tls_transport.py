"""TLS as the transport of a session: packets, calls, alerts; the client is in memory too."""

from __future__ import annotations

import contextlib
import os
import ssl
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from certificates import own_certificate
from gateway.net.tls.certificates import Certificate
from gateway.net.tls.context import TLSContext
from gateway.net.tls.transport import TLSFactory, TLSTransport
from harness import ALICE, SECRET, Line, Wire
from support.calls import calls_of

COMMANDS = (b"USER " + ALICE.encode(), b"PASS " + SECRET.encode(), b"STAT", b"QUIT")

CLOSE_NOTIFY = b"\x01\x00"
"""The alert (RFC 8446 section 6)."""


class CountedLine(Line):
    """Counts what would be packets."""

    packets = 0

    def write(self, data: bytes) -> None:
        """Count it."""
        self.packets += 1
        super().write(data)


class Client:
    """The other side of TLS, after its ClientHello."""

    def __init__(self, factory: Any, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        self.line = CountedLine("192.0.2.1")
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.line)
        self._came, self._going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._came, self._going)

    def shake_hands(self) -> None:
        """The handshake."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.exchange()
            else:
                break
        self.exchange()

    def exchange(self) -> None:
        """Deliver what either side has to say."""
        if data := self._going.read():
            self.protocol.dataReceived(data)
        self._came.write(self.line.value())
        self.line.clear()

    def read(self) -> bytes:
        """What the server has sent; empty once it has sent its close_notify."""
        try:
            return self.tls.read(1 << 16)
        except ssl.SSLWantReadError:
            return b"nothing"
        except ssl.SSLZeroReturnError:
            return b""

    def send(self, command: bytes) -> bytes:
        """Send a line; the reply."""
        self.tls.write(command + b"\r\n")
        self.exchange()
        return self.read()

    def close(self) -> None:
        """As a client that sends its close_notify, and no more."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.exchange()


class TLSCase(SynchronousTestCase):
    def setUp(self) -> None:
        paths = own_certificate(self)
        self.tls = TLSContext([Certificate(*paths)], minimum="1.2")
        self.wire = Wire(tls=self.tls, emit=lambda _: None)
        self.factory = TLSFactory(self.tls, self.wire.factory)

    def client(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Client:
        client = Client(self.factory, version)
        client.shake_hands()
        self.assertEqual(client.read(), b"+OK POP3 server ready.\r\n")
        return client


class PacketTests(TLSCase):
    def test_the_greeting_leaves_with_the_end_of_the_handshake(self) -> None:
        for version, packets in ((ssl.TLSVersion.TLSv1_3, 2), (ssl.TLSVersion.TLSv1_2, 2)):
            self.assertEqual(self.client(version).line.packets, packets, version)

    def test_each_reply_is_a_packet_and_the_last_has_the_close_notify(self) -> None:
        client = self.client()
        before = client.line.packets
        for command in COMMANDS:
            self.assertTrue(client.send(command).startswith(b"+OK"), command)
        self.assertEqual(client.line.packets - before, len(COMMANDS))
        self.assertEqual(client.read(), b"")

    def test_the_connection_closes_once_the_client_has_closed_it(self) -> None:
        client = self.client()
        client.send(b"QUIT")
        self.assertFalse(client.line.disconnecting)
        client.close()
        self.assertTrue(client.line.disconnecting)

    def test_an_aborted_connection_does_not_claim_to_be_complete(self) -> None:
        client = self.client()
        client.protocol.inside.abort()
        client.exchange()
        self.assertTrue(client.line.aborted)
        self.assertEqual(client.read(), b"nothing")

    def test_a_stop_waits_for_no_handshake(self) -> None:
        client, asked = Client(self.factory), Client(self.wire.factory)
        asked.protocol.dataReceived(b"STLS\r\n")
        drained: list[None] = []
        self.wire.factory.drain(30).addCallback(drained.append)
        for one in (client, asked):
            self.assertTrue(one.line.aborted)
            one.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(drained, [None])

    def test_after_stls_the_handshake_ends_though_no_greeting_follows(self) -> None:
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            client = Client(self.wire.factory, version)
            client.protocol.dataReceived(b"STLS\r\n")
            client.line.clear()
            client.protocol = client.protocol.transport
            client.shake_hands()
            self.assertTrue(client.send(b"NOOP").startswith(b"-ERR"))


class CostTests(TLSCase):
    def test_tls_costs_a_session_no_more_calls_than_measured(self) -> None:
        def over_tls() -> None:
            client = self.client()
            for command in COMMANDS:
                client.send(command)

        def in_clear() -> None:
            client = self.wire.connect()
            for command in COMMANDS:
                client.send(command)

        # 333, those of this client too; with Twisted's TLS it was 543.
        self.assertLess(calls_of(over_tls) - calls_of(in_clear), 350)


@implementer(IPushProducer)
class Echo(Protocol):
    """Sends back what comes; a producer that tells when it is paused."""

    transport: Any

    def __init__(self) -> None:
        self.told: list[str] = []
        self.reason: Any = None

    def connectionMade(self) -> None:
        """Be a producer."""
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)

    def pauseProducing(self) -> None:
        """Tell."""
        self.told.append("paused")

    def resumeProducing(self) -> None:
        """Tell."""
        self.told.append("resumed")

    def stopProducing(self) -> None:
        """Not here."""

    def connectionLost(self, reason: Any = None) -> None:
        """Keep the reason."""
        self.reason = reason


class Scripted:
    """An OpenSSL connection of which a test says when it wants to read first."""

    def __init__(self, largest: int = 1 << 14) -> None:
        """``largest``: octets in a record."""
        self.input: list[bytes] = []
        self.largest = largest
        self.output = b""
        self.wants_read = False

    def serverConnectionForTLS(self, _: object) -> Scripted:
        """Itself."""
        return self

    def set_accept_state(self) -> None:
        """As OpenSSL's."""

    def do_handshake(self) -> None:
        """Done at once."""

    def bio_write(self, data: bytes) -> None:
        """Without encryption."""
        self.input.append(data)

    def recv(self, _: int) -> bytes:
        """Without encryption."""
        if not self.input:
            raise SSL.WantReadError
        return self.input.pop(0)

    def send(self, data: bytes) -> int:
        """Without encryption."""
        if self.wants_read:
            raise SSL.WantReadError
        self.output += data[: self.largest]
        return len(data[: self.largest])

    def bio_read(self, _: int) -> bytes:
        """Without encryption."""
        if not self.output:
            raise SSL.WantReadError
        data, self.output = self.output, b""
        return data

    def shutdown(self) -> bool:
        """The client has not."""
        self.output += CLOSE_NOTIFY
        return False


class RecordTests(SynchronousTestCase):
    def test_a_long_reply_leaves_in_one_piece_however_short_the_records_are(self) -> None:
        reply = os.urandom(100_000)
        for largest in (1 << 14, 512):
            line, protocol = CountedLine("192.0.2.1"), TLSTransport(Scripted(largest), Echo())
            protocol.makeConnection(line)
            protocol.dataReceived(b"a")
            line.clear()
            line.packets = 0
            protocol.write(reply)
            self.assertEqual(line.value(), reply)
            self.assertEqual(line.packets, 1)


class KeyUpdateTests(SynchronousTestCase):
    """OpenSSL sends nothing while an update of keys has come in part (RFC 8446 section 4.6.3)."""

    def setUp(self) -> None:
        self.openssl = Scripted()
        self.echo = Echo()
        self.line = Line("192.0.2.1")
        self.protocol = TLSTransport(self.openssl, self.echo)
        self.protocol.makeConnection(self.line)
        self.protocol.dataReceived(b"a")
        self.openssl.wants_read = True
        self.protocol.dataReceived(b"b")
        self.protocol.dataReceived(b"c")

    def test_what_is_written_meanwhile_waits_with_its_producer_paused(self) -> None:
        self.assertEqual(self.line.value(), b"a")
        self.assertEqual(self.echo.told[-1], "paused")
        self.openssl.wants_read = False
        self.protocol.dataReceived(b"d")
        self.assertEqual(self.line.value(), b"abcd")
        self.assertEqual(self.echo.told[-1], "resumed")

    def test_what_waits_for_the_handshake_pauses_nobody(self) -> None:
        echo, line = Echo(), Line("192.0.2.1")
        protocol = TLSTransport(Scripted(), echo)
        protocol.makeConnection(line)
        protocol.write(b"greeting ")
        self.assertEqual(line.value(), b"")
        protocol.dataReceived(b"a")
        self.assertEqual(line.value(), b"greeting a")
        self.assertEqual(echo.told, [])

    def test_a_connection_that_is_to_be_closed_waits_too(self) -> None:
        self.protocol.loseConnection()
        self.openssl.wants_read = False
        self.protocol.dataReceived(b"d")
        self.assertEqual(self.line.value(), b"abc" + CLOSE_NOTIFY)

    def test_it_closes_if_the_client_has_gone(self) -> None:
        self.protocol.loseConnection()
        self.assertFalse(self.line.disconnecting)
        self.protocol.readConnectionLost()
        self.assertTrue(self.line.disconnecting)


class AlertTests(TLSCase):
    def peer(self, options: int = 0) -> tuple[Any, Line, SSL.Connection]:
        """A client of TLS 1.2 after its handshake, by OpenSSL, which can renegotiate."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(options)
        client = SSL.Connection(context, None)
        client.set_connect_state()
        line, protocol = Line("192.0.2.1"), self.factory.buildProtocol(None)
        protocol.makeConnection(line)
        for _ in range(3):
            with contextlib.suppress(SSL.WantReadError):
                client.do_handshake()
            self.deliver(client, protocol, line)
        return protocol, line, client

    def deliver(self, client: SSL.Connection, protocol: Any, line: Line) -> bytes:
        """Take both sides' octets to the other one; those of the server."""
        with contextlib.suppress(SSL.WantReadError):
            protocol.dataReceived(client.bio_read(1 << 16))
        said: bytes = line.value()
        line.clear()
        if said:
            client.bio_write(said)
        return said

    def test_a_client_that_renegotiates_is_told_so_at_once(self) -> None:
        protocol, line, client = self.peer()
        self.assertEqual(client.recv(512), b"+OK POP3 server ready.\r\n")
        client.renegotiate()
        with self.assertRaises(SSL.WantReadError):
            client.do_handshake()
        # An alert: content type 21.
        self.assertEqual(self.deliver(client, protocol, line)[:1], b"\x15")
        with self.assertRaises(SSL.Error) as caught:
            client.do_handshake()
        self.assertIn("no renegotiation", str(caught.exception))

    def test_what_comes_after_a_failure_changes_nothing(self) -> None:
        echo = Echo()
        line, protocol = Line("192.0.2.1"), TLSTransport(self.tls, echo)
        protocol.makeConnection(line)
        protocol.dataReceived(b"\x17\x03\x03\x00\x20" + bytes(32))
        self.assertTrue(line.disconnecting)
        self.assertIsNone(line.producer)
        alert = line.value()
        self.assertEqual(alert[:1], b"\x15")
        protocol.dataReceived(b"CAPA\r\n")
        protocol.write(b"x")
        protocol.loseConnection()
        protocol.readConnectionLost()
        self.assertEqual(line.value(), alert)
        protocol.connectionLost(Failure(ConnectionError()))
        self.assertIsInstance(echo.reason.value, SSL.Error)
        self.assertIsNone(protocol.getHandle())


class TransportTests(TLSCase):
    def test_who_makes_no_protocol_gets_no_tls(self) -> None:
        class Full:
            def buildProtocol(self, _: object) -> None:
                """Nobody."""

        self.assertIsNone(TLSFactory(self.tls, Full()).buildProtocol(None))

    def test_it_has_what_the_tcp_transport_has(self) -> None:
        client = self.client()
        self.assertTrue(client.line.no_delay)
        self.assertEqual(client.protocol.getPeer().host, "192.0.2.1")
        self.assertIsNone(client.protocol.getPeerCertificate())
        client.protocol.pauseProducing()
        self.assertEqual(client.line.producerState, "paused")
        client.protocol.resumeProducing()
        self.assertEqual(client.line.producerState, "producing")
