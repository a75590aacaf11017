"""Passwords that were right a moment ago."""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from collections.abc import Callable


class Verified:
    """Remembers for a short time which password was right for whom.

    Clients poll every few minutes, in bursts, and a good password hash is
    meant to be slow.  Kept is an HMAC under a key that only this process
    knows; only right answers are kept, and a wrong password drops the entry.
    """

    def __init__(
        self, seconds: Callable[[], float], *, ttl: float, size: int, stale: float = 0.0
    ) -> None:
        """``ttl`` in seconds, 0 remembers nothing; ``size`` entries at the most.

        ``stale``: seconds after ``ttl`` for which ``knew`` still answers.
        """
        self._seconds = seconds
        self._ttl = ttl
        self._stale = stale
        self._size = size
        self._key = os.urandom(32)
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def _digest(self, login: str, password: bytes) -> bytes:
        return hmac.digest(self._key, b"%b\0%b" % (login.encode(), password), "sha256")

    def knows(self, login: str, password: bytes) -> bool:
        """Whether this password was right for ``login`` within the time kept."""
        return self._was_right(login, password, 0.0)

    def knew(self, login: str, password: bytes) -> bool:
        """The same, a longer time ago: for an outage of whoever could tell."""
        return self._was_right(login, password, self._stale)

    def _was_right(self, login: str, password: bytes, stale: float) -> bool:
        kept = self._kept.get(login)
        if kept is None:
            return False
        until, digest = kept
        if not hmac.compare_digest(digest, self._digest(login, password)):
            del self._kept[login]
            return False
        return self._seconds() < until + stale

    def drop(self, login: str) -> None:
        """Whoever can tell says no."""
        self._kept.pop(login, None)

    def keep(self, login: str, password: bytes) -> None:
        """This password is right for ``login``."""
        if not (self._ttl or self._stale):
            return
        self._kept[login] = (self._seconds() + self._ttl, self._digest(login, password))
        self._kept.move_to_end(login)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
