"""The settings of listeners behind a proxy, and what may be wrong with them."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field, frozen

from gateway import endpoints
from gateway.kinds import Fault
from gateway.networks import Network


@frozen
class BehindProxy:
    """Settings of a listener that takes the PROXY protocol."""

    proxy_protocol: bool = field(default=False, kw_only=True)
    proxy_networks: tuple[Network, ...] = field(default=(), kw_only=True)


def proxy_faults(
    section: str, endpoint: str, listener: BehindProxy, xclient_networks: tuple[Network, ...] = ()
) -> Iterator[Fault]:
    """Contradictions in the settings of a listener with this endpoint."""
    found = endpoints.find(endpoint)
    on_network = bool(endpoint) and not (found and found.is_unix)
    if listener.proxy_protocol and on_network and not listener.proxy_networks:
        yield (
            f"{section}.proxy_networks",
            'expected the addresses of the proxies, such as ["192.0.2.10"], since proxy_protocol'
            " is on: nobody else may connect",
        )
    if listener.proxy_networks and not listener.proxy_protocol:
        fault = "expected true, or no proxy_networks, which do nothing without it"
        yield f"{section}.proxy_protocol", fault
    tls = getattr(listener, "proxy_tls", "off") != "off"
    if tls and not (listener.proxy_protocol or xclient_networks):
        fault = 'expected "off", since the listener is behind no proxy: proxy_protocol is false'
        yield f"{section}.proxy_tls", fault
    named = {"proxy_networks": listener.proxy_networks, "xclient_networks": xclient_networks}
    for name, networks in named.items():
        if any(network.prefixlen == 0 for network in networks):
            yield (
                f"{section}.{name}",
                "expected the addresses of the proxies: in a network of all addresses every client"
                " could claim to be another one",
            )
