"""Which certificate a client gets, and whether its session is resumed: handshakes in memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import ssl

from OpenSSL import SSL
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase

from certificates import Pair
from gateway.errors import ConfigError
from gateway.net.tls.certificates import Certificate
from gateway.net.tls.context import TLSContext

OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
RSA_ONLY = "ECDHE-RSA-AES128-GCM-SHA256"


class Client:
    """A client with any trust; Python's own TLS, not the library of the server."""

    def __init__(self, version: ssl.TLSVersion = NEW, ciphers: str = "") -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.context.minimum_version = self.context.maximum_version = version
        if ciphers:
            self.context.set_ciphers(ciphers)

    def connect(
        self, tls: TLSContext, name: str | None = None, session: ssl.SSLSession | None = None
    ) -> tuple[ssl.SSLObject, SSL.Connection]:
        """Both sides after a handshake and an octet from the server."""
        server = tls.serverConnectionForTLS(TLSMemoryBIOProtocol(None, None))
        server.set_accept_state()
        incoming, outgoing = self.incoming, _ = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.context.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
        for step in (client.do_handshake, server.do_handshake) * 3:
            with contextlib.suppress(ssl.SSLWantReadError, SSL.WantReadError):
                step()
            if data := outgoing.read():
                server.bio_write(data)
            with contextlib.suppress(SSL.WantReadError):
                incoming.write(server.bio_read(1 << 16))
        server.send(b"+")
        incoming.write(server.bio_read(1 << 16))
        assert client.read(1) == b"+"
        return client, server


class TLSCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.makedirs(self.directory)

    def pair(self, label: str, *names: str, kind: str = "ec", issuer: Pair | None = None) -> Pair:
        """A certificate in files of its own."""
        return Pair(self.directory, label, *names, kind=kind, issuer=issuer)

    def tls(self, *pairs: Pair, name: str = "a", lifetime: float = 600) -> TLSContext:
        """A listener's context."""
        read = [Certificate(*pair.paths) for pair in pairs]
        return TLSContext(read, minimum="1.2", name=name, ticket_key_lifetime=lifetime)


class ServerNameTests(TLSCase):
    def setUp(self) -> None:
        super().setUp()
        self.org = self.pair("org", "pop.example.org")
        self.net = self.pair("net", "pop.example.net")
        self.wild = self.pair("wild", "*.example.net")
        self.all = self.tls(self.org, self.net, self.wild)

    def test_a_client_gets_the_certificate_of_the_name_that_it_asks_for(self) -> None:
        for version in (OLD, NEW):
            for name, wanted in (
                ("pop.example.org", self.org),
                ("POP.example.net", self.net),
                ("imap.example.net", self.wild),
                ("pop.example.com", self.org),
                ("a.b.example.net", self.org),
                (None, self.org),
            ):
                client, _ = Client(version).connect(self.all, name)
                self.assertEqual(client.getpeercert(True), wanted.der, (version, name))

    def test_other_settings_are_the_same_for_each_name(self) -> None:
        for name in ("pop.example.org", "pop.example.net", None):
            with self.assertRaises(SSL.Error):
                Client(OLD, "AES128-SHA").connect(self.all, name)

    def test_the_certificates_of_a_connection_are_those_of_its_time(self) -> None:
        server = Client().connect(self.all, "pop.example.net")[1]
        before = (self.org.der, self.net.der, self.wild.der)
        self.assertEqual(server.certificates, before)
        self.pair("net", "pop.example.net")
        self.all.reload()
        self.assertEqual(server.certificates, before)

    def test_names_of_a_new_certificate_count_after_a_reload(self) -> None:
        new = self.pair("wild", "*.example.com")
        self.all.reload()
        for name, wanted in (("pop.example.com", new), ("imap.example.net", self.org)):
            client, _ = Client().connect(self.all, name)
            self.assertEqual(client.getpeercert(True), wanted.der)

    def test_a_reload_makes_new_contexts_for_the_names_of_changed_certificates_only(self) -> None:
        def contexts() -> list[object]:
            names = "pop.example.net", "imap.example.net"
            return [Client().connect(self.all, name)[1].get_context() for name in names]

        net, wild = contexts()
        self.pair("wild", "*.example.net")
        self.all.reload()
        self.assertIs(contexts()[0], net)
        self.assertIsNot(contexts()[1], wild)


class KindTests(TLSCase):
    def setUp(self) -> None:
        super().setUp()
        self.issuers = {kind: self.pair(f"ca-{kind}", kind=kind) for kind in ("rsa", "ec")}
        self.rsa, self.ec = (
            self.pair(kind, "pop.example.org", kind=kind, issuer=self.issuers[kind])
            for kind in ("rsa", "ec")
        )

    def test_ecdsa_is_for_clients_that_can_and_rsa_for_others(self) -> None:
        for pairs in ((self.rsa, self.ec), (self.ec, self.rsa)):
            tls = self.tls(*pairs)
            for name in ("pop.example.org", None):
                for client, wanted in (
                    (Client(NEW), self.ec),
                    (Client(OLD), self.ec),
                    (Client(OLD, RSA_ONLY), self.rsa),
                ):
                    found, _ = client.connect(tls, name)
                    self.assertEqual(found.getpeercert(True), wanted.der)

    def test_each_comes_with_its_own_chain(self) -> None:
        tls = self.tls(self.rsa, self.ec)
        for ciphers, kind in ((RSA_ONLY, "rsa"), ("ECDHE-ECDSA-AES128-GCM-SHA256", "ec")):
            client = SSL.Context(SSL.TLS_CLIENT_METHOD)
            client.set_max_proto_version(SSL.TLS1_2_VERSION)
            client.set_cipher_list(ciphers.encode())
            line = SSL.Connection(client, None)
            line.set_connect_state()
            server = tls.serverConnectionForTLS(TLSMemoryBIOProtocol(None, None))
            server.set_accept_state()
            for one, other in ((line, server), (server, line)) * 2:
                with contextlib.suppress(SSL.WantReadError):
                    one.do_handshake()
                other.bio_write(one.bio_read(1 << 16))
            chain = line.get_peer_cert_chain(as_cryptography=True)
            wanted = {"rsa": self.rsa, "ec": self.ec}[kind]
            self.assertEqual(chain, [wanted.own, self.issuers[kind].own])


class ResumptionTests(TLSCase):
    def setUp(self) -> None:
        super().setUp()
        self.org = self.pair("org", "pop.example.org")
        self.net = self.pair("net", "pop.example.net")

    def resumes(
        self, first: TLSContext, second: TLSContext | None = None, *names: str | None
    ) -> list[bool]:
        """Whether a session with ``first`` is resumed by ``second``: in TLS 1.2 and in 1.3."""
        name, other = names or (None, None)
        found = []
        for version in (OLD, NEW):
            client = Client(version)
            line, _ = client.connect(first, name)
            again, _ = client.connect(second or first, other, line.session)
            found.append(bool(again.session_reused))
        return found

    def test_a_session_is_resumed(self) -> None:
        self.assertEqual(self.resumes(self.tls(self.org)), [True, True])

    def test_a_resumed_session_gives_a_new_ticket_which_is_good_too(self) -> None:
        tls = self.tls(self.org)
        for version in (OLD, NEW):
            client = Client(version)
            line, _ = client.connect(tls)
            for _ in range(3):
                session = line.session
                line, _ = client.connect(tls, session=session)
                self.assertTrue(line.session_reused)

    def test_a_session_is_resumed_under_each_name(self) -> None:
        tls = self.tls(self.org, self.net)
        for name in ("pop.example.org", "pop.example.net", "pop.example.com"):
            self.assertEqual(self.resumes(tls, None, name, name), [True, True], name)

    def test_the_certificate_of_the_first_handshake_is_known_in_a_resumed_session(self) -> None:
        rsa = self.pair("rsa", "pop.example.org", kind="rsa")
        for pairs in ((rsa, self.org), (self.org, rsa)):
            tls = self.tls(*pairs)
            for client in (Client(OLD, RSA_ONLY), Client(OLD), Client(NEW)):
                line, _ = client.connect(tls)
                seen = line.getpeercert(True)
                again, server = client.connect(tls, session=line.session)
                self.assertTrue(again.session_reused)
                self.assertIn(seen, server.certificates)

    def test_the_session_of_another_listener_is_not_resumed(self) -> None:
        first, second = self.tls(self.org, name="a"), self.tls(self.org, name="b")
        self.assertEqual(self.resumes(first, second), [False, False])

    def test_new_keys_make_old_tickets_void_and_new_ones_are_good(self) -> None:
        tls = self.tls(self.org)
        for version in (OLD, NEW):
            client = Client(version)
            line, _ = client.connect(tls)
            tls.renew()
            again, _ = client.connect(tls, session=line.session)
            self.assertFalse(again.session_reused)
            third, _ = client.connect(tls, session=again.session)
            self.assertTrue(third.session_reused)

    def test_a_connection_survives_new_keys(self) -> None:
        tls = self.tls(self.org, self.net)
        client = Client()
        line, server = client.connect(tls, "pop.example.net")
        tls.renew()
        server.send(b"-")
        client.incoming.write(server.bio_read(1 << 16))
        self.assertEqual(line.read(1), b"-")

    def test_tickets_are_good_for_half_as_long_as_their_keys(self) -> None:
        for version in (OLD, NEW):
            line, _ = Client(version).connect(self.tls(self.org, lifetime=600))
            self.assertEqual(line.session.ticket_lifetime_hint, 300)

    def test_a_lifetime_of_0_turns_resumption_off(self) -> None:
        self.assertEqual(self.resumes(self.tls(self.org, lifetime=0)), [False, False])


class CertificateTests(TLSCase):
    def test_whether_anything_has_changed(self) -> None:
        pair = self.pair("a", "pop.example.org")
        certificate = Certificate(*pair.paths)
        self.assertFalse(certificate.reload())
        self.pair("a", "pop.example.org")
        self.assertTrue(certificate.reload())
        self.assertFalse(certificate.reload())

    def test_a_faulty_one_stays_as_it_was_and_the_others_are_new(self) -> None:
        org, net = self.pair("org", "pop.example.org"), self.pair("net", "pop.example.net")
        tls = self.tls(org, net)
        with open(org.certificate, "w") as file:
            file.write("no certificate")
        new = self.pair("net", "pop.example.net")
        with self.assertRaises(ConfigError) as caught:
            tls.reload()
        self.assertIn(org.certificate, str(caught.exception))
        for name, wanted in (("pop.example.org", org), ("pop.example.net", new)):
            client, _ = Client().connect(tls, name)
            self.assertEqual(client.getpeercert(True), wanted.der)

    def test_the_key_of_another_is_a_fault_and_the_old_pair_stays(self) -> None:
        org = self.pair("org", "pop.example.org")
        tls = self.tls(org)
        shutil.copy(self.pair("net", "pop.example.net").key, org.key)
        with self.assertRaises(ConfigError) as caught:
            tls.reload()
        self.assertIn("mismatch", str(caught.exception))
        client, _ = Client().connect(tls)
        self.assertEqual(client.getpeercert(True), org.der)
