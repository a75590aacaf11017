"""Making guesses slow, for those who guess and for nobody else.

Counted are *distinct* wrong passwords, so that a phone that keeps sending an
old one does not lock its owner out, and always together with the network they
came from, so that nobody can lock an account for others.  Answers to challenges,
as NTLM's, never look alike: of one account from one network they count once for
all that is not such an answer, and each of them for those that are.  A password that was
right from there before is never slowed down.  No time is asked and nothing
waits here: the caller has a clock.
"""

from __future__ import annotations

import hmac
import math
import os
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from functools import lru_cache
from ipaddress import ip_network
from typing import Any, NamedTuple

from attrs import frozen

from gateway.errors import BadCredentials, GatewayError, TooManyGuesses
from gateway.networks import client_address
from gateway.saslprep import split_login

__all__ = ["ThrottleLimits"]


@frozen
class ThrottleLimits:
    """When to slow down, and how much.  Times in seconds."""

    free: int = 3
    """Wrong passwords for one account from one network before there is a delay."""

    network_free: int = 20
    """The same for one network and any account."""

    delay: float = 1.0
    """The first delay; every further wrong password doubles it."""

    longest: float = 15.0
    refuse_after: int = 0
    """Wrong passwords after which no other is looked at; 0: always look.

    For directories that lock accounts: fewer than they allow.
    """

    wrong_ttl: float = 60.0
    """So long a wrong password is known to be wrong, and the directory not asked again.

    With ``refuse_after`` it is the whole window.
    """

    window: float = 1800.0
    """So long after the last wrong password everything is forgotten."""

    trust: float = 30 * 86_400.0
    """So long after a good login the network's other failures do not slow that account down."""

    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    entries: int = 20_000
    """How much is remembered; what is oldest goes first."""


class Place(NamedTuple):
    """Where guesses come from, and whom they are about."""

    account: str
    """Empty: all of them."""

    network: str
    answers: bool = False
    """Only answers to challenges, of which no two look alike."""


class Attempt:
    """One login.  Wait ``wait`` seconds; then it fails with ``refusal``, or is tried."""

    __slots__ = ("_digest", "_login", "_place", "_spelt", "_throttle", "refusal", "wait")

    def __init__(
        self, throttle: Throttle, spelt: str, login: str, place: Place, digest: bytes
    ) -> None:
        self._throttle = throttle
        self._spelt = spelt
        self._login = login
        self._place = place
        self._digest = digest
        self.wait = 0.0
        self.refusal: GatewayError | None = None

    def ended(self) -> None:
        """It is over, however; called exactly once, after one of the others."""
        self._throttle._ended(self._place, self._digest)

    def failed(self, account: str = "") -> None:
        """The password was wrong, or the account is unknown: it makes no difference.

        ``account``: whom the directory found under that login name.
        """
        self._throttle._failed(self._login, self._place, self._digest, account)

    def succeeded(self) -> None:
        """The password was right: this account's wrong ones from there are forgotten."""
        self._throttle._succeeded(self._spelt, self._place, self._digest)


class _Wrong:
    """The wrong passwords from one place: digests, and when each was last seen to be wrong."""

    __slots__ = ("next", "seen", "until")

    def __init__(self) -> None:
        self.seen: dict[bytes, float] = {}
        self.until = 0.0
        self.next = 0.0
        """When the last of those begins that are waiting."""


class Throttle:
    """What is remembered of failed and good logins."""

    def __init__(self, limits: ThrottleLimits, seconds: Callable[[], float]) -> None:
        self._limits = limits
        self._seconds = seconds
        # Wrong passwords are often right ones of another account, or nearly so.
        self._key = os.urandom(32)
        self._wrong: OrderedDict[Place, _Wrong] = OrderedDict()
        self._trusted: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._accounts: OrderedDict[str, str] = OrderedDict()
        self._pending: dict[Place, Counter[bytes]] = {}
        # A directory that locks accounts counts the same wrong password each time.
        self._wrong_ttl = math.inf if limits.refuse_after else limits.wrong_ttl
        self._most = max(limits.free, limits.network_free, limits.refuse_after) + 40
        self._network = lru_cache(maxsize=4096)(_networks(limits))

    def weigh(
        self, login: str, host: str, guess: bytes, account: str = "", *, answers: bool = False
    ) -> Attempt:
        """A login that is about to be tried: whether it has to wait, and may be tried at all.

        ``account``: whose login name it is, where that is known.  ``answers``: the
        guess answers a challenge, so the same password never makes the same guess.
        """
        spelt, login, network = login, _bare(login), self._network(host)
        account = account or self._accounts.get(login, login)
        place = Place(account, network, answers)
        # Of the name as it was spelt: what is wrong in one domain may be right in another.
        digest = self._digest(spelt, guess)
        attempt = Attempt(self, spelt, login, place, digest)
        pending = self._pending.setdefault(place, Counter())
        until, right = self._trusted.get((spelt, network), (0.0, b""))
        now = self._seconds()
        trusted = until > now
        if not (trusted and hmac.compare_digest(digest, right)):
            self._slow_down(attempt, () if trusted else pending, trusted, now)
        pending[digest] += 1
        return attempt

    def _slow_down(
        self, attempt: Attempt, pending: Collection[bytes], trusted: bool, now: float
    ) -> None:
        place, digest, limits = attempt._place, attempt._digest, self._limits
        passwords = self._seen(place._replace(answers=False), now)
        answers = self._seen(place._replace(answers=True), now)
        # What else is tried just now may be as wrong: a thousand
        # connections at once get no more guesses than one.
        each = {*passwords, *answers, *pending} - {digest, self._digest(place.account, b"")}
        others = each if place.answers else {*passwords, *pending} - {digest}
        delays = [(place, self._delay(len(others), limits.free))]
        if not trusted:
            network = Place("", place.network)
            everybody = len(self._seen(network, now))
            delays.append((network, self._delay(everybody, limits.network_free)))
        if passwords.get(digest, -math.inf) + self._wrong_ttl > now:
            attempt.wait = delays[0][1]
            attempt.refusal = BadCredentials("the same wrong password again", account=place.account)
        elif 0 < limits.refuse_after <= len(each) and digest not in passwords:
            # Of all, since a directory that locks accounts counts each answer.
            attempt.wait = delays[0][1]
            attempt.refusal = TooManyGuesses(f"{len(each)} wrong passwords for {place.account}")
        else:
            self._queue(attempt, delays, now)

    def _digest(self, name: str, guess: bytes) -> bytes:
        return hmac.digest(self._key, b"%b\0%b" % (name.encode(), guess), "sha256")[:12]

    def _queue(self, attempt: Attempt, delays: list[tuple[Place, float]], now: float) -> None:
        """One after the other, each after its delay; the queue is not endless."""
        queued = [(self._at(place), delay) for place, delay in delays if delay]
        attempt.wait = max((max(at.next - now, 0.0) + delay for at, delay in queued), default=0.0)
        if attempt.wait > 4 * self._limits.longest:
            attempt.wait = self._limits.longest
            attempt.refusal = TooManyGuesses("too many others wait to guess")
            return
        for at, _ in queued:
            at.next = now + attempt.wait

    def _at(self, place: Place) -> _Wrong:
        """What is remembered of a place, from now on at the latest."""
        now = self._seconds()
        wrong = self._wrong.get(place)
        if wrong is None or wrong.until <= now:
            wrong = self._wrong[place] = _Wrong()
            wrong.until = now + self._limits.window
        self._wrong.move_to_end(place)
        self._trim(self._wrong)
        return wrong

    def _seen(self, place: Place, now: float) -> dict[bytes, float]:
        wrong = self._wrong.get(place)
        return {} if wrong is None or wrong.until <= now else wrong.seen

    def _delay(self, wrong: int, free: int) -> float:
        if not wrong or wrong < free:
            return 0.0
        return float(min(self._limits.longest, self._limits.delay * 2 ** min(wrong - free, 30)))

    # -- what attempts tell --------------------------------------------------

    def _ended(self, place: Place, digest: bytes) -> None:
        pending = self._pending[place]
        pending[digest] -= 1
        if not pending[digest]:
            del pending[digest]
        if not pending:
            del self._pending[place]

    def _failed(self, login: str, place: Place, digest: bytes, account: str) -> None:
        if account not in ("", place.account):
            # Another spelling of the same account counts for it from now on.
            place = place._replace(account=account)
            self._accounts[login] = account
            self._trim(self._accounts)
        self._count(place, digest)
        if place.answers:
            # A client that keeps sending an old password makes another answer each time.  All of
            # them are one wrong password, to whoever does not guess by answers himself.
            digest = self._digest(place.account, b"")
            self._count(place._replace(answers=False), digest)
        self._count(Place("", place.network), digest)

    def _count(self, place: Place, digest: bytes) -> None:
        wrong, now = self._at(place), self._seconds()
        wrong.until = now + self._limits.window
        if len(wrong.seen) < self._most or digest in wrong.seen:
            wrong.seen[digest] = now

    def _succeeded(self, spelt: str, place: Place, digest: bytes) -> None:
        for answers in (False, True):
            self._wrong.pop(place._replace(answers=answers), None)
        # Not by the account: it may become known later, with a wrong password.
        known = spelt, place.network
        _, right = self._trusted.get(known, (0.0, b""))
        until = self._seconds() + self._limits.trust
        self._trusted[known] = until, right if place.answers else digest
        self._trusted.move_to_end(known)
        self._trim(self._trusted)

    def _trim(self, remembered: OrderedDict[Any, Any]) -> None:
        if len(remembered) > self._limits.entries:
            remembered.popitem(last=False)


def _bare(login: str) -> str:
    """The name without a domain before it and a mailbox after it.

    Those are free to choose, and none may give guesses for free.
    """
    if "/" in login or "\\" in login:
        return re.split(r"[\\/]", split_login(login)[0])[-1]
    return login


def _networks(limits: ThrottleLimits) -> Callable[[str], str]:
    def network(host: str) -> str:
        try:
            address = client_address(host)
        except ValueError:
            return host
        prefix = limits.ipv4_prefix if address.version == 4 else limits.ipv6_prefix
        return str(ip_network((address, prefix), strict=False))

    return network
