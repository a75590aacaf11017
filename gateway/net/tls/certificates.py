"""Certificates: reading them, their names, and a self-signed one for the first start."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from gateway.errors import ConfigError

__all__ = ["Certificate"]

_LEAST_SECURITY = b"DEFAULT:@SECLEVEL=0"
"""For a first look at a certificate: how strong it has to be depends on the listener."""


@frozen(eq=False)
class Contents:
    """What was in the files of a certificate at one time, and can be loaded."""

    paths: tuple[str, str]
    """Of the certificate and of its key, for messages."""

    pem: bytes
    """The certificate and its chain."""

    secret: Any
    """Its key."""

    digest: bytes
    """Of both files."""

    chain: tuple[x509.Certificate, ...]
    """Leaf first; empty if only OpenSSL can parse them."""

    names: frozenset[str]
    """The host names of the certificate in lower case; clients ask for these."""

    def load_into(self, context: SSL.Context) -> None:
        """Have a context show this certificate, beside those with other kinds of keys.

        Raises ``ConfigError``, for a key that is too short for example.
        """
        try:
            # OpenSSL keeps a chain for each certificate only if it reads a file.
            with _as_file(self.pem) as path:
                context.use_certificate_chain_file(path)
            context.use_privatekey(self.secret)
            context.check_privatekey()
        except (SSL.Error, OSError) as error:
            raise _failure(self.paths, error) from error


class Certificate:
    """A certificate with its chain, and its key: those that clients get."""

    def __init__(self, certificate: str, key: str, contents: Contents | None = None) -> None:
        """Paths of PEM files, the leaf first; raises ``ConfigError`` if they do not load.

        ``contents``: as in another certificate of these files, which are not read then.
        """
        self.certificate = certificate
        self.key = key
        self.contents: Contents = contents or _contents(certificate, key)

    def reload(self) -> bool:
        """Read the files again; returns whether something else is in them now.

        Raises ``ConfigError``, and then the old certificate and key stay.
        """
        found = self.read()
        self.contents = found or self.contents
        return found is not None

    def read(self) -> Contents | None:
        """What else is in the files now; None: nothing else.  Raises ``ConfigError``."""
        now = self.contents
        try:
            if _digest(self.certificate, self.key) == now.digest:
                return None
        except OSError as error:
            raise _failure((self.certificate, self.key), error) from error
        found = _contents(self.certificate, self.key)
        same = found.pem == now.pem and _octets(found.secret) == _octets(now.secret)
        return None if same else found

    def load_into(self, context: SSL.Context) -> None:
        """As in ``Contents``."""
        self.contents.load_into(context)

    @property
    def chain(self) -> Sequence[x509.Certificate]:
        """As in ``Contents``."""
        return self.contents.chain

    @property
    def names(self) -> frozenset[str]:
        """As in ``Contents``."""
        return self.contents.names

    @property
    def kind(self) -> str:
        """The kind of the key, such as ``RSA``."""
        return type(self.contents.secret).__name__.removesuffix("PrivateKey")

    @property
    def der(self) -> bytes:
        """The certificate without its chain, in DER; empty if only OpenSSL can parse it."""
        return self.chain[0].public_bytes(serialization.Encoding.DER) if self.chain else b""


def _contents(certificate: str, key: str) -> Contents:
    try:
        digest = _digest(certificate, key)
        with open(certificate, "rb") as file:
            pem = file.read()
        secret = _private_key(key)
        try:
            chain = tuple(x509.load_pem_x509_certificates(pem))
        except ValueError:
            chain = ()
        found = names_of(chain[0], x509.DNSName) if chain else []
        names = frozenset(name.lower().removesuffix(".") for name in found)
        contents = Contents((certificate, key), pem, secret, digest, chain, names)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_cipher_list(_LEAST_SECURITY)
        contents.load_into(context)
    except (SSL.Error, OSError, ValueError, TypeError) as error:
        raise _failure((certificate, key), error) from error
    return contents


def _failure(paths: tuple[str, str], error: Exception) -> ConfigError:
    certificate, key = paths
    return ConfigError([f"TLS certificate {certificate}, key {key}: {reasons_of(error)}"])


def names_of(
    certificate: x509.Certificate,
    *kinds: type[x509.DNSName | x509.IPAddress],
) -> list[str]:
    """The subject alternative names of these kinds (RFC 5280 section 4.2.1.6)."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        # Current clients ignore the subject's common name.
        return []
    return [str(name) for kind in kinds for name in extension.value.get_values_for_type(kind)]


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path that has these octets, for libraries that read files only."""
    if sys.platform == "linux" and os.path.isdir("/proc/self/fd"):
        # In memory: a container may have no place for temporary files.
        with open(os.memfd_create("certificate"), "wb", buffering=0) as file:
            file.write(data)
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile(buffering=0) as temporary:
            temporary.write(data)
            yield temporary.name


def _digest(*paths: str) -> bytes:
    found = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            found.update(hashlib.sha256(file.read()).digest())
    return found.digest()


def _octets(secret: Any) -> bytes:
    form, encoding = serialization.PrivateFormat.PKCS8, serialization.Encoding.DER
    return bytes(secret.private_bytes(encoding, form, serialization.NoEncryption()))


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


def reasons_of(error: Exception) -> str:
    """The text of why OpenSSL or the file system refuses something."""
    if isinstance(error, SSL.Error):
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
