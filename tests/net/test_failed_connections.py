"""What the log says when nobody got in, in one line, and how long a handshake may take."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from certificates import own_certificate
from gateway.admission.throttle import ThrottleLimits
from gateway.directory.memory import MemoryDirectory
from gateway.lmtp.profile import Profile
from gateway.mailboxes.recipients import Recipients
from gateway.model import Limits
from gateway.net.lmtp_factory import LMTPFactory, LMTPOptions
from gateway.net.timeouts import Timeouts
from gateway.net.tls.certificates import Certificate
from gateway.net.tls.context import TLSContext
from gateway.net.tls.transport import TLSFactory
from gateway.observe.log import logged_events
from gateway.pop3.profile import Profile as PopProfile
from gateway.store.memory import MemoryStore
from harness import ALICE, SECRET, Line, Wire
from sockets import listen


class LoggedCase(SynchronousTestCase):
    """Sees what is logged."""

    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def lines(self, word: str) -> list[str]:
        """What was logged with that word in it."""
        return [line for line in map(formatEvent, self.events) if word in line]

    def certificate(self, **how: Any) -> TLSContext:
        """A new one."""
        self.paths = own_certificate(self)
        return TLSContext([Certificate(*self.paths)], **{"minimum": "1.2"} | how)


class UnencryptedTests(LoggedCase):
    def refused(self, *commands: bytes, log_sessions: bool = True) -> str:
        wire = Wire(secure_networks=(), emit=logged_events(sessions=log_sessions).emit)
        client = wire.connect("192.0.2.1")
        for command in commands:
            self.assertTrue(client.send(command).startswith(b"-ERR "), command)
        client.hang_up()
        (line,) = self.lines("192.0.2.1")
        return line

    def test_a_password_that_is_refused_because_the_line_is_not_encrypted(self) -> None:
        for log_sessions in (True, False):
            self.events.clear()
            line = self.refused(b"USER Alice@Example.org", log_sessions=log_sessions)
            self.assertIn(" user=alice@example.org ", line)
            self.assertTrue(line.endswith(' reason="Use TLS before sending a password."'), line)

    def test_the_same_by_auth(self) -> None:
        for command in (b"AUTH PLAIN", b"AUTH PLAIN AGEAYg==", b"AUTH LOGIN"):
            self.events.clear()
            line = self.refused(command)
            self.assertTrue(line.endswith(' reason="Use TLS before sending a password."'), line)
            self.assertNotIn("AGEAYg", line)

    def test_a_mechanism_that_there_is_not(self) -> None:
        self.assertTrue(self.refused(b"AUTH NTLM").endswith('"No such mechanism here."'))

    def test_an_unencrypted_line_stays_the_reason_whatever_else_is_tried(self) -> None:
        for command in (b"AUTH CRAM-MD5", b"AUTH NTLM"):
            self.events.clear()
            client = Wire(secure_networks=(), emit=logged_events().emit).connect("192.0.2.1")
            client.send(b"USER alice")
            client.send(command)
            client.hang_up()
            (line,) = self.lines("192.0.2.1")
            self.assertTrue(line.endswith(' reason="Use TLS before sending a password."'), line)

    def test_a_name_cannot_begin_a_line_of_the_log(self) -> None:
        line = self.refused(b"USER a\x1b[1m\x85b")
        self.assertTrue(line.isprintable(), line)

    def test_who_gets_in_afterwards_leaves_no_reason(self) -> None:
        wire = Wire(secure_networks=())
        client = wire.connect("192.0.2.1", secure=True)
        client.send(b"AUTH NTLM")
        client.log_in()
        client.send(b"QUIT")
        client.hang_up()
        for line in self.lines("192.0.2.1"):
            self.assertNotIn("reason", line)
        self.assertEqual(len(self.lines("192.0.2.1")), 2)

    def test_without_lines_for_sessions_a_port_check_leaves_none(self) -> None:
        wire = Wire(emit=logged_events(sessions=False).emit)
        wire.connect("192.0.2.1").hang_up()
        self.assertEqual(self.lines("192.0.2.1"), [])


class NameTests(LoggedCase):
    def test_a_user_is_named_alike_in_all_lines_of_a_session(self) -> None:
        wire = Wire(throttle=ThrottleLimits(free=0, network_free=0))
        first = wire.connect("127.0.0.1")
        first.log_in("ALICE@example.ORG", "wrong")
        client = wire.connect("127.0.0.1")
        client.log_in("Alice@Example.org", "also wrong")
        wire.clock.advance(2)
        client.log_in("aLICE@example.org", SECRET)
        wire.clock.advance(4)
        client.send(b"QUIT")
        client.hang_up()
        waits, failed, _, login, ended = self.lines(f"session={client.protocol.connection.id}")
        self.assertRegex(waits, r"\Alogin_delayed: .*user=alice@example.org .*seconds=2\.0\Z")
        self.assertTrue(failed.startswith(f"login_failed: user={ALICE} from=127.0.0.1 "), failed)
        for one in (login, ended):
            self.assertIn(f" user={ALICE} ", one)
        for line in self.lines("127.0.0.1"):
            self.assertNotRegex(line, "ALICE|Alice|aLICE")


class TimeTests(LoggedCase):
    def test_an_unfinished_handshake_is_bounded_by_the_time_before_login(self) -> None:
        wire = Wire(profile=PopProfile(preauth_idle_timeout=40))
        factory = TLSFactory(self.certificate(), wire.factory)
        line, protocol = Line("192.0.2.1"), factory.buildProtocol(None)
        protocol.makeConnection(line)
        # The beginning of a ClientHello, octet by octet, makes no difference.
        for octet in (b"\x16", b"\x03", b"\x01"):
            wire.clock.advance(13)
            protocol.dataReceived(octet)
        self.assertFalse(line.aborted)
        wire.clock.advance(1)
        self.assertTrue(line.aborted)
        protocol.connectionLost(_gone())
        (said,) = self.lines("192.0.2.1")
        self.assertRegex(said, r'end="TLS handshake failed" .* reason="timed out"\Z')

    def test_a_client_that_waits_for_a_greeting_in_plain_text(self) -> None:
        wire = Wire()
        factory = TLSFactory(self.certificate(), wire.factory)
        line, protocol = Line("192.0.2.1"), factory.buildProtocol(None)
        protocol.makeConnection(line)
        wire.clock.advance(60)
        self.assertTrue(line.aborted)
        protocol.connectionLost(_gone())
        (said,) = self.lines("192.0.2.1")
        self.assertRegex(
            said, r'end="TLS handshake failed" .* reason="timed out: the client sent noth'
        )

    def test_a_check_whether_the_port_is_open_is_no_failure(self) -> None:
        for log_sessions in (True, False):
            wire = Wire(emit=logged_events(sessions=log_sessions).emit)
            factory = TLSFactory(self.certificate(), wire.factory)
            protocol = factory.buildProtocol(None)
            protocol.makeConnection(Line("192.0.2.1"))
            protocol.connectionLost(_gone())
            said = self.lines("192.0.2.1")
            self.events.clear()
            self.assertEqual(len(said), log_sessions)
            for one in said:
                self.assertRegex(one, r': end="dropped before TLS began" .* session=\w+\Z')

    def test_after_stls_too(self) -> None:
        wire = Wire(tls=self.certificate())
        client = wire.connect("192.0.2.1")
        wire.clock.advance(50)
        self.assertTrue(client.send(b"STLS").startswith(b"+OK"))
        wire.clock.advance(59)
        self.assertFalse(client.line.aborted)
        wire.clock.advance(1)
        self.assertTrue(client.line.aborted)
        client.protocol.connectionLost(_gone())
        (said,) = self.lines("192.0.2.1")
        self.assertRegex(said, r'end="TLS handshake failed" .* reason="timed out')

    def test_by_lmtp_too(self) -> None:
        clock = Clock()
        factory = _lmtp(clock, self.certificate(), Timeouts(handshake=60))
        line, protocol = Line("192.0.2.1"), factory.buildProtocol(None)
        protocol.makeConnection(line)
        protocol.dataReceived(b"LHLO client\r\nSTARTTLS\r\n")
        clock.advance(59)
        self.assertFalse(line.aborted)
        clock.advance(1)
        self.assertTrue(line.aborted)
        protocol.connectionLost(_gone())
        (said,) = self.lines("192.0.2.1")
        self.assertRegex(said, r'end="TLS handshake failed" .* reason="timed out')


def _gone() -> Any:
    from twisted.internet.error import ConnectionAborted
    from twisted.python.failure import Failure

    return Failure(ConnectionAborted())


def _lmtp(clock: Any, certificate: TLSContext, timeouts: Timeouts = Timeouts()) -> LMTPFactory:
    store = MemoryStore()
    store.add(ALICE)
    return LMTPFactory(
        Recipients(MemoryDirectory({ALICE: "x"}), store, lambda _: Limits()),
        store,
        LMTPOptions(
            Profile(name="mail.example.org"),
            allows=lambda _: True,
            tls=certificate,
            timeouts=timeouts,
        ),
        clock=clock,
    )


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
class HandshakeTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.wire = Wire(emit=logged_events(sessions=False).emit)
        self.wire.factory._clock = None

    certificate = LoggedCase.certificate

    def said(
        self, factory: Any, sessions: Any, talk: Callable[[socket.socket], object]
    ) -> Deferred[str]:
        """What the log says in one line of a client, once it is gone."""
        port = listen(self, factory)

        def run() -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
                talk(line)

        def ended(_: object) -> Deferred[Any] | None:
            # Not drained, which would be another reason.
            return deferLater(reactor, 0.005, ended, None) if len(sessions._sessions) else None  # type: ignore[arg-type]

        def line(_: object) -> str:
            (found,) = [
                one
                for one in map(formatEvent, self.events)
                if one.startswith(("session_end", "lmtp_end"))
            ]
            return found

        return deferToThread(run).addBoth(ended).addCallback(line)

    def implicit(
        self, talk: Callable[[socket.socket], object], said: str, **how: Any
    ) -> Deferred[None]:
        """The log of a client of a port that begins with TLS."""
        factory = TLSFactory(self.certificate(**how), self.wire.factory)

        def check(line: str) -> None:
            self.assertRegex(
                line, rf'\Asession_end: end="TLS handshake failed" .* tls=no .* reason="[^"]*{said}'
            )

        return self.said(factory, self.wire.factory, talk).addCallback(check)

    def test_a_client_that_does_not_trust_the_certificate(self) -> Deferred[None]:
        def talk(line: socket.socket) -> None:
            with self.assertRaises(ssl.SSLCertVerificationError):
                ssl.create_default_context().wrap_socket(line, server_hostname="localhost")

        return self.implicit(talk, r"unknown ca \(the client does not trust")

    def test_a_client_that_is_too_old(self) -> Deferred[None]:
        context = _careless()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1

        def talk(line: socket.socket) -> None:
            with self.assertRaises(ssl.SSLError):
                context.wrap_socket(line)

        return self.implicit(talk, r"unsupported protocol \(.*tls_minimum")

    def test_a_client_that_has_none_of_the_ciphers(self) -> Deferred[None]:
        context = _careless()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AES128-SHA")

        def talk(line: socket.socket) -> None:
            with self.assertRaises(ssl.SSLError):
                context.wrap_socket(line)

        return self.implicit(talk, r"no shared cipher \(.*ciphers")

    def test_plain_text_on_the_port_of_tls(self) -> Deferred[None]:
        def talk(line: socket.socket) -> None:
            line.sendall(b"CAPA\r\nUSER alice\r\n")
            line.recv(512)

        return self.implicit(talk, r".*\(the client sends plain text to a port")

    def test_a_web_browser_on_the_port_of_tls(self) -> Deferred[None]:
        def talk(line: socket.socket) -> None:
            line.sendall(b"GET / HTTP/1.0\r\n\r\n")
            line.recv(512)

        return self.implicit(talk, r"http request \(the client sends plain text to a port")

    def test_a_damaged_record_is_not_taken_for_plain_text(self) -> Deferred[None]:
        factory = TLSFactory(self.certificate(), self.wire.factory)

        def talk(line: socket.socket) -> None:
            # A connection of its own for the damage, below TLS.
            below = line.dup()
            with _careless().wrap_socket(line) as client, below:
                client.recv(512)
                below.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
                with self.assertRaises(ssl.SSLError):
                    client.recv(512)

        def check(line: str) -> None:
            self.assertRegex(line, r'end="TLS failed" .* tls=TLSv1.* .*bad record mac')
            self.assertNotIn("plain text", line)

        return self.said(factory, self.wire.factory, talk).addCallback(check)

    def test_a_client_that_goes_during_the_handshake(self) -> Deferred[None]:
        def talk(line: socket.socket) -> None:
            line.sendall(_client_hello())
            line.recv(512)

        return self.implicit(talk, "the client closed the connection")

    def test_tls_on_the_plain_port(self) -> Deferred[None]:
        self.wire.factory.tls = self.certificate()

        def talk(line: socket.socket) -> None:
            with self.assertRaises(ssl.SSLError):
                _careless().wrap_socket(line)

        def check(line: str) -> None:
            self.assertRegex(
                line, r'\A(session|lmtp)_end: end="TLS to a plain port" .* reason="[^"]+"\Z'
            )

        return self.said(self.wire.factory, self.wire.factory, talk).addCallback(check)

    def test_a_handshake_that_fails_after_stls(self) -> Deferred[None]:
        self.wire.factory.tls = self.certificate()

        def talk(line: socket.socket) -> None:
            line.recv(512)
            line.sendall(b"STLS\r\n")
            line.recv(512)
            with self.assertRaises(ssl.SSLCertVerificationError):
                ssl.create_default_context().wrap_socket(line, server_hostname="localhost")

        def check(line: str) -> None:
            self.assertRegex(line, r'end="TLS handshake failed" .* reason="[^"]*unknown ca ')

        return self.said(self.wire.factory, self.wire.factory, talk).addCallback(check)

    def test_a_handshake_that_fails_by_lmtp(self) -> Deferred[None]:
        factory = _lmtp(reactor, self.certificate())

        def talk(line: socket.socket) -> None:
            line.recv(512)
            line.sendall(b"LHLO client\r\nSTARTTLS\r\n")
            said = b""
            while said.count(b"\r\n220 ") + said.count(b"\n220 ") == 0:
                said += line.recv(512)
            with self.assertRaises(ssl.SSLCertVerificationError):
                ssl.create_default_context().wrap_socket(line, server_hostname="localhost")

        def check(line: str) -> None:
            self.assertRegex(line, r'end="TLS handshake failed" .* reason="[^"]*unknown ca ')

        return self.said(factory, factory, talk).addCallback(check)

    def test_tls_to_the_port_of_lmtp(self) -> Deferred[None]:
        factory = _lmtp(reactor, self.certificate())

        def talk(line: socket.socket) -> None:
            with self.assertRaises(ssl.SSLError):
                _careless().wrap_socket(line)

        def check(line: str) -> None:
            self.assertRegex(
                line, r'\A(session|lmtp)_end: end="TLS to a plain port" .* reason="[^"]+"\Z'
            )

        return self.said(factory, factory, talk).addCallback(check)


def _careless() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _client_hello() -> bytes:
    out = ssl.MemoryBIO()
    client = _careless().wrap_bio(ssl.MemoryBIO(), out)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()
    raise AssertionError("nothing was to be answered")
