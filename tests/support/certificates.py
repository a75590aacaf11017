"""Certificates for tests: of any names, kind of key and authority."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from gateway.net.tls.certificates import make_certificate

PEM = serialization.Encoding.PEM
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def own_certificate(case: Any) -> tuple[str, str]:
    """The paths of a certificate as a server makes it at its first start, and of its key.

    In a directory of the test's own.
    """
    directory = case.mktemp()
    os.makedirs(directory)
    paths = f"{directory}/cert.pem", f"{directory}/key.pem"
    make_certificate(*paths)
    return paths


def make_key(kind: str) -> Key:
    """A new key: ``rsa`` (2048 bits), ``weak`` (RSA with 1024) or ``ec`` (P-256)."""
    if kind in ("rsa", "weak"):
        return rsa.generate_private_key(65537, 2048 if kind == "rsa" else 1024)
    return ec.generate_private_key(ec.SECP256R1())


class Pair:
    """A certificate with its key, in two files; without ``issuer`` it signs itself."""

    def __init__(
        self,
        directory: str | Path,
        label: str,
        *names: str,
        kind: str = "ec",
        issuer: Pair | None = None,
    ) -> None:
        self.label = label
        self.secret = make_key(kind)
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
        signer = issuer or self
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.secret.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
        )
        if names:
            alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternative, critical=False)
        self.own = builder.sign(signer.secret, hashes.SHA256())
        self.der = self.own.public_bytes(serialization.Encoding.DER)
        self.certificate, self.key = f"{directory}/{label}.pem", f"{directory}/{label}.key"
        chain = [self.own] if issuer is None else [self.own, issuer.own]
        Path(self.certificate).write_bytes(b"".join(one.public_bytes(PEM) for one in chain))
        form, open_ = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        Path(self.key).write_bytes(self.secret.private_bytes(PEM, form, open_))

    @property
    def paths(self) -> tuple[str, str]:
        """Certificate and key."""
        return self.certificate, self.key
