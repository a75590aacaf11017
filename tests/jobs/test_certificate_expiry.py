"""Certificates that are warned of, on a clock that is advanced."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.app.parts.certificates import Certificates
from gateway.config.listeners import CertificateFiles, Listener, Tls
from gateway.config.settings import Settings
from gateway.jobs.certificate_expiry import DAY, CertificateExpiry, fitting
from gateway.observe.log import emit_to_log

START = 1_800_000_000.0


def signed(
    names: Iterable[str], begins: float, ends: float, key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """Valid from ``begins`` to ``ends``, in days from ``START``; its own authority."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pop.example.org")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(begins))
        .not_valid_after(_time(ends))
    )
    found = [
        x509.IPAddress(ipaddress.ip_address(name)) if name[-1].isdigit() else x509.DNSName(name)
        for name in names
    ]
    if found:
        builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
    return builder.sign(key, hashes.SHA256())


def _time(days: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(START + days * DAY, datetime.UTC)


class ExpiryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)
        self.said: list[str] = []

        def hear(event: Any) -> None:
            self.said.append(str(event["log_format"]).format(**event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    def write(
        self,
        *lives: tuple[float, float],
        names: Iterable[str] = ("127.0.0.1",),
        label: str = "cert",
    ) -> tuple[str, str]:
        """A chain of certificates of these lives, and the key of the first."""
        pem = serialization.Encoding.PEM
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in lives]
        chain, key = f"{self.directory}/{label}.pem", f"{self.directory}/{label}.key"
        with open(chain, "wb") as file:
            for life, own in zip(lives, keys, strict=True):
                file.write(signed(names, *life, own).public_bytes(pem))
        secret = keys[0].private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with open(key, "wb") as file:
            file.write(secret)
        return chain, key

    def expiry(
        self,
        *lives: tuple[float, float],
        names: Iterable[str] = ("127.0.0.1",),
        endpoint: str = "tcp:995:interface=127.0.0.1",
        wanted: tuple[str, ...] = (),
    ) -> CertificateExpiry:
        """What checks this chain, which one listener shows."""
        paths = self.write(*lives, names=names)
        settings = Settings(
            tls=Tls(*paths, names=wanted),
            listeners={"pop3s": Listener(endpoint=endpoint, tls="implicit")},
        )
        certificates = Certificates(settings, emit_to_log)
        (self.certificate,) = certificates.of("pop3s").certificates
        return CertificateExpiry(
            self.clock,
            certificates.shown(settings),
            days=14,
            now=lambda: START + self.clock.seconds(),
        )

    def test_a_good_certificate_is_no_line(self) -> None:
        self.expiry((-1, 15), (-1, 15)).start()
        self.assertEqual(self.said, [])

    def test_each_day_from_two_weeks_before_its_end_on_is_a_line(self) -> None:
        expiry = self.expiry((-76, 14.5))
        expiry.start()
        for day in range(1, 18):
            before = len(self.said)
            self.clock.advance(DAY)
            (line,) = self.said[before:]
            self.assertIn("expires soon" if day <= 14 else "expired", line)
            self.assertIn(self.directory, line)
        expiry.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_expired_or_not_yet_valid_certificate_is_logged_at_the_start(self) -> None:
        for life, words in (((-9, -0.1), "expired: "), ((0.1, 9), "not yet valid: ")):
            self.said.clear()
            self.expiry(life).start()
            self.assertEqual(len(self.said), 1)
            self.assertIn(words, self.said[0])

    def test_one_behind_the_first_counts_as_well(self) -> None:
        self.expiry((-1, 90), (-90, -1)).start()
        self.assertEqual(len(self.said), 1)
        self.assertIn("CN=pop.example.org of its chain expired", self.said[0])

    def test_what_is_loaded_counts_and_not_what_is_in_the_file_meanwhile(self) -> None:
        expiry = self.expiry((-9, -1))
        expiry.start()
        self.write((-1, 90))
        expiry.check()
        self.assertEqual(len(self.said), 2)
        self.certificate.reload()
        expiry.check()
        self.assertEqual(len(self.said), 2)

    def test_names_that_fit_no_listener_are_logged_with_the_wanted_ones(self) -> None:
        for names in (("other.example.net",), ("127.0.0.2",), ()):
            self.said.clear()
            self.expiry((-1, 90), names=names).start()
            self.assertEqual(len(self.said), 1)
            self.assertIn("its names fit no listener", self.said[0])
            self.assertIn("127.0.0.1", self.said[0])

    def test_one_fitting_name_is_enough_unless_names_are_set(self) -> None:
        own = ("pop.example.org", "127.0.0.1")
        self.expiry((-1, 90), names=own).start()
        self.expiry((-1, 90), names=own, wanted=("POP.example.org",)).start()
        self.expiry((-1, 90), names=("*.example.org",), wanted=("pop.example.org",)).start()
        self.assertEqual(self.said, [])
        self.expiry((-1, 90), names=own, wanted=("pop.example.org", "mail.example.org")).start()
        self.assertEqual(len(self.said), 1)
        self.assertIn("wanted=mail.example.org;", self.said[0])

    def test_an_ipv6_address_is_read_from_its_endpoint(self) -> None:
        self.expiry((-1, 90), names=("::1",), endpoint=r"tcp6:995:interface=\:\:1").start()
        self.assertEqual(self.said, [])

    def several(
        self, *certificates: tuple[float, tuple[str, ...]], wanted: tuple[str, ...] = ()
    ) -> None:
        """What is said of a listener with these: each with its days to live and its names."""
        files = []
        for number, (days, names) in enumerate(certificates):
            paths = self.write((-1, days), names=names, label=f"cert{number}")
            files.append(CertificateFiles(*paths))
        settings = Settings(
            tls=Tls(names=wanted),
            listeners={
                "pop3s": Listener("tcp:995:interface=127.0.0.1", certificates=tuple(files)),
                "pop3": Listener("tcp:110:interface=127.0.0.1", certificates=tuple(files)),
            },
        )
        made = Certificates(settings, emit_to_log)
        for name in settings.listeners:
            made.of(name)
        expiry = CertificateExpiry(self.clock, made.shown(settings), days=14, now=lambda: START)
        self.said.clear()
        expiry.check()

    def test_of_several_each_is_named_once_with_all_its_places(self) -> None:
        self.several((90, ("127.0.0.1",)), (5, ("pop.example.org",)))
        (line,) = self.said
        self.assertIn("cert1.pem: expires soon: ", line)
        places = ("listeners.pop3s.certificates.2", "listeners.pop3.certificates.2")
        self.assertIn(f"(set by {', '.join(places)})", line)

    def test_the_names_of_all_certificates_of_a_listener_count_together(self) -> None:
        names = ("pop.example.org",), ("localhost",)
        self.several((90, names[0]), (90, names[1]))
        self.assertEqual(self.said, [])
        self.several((90, names[0]), (90, ("pop.example.net",)), wanted=("pop.example.com",))
        (line,) = self.said
        self.assertIn(
            "the names of all fit no listener: names=pop.example.net,pop.example.org ", line
        )

    def test_one_that_no_client_gets_is_named(self) -> None:
        self.several((90, ("127.0.0.1", "pop.example.org")), (90, ("pop.example.org",)))
        self.assertEqual(len(self.said), 1)
        self.assertIn("cert1.pem: no client gets it: ", self.said[0])
        # Clients that connect to an address ask for no name.
        self.several((90, ("pop.example.org", "localhost")), (90, ("127.0.0.1",)))
        self.assertEqual(len(self.said), 1)
        self.assertIn("cert1.pem: no client gets it: ", self.said[0])


class FitsTests(SynchronousTestCase):
    def test_which_names_a_client_takes_for_which(self) -> None:
        for presented, wanted, fit in (
            ("pop.example.org", "POP.example.org.", True),
            ("*.example.org", "pop.example.org", True),
            ("*.example.org", "example.org", False),
            ("*.example.org", "a.pop.example.org", False),
            ("*", "host", False),
            ("pop.example.org", "pop", True),
            ("pop.example.org", "po", False),
            ("xn--mller-kva.example", "müller.example", True),
            ("10.0.0.1", "10.0.0.1", True),
            ("*.0.0.1", "10.0.0.1", False),
            ("0:0::1", "::1", True),
        ):
            self.assertEqual(fitting([presented])(wanted), fit, (presented, wanted))
