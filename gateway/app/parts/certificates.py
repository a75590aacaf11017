"""The certificates of the settings, and the names that they must contain."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from attrs import evolve, frozen
from cryptography import x509
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock

from gateway import endpoints
from gateway.app.parts.parts import Life, Parts
from gateway.config.listeners import CertificateFiles
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.events import CertificateRejected, CertificateReloaded, Emit
from gateway.jobs.certificate_expiry import CertificateExpiry, Shown
from gateway.net.tls.certificates import Certificate, names_of
from gateway.net.tls.context import MakeContext, TLSContext, new_context, prepare_context
from gateway.observe.looping import looping
from gateway.operations.server.certificates import CertificateRow

_ANY = ("", "0.0.0.0", "::")


@frozen
class _Use:
    """The certificates of a listener in use."""

    context: TLSContext
    files: tuple[CertificateFiles, ...]
    endpoint: str


class Certificates:
    """TLS of all listeners; each certificate is read once.  Methods raise ``ConfigError``."""

    def __init__(
        self,
        settings: Settings,
        emit: Emit,
        make: MakeContext | None = None,
        before: Certificates | None = None,
    ) -> None:
        """``make``: for another process that says when to ``renew``; None: by the clock.

        ``before``: those that clients get so far.  What these have of the same files is taken as
        it is, until ``reload``: the files may be no good by now.
        """
        self._settings = settings
        self._make_context = make
        self._emit = emit
        self._before = {} if before is None else dict(before._read)
        self._read: dict[CertificateFiles, Certificate] = {}
        self._places: dict[CertificateFiles, dict[str, None]] = {}
        """The sections that name a certificate, for messages; the values mean nothing."""
        self._uses: dict[str, _Use] = {}
        self._renewal = looping(self.renew, "renewal of ticket keys")

    def of(self, name: str) -> TLSContext:
        """TLS of a listener."""
        listener = self._settings.listeners[name]
        return self._make(
            f"listeners.{name}",
            listener.endpoint,
            self._settings.certificates_of(name),
            minimum=listener.tls_minimum,
            ciphers=listener.ciphers,
        )

    def for_mail(self) -> TLSContext:
        """TLS of LMTP, with the certificates of ``[tls]``."""
        settings = self._settings
        return self._make("lmtp", settings.lmtp.endpoint, settings.tls_certificates)

    def for_http(self) -> TLSContext:
        """TLS of HTTP."""
        http = self._settings.http
        return self._make(
            "http",
            http.endpoint,
            self._settings.http_certificates,
            minimum=http.tls_minimum,
            ciphers=http.ciphers,
        )

    def check(self, name: str) -> None:
        """Raise ``ConfigError`` for errors of a listener's certificates and ciphers.

        A missing file is none here.
        """
        listener = self._settings.listeners[name]
        if listener.tls == "none":
            return
        if _all_there(self._settings.certificates_of(name)):
            self.of(name)
            return
        try:
            prepare_context(listener.tls_minimum, listener.ciphers, new_context())
        except ConfigError as error:
            raise _placed(f"listeners.{name}", error) from error

    def find_for_mail(self) -> TLSContext | None:
        """TLS of LMTP; None: a file is missing, which the start may create."""
        return self.for_mail() if _all_there(self._settings.tls_certificates) else None

    def find_for_http(self) -> TLSContext | None:
        """TLS of HTTP; None: a file is missing, which the start may create."""
        return self.for_http() if _all_there(self._settings.http_certificates) else None

    def _make(
        self,
        place: str,
        endpoint: str,
        certificates: Mapping[str, CertificateFiles],
        *,
        minimum: str = "1.2",
        ciphers: str = "",
    ) -> TLSContext:
        if place in self._uses:
            # Of a reload that keeps it.
            return self._uses[place].context
        read, problems = [], []
        for section, files in certificates.items():
            named = section if section.startswith(place) else f"{place}: {section}"
            try:
                read.append(self._certificate(files))
            except ConfigError as error:
                problems += _placed(named, error).problems
            self._places.setdefault(files, {})[section] = None
        if problems:
            raise ConfigError(problems)
        make = partial(
            TLSContext,
            read,
            minimum=minimum,
            ciphers=ciphers,
            name=place,
            ticket_key_lifetime=self._settings.tls.ticket_key_lifetime,
            make=self._make_context or new_context,
        )
        try:
            context = self._fitting(make, certificates.values())
        except ConfigError as error:
            raise _placed(place, error) from error
        self._uses[place] = _Use(context, tuple(certificates.values()), endpoint)
        return context

    def _fitting(
        self, make: Callable[[], TLSContext], certificates: Iterable[CertificateFiles]
    ) -> TLSContext:
        try:
            return make()
        except ConfigError:
            # Whoever wants longer keys has put them into the files, too.
            for files in certificates:
                self._take(files)
            return make()

    def _certificate(self, files: CertificateFiles) -> Certificate:
        if files not in self._read:
            before = self._before.get(files)
            contents = None if before is None else before.contents
            self._read[files] = Certificate(files.certificate, files.key, contents)
        return self._read[files]

    # -- while the server runs ----------------------------------------------

    def start(self, clock: IReactorTime) -> None:
        """Make new ticket keys from time to time."""
        self._renewal.clock = clock
        lifetime = self._settings.tls.ticket_key_lifetime
        if lifetime and self._make_context is None:
            self._renewal.start(lifetime, now=False)

    def stop(self) -> None:
        """Make no new keys any more."""
        if self._renewal.running:
            self._renewal.stop()

    def reload(self) -> list[str]:
        """Read all certificates again; a faulty one stays as it was.  Never fails.

        Returns what is wrong, one line each.
        """
        # From now on these are in use, and nothing goes back.
        self._before = {}
        rejected = list[str]()
        for files in self._read:
            try:
                self._take(files)
            except ConfigError as error:
                rejected += error.problems
                self._emit(CertificateRejected("; ".join(error.problems)))
            else:
                self._emit(CertificateReloaded(files.certificate))
        outdated = {place: one for place, one in self._uses.items() if one.context.is_outdated}
        return rejected + self._renew(outdated)

    def _take(self, files: CertificateFiles) -> None:
        """Take what is in the files now; raises ``ConfigError``, and then all stays as it was.

        A listener may refuse what others can show.  Then none takes it: there is one certificate
        that clients get, and that is watched.
        """
        certificate = self._read[files]
        try:
            found = certificate.read()
        except ConfigError as error:
            raise _placed(", ".join(self._places[files]), error) from error
        if found is None:
            return
        problems = list[str]()
        for place, use in self._uses.items():
            try:
                if files in use.files:
                    use.context.try_out(found)
            except ConfigError as error:
                problems += _placed(place, error).problems
        if problems:
            raise ConfigError(problems)
        certificate.contents = found

    def renew(self) -> None:
        """New ticket keys of all listeners."""
        self._renew(self._uses)

    def _renew(self, uses: Mapping[str, _Use]) -> list[str]:
        problems = list[str]()
        for place, use in uses.items():
            try:
                use.context.renew()
            except ConfigError as error:
                problems += _placed(place, error).problems
        if problems:
            self._emit(CertificateRejected("; ".join(problems)))
        return problems

    def expiries(self) -> Iterator[tuple[str, float]]:
        """The path of each certificate, and when it or its chain expires, in Unix seconds."""
        for files, certificate in self._read.items():
            if certificate.chain:
                ends = min(one.not_valid_after_utc for one in certificate.chain)
                yield files.certificate, ends.timestamp()

    @property
    def listeners(self) -> dict[Certificate, list[str]]:
        """The listeners that use each certificate, by the sections of their settings."""
        found: dict[Certificate, list[str]] = {}
        for place, use in self._uses.items():
            for files in use.files:
                found.setdefault(self._read[files], []).append(place)
        return found

    def shown(self, settings: Settings) -> list[Shown]:
        """The certificates of each listener, with the names that clients connect to.

        ``settings``: those in force, which may have other names than those at the start.
        """
        groups: dict[tuple[CertificateFiles, ...], list[str]] = {}
        for use in self._uses.values():
            groups.setdefault(use.files, []).append(use.endpoint)
        return [self._shown(settings, files, endpoints) for files, endpoints in groups.items()]

    def _shown(
        self, settings: Settings, files: tuple[CertificateFiles, ...], endpoints: list[str]
    ) -> Shown:
        tls = settings.tls
        own = files == tuple(settings.tls_certificates.values())
        names = {socket.gethostname(), *settings.directory.here}
        names.update(*map(_address, endpoints))
        if tls.names:
            names = {*tls.names, *(() if own else names)}
        return Shown(
            tuple(self._read[one] for one in files),
            tuple(", ".join(self._places[one]) for one in files),
            frozenset(names),
            all_of_them=own and bool(tls.names),
        )


def certificates_of(
    settings: Settings,
    parts: Parts,
    clock: IReactorTime,
    emit: Emit,
    make: MakeContext | None,
) -> Certificates:
    """TLS of all listeners; a reload keeps it if its settings are the same."""
    listeners = [
        (name, one.endpoint, one.tls, one.tls_minimum, one.ciphers, settings.certificates_of(name))
        for name, one in settings.listeners.items()
    ]
    own = settings.http
    http = own.endpoint, own.tls, own.tls_minimum, own.ciphers, settings.http_certificates
    mail = settings.lmtp.endpoint, settings.lmtp.tls, settings.tls_certificates
    before = parts.find_before("certificates")
    return parts.part(
        "certificates",
        (listeners, mail, http, settings.tls.ticket_key_lifetime),
        lambda: Certificates(settings, emit, make, before),
        lambda it: Life(partial(it.start, clock), it.stop),
    )


def described(of: Certificates, settings: Settings) -> list[CertificateRow]:
    """All certificates, for an operator; ``settings``: those in force."""
    problems: dict[Certificate, list[str]] = {}
    expiry = CertificateExpiry(Clock(), of.shown(settings), days=settings.tls.expiry_warning)
    for certificate, _, problem in expiry.problems():
        problems.setdefault(certificate, []).append(problem)
    return [
        _row(certificate, tuple(listeners), tuple(problems.get(certificate, ())))
        for certificate, listeners in of.listeners.items()
    ]


def _row(one: Certificate, listeners: tuple[str, ...], problems: tuple[str, ...]) -> CertificateRow:
    row = CertificateRow(path=one.certificate, listeners=listeners, problems=problems)
    if not one.chain:
        return row
    try:
        return evolve(
            row,
            names=tuple(names_of(one.chain[0], x509.DNSName, x509.IPAddress)),
            issuer=one.chain[0].issuer.rfc4514_string(),
            not_before=max(part.not_valid_before_utc for part in one.chain).timestamp(),
            not_after=min(part.not_valid_after_utc for part in one.chain).timestamp(),
        )
    except ValueError:
        # OpenSSL may serve a certificate that this library cannot parse.
        return row


def expiry_of(
    settings: Settings, parts: Parts, clock: IReactorTime, emit: Emit, of: Certificates
) -> CertificateExpiry:
    """Warnings of certificates; a reload keeps them as long as it keeps the certificates."""
    return parts.part(
        "certificate expiry",
        (of, settings.tls, settings.directory.here),
        lambda: CertificateExpiry(
            clock, of.shown(settings), days=settings.tls.expiry_warning, emit=emit
        ),
        lambda it: Life(it.start, it.stop),
    )


def _all_there(certificates: Mapping[str, CertificateFiles]) -> bool:
    paths = (path for one in certificates.values() for path in (one.certificate, one.key))
    return all(map(os.path.isfile, paths))


def _placed(place: str, error: ConfigError) -> ConfigError:
    return ConfigError([f"{place}: {problem}" for problem in error.problems])


def _address(text: str) -> Iterable[str]:
    """The address of an endpoint, except a wildcard address."""
    endpoint = endpoints.find(text)
    address = endpoint.interface if endpoint else ""
    if address not in _ANY:
        yield address
        if address in ("127.0.0.1", "::1"):
            yield "localhost"
