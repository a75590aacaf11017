"""The password cache: passwords that were verified a short time ago."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Callable, Collection

from gateway.events import CacheLookup, Emit
from gateway.observe.log import emit_to_log

__all__ = ["PasswordCache"]


_REMEMBERED = CacheLookup("passwords", "remembered")
_ASKED = CacheLookup("passwords", "asked")


class PasswordCache:
    """Remembers verified passwords of login names for a short time.

    Clients poll every few minutes, in bursts, and good password hashes are slow.
    The cache keeps only right passwords, as hashes (BLAKE2b, RFC 7693) under a random key of
    this process.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        *,
        ttl: float,
        size: int,
        stale: float = 0.0,
        emit: Emit = emit_to_log,
    ) -> None:
        """``ttl``: seconds, 0: off; ``size``: most entries.

        ``stale``: seconds after ``ttl`` for which ``knew`` still accepts.
        """
        self._seconds = seconds
        self._ttl = ttl
        self._stale = stale
        self._size = size
        self._key = os.urandom(32)
        self._kept: OrderedDict[str, tuple[float, float, bytes]] = OrderedDict()
        self._emit = emit

    def _digest(self, login: str, password: bytes) -> bytes:
        text = b"%b\0%b" % (login.encode(), password)
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()

    def knows(self, login: str, password: bytes) -> bool:
        """Whether this password was verified for ``login`` within ``ttl``."""
        known = self._is_kept(login, password) and self._seconds() < self._kept[login][0]
        self._emit(_REMEMBERED if known else _ASKED)
        return known

    def knew(self, login: str, password: bytes) -> bool:
        """Whether it was verified within ``ttl`` and ``stale``: for an outage of the directory."""
        known = self._is_kept(login, password) and self._seconds() < self._kept[login][1]
        if known:
            self._emit(CacheLookup("passwords", "stale"))
        return known

    def _is_kept(self, login: str, password: bytes) -> bool:
        kept = self._kept.get(login)
        return kept is not None and hmac.compare_digest(kept[2], self._digest(login, password))

    def refused(self, login: str, password: bytes) -> None:
        """Forget the password, because the directory rejected it.

        Another password than the cached one may be a guess: the cached one stays
        for an outage.
        """
        if self._is_kept(login, password):
            del self._kept[login]
        elif login in self._kept:
            _, until, digest = self._kept[login]
            self._kept[login] = (0.0, until, digest)

    def forget(self, names: Collection[str] = ()) -> int:
        """Forget the passwords of these login names, of all without any; how many there were."""
        forgotten = [name for name in names if name in self._kept] if names else [*self._kept]
        for name in forgotten:
            del self._kept[name]
        return len(forgotten)

    def keep(self, login: str, password: bytes) -> None:
        """Remember this password of ``login``."""
        if not (self._ttl or self._stale):
            return
        until = self._seconds() + self._ttl
        self._kept[login] = (until, until + self._stale, self._digest(login, password))
        self._kept.move_to_end(login)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
