"""Whether a client's address is within certain networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network

from gateway.client_address import client_address

Network = IPv4Network | IPv6Network


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
