"""Settings to the names that certificates must have."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from gateway import endpoints
from gateway.config.settings import Settings
from gateway.jobs.certificate_expiry import Shown
from gateway.net.tls import Certificate

_ANY = ("", "0.0.0.0", "::")


def shown_by(settings: Settings, certificates: Iterable[Certificate]) -> list[Shown]:
    """Each file once, with the names that it is looked for by."""
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
    """Where listeners with this certificate listen, as far as they do not listen everywhere."""
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
