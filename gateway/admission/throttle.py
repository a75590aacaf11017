"""The login throttle: it delays logins after wrong passwords, for the client that guesses only.

It counts *distinct* wrong passwords, so that a phone that keeps sending an old
one does not lock its owner out.  It counts them for an account and a network
together, so that nobody can lock an account for other networks.  Answers to
challenges (NTLM) differ each time: all of them together count as one wrong
password for later passwords, and each counts for later answers.  A password that
the directory did not answer in time counts each time, and is never called wrong.  The password
that was right from the same network is never delayed, until the directory says
that it is wrong.  The throttle computes the delay, the caller waits.
"""

from __future__ import annotations

import hashlib
import heapq
import hmac
import math
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, NamedTuple

from attrs import frozen

from gateway.errors import GatewayError, TooManyGuesses, WrongPassword
from gateway.networks import network_of
from gateway.saslprep import split_login

__all__ = ["ThrottleLimits"]

_DIGEST = 12
"""Octets of a digest."""

RIGHT, WRONG, BARRED, UNANSWERED = "right", "wrong", "barred", "unanswered"
"""What comes of a password.

``BARRED``: the account may not log in, whatever the password is.  ``UNANSWERED``: the directory got
the password, and did not answer in time.
"""

SOON = 0.25
"""Seconds until a login that waits for the answer to others is weighed again."""


@frozen
class ThrottleLimits:
    """When the throttle delays a login, and for how long.  Times in seconds."""

    free: int = 3
    """Wrong passwords for one account from one network before there is a delay."""

    network_free: int = 20
    """The same for one network and any account."""

    delay: float = 1.0
    """The first delay; every further wrong password doubles it."""

    longest: float = 15.0
    refuse_after: int = 0
    """Refuse other passwords after this number of wrong ones in ``window``; 0: never.

    For directories that lock accounts: keep it below their lock-out threshold.
    """

    wrong_ttl: float = 60.0
    """Refuse the same wrong password for this time without asking the directory.

    With ``refuse_after`` the time is ``window``.
    """

    window: float = 1800.0
    """Forget wrong passwords this time after the last one."""

    trust: float = 30 * 86_400.0
    """After a good login ignore ``network_free`` for that account and network for this time."""

    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    entries: int = 20_000
    """Accounts and networks in memory; the oldest is forgotten first."""


class Place(NamedTuple):
    """The network that guesses come from, and the account that they are for."""

    account: str
    """Empty: any account."""

    network: str
    answers: bool = False
    """Count answers to challenges instead of passwords."""


class Waiting(NamedTuple):
    """A place that wrong passwords came from, for an operator; times in seconds from now."""

    place: Place
    wrong: int
    logins: int
    """Logins that are being tried or wait there."""

    delay: float
    """How long another password waits."""

    refuses: bool
    """Whether another password is refused."""

    forgotten: float
    """When all of it is forgotten, unless another wrong password comes."""


class Attempt:
    """One login: wait ``wait`` seconds, then fail with ``refusal`` or try it."""

    __slots__ = ("_digest", "_login", "_place", "_spelt", "_throttle", "again", "refusal", "wait")

    def __init__(
        self, throttle: Throttle, spelt: str, login: str, place: Place, digest: bytes
    ) -> None:
        self._throttle = throttle
        self._spelt = spelt
        self._login = login
        self._place = place
        self._digest = digest
        self.wait = 0.0
        self.again = False
        """It depends on logins that are being tried now: weigh it again after ``wait``."""
        self.refusal: GatewayError | None = None

    def ended(self) -> None:
        """The login is over; call it exactly once, after ``tell`` if it was tried."""
        self._throttle._ended(self._place, self._digest)

    def tell(self, outcome: str, account: str = "") -> None:
        """Take the outcome of the login.

        ``account``: the name of the account that the directory found.
        """
        if outcome == RIGHT:
            self.succeeded()
        elif outcome == UNANSWERED:
            # The directory may have counted it; no other login has the same digest.
            self._count(os.urandom(_DIGEST), "")
        elif outcome == WRONG or not self._throttle._is_trusted(self._known, self._digest):
            # A locked or disabled account, perhaps for an hour, may have sent its right password.
            # Then it is right again, and whoever sends it must not be kept out for longer.
            self.failed(account)

    def failed(self, account: str = "") -> None:
        """Count a wrong password, of a known or an unknown account alike."""
        self._count(self._digest, account)

    def _count(self, digest: bytes, account: str) -> None:
        self._throttle._distrust(self._known, self._digest)
        self._throttle._failed(self._login, self._place, digest, account)

    @property
    def _known(self) -> tuple[str, str]:
        return self._spelt, self._place.network

    def succeeded(self) -> None:
        """Forget the wrong passwords of this account from this network: this one was right."""
        self._throttle._succeeded(self._spelt, self._place, self._digest)


class _Wrong:
    """The wrong passwords from one place: digests, and the time of each one's last use."""

    __slots__ = ("next", "seen", "until")

    def __init__(self) -> None:
        self.seen: dict[bytes, float] = {}
        self.until = 0.0
        self.next = 0.0
        """The time at which the last login in the queue is tried."""


class Throttle:
    """Failed and good logins, in memory."""

    def __init__(
        self,
        limits: ThrottleLimits,
        seconds: Callable[[], float],
        distrusted: Callable[[str, str], object] = lambda _, __: None,
    ) -> None:
        """``distrusted`` gets login name and network: another password is right now, or none."""
        self._distrusted = distrusted
        self._seconds = seconds
        # A wrong password is often another account's right one: only digests are kept.
        self._key = os.urandom(32)
        self._wrong: OrderedDict[Place, _Wrong] = OrderedDict()
        self._trusted: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._accounts: OrderedDict[str, str] = OrderedDict()
        self._pending: dict[Place, dict[bytes, int]] = {}
        """How many logins are being tried or wait, by place and digest."""
        self.configure(limits)

    def configure(self, limits: ThrottleLimits) -> None:
        """Other limits from now on; the logins of before still count."""
        self._limits = limits
        # A directory that locks accounts counts the same wrong password each time.
        self._wrong_ttl = math.inf if limits.refuse_after else limits.wrong_ttl
        self._most = max(limits.free, limits.network_free, limits.refuse_after) + 40
        self._network = networks_of(limits)

    def weigh(
        self, login: str, host: str, guess: bytes, account: str = "", *, answers: bool = False
    ) -> Attempt:
        """Decide on a login before it is tried: its delay, and whether it is refused.

        ``account``: the account that has this login name, if known.  ``answers``:
        ``guess`` answers a challenge, so the same password never gives the same guess.
        """
        attempt = self._attempt(login, host, guess, account, answers)
        spelt, place, digest = attempt._spelt, attempt._place, attempt._digest
        until, right = self._trusted.get((spelt, place.network), (0.0, b""))
        trusted = until > self._seconds()
        if not (trusted and hmac.compare_digest(digest, right)):
            self._slow_down(attempt, trusted, right if trusted else b"")
        pending = self._pending.setdefault(place, {})
        pending[digest] = pending.get(digest, 0) + 1
        return attempt

    def learn(
        self, login: str, host: str, guess: bytes, account: str, *, answers: bool, is_right: bool
    ) -> None:
        """Count a login that was tried elsewhere."""
        attempt = self._attempt(login, host, guess, account, answers)
        if is_right:
            attempt.succeeded()
        else:
            attempt.failed(account)

    def _attempt(self, login: str, host: str, guess: bytes, account: str, answers: bool) -> Attempt:
        spelt, login, network = login, _bare(login), self._network(host)
        account = account or self._accounts.get(login, login)
        place = Place(account, network, answers)
        # Of the name as the client spelt it: a password may be wrong in one domain and right in
        # another.
        digest = self._digest(spelt, guess)
        return Attempt(self, spelt, login, place, digest)

    def _slow_down(self, attempt: Attempt, trusted: bool, right: bytes) -> None:
        place, digest, limits, now = attempt._place, attempt._digest, self._limits, self._seconds()
        of_passwords, of_answers = place._replace(answers=False), place._replace(answers=True)
        passwords, answers = self._seen(of_passwords, now), self._seen(of_answers, now)
        # Logins in progress count as wrong: a thousand connections at once get no more
        # guesses than one.
        tried = {*passwords, *self._pending.get(of_passwords, ())} - {digest, right}
        wrong = {*tried, *answers} - {digest, self._digest(place.account, b"")}
        others = wrong | (self._pending.get(of_answers, {}).keys() - {digest})
        # Answers that come at once from a known network are mostly right, and no two are the
        # same: nobody is delayed or refused for them.
        each = wrong if trusted else others
        delays = [(place, self._delay(len(each if place.answers else tried), limits.free))]
        if not trusted:
            network = Place("", place.network)
            everybody = len(self._seen(network, now))
            delays.append((network, self._delay(everybody, limits.network_free)))
        if passwords.get(digest, -math.inf) + self._wrong_ttl > now:
            attempt.wait = delays[0][1]
            attempt.refusal = WrongPassword("the same wrong password again", account=place.account)
        elif limits.refuse_after and digest in self._pending.get(place, ()):
            # A directory that locks accounts counts each of them if it is wrong.
            attempt.again, attempt.wait = True, SOON
        elif 0 < limits.refuse_after <= len(each):
            # All of them: a directory that locks accounts counts each answer, too.
            attempt.wait = delays[0][1]
            attempt.refusal = TooManyGuesses(f"{len(each)} wrong passwords for {place.account}")
        elif 0 < limits.refuse_after <= len(others):
            # If all of them are wrong, it would be one too many.
            attempt.again, attempt.wait = True, SOON
        else:
            self._queue(attempt, delays, now)

    def _digest(self, name: str, guess: bytes) -> bytes:
        text = b"%b\0%b" % (name.encode(), guess)
        return hashlib.blake2b(text, key=self._key, digest_size=_DIGEST).digest()

    def _queue(self, attempt: Attempt, delays: list[tuple[Place, float]], now: float) -> None:
        """Queue the login behind the others of its place; refuse it when the queue is too long."""
        queued = [(self._at(place), delay) for place, delay in delays if delay]
        attempt.wait = max((max(at.next - now, 0.0) + delay for at, delay in queued), default=0.0)
        if attempt.wait > 4 * self._limits.longest:
            attempt.wait = self._limits.longest
            attempt.refusal = TooManyGuesses("too many others wait to guess")
            return
        for at, _ in queued:
            at.next = now + attempt.wait

    def _at(self, place: Place) -> _Wrong:
        """The wrong passwords from a place, a new and empty record if there is none."""
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

    # -- for operators -------------------------------------------------------

    def waiting(self, fits: Callable[[Place], bool], most: int) -> list[Waiting]:
        """The places with the most wrong passwords, and what the next other one meets there."""
        now = self._seconds()
        # No list of all: making one of 100,000 takes three times as long as looking at them.
        found = (
            (place, wrong)
            for place, wrong in self._wrong.items()
            if wrong.until > now and wrong.seen and fits(place)
        )
        worst = heapq.nlargest(most, found, key=lambda one: len(one[1].seen))
        return [self._waiting(place, wrong, now) for place, wrong in worst]

    def _waiting(self, place: Place, wrong: _Wrong, now: float) -> Waiting:
        limits, count = self._limits, len(wrong.seen)
        delay = self._delay(count, limits.free if place.account else limits.network_free)
        queued = max(wrong.next - now, 0.0) + delay if delay else 0.0
        refuses = bool(place.account) and 0 < limits.refuse_after <= count
        logins = sum(self._pending.get(place, {}).values())
        return Waiting(place, count, logins, queued, refuses, wrong.until - now)

    def forgive(self, accounts: Collection[str], address: str) -> int:
        """Forget wrong passwords; returns from how many places.

        Of these names of an account, and from this address or network; empty: any, but not both.
        """
        if not (accounts or address):
            return 0
        names = {name for one in accounts for name in self._names(one)}
        networks = {address, self._network(address)}
        places = [
            place
            for place in self._wrong
            if (not accounts or place.account in names)
            and (not address or place.network in networks)
        ]
        for place in places:
            del self._wrong[place]
        return len(places)

    def _names(self, login: str) -> set[str]:
        bare = _bare(login)
        return {login, bare, self._accounts.get(login, login), self._accounts.get(bare, bare)}

    def _delay(self, wrong: int, free: int) -> float:
        if not wrong or wrong < free:
            return 0.0
        return float(min(self._limits.longest, self._limits.delay * 2 ** min(wrong - free, 30)))

    # -- how attempts end ----------------------------------------------------

    def _ended(self, place: Place, digest: bytes) -> None:
        pending = self._pending[place]
        left = pending[digest] - 1
        if left:
            pending[digest] = left
        else:
            del pending[digest]
        if not pending:
            del self._pending[place]

    def _failed(self, login: str, place: Place, digest: bytes, account: str) -> None:
        if account not in ("", place.account):
            # From now on this login name counts as another spelling of the account.
            place = place._replace(account=account)
            self._accounts[login] = account
            self._trim(self._accounts)
        self._count(place, digest)
        if place.answers:
            # A client that keeps sending an old password makes another answer each time.  For
            # later passwords all of these are one wrong password.
            digest = self._digest(place.account, b"")
            self._count(place._replace(answers=False), digest)
        self._count(Place("", place.network), digest)

    def _is_trusted(self, known: tuple[str, str], digest: bytes) -> bool:
        """Whether this password was the right one at the last login."""
        return hmac.compare_digest(digest, self._trusted.get(known, (0.0, b""))[1])

    def _distrust(self, known: tuple[str, str], digest: bytes) -> None:
        """The password was wrong: from now on it is one of the wrong ones, if it was right once."""
        if self._is_trusted(known, digest):
            until, _ = self._trusted[known]
            # The network is still one that the account logged in from.
            self._trusted[known] = until, b""
            self._distrusted(*known)

    def _count(self, place: Place, digest: bytes) -> None:
        wrong, now = self._at(place), self._seconds()
        wrong.until = now + self._limits.window
        if len(wrong.seen) < self._most or digest in wrong.seen:
            wrong.seen[digest] = now

    def _succeeded(self, spelt: str, place: Place, digest: bytes) -> None:
        if self._wrong:
            for answers in (False, True):
                self._wrong.pop(place._replace(answers=answers), None)
        # By the login name: the account may become known only later, with a wrong password.
        known = spelt, place.network
        _, right = self._trusted.get(known, (0.0, b""))
        until = self._seconds() + self._limits.trust
        if right and not place.answers and right != digest:
            self._distrusted(*known)
        self._trusted[known] = until, right if place.answers else digest
        self._trusted.move_to_end(known)
        self._trim(self._trusted)

    def _trim(self, remembered: OrderedDict[Any, Any]) -> None:
        while len(remembered) > self._limits.entries:
            remembered.popitem(last=False)


def _bare(login: str) -> str:
    """The user without domain and mailbox.

    A client chooses these freely; a change of them must not give free guesses.
    """
    if "/" in login or "\\" in login:
        return re.split(r"[\\/]", split_login(login)[0])[-1]
    return login


def networks_of(limits: ThrottleLimits) -> Callable[[str], str]:
    """A function that gives the network of a client's address."""

    @lru_cache(maxsize=4096)
    def network(host: str) -> str:
        return network_of(host, ipv4_prefix=limits.ipv4_prefix, ipv6_prefix=limits.ipv6_prefix)

    return network
