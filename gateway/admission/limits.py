"""Connection limits: in all, from one address, and sessions of one user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Generic, TypeVar

from attrs import frozen

from gateway.errors import TooManySessions
from gateway.interfaces import Leave
from gateway.networks import network_of

__all__ = ["ConnectionLimits"]

K = TypeVar("K")


@frozen
class ConnectionLimits:
    """The most connections and sessions at one time."""

    connections: int = 10_000
    """Connections in all."""

    per_address: int = 1000
    """Connections from one client address; of IPv6 from one /64 network."""

    per_user: int = 16
    """Sessions of one mailbox."""

    setting: str = "limits.connections"
    """The setting that ``connections`` comes from, for the log."""


@lru_cache(maxsize=4096)
def counted_address(host: str) -> str:
    """What ``per_address`` counts the connections of a client by: its IPv4 address or its /64.

    Of IPv6 one client has a whole /64, and may change addresses in it at will (RFC 8981).  What
    is no address, as a UNIX socket's peer, stays as it is.
    """
    return network_of(host, ipv4_prefix=32, ipv6_prefix=64).removesuffix("/32")


class ConnectionCounts:
    """The connections and sessions that are open now."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._addresses: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._connections = 0

    def configure(self, limits: ConnectionLimits) -> None:
        """Other limits from now on; who is in stays."""
        self._limits = limits

    def of(self, what: str) -> Mapping[str, int]:
        """The counts by ``address`` or by ``user``."""
        return {"address": self._addresses, "user": self._users}[what]

    def connect(self, address: str) -> Leave:
        """Count a connection.  Raises ``TooManySessions``, and then does not count it."""
        address = counted_address(address)
        limits, here = self._limits, self._addresses.get(address, 0)
        if self._connections >= limits.connections:
            raise TooManySessions(f"{self._connections} connections are open ({limits.setting})")
        if here >= limits.per_address:
            raise TooManySessions(f"{address} has {here} connections")
        self._connections += 1
        self._addresses[address] = here + 1
        return Counted(self._disconnect, address)

    def enter(self, user: str) -> Leave:
        """Count a session.  Raises ``TooManySessions``, and then does not count it."""
        here = self._users.get(user, 0)
        if here >= self._limits.per_user:
            raise TooManySessions(f"{user} has {here} sessions")
        self._users[user] = here + 1
        return Counted(partial(_decrease, self._users), user)

    def _disconnect(self, address: str) -> None:
        self._connections -= 1
        _decrease(self._addresses, address)


class Counted(Generic[K]):
    """Gives back what was counted, once."""

    __slots__ = ("_give_back", "_key")

    def __init__(self, give_back: Callable[[K], None], key: K) -> None:
        self._give_back: Callable[[K], None] | None = give_back
        self._key = key

    def __call__(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(self._key)


def _decrease(counts: dict[str, int], key: str) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
