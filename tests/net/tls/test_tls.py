"""STLS and implicit TLS: real sockets on loopback, real handshakes, a client in a thread."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.trial.unittest import TestCase

from certificates import own_certificate
from gateway.errors import ConfigError
from gateway.net.tls.certificates import Certificate, make_certificate
from gateway.net.tls.context import TLSContext
from gateway.net.tls.transport import TLSFactory
from harness import ALICE, SECRET, Wire
from sockets import listen, readable

LOGIN = b"USER %b\r\nPASS %b\r\n" % (ALICE.encode(), SECRET.encode())


def ciphers_of(tls: TLSContext) -> list[str]:
    """The names of the ciphers that a new connection of a server may use."""
    return tls.serverConnectionForTLS(TLSMemoryBIOProtocol(None, None)).get_cipher_list()


class Connection:
    """A client's side of one connection, blocking."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        if tls is not None:
            self.start_tls(tls)
        self.greeting = self.line()

    def start_tls(self, context: ssl.SSLContext) -> None:
        """The client's half of the handshake."""
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    def send(self, octets: bytes) -> bytes:
        """Send, and read one line."""
        self.socket.sendall(octets)
        return self.line()

    def line(self) -> bytes:
        """One line, read octet by octet so that nothing of what follows is taken."""
        line = b""
        while not line.endswith(b"\n") and (octet := self.socket.recv(1)):
            line += octet
        return line

    def lines(self, octets: bytes) -> bytes:
        """Send, and read a multi-line response."""
        data = self.send(octets)
        while not data.endswith(b"\r\n.\r\n"):
            data += self.line()
        return data


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
class TlsTests(TestCase):
    def setUp(self) -> None:
        self.paths = own_certificate(self)
        self.trusting = ssl.create_default_context(cafile=self.paths[0])
        self.certificate = TLSContext([Certificate(*self.paths)], minimum="1.2")
        self.wire = Wire(tls=self.certificate)
        self.wire.factory._clock = None  # real sockets take real turns
        implicit = self._implicit(self.certificate)
        self.plain, self.tls = (listen(self, factory) for factory in (self.wire.factory, implicit))

    def _implicit(self, certificate: TLSContext) -> Any:
        return TLSFactory(certificate, self.wire.factory)

    def client(self, talk: Callable[..., None], *, implicit: bool = False) -> Deferred[None]:
        """Run the client's side in a thread; the session is gone when it is done."""

        def run() -> None:
            tls = self.trusting if implicit else None
            connection = Connection(self.tls if implicit else self.plain, tls=tls)
            try:
                talk(connection)
            finally:
                connection.socket.close()

        def drained(result: object) -> Deferred[object]:
            return self.wire.factory.drain(5).addCallback(lambda _: result)

        return deferToThread(run).addBoth(drained)

    def test_stls_then_login(self) -> Deferred[None]:
        def talk(client: Connection) -> None:
            self.assertTrue(client.send(b"STLS\r\n").startswith(b"+OK "))
            client.start_tls(self.trusting)
            self.assertTrue(client.send(LOGIN).startswith(b"+OK "))
            self.assertTrue(client.line().startswith(b"+OK "))
            self.assertTrue(client.send(b"STAT\r\n").startswith(b"+OK 3 "))

        return self.client(talk)

    @pytest.mark.conformance("P-13")
    def test_after_stls_capa_lists_it_no_more_and_a_second_one_is_refused(self) -> Deferred[None]:
        def talk(client: Connection) -> None:
            self.assertIn(b"\r\nSTLS\r\n", client.lines(b"CAPA\r\n"))
            client.send(b"STLS\r\n")
            client.start_tls(self.trusting)
            self.assertNotIn(b"STLS", client.lines(b"CAPA\r\n"))
            self.assertTrue(client.send(b"STLS\r\n").startswith(b"-ERR "))

        return self.client(talk)

    def test_what_comes_with_stls_in_clear_is_never_a_command(self) -> Deferred[None]:
        def talk(client: Connection) -> None:
            self.assertTrue(client.send(b"STLS\r\nUSER mallory\r\nCAPA\r\n").startswith(b"+OK "))
            client.start_tls(self.trusting)
            self.assertEqual(client.send(b"PASS x\r\n"), b"-ERR Send USER first.\r\n")

        return self.client(talk)

    def test_state_from_before_stls_is_discarded(self) -> Deferred[None]:
        def talk(client: Connection) -> None:
            client.send(b"LANG de\r\n")
            client.send(b"USER " + ALICE.encode() + b"\r\n")
            client.send(b"STLS\r\n")
            client.start_tls(self.trusting)
            answer = client.send(b"PASS " + SECRET.encode() + b"\r\n")
            self.assertEqual(answer, b"-ERR Send USER first.\r\n")

        return self.client(talk)

    def test_over_implicit_tls_a_long_message_comes_whole(self) -> Deferred[None]:
        message = b"x" * 700_000 + b"\r\n"
        self.wire.mailbox.deliver(message)

        def talk(client: Connection) -> None:
            self.assertTrue(client.greeting.startswith(b"+OK "))
            self.assertNotIn(b"STLS", client.lines(b"CAPA\r\n"))
            client.send(LOGIN)
            client.line()
            self.assertTrue(client.send(b"RETR 4\r\n").startswith(b"+OK "))
            self.assertEqual(client.line(), message)

        return self.client(talk, implicit=True)

    def test_a_long_listing_comes_whole_on_a_plain_socket(self) -> Deferred[None]:
        for _ in range(60_000):
            self.wire.mailbox.deliver(b"")

        def talk(client: Connection) -> None:
            client.send(LOGIN)
            client.line()
            client.socket.sendall(b"UIDL\r\nLIST\r\nNOOP\r\n")
            data = b""
            while not data.endswith(b"\r\n+OK Done.\r\n"):
                data += client.socket.recv(1 << 20)
            self.assertEqual(data.count(b"\r\n"), 2 * (60_003 + 2) + 1)

        return self.client(talk)

    def test_tls_1_1_is_refused(self) -> Deferred[None]:
        self.trusting.set_ciphers("DEFAULT:@SECLEVEL=0")
        self.trusting.minimum_version = ssl.TLSVersion.TLSv1
        self.trusting.maximum_version = ssl.TLSVersion.TLSv1_1

        def talk(_: Connection) -> None:
            raise AssertionError("the handshake succeeded")

        return self.assertFailure(self.client(talk, implicit=True), ssl.SSLError).addCallback(
            lambda _: None
        )

    def test_a_listener_may_still_speak_tls_1_0_where_so_set(self) -> Deferred[None]:
        old = TLSContext([Certificate(*self.paths)], minimum="1.0")
        self.tls = listen(self, self._implicit(old))
        self.trusting.set_ciphers("DEFAULT:@SECLEVEL=0")
        self.trusting.minimum_version = ssl.TLSVersion.TLSv1
        self.trusting.maximum_version = ssl.TLSVersion.TLSv1

        def talk(client: Connection) -> None:
            self.assertTrue(client.greeting.startswith(b"+OK "))

        return self.client(talk, implicit=True)

    def test_a_new_certificate_is_for_new_connections_and_open_ones_stay(self) -> Deferred[None]:
        def talk(client: Connection) -> None:
            make_certificate(*self.paths)
            self.certificate.reload()
            self.assertTrue(client.send(b"CAPA\r\n").startswith(b"+OK "))
            with self.assertRaises(ssl.SSLCertVerificationError):
                Connection(self.tls, tls=self.trusting)
            again = ssl.create_default_context(cafile=self.paths[0])
            other = Connection(self.tls, tls=again)
            self.assertTrue(other.greeting.startswith(b"+OK "))
            other.socket.close()

        return self.client(talk, implicit=True)

    def test_a_bad_certificate_is_named_and_the_old_one_stays(self) -> Deferred[None]:
        with open(self.paths[0], "w") as file:
            file.write("no certificate")
        with self.assertRaises(ConfigError) as caught:
            self.certificate.reload()
        self.assertIn(self.paths[0], str(caught.exception))

        def talk(client: Connection) -> None:
            self.assertTrue(client.greeting.startswith(b"+OK "))

        return self.client(talk, implicit=True)

    def test_over_twisteds_tls_it_is_the_same(self) -> Deferred[None]:
        factory = TLSMemoryBIOFactory(self.certificate, False, self.wire.factory)
        self.tls = listen(self, factory)
        return self.test_over_implicit_tls_a_long_message_comes_whole()

    def test_the_key_of_a_self_signed_certificate_is_ecdsa_with_p_256(self) -> None:
        with open(self.paths[1], "rb") as file:
            key = serialization.load_pem_private_key(file.read(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.assertEqual(key.curve.name, "secp256r1")
        self.assertEqual(os.stat(self.paths[1]).st_mode & 0o777, 0o600)

    def test_a_key_that_does_not_fit_is_named(self) -> None:
        make_certificate(self.paths[0], self.paths[1] + ".other")
        with self.assertRaises(ConfigError) as caught:
            Certificate(*self.paths)
        self.assertIn(self.paths[1], str(caught.exception))

    def test_for_the_passphrase_of_an_encrypted_key_nobody_is_asked_at_the_terminal(self) -> None:
        with open(self.paths[1], "rb") as file:
            key = serialization.load_pem_private_key(file.read(), None)
        for form in (
            serialization.PrivateFormat.PKCS8,
            serialization.PrivateFormat.TraditionalOpenSSL,
        ):
            encryption = serialization.BestAvailableEncryption(b"secret")
            with open(self.paths[1], "wb") as file:
                file.write(key.private_bytes(serialization.Encoding.PEM, form, encryption))
            # A terminal of its own, with nobody at it.
            child, terminal = pty.fork()
            if child == 0:
                try:
                    self.certificate.reload()
                except ConfigError as error:
                    os.write(1, str(error).encode())
                finally:
                    os._exit(0)
            said = b""
            with contextlib.suppress(OSError):  # EIO is the end of what a terminal says
                while b":" not in said.rpartition(b"write it without")[2]:
                    if not readable(terminal, 20):
                        break
                    said += os.read(terminal, 4096)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(terminal)
            self.assertIn(b"the key is encrypted", said)
            self.assertNotIn(b"Enter", said)

    def test_by_default_all_ciphers_have_forward_secrecy_and_are_aead(self) -> None:
        names = ciphers_of(self.certificate)
        self.assertIn("ECDHE-RSA-AES128-GCM-SHA256", names)
        for name in names:
            self.assertRegex(name, r"\A(ECDHE-(RSA|ECDSA)|TLS)[-_].*(GCM|CHACHA20)", name)

    def test_a_listener_for_old_clients_has_what_they_know(self) -> None:
        old = TLSContext([Certificate(*self.paths)], minimum="1.0")
        names = ciphers_of(old)
        for wanted in ("AES128-SHA", "ECDHE-RSA-AES256-SHA", "ECDHE-RSA-AES128-GCM-SHA256"):
            self.assertIn(wanted, names)

    def test_a_listener_has_the_ciphers_that_are_set(self) -> None:
        own = TLSContext([Certificate(*self.paths)], minimum="1.2", ciphers="AES256-SHA256")
        names = ciphers_of(own)
        self.assertEqual([name for name in names if "TLS_" not in name], ["AES256-SHA256"])

    def test_ciphers_that_there_are_not_are_named(self) -> None:
        for ciphers in ("NONSENSE", "\u00e9"):
            with self.assertRaises(ConfigError) as caught:
                TLSContext([Certificate(*self.paths)], minimum="1.2", ciphers=ciphers)
            (problem,) = caught.exception.problems
            self.assertTrue(problem.startswith(f"ciphers {ciphers!r}: "))
