"""The certificates of the settings, and the names that they must contain."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from gateway import endpoints
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.jobs.certificate_expiry import Shown
from gateway.net.tls import Certificate, bare_context

_ANY = ("", "0.0.0.0", "::")


class Certificates:
    """The certificates of listeners, each read once; methods raise ``ConfigError``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: dict[tuple[str, ...], Certificate] = {}

    @property
    def used(self) -> list[Certificate]:
        """All certificates that were used."""
        return list(self._made.values())

    def of(self, name: str) -> Certificate:
        """A listener's certificate; listeners with the same files share one object."""
        listener = self._settings.listeners[name]
        paths = self._settings.certificate_of(name)
        return self._make(
            f"listeners.{name}", paths, minimum=listener.tls_minimum, ciphers=listener.ciphers
        )

    def check(self, name: str) -> None:
        """Raise ``ConfigError`` for errors of a listener's certificate, or of its ciphers only."""
        listener = self._settings.listeners[name]
        if listener.tls == "none":
            return
        if all(map(os.path.isfile, self._settings.certificate_of(name))):
            self.of(name)
            return
        try:
            bare_context(listener.tls_minimum, listener.ciphers)
        except ConfigError as error:
            raise ConfigError([f"listeners.{name}: {one}" for one in error.problems]) from error

    def find_for_mail(self) -> Certificate | None:
        """The certificate of ``[tls]``; None: the start will create it."""
        paths = self._settings.tls.certificate, self._settings.tls.key
        there = all(os.path.isfile(self._settings.path_of(path)) for path in paths)
        return self.for_mail() if there else None

    def _make(
        self, place: str, paths: tuple[str, str], *, minimum: str = "1.2", ciphers: str = ""
    ) -> Certificate:
        key = (*paths, minimum, ciphers)
        if key not in self._made:
            try:
                self._made[key] = Certificate(*paths, minimum=minimum, ciphers=ciphers)
            except ConfigError as error:
                problems = [f"{place}: {problem}" for problem in error.problems]
                raise ConfigError(problems) from error
        return self._made[key]

    def for_mail(self) -> Certificate:
        """The certificate of ``[tls]``."""
        settings = self._settings
        paths = settings.path_of(settings.tls.certificate), settings.path_of(settings.tls.key)
        return self._make("tls", paths)


def shown_by(settings: Settings, certificates: Iterable[Certificate]) -> list[Shown]:
    """Each certificate once, with the names that clients connect to."""
    host = socket.gethostname()
    shown = {}
    for certificate in certificates:
        path = certificate.certificate
        own = path == settings.path_of(settings.tls.certificate)
        names = {host, *settings.directory.here, *_addresses(settings, path)}
        if settings.tls.names:
            names = {*settings.tls.names, *(() if own else names)}
        shown[path] = Shown(certificate, frozenset(names), own and bool(settings.tls.names))
    return list(shown.values())


def _addresses(settings: Settings, path: str) -> Iterable[str]:
    """Addresses of listeners with this certificate, except wildcard addresses."""
    for name, listener in settings.listeners.items():
        if listener.tls != "none" and settings.certificate_of(name)[0] == path:
            yield from _address(listener.endpoint)
    if settings.lmtp.tls == "stls" and settings.path_of(settings.tls.certificate) == path:
        yield from _address(settings.lmtp.endpoint)


def _address(text: str) -> Iterable[str]:
    endpoint = endpoints.find(text)
    address = endpoint.interface if endpoint else ""
    if address not in _ANY:
        yield address
        if address in ("127.0.0.1", "::1"):
            yield "localhost"
