"""Which certificate an LDAP server may show, by how the configuration names it."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.directory.ldap_servers import Reach, Servers
from gateway.errors import DirectoryDown

NOW = datetime.datetime.now(datetime.UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _signed(
    subject: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, *names: str
) -> x509.CertificateBuilder:
    """With as little in it as many a private authority puts there: no key identifiers."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name("Authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    else:
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(by, hashes.SHA256())


def _alternative(name: str) -> x509.GeneralName:
    kind, _, value = name.partition(":")
    if kind == "IP":
        return x509.IPAddress(ipaddress.ip_address(value))
    return x509.DNSName(value)


@contextmanager
def server(directory: Path, host: str, names: tuple[str, ...]) -> Iterator[tuple[int, str, list]]:
    """Its port, its authority's certificate, and the names that clients have asked for."""
    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(_signed("Authority", authority, authority).public_bytes(pem))
    secret = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    shown = _signed("somebody", own, authority, *names).public_bytes(pem)
    (directory / "server.pem").write_bytes(shown + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    with (
                        closing(client),
                        suppress(OSError),
                        context.wrap_socket(client, server_side=True) as line,
                    ):
                        line.recv(100)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1], str(directory / "ca.pem"), asked
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("127.0.0.1", ("IP:127.0.0.1",)),
        ("127.0.0.1", ("DNS:ldap.example.org", "IP:10.0.0.1", "IP:127.0.0.1")),
        ("::1", ("IP:::1",)),
        ("localhost", ("DNS:localhost",)),
        ("LOCALHOST", ("DNS:ldap.example.org", "DNS:LocalHost")),
    ],
)
def test_a_server_is_reached_by_the_address_or_name_that_its_certificate_has(
    tmp_path: Path, host: str, names: tuple[str, ...]
) -> None:
    address = "127.0.0.1" if host.lower() == "localhost" else host
    with server(tmp_path, address, names) as (port, authority, asked):
        place = f"[{host}]" if ":" in host else host
        reach = Reach(uris=(f"ldaps://{place}:{port}",), ca_file=authority)
        servers = Servers(reach, lambda _: None, lambda: 0.0)
        assert servers.use(lambda connection: bool(connection.socket.getpeercert()))
        # A name is told to the server, which may have several certificates.
        assert asked == ["localhost" if host.lower() == "localhost" else None]


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("127.0.0.1", ("IP:127.0.0.2",)),
        ("127.0.0.1", ("DNS:127.0.0.1",)),
        ("127.0.0.1", ("DNS:localhost",)),
        ("::1", ("IP:127.0.0.1", "DNS:*")),
        ("localhost", ("IP:127.0.0.1",)),
        ("localhost", ("DNS:ldap.example.org", "DNS:*.localhost")),
    ],
)
def test_a_server_whose_certificate_is_anothers_is_not_asked(
    tmp_path: Path, host: str, names: tuple[str, ...]
) -> None:
    address = "127.0.0.1" if host == "localhost" else host
    with server(tmp_path, address, names) as (port, authority, _):
        place = f"[{host}]" if ":" in host else host
        servers = Servers(
            Reach(uris=(f"ldaps://{place}:{port}",), ca_file=authority),
            lambda _: None,
            lambda: 0.0,
        )
        with pytest.raises(DirectoryDown, match="certificate verify failed"):
            servers.use(lambda _: pytest.fail("it was asked"))


def test_a_server_of_an_authority_that_is_not_known_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    names = ("IP:127.0.0.1",)
    with (
        server(tmp_path, "127.0.0.1", names) as (port, _, _),
        server(tmp_path / "other", "127.0.0.1", names) as (_, other, _),
    ):
        reach = Reach(uris=(f"ldaps://127.0.0.1:{port}",), ca_file=other)
        with pytest.raises(DirectoryDown, match="certificate verify failed"):
            Servers(reach, lambda _: None, lambda: 0.0).use(lambda _: None)
