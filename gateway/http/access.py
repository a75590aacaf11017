"""Who may ask the operator's API: tokens with scopes, and users of a UNIX socket."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable, Sequence

from attrs import frozen

from gateway.errors import NotInScope, NotLetIn, TooManyGuesses
from gateway.http.routes import INCLUDED
from gateway.model import Scope

WINDOW = 60.0
"""Seconds in which wrong tokens count together."""

MOST_WRONG = 10
"""Wrong tokens of an address in a window; then no token is looked at until it ends."""

MOST_ADDRESSES = 10_000
"""Addresses that are counted."""


@frozen
class Token:
    """A token of the configuration."""

    name: str
    secret: str
    scopes: frozenset[Scope]

    def __repr__(self) -> str:
        return f"Token({self.name!r}, ...)"


@frozen
class Caller:
    """Who asks, and for what they may ask."""

    name: str
    """``uid 0``, ``token NAME``, ``account NAME``; ``anybody`` where no token is set."""

    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether this caller may ask for operations of this scope."""
        return any(scope in INCLUDED[one] for one in self.scopes)

    def check(self, scope: Scope) -> None:
        """Raise ``NotInScope`` unless this caller may."""
        if not self.may(scope):
            raise NotInScope(f"{self.name}: expected a token with the scope {scope.value}")


class Access:
    """The tokens of a listener, and how often each address gave a wrong one."""

    def __init__(self, tokens: Sequence[Token], seconds: Callable[[], float]) -> None:
        """``seconds``: a clock.  Without tokens everybody may ask for quotas and figures."""
        self._tokens = [(b"Bearer " + one.secret.encode("utf-8"), one) for one in tokens]
        self._seconds = seconds
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def caller(self, host: str, authorization: bytes | None) -> Caller:
        """Who sends this header from an address.

        Raises ``NotLetIn``, and ``TooManyGuesses`` after ``MOST_WRONG`` wrong tokens.
        """
        if not self._tokens:
            return Caller("anybody", frozenset({Scope.QUOTA, Scope.METRICS}))
        if authorization is None:
            raise NotLetIn("expected the header Authorization: Bearer TOKEN")
        if self.seconds_to_wait(host):
            raise TooManyGuesses("too many wrong tokens from this address; wait a minute")
        # Each is compared, whichever fits: the time tells nothing.
        found = [one for given, one in self._tokens if hmac.compare_digest(given, authorization)]
        if not found:
            self._count(host)
            raise NotLetIn("the token is none of this server's")
        return Caller(f"token {found[0].name}", found[0].scopes)

    def seconds_to_wait(self, host: str) -> int:
        """Seconds until tokens of this address are looked at again; 0: now."""
        until, wrong = self._wrong.get(host, (0.0, 0))
        left = until - self._seconds()
        return int(left) + 1 if wrong >= MOST_WRONG and left > 0 else 0

    def _count(self, host: str) -> None:
        until, wrong = self._wrong.pop(host, (0.0, 0))
        now = self._seconds()
        if until <= now:
            until, wrong = now + WINDOW, 0
        self._wrong[host] = until, wrong + 1
        if len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)


class PeerAccess:
    """A UNIX socket that lets some users of this machine in."""

    def __init__(self, users: frozenset[int]) -> None:
        """``users``: by their numbers."""
        self._users = users

    def caller(self, uid: int | None) -> Caller:
        """The user at the other end; None: unknown.  Raises ``NotLetIn``."""
        if uid not in self._users:
            raise NotLetIn("expected root or the server's user")
        return Caller(f"uid {uid}", frozenset({Scope.OPERATE}))
