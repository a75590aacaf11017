"""Client addresses, and the networks they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def client_address(host: str) -> IPv4Address | IPv6Address:
    """The address that a transport names so, without its scope (``%eth0``).

    An IPv4 client of a socket that takes both (``::ffff:192.0.2.1``) is one of
    IPv4.  Raises ``ValueError`` for what is no address, as a UNIX socket's peer.
    """
    address = ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def network_of(host: str, *, ipv4_prefix: int, ipv6_prefix: int) -> str:
    """The network of these bits that a client is in; what is no address stays as it is."""
    try:
        address = client_address(host)
    except ValueError:
        return host
    prefix = ipv4_prefix if address.version == 4 else ipv6_prefix
    return str(ip_network((address, prefix), strict=False))


def within(networks: Sequence[Network]) -> Callable[[str], bool]:
    """A test of addresses, which remembers its answers."""

    @lru_cache(maxsize=4096)
    def is_within(host: str) -> bool:
        try:
            address = client_address(host)
        except ValueError:
            # A UNIX socket's peer is on this machine, and only permissions keep it out.
            return bool(networks) and not host
        return any(address in network for network in networks)

    return is_within


_is_loopback = within(LOOPBACK)


def is_here(host: str, own: str) -> bool:
    """Whether a client is on this machine, which it has connected to at the address ``own``.

    Both are empty for a UNIX socket.  No packet from another machine has our own address.
    """
    return host == own or _is_loopback(host)


@lru_cache(maxsize=4096)
def network_kind(host: str) -> str:
    """Where a client is: ``local``, ``private`` (RFC 1918, RFC 4193) or ``public``."""
    try:
        address = client_address(host)
    except ValueError:
        return "local"
    if address.is_loopback:
        return "local"
    return "private" if address.is_private or address.is_link_local else "public"
