"""The acceptor of a listener, with or without the PROXY protocol."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IProtocolFactory

from gateway.config.proxies import BehindProxy
from gateway.config.settings import Settings
from gateway.events import Emit
from gateway.net.acceptor import Acceptor
from gateway.net.proxy_protocol import ProxyAcceptor, ProxyOptions
from gateway.net.tls.context import TLSContext
from gateway.net.tls.transport import TLSFactory
from gateway.networks import within


def acceptor_of(
    reactor: Any,
    settings: Settings,
    section: str,
    protocols: IProtocolFactory,
    *,
    secure: bool = False,
    emit: Emit,
) -> Acceptor:
    """The acceptor of a section: ``listeners.NAME``, ``lmtp``, ``policy`` or ``http``.

    ``secure``: ``protocols`` begin with TLS.
    """
    of_pop3 = section.startswith("listeners.")
    name = section.removeprefix("listeners.")
    listener: BehindProxy = settings.listeners[name] if of_pop3 else getattr(settings, name)
    if not listener.proxy_protocol:
        return Acceptor(name, protocols, secure=secure)
    inside = within(listener.proxy_networks)
    options = ProxyOptions(
        # Permissions of a UNIX socket keep others out.
        allows=lambda host: not host or inside(host),
        section=section,
        tls=getattr(listener, "proxy_tls", "off"),
        timeout=settings.limits.proxy_timeout,
    )
    protocol = "pop3" if of_pop3 else name
    return ProxyAcceptor(
        name, protocols, options, protocol=protocol, clock=reactor, secure=secure, emit=emit
    )


def secured(
    reactor: Any,
    settings: Settings,
    section: str,
    protocols: IProtocolFactory,
    tls: TLSContext | None,
    emit: Emit,
) -> Acceptor:
    """The acceptor of a section, of clients that begin with TLS; None: that do not."""
    wire: Any = protocols if tls is None else TLSFactory(tls, protocols)
    return acceptor_of(reactor, settings, section, wire, secure=tls is not None, emit=emit)
