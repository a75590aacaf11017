"""Certificates: loading, reloading, and a self-signed one for the first start."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from gateway.errors import ConfigError
from gateway.net.tls_line import TLSConnection

__all__ = ["Certificate"]

VERSIONS: Mapping[str, int] = {
    "1.0": SSL.TLS1_VERSION,
    "1.1": SSL.TLS1_1_VERSION,
    "1.2": SSL.TLS1_2_VERSION,
    "1.3": SSL.TLS1_3_VERSION,
}

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Ciphers of TLS 1.2: forward secrecy and AEAD only, as in TLS 1.3 (RFC 9325 section 4.2)."""

OLD_CIPHERS = "DEFAULT:@SECLEVEL=0"
"""Ciphers if TLS 1.0 or 1.1 is allowed, which have no AEAD.

OpenSSL 3 refuses both at its normal security level.
"""

_RELEASE_BUFFERS = 0x10
"""SSL_MODE_RELEASE_BUFFERS: idle connections free their record buffers (34 KiB)."""


@implementer(IOpenSSLServerConnectionCreator)
class Certificate:
    """A certificate with its key and TLS settings."""

    def __init__(self, certificate: str, key: str, *, minimum: str, ciphers: str = "") -> None:
        """Paths of PEM files, the leaf first; raises ``ConfigError`` if they do not load."""
        self.certificate = certificate
        self._key = key
        self._minimum = minimum
        self._ciphers = ciphers
        self._context = self._load()
        self.chain = self._read_chain()
        """The certificates that clients get, leaf first; empty if only OpenSSL can parse them."""

    def _load(self) -> SSL.Context:
        context = bare_context(self._minimum, self._ciphers)
        try:
            context.use_certificate_chain_file(self.certificate)
            context.use_privatekey(_private_key(self._key))
            context.check_privatekey()
        except (SSL.Error, OSError, ValueError, TypeError) as error:
            raise ConfigError(
                [f"TLS certificate {self.certificate}, key {self._key}: {_reasons(error)}"]
            ) from error
        return context

    def reload(self) -> None:
        """Read the files again, for new connections; open ones continue.

        Raises ``ConfigError``, and then the old certificate stays in use.
        """
        self._context = self._load()
        self.chain = self._read_chain()

    def _read_chain(self) -> list[x509.Certificate]:
        try:
            with open(self.certificate, "rb") as file:
                return x509.load_pem_x509_certificates(file.read())
        except (OSError, ValueError):
            return []

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """One connection's OpenSSL object."""
        return TLSConnection(self._context, tlsProtocol)


def bare_context(minimum: str, ciphers: str) -> SSL.Context:
    """A context without the certificate; raises ``ConfigError`` for unknown ciphers."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(VERSIONS[minimum])
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_mode(_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"pop3gw")
    old = minimum in ("1.0", "1.1")
    ciphers = ciphers or (OLD_CIPHERS if old else CIPHERS)
    try:
        context.set_cipher_list(ciphers.encode())
    except SSL.Error as error:
        raise ConfigError([f"ciphers {ciphers!r}: {_reasons(error)}"]) from None
    return context


def _private_key(path: str) -> Any:
    """Load the key without OpenSSL, which would wait for a passphrase at the terminal."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        return serialization.load_pem_private_key(data, None)
    except TypeError:
        raise ValueError(
            "the key is encrypted, and nobody is there to type its passphrase;"
            f" store it without one: openssl pkey -in {path} -out {path}.clear"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("no private key in PEM that could be used") from None


def _reasons(error: Exception) -> str:
    if isinstance(error, SSL.Error):
        # For a missing file OpenSSL reports only "system lib", several times.
        found = dict.fromkeys(reason for _, _, reason in error.args[0] if reason)
        return ", ".join(found) or "not usable"
    if isinstance(error, PermissionError):
        return (
            f"{error.strerror}; let the user that runs pop3gw read it, or start as root with --uid"
        )
    return getattr(error, "strerror", None) or str(error)


def make_certificate(certificate: str, key: str) -> None:
    """Write a self-signed certificate for this machine, good for ten years, and its key.

    ECDSA with P-256: a signature costs a tenth of one by RSA, and all clients with TLS 1.2 have it.
    """
    host = socket.gethostname()
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64] or "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [
        x509.DNSName(host or "localhost"),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    pem = secret.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    files = {key: (pem, 0o600), certificate: (made.public_bytes(serialization.Encoding.PEM), 0o644)}
    # Both or none: a single file would prevent a new attempt.
    for path, (data, mode) in files.items():
        _write(f"{path}.new", data, mode)
    for path in files:
        os.rename(f"{path}.new", path)


def _write(path: str, data: bytes, mode: int) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(file, "wb") as out:
        out.write(data)
