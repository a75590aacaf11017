"""Warnings of certificates that expire, or lack the names that clients connect to."""

from __future__ import annotations

import datetime
import ipaddress
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from attrs import frozen
from cryptography import x509
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from gateway.events import CertificateProblem, Emit
from gateway.net.tls import Certificate
from gateway.observe.log import emit_to_log

DAY = 86_400.0


@frozen
class Shown:
    """A certificate, and the names by which clients reach the listeners that show it."""

    certificate: Certificate
    names: frozenset[str]
    all_of_them: bool = False
    """Set by ``tls.names``: the certificate must have all of them, not only one."""


class CertificateExpiry:
    """Checks certificates at start, after each reload, and daily."""

    def __init__(
        self,
        clock: IReactorTime,
        shown: Sequence[Shown],
        *,
        days: float,
        now: Callable[[], float] = time.time,
        emit: Emit = emit_to_log,
    ) -> None:
        """``days``: warn from then before expiry; ``now`` in Unix seconds."""
        self._shown = shown
        self._days = days
        self._now = now
        self._emit = emit
        self._daily = LoopingCall(self.check)
        self._daily.clock = clock

    def start(self) -> None:
        """Check now, and daily."""
        self._daily.start(DAY)

    def stop(self) -> None:
        """Stop the daily checks."""
        if self._daily.running:
            self._daily.stop()

    def check(self) -> None:
        """Log the problems of each certificate; never fails."""
        now = datetime.datetime.fromtimestamp(self._now(), datetime.UTC)
        early = datetime.timedelta(days=self._days)
        for one in self._shown:
            path = one.certificate.certificate
            try:
                for problem in problems(one, now, early):
                    self._emit(CertificateProblem(path, problem))
            except ValueError as error:
                # OpenSSL may serve a certificate that this library cannot parse.
                self._emit(CertificateProblem(path, f"cannot be read: {error}"))


def problems(shown: Shown, now: datetime.datetime, early: datetime.timedelta) -> Iterator[str]:
    """The problems of a certificate and of its intermediate certificates."""
    for place, one in enumerate(shown.certificate.chain):
        subject = f"{one.subject.rfc4514_string()} of its chain " if place else ""
        begins, ends = one.not_valid_before_utc, one.not_valid_after_utc
        if now < begins:
            yield f"{subject}not yet valid: valid from {begins:%Y-%m-%d %H:%M} UTC"
        elif now > ends:
            yield f"{subject}expired: {ends:%Y-%m-%d %H:%M} UTC"
        elif now > ends - early:
            yield f"{subject}expires soon: {ends:%Y-%m-%d %H:%M} UTC, in {(ends - now).days} days"
    if shown.certificate.chain:
        yield from _unnamed(shown, names_of(shown.certificate.chain[0]))


def _unnamed(shown: Shown, has: Collection[str]) -> Iterator[str]:
    missing = sorted(name for name in shown.names if not any(fits(one, name) for one in has))
    if missing and (shown.all_of_them or len(missing) == len(shown.names)):
        yield (
            f"its names fit no listener: names={','.join(sorted(has)) or 'none'}"
            f" wanted={','.join(missing)}; set tls.names to the names that clients connect to"
        )


def names_of(certificate: x509.Certificate) -> list[str]:
    """The host names and addresses that a certificate is for (RFC 6125, RFC 5280 4.2.1.6)."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        # Current clients ignore the subject's common name.
        return []
    names = extension.value
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def fits(presented: str, wanted: str) -> bool:
    """Whether a client that connects to ``wanted`` accepts a certificate for ``presented``.

    A host name without a domain matches the first label.
    """
    presented, wanted = _canonical(presented), _canonical(wanted)
    if _is_address(wanted):
        return presented == wanted
    if presented.startswith("*."):
        return "." in wanted and presented[1:] == wanted[wanted.index(".") :]
    return presented == wanted or ("." not in wanted and presented.split(".")[0] == wanted)


def _canonical(name: str) -> str:
    if _is_address(name):
        return str(ipaddress.ip_address(name))
    try:
        return name.rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        return name.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
