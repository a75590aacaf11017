"""Whether a client's address is within certain networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

Network = IPv4Network | IPv6Network


def within(networks: Sequence[Network]) -> Callable[[str], bool]:
    """A test of addresses, which remembers its answers."""

    @lru_cache(maxsize=4096)
    def is_within(host: str) -> bool:
        try:
            address: Any = ip_address(host.partition("%")[0])
        except ValueError:
            # A UNIX socket's peer is on this machine, and only permissions keep it out.
            return bool(networks) and not host
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in networks)

    return is_within
