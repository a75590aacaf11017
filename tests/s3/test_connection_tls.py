"""HTTP to S3 over TLS, of which the test plays the server, record by record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.net.tls.certificates import make_certificate
from gateway.s3.answers import Lost, Response
from gateway.s3.connection import SHORT, Content
from gateway.s3.transport import Connections
from played_server import Server

REQUEST = b"GET /mail/name HTTP/1.1\r\n\r\n"

RECORD = 16 * 1024

BODY = bytes(range(251)) * (SHORT // 251 + RECORD // 251)
"""Longer than a short one, and no two records are alike."""

RECORDS = [BODY[start : start + RECORD] for start in range(0, len(BODY), RECORD)]


@implementer(IStreamClientEndpoint)
class Secured:
    """What ``wrapClientTLS`` makes, with a clock."""

    def __init__(self, tls: Any, server: Server, clock: Clock) -> None:
        self._tls, self._server, self._clock = tls, server, clock

    def connect(self, factory: Any) -> Deferred[Any]:
        """TLS, and in it a protocol of this factory."""
        secured = TLSMemoryBIOFactory(self._tls, True, factory, self._clock)
        return self._server.connect(secured).addCallback(lambda made: made.wrappedProtocol)


class Pieces:
    """A receiver that notes what it got."""

    def __init__(self, response: Response) -> None:
        self.found: list[bytes] = []
        self.ends: list[Lost | None] = []
        response.deliver(self)

    def arrived(self, data: bytes) -> None:
        """The next octets."""
        self.found.append(data)

    def ended(self, lost: Lost | None) -> None:
        """That was all."""
        self.ends.append(lost)


class Lab:
    """A request, with the head of its answer, to a server that the test plays."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.clock, server = Clock(), Server()
        tls = optionsForClientTLS("localhost", Certificate.loadPEM(certificate.read_bytes()))
        connections = Connections(self.clock, Secured(tls, server, self.clock), "s3", most=1)
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate_file(str(certificate))
        context.use_privatekey_file(str(key))
        self._server = SSL.Connection(context)
        self._server.set_accept_state()
        asked = connections.ask(REQUEST, Content(), within=10.0)
        (self._transport,) = server.transports
        while (request := self._hear()) is None:
            self.send()
        assert request == REQUEST
        self.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        self.response: Response = SynchronousTestCase().successResultOf(asked)
        self.pieces = Pieces(self.response)

    def _hear(self) -> bytes | None:
        """What the client sends; None: it shakes hands."""
        self.clock.advance(0)
        if sent := self._transport.value():
            self._server.bio_write(sent)
        self._transport.clear()
        try:
            return self._server.recv(len(REQUEST))
        except SSL.WantReadError:
            return None

    def send(self, *records: bytes) -> None:
        """Send these in one segment."""
        for record in records:
            self._server.send(record)
        self._transport.protocol.dataReceived(b"".join(self._sent()))

    def _sent(self) -> Iterator[bytes]:
        while True:
            try:
                yield self._server.bio_read(RECORD)
            except SSL.WantReadError:
                return

    def lose(self) -> None:
        """The connection breaks."""
        self._transport.protocol.connectionLost(Failure(ConnectionLost()))

    def timers(self) -> int:
        """How many calls wait for a turn of the reactor."""
        return len([one for one in self.clock.getDelayedCalls() if one.getTime() == 0])


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(str(certificate), str(key))
    return Lab(certificate, key)


def test_records_that_are_read_together_are_passed_on_together(lab: Lab) -> None:
    lab.send(*RECORDS[:2])
    assert lab.pieces.found == []
    lab.clock.advance(0)
    assert lab.pieces.found == [RECORDS[0] + RECORDS[1]]
    lab.send(RECORDS[2])
    lab.clock.advance(0)
    assert lab.pieces.found == [RECORDS[0] + RECORDS[1], RECORDS[2]]


def test_the_last_record_is_passed_on_at_once(lab: Lab) -> None:
    lab.send(*RECORDS)
    assert lab.pieces.found == [BODY]
    assert lab.pieces.ends == [None]
    assert not lab.timers()


def test_what_came_before_the_end_of_a_connection_is_passed_on_first(lab: Lab) -> None:
    lab.send(RECORDS[0])
    lab.lose()
    assert lab.pieces.found == [RECORDS[0]]
    (lost,) = lab.pieces.ends
    assert "ConnectionLost" in str(lost)
    assert not lab.timers()


def test_a_body_that_nobody_wants_any_more_leaves_no_timer(lab: Lab) -> None:
    lab.send(RECORDS[0])
    lab.response.stop()
    assert not lab.timers()
    lab.lose()
