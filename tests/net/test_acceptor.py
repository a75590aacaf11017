"""Each client is a connection with an id of its own, before any protocol sees it."""

from __future__ import annotations

import os

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from gateway.model import Connection
from gateway.net.acceptor import Acceptor, connection_of, new_id
from harness import Line


class Recorder(Factory):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[object] = []
        self.running = False

    def startFactory(self) -> None:
        """A port listens."""
        self.running = True

    def stopFactory(self) -> None:
        """No port listens."""
        self.running = False

    def buildProtocol(self, addr: object) -> Protocol:
        """As every factory."""
        self.given.append(addr)
        return Protocol()


class AcceptorTests(SynchronousTestCase):
    def test_every_protocol_gets_the_listener_the_address_and_the_state_of_tls(self) -> None:
        recorder = Recorder()
        for secure in (False, True):
            acceptor = Acceptor("pop3", recorder, secure=secure)
            for address, host in (
                (IPv4Address("TCP", "192.0.2.1", 4321), "192.0.2.1"),
                (UNIXAddress(None), ""),
            ):
                acceptor.buildProtocol(address)
                connection = recorder.given.pop()
                assert isinstance(connection, Connection)
                self.assertEqual(connection[1:], (host, secure, "pop3", None))

    def test_the_protocols_factory_starts_and_stops_with_its_port(self) -> None:
        recorder = Recorder()
        acceptor = Acceptor("pop3", recorder)
        acceptor.doStart()
        self.assertTrue(recorder.running)
        acceptor.doStop()
        self.assertFalse(recorder.running)

    def test_an_application_s_own_endpoint_needs_no_acceptor(self) -> None:
        line = Line("192.0.2.1")
        self.assertEqual(connection_of(None, line)[1:], ("192.0.2.1", False, "", None))
        alsoProvides(line, ISSLTransport)
        self.assertEqual(connection_of(None, line)[1:], ("192.0.2.1", True, "", None))


class IdTests(SynchronousTestCase):
    def test_no_two_connections_have_the_same_id(self) -> None:
        self.assertEqual(len({new_id() for _ in range(1000)}), 1000)

    def test_a_child_process_gives_other_ids(self) -> None:
        before = new_id()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.write(writing, new_id().encode())
            os._exit(0)
        os.waitpid(child, 0)
        theirs = os.read(reading, 100).decode()
        os.close(reading)
        os.close(writing)
        self.assertEqual(len(before[:10]), 10)
        self.assertNotEqual(theirs[:10], before[:10])
        self.assertEqual(new_id()[:10], before[:10])
