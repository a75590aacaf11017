"""Several certificates and resumed sessions, as OpenSSL's client sees them on each port."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import Pair
from gateway.cli.client import Server as Operator
from gateway.operations.server.control import reload_configuration
from s_client import Handshake, resumes
from servers import PASSWORD, USER, Gateway, fill, free_port

pytestmark = pytest.mark.interop

RSA_13 = ("-tls1_3", "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256")
RSA_12 = ("-tls1_2", "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256")
RSA_CIPHER = ("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256")
VERSIONS = ("-tls1_2", "-tls1_3")


class Server(Gateway):
    """POP3S, STLS and STARTTLS of LMTP: all with the same certificates."""

    def __init__(self, directory: Path) -> None:
        self.lmtp = free_port()
        lmtp = f'[lmtp]\nendpoint = "tcp:{self.lmtp}:interface=127.0.0.1"\ntls = "stls"\n'
        super().__init__(directory, lmtp)
        text = self.config.read_text()
        self.config.write_text(text.replace('certificate = "cert.pem"\nkey = "key.pem"\n', ""))
        self.pairs = [
            Pair(directory, "rsa", "pop.example.org", kind="rsa"),
            Pair(directory, "ec", "*.example.org"),
            Pair(directory, "net", "pop.example.net", kind="rsa"),
        ]

    def begin(self) -> Server:
        """Start it, with the certificates set by environment."""
        files = {
            f"POP3GW_{section}__CERTIFICATES__{number}__{name}": path
            for section in ("TLS", "LISTENERS__SECURE")
            for number, pair in enumerate(self.pairs, 1)
            for name, path in (("CERTIFICATE", pair.certificate), ("KEY", pair.key))
        }
        self.run(**files)
        return self

    @property
    def lines(self) -> list[tuple[int, tuple[str, ...]]]:
        """Each port with what begins TLS there."""
        return [
            (self.tls, ()),
            (self.plain, ("-starttls", "pop3")),
            (self.lmtp, ("-starttls", "lmtp")),
        ]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running one."""
    made = Server(tmp_path).begin()
    yield made
    made.stop()
    assert "Traceback" not in made.log


def test_a_client_gets_the_certificate_for_the_name_that_it_asks_for(server: Server) -> None:
    for port, how in server.lines:
        for name, wanted in (
            ("pop.example.org", "ec"),
            ("imap.example.org", "ec"),
            ("POP.example.net", "net"),
            ("pop.example.com", "ec"),
        ):
            assert Handshake(port, *how, "-servername", name).subject == wanted, (how, name)
        assert Handshake(port, *how, "-noservername").subject == "ec", how


def test_rsa_is_for_clients_that_know_no_ecdsa(server: Server) -> None:
    for port, how in server.lines:
        for client in (RSA_13, RSA_12, RSA_CIPHER):
            for name in (("-servername", "pop.example.org"), ("-noservername",)):
                shake = Handshake(port, *how, *client, *name)
                # OpenSSL 3.5 writes names of algorithms in lower case.
                assert (shake.subject, shake.signature[:3].upper()) == ("rsa", "RSA"), (how, client)
        for version in VERSIONS:
            shake = Handshake(port, *how, version, "-servername", "pop.example.org")
            assert (shake.subject, shake.signature[:5].upper()) == ("ec", "ECDSA")


def test_a_name_that_only_ecdsa_has_is_refused_to_a_client_without(server: Server) -> None:
    assert Handshake(server.tls, *RSA_CIPHER, "-servername", "imap.example.org").subject == ""
    server.wait_for(b"no shared cipher")


def test_the_name_counts_also_where_the_server_asks_for_another_key_share(server: Server) -> None:
    groups = ("-tls1_3", "-groups", "ffdhe8192:P-256", "-msg")
    for name, wanted in (("pop.example.net", "net"), ("pop.example.org", "ec")):
        shake = Handshake(server.tls, *groups, "-servername", name)
        assert shake.subject == wanted
        assert shake.output.count("ClientHello") == 2, shake.output


def test_sessions_are_resumed_where_they_began_and_nowhere_else(server: Server) -> None:
    directory = server.directory
    for version in VERSIONS:
        for port, how in server.lines:
            for name in (("-noservername",), ("-servername", "pop.example.net")):
                assert resumes(directory, port, version, *how, *name), (version, how, name)
            other, then = server.lines[(server.lines.index((port, how)) + 1) % 3]
            assert not resumes(
                directory, port, version, *how, at=other, then=" ".join((version, *then))
            )


def test_no_data_comes_before_the_handshake_has_ended(server: Server) -> None:
    output = Handshake(server.tls, "-tls1_3").output
    assert "Max Early Data: 0" in output
    assert "Resumption PSK" in output


def test_a_client_without_tickets_makes_a_full_handshake(server: Server) -> None:
    assert not resumes(server.directory, server.tls, "-tls1_2", "-no_ticket")


def test_a_session_resumed_serves_mail_to_a_client_that_closes_half(server: Server) -> None:
    fill(server.maildir, [b"Subject: one\r\n\r\ntext\r\n"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context.minimum_version = context.maximum_version = version
        session = None
        for resumed in (False, True, True):
            line = socket.create_connection(("127.0.0.1", server.tls), timeout=30)
            with context.wrap_socket(line, session=session) as wrapped:
                commands = f"USER {USER}\r\nPASS {PASSWORD}\r\nRETR 1\r\nQUIT\r\n"
                wrapped.sendall(commands.encode())
                data = b""
                while more := wrapped.recv(4096):
                    data += more
                session = wrapped.session
                assert wrapped.session_reused is resumed
            assert b"\r\ntext\r\n.\r\n+OK" in data


def test_sighup_reads_all_again_and_keeps_what_is_faulty(server: Server) -> None:
    session = str(server.directory / "kept.pem")
    net = ("-tls1_3", "-servername", "pop.example.net")
    assert not Handshake(server.tls, *net, "-sess_out", session).resumed
    server.send(signal.SIGHUP)
    server.wait_for(b"certificate_reloaded: ", times=3)
    assert Handshake(server.tls, *net, "-sess_in", session).resumed, "nothing has changed"
    new = Pair(server.directory, "rsa", "pop.example.com", kind="rsa")
    Path(server.pairs[1].key).write_text("no key")
    before = server.log.count("certificate_reloaded: ")
    server.send(signal.SIGHUP)
    server.wait_for(b"kept the old certificate: ")
    assert before + 2 == server.log.count("certificate_reloaded: ")
    (line,) = [one for one in server.log.splitlines() if "kept the old" in one]
    assert "tls.certificates.2, listeners.secure.certificates.2: TLS certificate" in line
    assert not Handshake(server.tls, *net, "-sess_in", session).resumed
    for port, how in server.lines:
        for name, wanted in (("pop.example.com", new.label), ("imap.example.org", "ec")):
            assert Handshake(port, *how, "-servername", name).subject == wanted


def test_a_certificate_that_is_added_is_shown_after_sighup_on_every_port(server: Server) -> None:
    more = Pair(server.directory, "more", "pop.example.com")
    for section in ("listeners.secure", "tls"):
        tables = "".join(
            f'[[{section}.certificates]]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n'
            for pair in (*server.pairs, more)
        )
        with server.config.open("a") as file:
            file.write(tables)
    server.send(signal.SIGHUP)
    server.wait_for(b"reloaded the configuration: ")
    for port, how in server.lines:
        for name, wanted in (("pop.example.com", "more"), ("pop.example.net", "net")):
            assert Handshake(port, *how, "-servername", name).subject == wanted, (how, name)


def test_all_worker_processes_take_a_new_certificate_at_sighup(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.config.open("a") as file:
        file.write("[processes]\nworkers = 2\n")
    server.begin()
    try:
        server.wait_for(b" ready: pid=", times=2)
        Pair(tmp_path, "net", "pop.example.com", kind="rsa")
        server.send(signal.SIGHUP)
        server.wait_for(b"reloaded the configuration: ")
        for _ in range(8):
            for name, wanted in (("pop.example.com", "net"), ("pop.example.net", "ec")):
                assert Handshake(server.tls, "-servername", name).subject == wanted
    finally:
        server.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_names_a_certificate_that_its_listeners_refuse_each_time(
    tmp_path: Path, workers: int
) -> None:
    server = Server(tmp_path)
    with server.config.open("a") as file:
        file.write(f"[processes]\nworkers = {workers}\n")
    server.begin()
    try:
        server.wait_for(b" ready: ")
        Pair(tmp_path, "net", "pop.example.net", kind="weak")
        for _ in range(2):
            kept = Operator(str(tmp_path), 60).ask(reload_configuration).kept
            assert any("too small" in line for line in kept), server.log
        assert Handshake(server.tls, "-servername", "pop.example.net").subject == "net"
    finally:
        server.stop()
