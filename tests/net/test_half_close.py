"""Clients that shut their sending side down and then read: real sockets, a client in a thread."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from threading import Event
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from certificates import own_certificate
from gateway.directory.memory import MemoryDirectory
from gateway.jobs.thread_pool import ThreadPool
from gateway.lmtp.profile import Profile
from gateway.mailboxes.recipients import Recipients
from gateway.model import Account, Limits
from gateway.net.lmtp_factory import LMTPFactory, LMTPOptions
from gateway.net.postfix_policy import PolicyFactory, PolicyOptions
from gateway.net.tls.certificates import Certificate
from gateway.net.tls.context import TLSContext
from gateway.net.tls.transport import TLSFactory
from gateway.store.memory import MemoryStore
from harness import ALICE, SECRET, Wire
from sockets import listen

LOGIN = b"USER %b\r\nPASS %b\r\n" % (ALICE.encode(), SECRET.encode())
LETTER = b"Subject: x\r\n\r\nhello\r\n"
SESSION = LOGIN + b"RETR 4\r\nDELE 1\r\nQUIT\r\n"
LONG = (b"y" * 70 + b"\r\n") * 60_000

End = Callable[[Any], None]


def only_tcp(line: Any) -> None:
    """Without a word of TLS, as many clients do."""
    line.sock_shutdown(socket.SHUT_WR)


def only_tls(line: Any) -> None:
    """A close_notify; the socket stays open."""
    line.shutdown()


def both(line: Any) -> None:
    """As RFC 8446 section 6.1 has it."""
    line.shutdown()
    line.sock_shutdown(socket.SHUT_WR)


class Plain:
    """A socket with the names that OpenSSL's connections have."""

    def __init__(self, line: socket.socket) -> None:
        self.recv, self.sendall, self.sock_shutdown = line.recv, line.sendall, line.shutdown


def encrypted(line: socket.socket) -> SSL.Connection:
    """The client's half of a handshake."""
    line.settimeout(None)  # OpenSSL reads the socket itself
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 30, 0))
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), line)
    connection.set_connect_state()
    connection.do_handshake()
    return connection


def rest(line: Any) -> bytes:
    """Everything up to the end."""
    data = b""
    try:
        while more := line.recv(1 << 16):
            data += more
    except SSL.ZeroReturnError:
        pass
    return data


class HalfCloseTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        paths = own_certificate(self)
        self.certificate = TLSContext([Certificate(*paths)], minimum="1.2")
        self.wire = Wire(tls=self.certificate)
        self.wire.mailbox.deliver(LONG)
        self.wire.factory._clock = None

    def client(
        self, factory: Any, talk: Callable[[socket.socket], bytes], drained: Any = None
    ) -> Deferred[bytes]:
        """What a client reads, in a thread; all sessions are gone when it is done."""
        number = listen(self, factory)

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", number), timeout=30) as line:
                return talk(line)

        def gone(result: bytes) -> Deferred[bytes]:
            return (drained or factory).drain(20).addCallback(lambda _: result)

        return deferToThread(run).addBoth(gone)

    def served(self, replies: bytes) -> None:
        """Every command had its reply, and QUIT its effect."""
        self.assertTrue(replies.endswith(b"\r\n.\r\n+OK Marked for removal.\r\n+OK Goodbye.\r\n"))
        self.assertIn(LONG, replies)
        self.assertEqual(len(self.wire.mailbox.messages), 3)

    def test_every_command_has_its_reply(self) -> Deferred[None]:
        def talk(line: socket.socket) -> bytes:
            line.sendall(SESSION)
            line.shutdown(socket.SHUT_WR)
            return rest(line)

        return self.client(self.wire.factory, talk).addCallback(self.served)

    def test_a_login_that_is_pending_on_a_worker_goes_on(self) -> Deferred[None]:
        closed = Event()
        worker = ThreadPool(reactor, "passwords", threads=1, queue=9)
        self.addCleanup(worker.stop)
        verify = self.wire.directory.verify

        def slow(login: str, password: bytes) -> Deferred[Account]:
            waited = worker.run(lambda: closed.wait(20))
            return waited.addCallback(lambda _: verify(login, password))

        self.wire.directory.verify = slow  # type: ignore[method-assign]

        def talk(line: socket.socket) -> bytes:
            line.sendall(SESSION)
            line.shutdown(socket.SHUT_WR)
            closed.set()
            return rest(line)

        return self.client(self.wire.factory, talk).addCallback(self.served)

    def test_over_tls_however_the_client_ends(self) -> Deferred[None]:
        done: Deferred[Any] = Deferred()
        done.callback(None)
        for end in (only_tcp, only_tls, both):

            def talk(line: socket.socket, end: End = end) -> bytes:
                connection = encrypted(line)
                connection.sendall(SESSION)
                end(connection)
                return rest(connection)

            def run(_: object, talk: Any = talk) -> Deferred[bytes]:
                self.setUp()
                factory = TLSFactory(self.certificate, self.wire.factory)
                return self.client(factory, talk, self.wire.factory)

            done.addCallback(run).addCallback(self.served)
        return done

    def test_after_stls_however_the_client_ends(self) -> Deferred[None]:
        done: Deferred[Any] = Deferred()
        done.callback(None)
        for end in (only_tcp, only_tls, both):

            def talk(line: socket.socket, end: End = end) -> bytes:
                line.recv(512)
                line.sendall(b"STLS\r\n")
                line.recv(512)
                connection = encrypted(line)
                connection.sendall(SESSION)
                end(connection)
                return rest(connection)

            def run(_: object, talk: Any = talk) -> Deferred[bytes]:
                self.setUp()
                return self.client(self.wire.factory, talk)

            done.addCallback(run).addCallback(self.served)
        return done

    def test_without_quit_nothing_is_removed_and_the_connection_ends(self) -> Deferred[None]:
        def talk(line: socket.socket) -> bytes:
            line.sendall(LOGIN + b"DELE 1\r\nSTAT\r\nQUI")
            line.shutdown(socket.SHUT_WR)
            return rest(line)

        def kept(replies: bytes) -> None:
            self.assertTrue(replies.splitlines()[-1].startswith(b"+OK 3 "), replies)
            self.assertEqual(len(self.wire.mailbox.messages), 4)

        return self.client(self.wire.factory, talk).addCallback(kept)

    def test_a_client_that_goes_at_once_leaves_nothing_behind(self) -> Deferred[None]:
        def talk(line: socket.socket) -> bytes:
            line.sendall(LOGIN + b"RETR 4\r\n" * 10)
            # The end is a reset: what is sent there now is lost.
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""

        return self.client(self.wire.factory, talk).addCallback(lambda _: None)

    def test_lmtp_answers_for_the_message(self) -> Deferred[None]:
        mailbox, factory = self._lmtp()
        commands = (
            b"LHLO client\r\nMAIL FROM:<s@example.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"
            + LETTER
            + b".\r\nQUIT\r\n"
        )

        def talk(line: socket.socket) -> bytes:
            line.sendall(commands)
            line.shutdown(socket.SHUT_WR)
            return rest(line)

        def delivered(replies: bytes) -> None:
            self.assertTrue(replies.splitlines()[-1].startswith(b"221 "), replies)
            self.assertEqual(len(mailbox.messages), 1)

        return self.client(factory, talk).addCallback(delivered)

    def test_lmtp_over_tls_answers_for_the_message(self) -> Deferred[None]:
        mailbox, factory = self._lmtp()

        def talk(line: socket.socket) -> bytes:
            line.recv(512)
            line.sendall(b"LHLO client\r\nSTARTTLS\r\n")
            data = b""
            while b"220 2.0.0" not in data and b"\r\n220 " not in data:
                data += line.recv(512)
            connection = encrypted(line)
            connection.sendall(
                b"LHLO client\r\nMAIL FROM:<s@example.net>\r\nRCPT TO:<alice@example.org>\r\n"
                b"DATA\r\n" + LETTER + b".\r\n"
            )
            both(connection)
            return rest(connection)

        def delivered(replies: bytes) -> None:
            self.assertTrue(replies.splitlines()[-1].startswith(b"250 "), replies)
            self.assertEqual(len(mailbox.messages), 1)

        return self.client(factory, talk).addCallback(delivered)

    def test_half_a_message_by_lmtp_is_nowhere_and_the_connection_ends(self) -> Deferred[None]:
        mailbox, factory = self._lmtp()

        def talk(line: socket.socket) -> bytes:
            line.sendall(
                b"LHLO client\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n" + LETTER
            )
            line.shutdown(socket.SHUT_WR)
            return rest(line)

        def nowhere(replies: bytes) -> None:
            self.assertTrue(replies.splitlines()[-1].startswith(b"354 "), replies)
            self.assertEqual(len(mailbox.messages), 0)

        return self.client(factory, talk).addCallback(nowhere)

    def test_the_policy_service_answers_every_question(self) -> Deferred[None]:
        store = MemoryStore()
        store.add(ALICE)
        recipients = Recipients(MemoryDirectory({ALICE: "x"}), store, lambda _: Limits())
        factory = PolicyFactory(recipients, PolicyOptions(allows=lambda _: True))
        question = b"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=%b\n\n"

        def talk(line: socket.socket) -> bytes:
            line.sendall(question % ALICE.encode() * 3000)
            line.shutdown(socket.SHUT_WR)
            return rest(line)

        def answered(replies: bytes) -> None:
            self.assertEqual(replies, b"action=DUNNO\n\n" * 3000)

        return self.client(factory, talk).addCallback(answered)

    def _lmtp(self) -> tuple[Any, LMTPFactory]:
        store = MemoryStore()
        mailbox = store.add(ALICE)
        recipients = Recipients(MemoryDirectory({ALICE: "x"}), store, lambda _: Limits())
        factory = LMTPFactory(
            recipients,
            store,
            LMTPOptions(
                Profile(name="mail.example.org"), allows=lambda _: True, tls=self.certificate
            ),
        )
        return mailbox, factory
