"""A client's address as networks are compared with it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def client_address(host: str) -> IPv4Address | IPv6Address:
    """The address that a transport names so, without its scope (``%eth0``).

    An IPv4 client of a socket that takes both (``::ffff:192.0.2.1``) is one of
    IPv4.  Raises ``ValueError`` for what is no address, as a UNIX socket's peer.
    """
    address = ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
