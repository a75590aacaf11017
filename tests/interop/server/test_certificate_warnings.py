"""The gateway's own log about the certificate that it shows."""

from __future__ import annotations

import datetime
import signal
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from gateway.net.tls.certificates import make_certificate
from servers import Gateway

pytestmark = pytest.mark.interop


def age(directory: Path) -> None:
    """Have the certificate of a gateway's directory end yesterday, and be another host's."""
    key = serialization.load_pem_private_key((directory / "key.pem").read_bytes(), None)
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([])
    other = x509.SubjectAlternativeName([x509.DNSName("other.example.net")])
    old = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=90))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(other, critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(old.public_bytes(serialization.Encoding.PEM))


def test_the_start_and_a_reload_warn_of_a_certificate_until_it_is_a_good_one(
    tmp_path: Path,
) -> None:
    gateway = Gateway(tmp_path)
    age(tmp_path)
    gateway.run()
    try:
        gateway.send(signal.SIGHUP)
        gateway.wait_for(b"its names fit no listener", times=2)
        assert gateway.log.count("expired: ") == 2
        make_certificate(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
        gateway.send(signal.SIGHUP)
        gateway.wait_for(b"reloaded", times=2)
    finally:
        gateway.stop()
    assert gateway.log.count(f"certificate {tmp_path}/cert.pem: ") == 4
