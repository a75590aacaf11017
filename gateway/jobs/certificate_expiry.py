"""Warnings of certificates that expire, or lack the names that clients connect to."""

from __future__ import annotations

import datetime
import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from attrs import frozen
from cryptography import x509
from twisted.internet.interfaces import IReactorTime

from gateway.events import CertificateProblem, Emit
from gateway.net.tls.certificates import Certificate, names_of
from gateway.net.tls.server_names import unused
from gateway.observe.log import emit_to_log
from gateway.observe.looping import looping

DAY = 86_400.0

_UNUSED = "no client gets it: those before it have all its host names and its kind of key"


@frozen
class Shown:
    """Certificates of listeners, and the names by which clients reach these."""

    certificates: Sequence[Certificate]
    places: Sequence[str]
    """The sections that name each of the certificates."""
    names: frozenset[str]
    all_of_them: bool = False
    """Set by ``tls.names``: the certificates must have all of them, not only one."""


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
        self._daily = looping(self.check, "check of certificates", clock)

    def start(self) -> None:
        """Check now, and daily."""
        self._daily.start(DAY)

    def stop(self) -> None:
        """Stop the daily checks."""
        if self._daily.running:
            self._daily.stop()

    def check(self) -> None:
        """Log the problems of each certificate; never fails."""
        for certificate, place, problem in self.problems():
            self._emit(CertificateProblem(certificate.certificate, problem, place))

    def problems(self) -> Iterator[tuple[Certificate, str, str]]:
        """Each problem of a certificate, with the section that names the certificate."""
        now = datetime.datetime.fromtimestamp(self._now(), datetime.UTC)
        early = datetime.timedelta(days=self._days)
        checked = set()
        for shown in self._shown:
            idle = unused(shown.certificates)
            for one, place in zip(shown.certificates, shown.places, strict=True):
                if one not in checked:
                    yield from self._found(one, place, partial(problems, one.chain, now, early))
                checked.add(one)
                if one in idle:
                    yield one, place, _UNUSED
            if all(one.chain for one in shown.certificates):
                unnamed = partial(_unnamed, shown)
                yield from self._found(shown.certificates[0], shown.places[0], unnamed)

    def _found(
        self, certificate: Certificate, place: str, find: Callable[[], Iterator[str]]
    ) -> Iterator[tuple[Certificate, str, str]]:
        try:
            found = list(find())
        except ValueError as error:
            # OpenSSL may serve a certificate that this library cannot parse.
            found = [f"cannot be read: {error}"]
        for problem in found:
            yield certificate, place, problem


def problems(
    chain: Sequence[x509.Certificate], now: datetime.datetime, early: datetime.timedelta
) -> Iterator[str]:
    """The problems of a certificate and of its intermediate certificates."""
    for place, one in enumerate(chain):
        subject = f"{one.subject.rfc4514_string()} of its chain " if place else ""
        begins, ends = one.not_valid_before_utc, one.not_valid_after_utc
        if now < begins:
            yield f"{subject}not yet valid: valid from {begins:%Y-%m-%d %H:%M} UTC"
        elif now > ends:
            yield f"{subject}expired: {ends:%Y-%m-%d %H:%M} UTC"
        elif now > ends - early:
            yield f"{subject}expires soon: {ends:%Y-%m-%d %H:%M} UTC, in {(ends - now).days} days"


def _unnamed(shown: Shown) -> Iterator[str]:
    """The problems of the names of all certificates of a listener together."""
    kinds = x509.DNSName, x509.IPAddress
    has = {name for one in shown.certificates for name in names_of(one.chain[0], *kinds)}
    which = "its names" if len(shown.certificates) == 1 else "the names of all"
    fits = fitting(has)
    missing = sorted(name for name in shown.names if not fits(name))
    if missing and (shown.all_of_them or len(missing) == len(shown.names)):
        yield (
            f"{which} fit no listener: names={','.join(sorted(has)) or 'none'}"
            f" wanted={','.join(missing)}; set tls.names to the names that clients connect to"
        )


def fitting(presented: Iterable[str]) -> Callable[[str], bool]:
    """Whether a client that connects to a name accepts a certificate for ``presented``.

    A host name without a domain matches the first label.
    """
    exact = set(map(_canonical, presented))
    labels = {name.partition(".")[0] for name in exact}

    def fits(wanted: str) -> bool:
        wanted = _canonical(wanted)
        if wanted in exact:
            return True
        _, dot, domain = wanted.partition(".")
        found = f"*.{domain}" in exact if dot else wanted in labels
        return found and not _is_address(wanted)

    return fits


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
