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

    def __init__(self, seconds: Callable[[], float], *, ttl: float, size: int) -> None:
        """``ttl`` in seconds, 0 remembers nothing; ``size`` entries at the most."""
        self._seconds = seconds
        self._ttl = ttl
        self._size = size
        self._key = os.urandom(32)
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def _digest(self, login: str, password: bytes) -> bytes:
        return hmac.digest(self._key, b"%b\0%b" % (login.encode(), password), "sha256")

    def knows(self, login: str, password: bytes) -> bool:
        """Whether this password was right for ``login`` within the time kept."""
        kept = self._kept.get(login)
        if kept is None:
            return False
        until, digest = kept
        if self._seconds() < until and hmac.compare_digest(digest, self._digest(login, password)):
            return True
        del self._kept[login]
        return False

    def keep(self, login: str, password: bytes) -> None:
        """This password is right for ``login``."""
        if not self._ttl:
            return
        self._kept[login] = (self._seconds() + self._ttl, self._digest(login, password))
        self._kept.move_to_end(login)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
