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
        self._kept: OrderedDict[str, tuple[float, bytes, str]] = OrderedDict()
        self.counts = {"passwords remembered": 0, "passwords asked": 0, "passwords stale": 0}

    def _digest(self, login: str, password: bytes) -> bytes:
        return hmac.digest(self._key, b"%b\0%b" % (login.encode(), password), "sha256")

    def knows(self, login: str, password: bytes) -> str | None:
        """Whose password it was for this ``login`` within the time kept; None: to be asked."""
        name = self._was_right(login, password, 0.0)
        self.counts["passwords asked" if name is None else "passwords remembered"] += 1
        return name

    def knew(self, login: str, password: bytes) -> str | None:
        """The same, a longer time ago: for an outage of whoever could tell."""
        name = self._was_right(login, password, self._stale)
        self.counts["passwords stale"] += name is not None
        return name

    def _was_right(self, login: str, password: bytes, stale: float) -> str | None:
        kept = self._kept.get(login)
        if kept is None:
            return None
        until, digest, name = kept
        if not hmac.compare_digest(digest, self._digest(login, password)):
            del self._kept[login]
            return None
        return name if self._seconds() < until + stale else None

    def drop(self, login: str) -> None:
        """Whoever can tell says no."""
        self._kept.pop(login, None)

    def keep(self, login: str, password: bytes, name: str) -> None:
        """This password is right for ``login``, and is that of the account ``name``."""
        if not (self._ttl or self._stale):
            return
        self._kept[login] = (self._seconds() + self._ttl, self._digest(login, password), name)
        self._kept.move_to_end(login)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
