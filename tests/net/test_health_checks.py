"""Health checks of this machine, which the log does not show, beside clients, which it shows."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from gateway.directory.memory import MemoryDirectory
from gateway.events import HEALTH_CHECK, Event, LMTPSessionEnded, POP3SessionEnded
from gateway.lmtp.profile import Profile
from gateway.mailboxes.recipients import Recipients
from gateway.model import Limits
from gateway.net.lmtp_factory import LMTPFactory, LMTPOptions
from gateway.observe.log import logged_events
from gateway.store.memory import MemoryStore
from harness import Client, Wire


class POP3HealthCheckTests(SynchronousTestCase):
    def said(self, *commands: bytes, host: str = "127.0.0.1", own: str = "192.0.2.1") -> str:
        """How the log shows a session with these commands, and the connection lost after it."""
        events = logged_events()
        ends: list[Event] = []
        events.subscribe({POP3SessionEnded: ends.append})
        wire = Wire(emit=events.emit)
        client = Client(wire, host, secure=False)
        client.line.hostAddr = IPv4Address("TCP", own, 110)
        with capturedLogs() as lines:
            client.send(*commands)
            client.hang_up()
        (self.ended,) = ends
        return "\n".join(line for event in lines if (line := formatEvent(event)))

    def test_a_client_on_this_machine_that_only_quits_has_no_line(self) -> None:
        for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
            self.assertEqual(self.said(b"QUIT", host=host), "")
            self.assertEqual(self.ended[1], HEALTH_CHECK)

    def test_a_client_at_the_address_that_it_connects_to_is_on_this_machine(self) -> None:
        self.assertEqual(self.said(b"quit", host="192.0.2.7", own="192.0.2.7"), "")

    def test_a_client_from_elsewhere_that_only_quits_has_its_line(self) -> None:
        self.assertIn("from=192.0.2.7", self.said(b"QUIT", host="192.0.2.7"))
        self.assertEqual(self.ended[1], "quit")

    def test_a_client_on_this_machine_that_says_more_has_its_line(self) -> None:
        for commands in ([b"CAPA", b"QUIT"], [b"USER alice", b"QUIT"], [b"AUTH", b"QUIT"], [b""]):
            self.assertIn("from=127.0.0.1", self.said(*commands))

    def test_a_client_on_this_machine_that_says_nothing_has_its_line(self) -> None:
        self.assertIn("dropped", self.said())

    def test_a_quit_that_is_refused_is_no_health_check(self) -> None:
        self.assertIn("from=127.0.0.1", self.said(b"QUIT now", b"QUIT"))


class LMTPHealthCheckTests(SynchronousTestCase):
    def said(self, *commands: bytes, address: object) -> str:
        """The same for LMTP."""
        events = logged_events()
        ends: list[Event] = []
        events.subscribe({LMTPSessionEnded: ends.append})
        recipients = Recipients(MemoryDirectory({}), MemoryStore(), lambda _: Limits())
        options = LMTPOptions(Profile(name="mail.example.org"), lambda _: True)
        factory = LMTPFactory(recipients, MemoryStore(), options, emit=events.emit, clock=Clock())
        protocol = factory.buildProtocol(None)
        line = StringTransport(peerAddress=address)
        line.abortConnection = line.loseConnection  # type: ignore[attr-defined]
        with capturedLogs() as lines:
            protocol.makeConnection(line)
            for command in commands:
                protocol.dataReceived(command + b"\r\n")
            protocol.connectionLost()
        (self.ended,) = ends
        return "\n".join(line for event in lines if (line := formatEvent(event)))

    def test_a_client_on_this_machine_that_only_quits_has_no_line(self) -> None:
        for address in (IPv4Address("TCP", "127.0.0.1", 5), UNIXAddress("/run/pop3gw/lmtp")):
            self.assertEqual(self.said(b"QUIT", address=address), "")
            self.assertEqual(self.ended[1], HEALTH_CHECK)

    def test_other_clients_have_their_line(self) -> None:
        here, there = (IPv4Address("TCP", host, 5) for host in ("127.0.0.1", "192.0.2.7"))
        self.assertIn("lhlo=client", self.said(b"LHLO client", b"QUIT", address=here))
        self.assertIn("from=192.0.2.7", self.said(b"QUIT", address=there))
