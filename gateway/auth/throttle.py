"""Making guesses slow, for those who guess and for nobody else.

Counted are *distinct* wrong passwords, so that a phone that keeps sending an
old one does not lock its owner out, and always together with the network they
came from, so that nobody can lock an account for others.  No time is asked
and nothing waits here: the caller has a clock.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address, ip_network

from attrs import frozen


@frozen
class Limits:
    """When to slow down, and how much.  Times in seconds."""

    free: int = 3
    """Wrong passwords for one account from one network before there is a delay."""

    network_free: int = 20
    """The same for one network and any account."""

    delay: float = 1.0
    """The first delay; every further wrong password doubles it."""

    longest: float = 15.0
    window: float = 900.0
    """So long after the last wrong password everything is forgotten."""

    trust: float = 30 * 86_400.0
    """So long after a good login the network's other failures do not slow that account down."""

    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    entries: int = 20_000
    """How much is remembered; what is oldest goes first."""


class _Guesses:
    """Digests of the wrong passwords from one place, no more than the longest delay needs."""

    __slots__ = ("digests", "until")

    def __init__(self) -> None:
        self.digests: set[bytes] = set()
        self.until = 0.0


class Throttle:
    """What is remembered of failed and good logins."""

    def __init__(self, limits: Limits, seconds: Callable[[], float]) -> None:
        self._limits = limits
        self._seconds = seconds
        # Wrong passwords are often right ones of another account, or nearly so.
        self._key = os.urandom(32)
        self._guesses: OrderedDict[tuple[str, str], _Guesses] = OrderedDict()
        self._trusted: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._most = max(limits.free, limits.network_free) + 40
        self._network = lru_cache(maxsize=4096)(_networks(limits))

    def delay(self, login: str, host: str) -> float:
        """Seconds that this login has to wait before its password is looked at."""
        network = self._network(host)
        wait = self._delay_of(login, network, self._limits.free)
        if self._trusted.get((login, network), 0.0) <= self._seconds():
            wait = max(wait, self._delay_of("", network, self._limits.network_free))
        return wait

    def _delay_of(self, login: str, network: str, free: int) -> float:
        guesses = self._guesses.get((login, network))
        if guesses is None or guesses.until <= self._seconds():
            return 0.0
        beyond = len(guesses.digests) - free
        if beyond < 0:
            return 0.0
        return float(min(self._limits.longest, self._limits.delay * 2 ** min(beyond, 30)))

    def failed(self, login: str, host: str, password: bytes) -> None:
        """The password was wrong, or the account is unknown: it makes no difference."""
        network = self._network(host)
        digest = hmac.digest(self._key, b"%b\0%b" % (login.encode(), password), "sha256")[:12]
        for place in (login, network), ("", network):
            self._count(place, digest)

    def _count(self, place: tuple[str, str], digest: bytes) -> None:
        now = self._seconds()
        guesses = self._guesses.get(place)
        if guesses is None or guesses.until <= now:
            guesses = self._guesses[place] = _Guesses()
        guesses.until = now + self._limits.window
        if len(guesses.digests) < self._most:
            guesses.digests.add(digest)
        self._guesses.move_to_end(place)
        if len(self._guesses) > self._limits.entries:
            self._guesses.popitem(last=False)

    def succeeded(self, login: str, host: str) -> None:
        """The password was right: this account's wrong ones from there are forgotten."""
        network = self._network(host)
        self._guesses.pop((login, network), None)
        self._trusted[(login, network)] = self._seconds() + self._limits.trust
        self._trusted.move_to_end((login, network))
        if len(self._trusted) > self._limits.entries:
            self._trusted.popitem(last=False)


def _networks(limits: Limits) -> Callable[[str], str]:
    def network(host: str) -> str:
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return host
        address = getattr(address, "ipv4_mapped", None) or address
        prefix = limits.ipv4_prefix if address.version == 4 else limits.ipv6_prefix
        return str(ip_network((address, prefix), strict=False))

    return network
