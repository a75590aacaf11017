"""How many sessions there are: in all, from one address, of one user."""

from __future__ import annotations

from collections import Counter

from gateway.errors import TooManySessions

__all__ = ["ConnectionLimits"]


class ConnectionLimits:
    """Counts, shared by all listeners of a server."""

    def __init__(
        self, *, connections: int = 10_000, per_address: int = 1000, per_user: int = 16
    ) -> None:
        self._connections = connections
        self._per_address = per_address
        self._per_user = per_user
        self._addresses: Counter[str] = Counter()
        self._users: Counter[str] = Counter()
        self._count = 0

    def connect(self, address: str) -> None:
        """A client came; raises ``TooManySessions``, and then it is not counted."""
        if self._count >= self._connections:
            raise TooManySessions(f"the server has {self._count} connections")
        if self._addresses[address] >= self._per_address:
            raise TooManySessions(f"{address} has {self._addresses[address]} connections")
        self._count += 1
        self._addresses[address] += 1

    def disconnect(self, address: str) -> None:
        """A client that was counted went."""
        self._count -= 1
        _decrease(self._addresses, address)

    def enter(self, user: str) -> None:
        """A user logged in; raises ``TooManySessions``, and then it is not counted."""
        if self._users[user] >= self._per_user:
            raise TooManySessions(f"{user} has {self._users[user]} sessions")
        self._users[user] += 1

    def leave(self, user: str) -> None:
        """A session that was counted ended."""
        _decrease(self._users, user)


def _decrease(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]
