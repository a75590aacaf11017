"""Channel bindings of certificates, by what they are signed with."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import CertificateBuilder, Name, NameOID, random_serial_number
from cryptography.x509 import NameAttribute as Attribute
from twisted.trial.unittest import SynchronousTestCase

from gateway.sasl.channel import end_point

RSA_WITH = bytes.fromhex("2a864886f70d0101")
"""What the names of RSA signatures begin with (RFC 8017 appendix C): one octet more is the hash."""

RSA_MD5, RSA_SHA1, RSA_SHA256 = RSA_WITH + b"\x04", RSA_WITH + b"\x05", RSA_WITH + b"\x0b"


def certificate(key: Any, algorithm: Any) -> bytes:
    """One that the key has signed for itself with this hash, in DER."""
    name = Name([Attribute(NameOID.COMMON_NAME, "mail.example")])
    today = datetime(2026, 1, 1, tzinfo=UTC)
    builder = CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=random_serial_number(),
        not_valid_before=today,
        not_valid_after=today + timedelta(days=1),
    )
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


class EndPointTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())

    def test_the_hash_is_the_one_that_the_certificate_is_signed_with(self) -> None:
        for algorithm, name in ((SHA256(), "sha256"), (SHA384(), "sha384")):
            der = certificate(self.key, algorithm)
            self.assertEqual(end_point(der), hashlib.new(name, der).digest())

    def test_in_place_of_md5_and_sha_1_it_is_sha_256(self) -> None:
        signed = certificate(rsa.generate_private_key(65537, 2048), SHA256())
        for algorithm in (RSA_MD5, RSA_SHA1):
            # No library signs so any more, and whether the signature is right is not asked here.
            der = signed.replace(RSA_SHA256, algorithm)
            self.assertNotEqual(der, signed)
            self.assertEqual(end_point(der), hashlib.sha256(der).digest())

    def test_a_signature_without_a_hash_has_none(self) -> None:
        self.assertEqual(end_point(certificate(ed25519.Ed25519PrivateKey.generate(), None)), b"")

    def test_no_certificate_has_none(self) -> None:
        self.assertEqual(end_point(b""), b"")
