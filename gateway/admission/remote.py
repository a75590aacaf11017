"""Admission in a worker process: within its share by itself, beyond it by asking the parent."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.admission import inspection
from gateway.admission.attempts import Weighed, canonical_name, carry_out, weigh
from gateway.admission.limits import Counted, counted_address
from gateway.admission.login_delay import LoginDelay
from gateway.admission.parent_link import ANSWER_WITHIN, ParentLink
from gateway.admission.rules import AdmissionRules, counted_limits, refusal_from_json
from gateway.admission.shares import Key, WorkerShares
from gateway.admission.throttle import BARRED, RIGHT, Throttle, ThrottleLimits, networks_of
from gateway.errors import (
    GatewayError,
    LoginTooSoon,
    Overloaded,
    PeerGone,
    TooManyGuesses,
    TooManySessions,
)
from gateway.events import Emit
from gateway.interfaces import IAdmission, Leave
from gateway.model import Connection, Forgiveness, Guess, LoginAttempt, Terms
from gateway.pop3.capabilities import login_delay_seconds

T = TypeVar("T")

TOLD_AGAIN = 10.0
"""Seconds after which the parent hears again that a trusted password was right."""


@implementer(IAdmission)
class RemoteAdmission:
    """The admission of a worker.

    A normal login asks nothing: its connection and its session are within the worker's share,
    and its password was right from that network before.
    """

    def __init__(
        self,
        name: str,
        link: ParentLink,
        rules: AdmissionRules,
        *,
        workers: int,
        key: bytes,
        shares: Sequence[list[object]] = (),
        clock: Callable[[], IReactorTime],
        emit: Emit,
    ) -> None:
        """``name``: of the ``ServedAdmission`` in the parent; ``workers``: how many share it.

        ``key``: a secret of all workers; passwords leave this process as digests under it.
        ``shares``: what the parent's ``ServedAdmission.join`` returned.
        """
        self.forgiven: Callable[[Forgiveness], object] = lambda _: None
        """Hears what an operator forgives in this server, for others; in one of its workers."""
        self._name = name
        self._link = link
        self._workers = workers
        self._key = key
        self._clock = clock
        self._emit = emit
        self._numbers = count(1)
        throttle = rules.throttle or ThrottleLimits()

        def seconds() -> float:
            return clock().seconds()

        self._rules = rules
        self._trusted = TrustedPasswords(throttle, seconds)
        self._network = networks_of(throttle)
        channel = link.channel
        self._shares = WorkerShares(counted_limits(rules.limits), workers, self._tell)
        for share in shares:
            self._shares.take_share(share)
        channel.handle(f"{name}.share", self._shares.take_share)
        channel.handle(f"{name}.spare", self._shares.take_spare)
        channel.handle(f"{name}.distrusted", self._distrust)
        channel.handle(f"{name}.forgive", self._forgive)
        # For the time in which the parent does not answer.
        self._own = Throttle(share_of(throttle, workers), seconds)
        self._own_delay = LoginDelay(rules.profile, seconds)

    def _tell(self, message: str, body: object) -> None:
        self._link.channel.tell(f"{self._name}.{message}", body)

    def _offer(self, message: str, body: object) -> None:
        """Tell the parent what comes with each login, and would fill memory while it hangs."""
        self._link.channel.offer(f"{self._name}.{message}", body)

    def configure(self, rules: AdmissionRules) -> None:
        """Other limits from now on; what was counted stays counted."""
        self._rules = rules
        self._shares.limits = counted_limits(rules.limits)
        if rules.throttle is not None:
            self._trusted.limits = rules.throttle
            self._network = networks_of(rules.throttle)
            self._own.configure(share_of(rules.throttle, self._workers))
        self._own_delay.configure(rules.profile)

    def _distrust(self, known: list[str]) -> None:
        name, network = known
        self._trusted.forget((name, network))

    def _forgive(self, body: list[Any]) -> None:
        question, tells_others = body
        one = inspection.forgiveness(question)
        inspection.forgive(self._own, self._own_delay, one)
        if tells_others:
            self.forgiven(one)

    # -- counts ----------------------------------------------------------------

    def counted(self, what: str) -> object:
        """The addresses with the most connections here (``address``), or the users (``user``)."""
        return inspection.most_counted(self._shares.used(what))

    def connect(self, connection: Connection) -> Deferred[Leave]:
        """Count a connection."""
        address = counted_address(connection.host)
        return self._count(Key("connections", ""), Key("address", address))

    def _count(self, *keys: Key) -> Deferred[Leave]:
        shares = self._shares
        for at, key in enumerate(keys):
            if not shares.take(key):
                return self._count_slowly(keys[:at], keys[at:])
        return succeed(Counted(self._give_back, keys))

    def _count_slowly(self, taken: tuple[Key, ...], wanted: tuple[Key, ...]) -> Deferred[Leave]:
        if not wanted:
            return succeed(Counted(self._give_back, taken))

        def decided(is_counted: bool) -> Deferred[Leave]:
            if not is_counted:
                self._give_back(taken)
                raise TooManySessions(_full(wanted[0], self._rules))
            return self._count_slowly((*taken, wanted[0]), wanted[1:])

        return self._want(wanted[0]).addCallback(decided)

    def _want(self, key: Key) -> Deferred[bool]:
        """Whether a place was counted, perhaps by a share of another worker."""
        if self._link.is_away:
            return succeed(False)
        answer = Deferred[bool]()
        number = self._shares.want(key, answer.callback)

        def too_late() -> None:
            self._link.failed()
            self._shares.give_up(number)

        timer = self._clock().callLater(ANSWER_WITHIN, too_late)

        def answered(result: bool) -> bool:
            if timer.active():
                timer.cancel()
            return result

        return answer.addCallback(answered)

    def _give_back(self, keys: tuple[Key, ...]) -> None:
        for key in keys:
            self._shares.leave(key)

    # -- LOGIN-DELAY -----------------------------------------------------------

    def check(self, mailbox: str, terms: Terms) -> Deferred[None]:
        """Fail with ``LoginTooSoon`` while LOGIN-DELAY lasts."""
        return self._ask_of_delay("check", mailbox, terms, self._own_delay.check)

    def enter(self, connection: Connection, mailbox: str, terms: Terms) -> Deferred[Leave]:  # noqa: ARG002
        """Count a session, and begin its LOGIN-DELAY."""
        counted = self._count(Key("user", mailbox))
        if not login_delay_seconds(self._rules.profile, terms):
            return counted

        def begin(leave: Leave) -> Deferred[Leave]:
            def begun(result: Any) -> Any:
                if isinstance(result, Failure):
                    leave()
                    return result
                return leave

            return self._ask_of_delay("begin", mailbox, terms, self._own_delay.begin).addBoth(begun)

        return counted.addCallback(begin)

    def _ask_of_delay(
        self, what: str, mailbox: str, terms: Terms, by_ourselves: Callable[[str, Terms], None]
    ) -> Deferred[None]:
        if not login_delay_seconds(self._rules.profile, terms):
            return succeed(None)

        def answered(reason: str | None) -> None:
            if reason is not None:
                raise LoginTooSoon(reason)
            if what == "begin":
                self._own_delay.note(mailbox)

        def alone(_: Failure) -> None:
            by_ourselves(mailbox, terms)

        asked = self._link.ask(f"{self._name}.delay", [what, mailbox, terms.login_delay])
        return asked.addCallbacks(answered, alone)

    # -- passwords -------------------------------------------------------------

    def attempt(self, attempt: LoginAttempt, log_in: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Try a password when the throttle lets it."""
        if self._rules.throttle is None:
            return log_in()
        name, host = canonical_name(attempt), attempt.peer.host
        guess = hmac.digest(self._key, attempt.secret, "sha256").hex()
        facts = [name, host, guess, attempt.account, attempt.is_answer]
        known = name, self._network(host)
        again = partial(self.attempt, attempt, log_in)
        if self._trusted.knows(known, guess):
            tell, own = partial(self._result, facts), partial(weigh, self._own, attempt)
            weighed: Weighed = _Trusted(self._trusted, known, guess, tell, own)
            return carry_out(weighed, attempt, log_in, again, self._clock, self._emit)
        return self._ask(known, facts, attempt).addCallback(
            carry_out, attempt, log_in, again, self._clock, self._emit
        )

    def learn(self, told: Guess | Forgiveness) -> None:
        """Tell the parent of a password that another server has tried, or what it forgives."""
        if isinstance(told, Forgiveness):
            self._tell("forgiven", told._asdict())
            return
        digest = hmac.digest(self._key, told.digest.encode(), "sha256").hex()
        self._offer("learn", [told.name, told.host, digest, *told[3:]])

    def _result(self, facts: list[object], outcome: str, account: str) -> None:
        self._offer("result", [*facts, outcome, account])

    def _ask(
        self, known: tuple[str, str], facts: list[Any], attempt: LoginAttempt
    ) -> Deferred[Weighed]:
        number = next(self._numbers)
        own = self._own_verdict(attempt)

        def answered(verdict: list[Any]) -> Weighed:
            return _Asked(self, known, facts, verdict, number, own)

        def alone(failure: Failure) -> Weighed:
            if not failure.check(PeerGone, Overloaded):
                # The parent may have the question, and be waiting for the end of the login.
                self._tell("ended", [number, "", ""])
            return _Alone(own, partial(self._result, facts))

        return self._link.ask(f"{self._name}.weigh", [number, *facts]).addCallbacks(answered, alone)

    def _own_verdict(self, attempt: LoginAttempt) -> Weighed:
        """The verdict by this worker's share of the throttle, which counts what it has seen."""
        weighed = weigh(self._own, attempt)
        if weighed.refusal is None and 0 < self._trusted.limits.refuse_after < self._workers:
            # Its share is less than one wrong password.
            weighed.refusal = TooManyGuesses("the parent process does not answer")
        return weighed


class _Trusted:
    """The verdict on a password that was right from the same network before."""

    wait = 0.0
    again = False
    refusal: GatewayError | None = None

    def __init__(
        self,
        trusted: TrustedPasswords,
        known: tuple[str, str],
        guess: str,
        tell: Callable[[str, str], None],
        own: Callable[[], Weighed],
    ) -> None:
        self._trusted = trusted
        self._known = known
        self._guess = guess
        self._tell = tell
        self._own = own

    def tell(self, outcome: str, account: str = "") -> None:
        """Take the outcome; if the account is barred, the password stays the one that was right."""
        if outcome == RIGHT:
            if self._trusted.note(self._known, self._guess):
                self._tell(outcome, "")
        elif outcome != BARRED:
            self._trusted.forget(self._known)
            self._tell(outcome, account)
            # For the time in which the parent does not answer.
            own = self._own()
            own.tell(outcome, account)
            own.ended()

    def ended(self) -> None:
        """Nothing else is kept of it."""


class _Alone:
    """The worker's own verdict; the parent hears the result when it reads again."""

    def __init__(self, own: Weighed, tell: Callable[[str, str], None]) -> None:
        self.wait, self.again, self.refusal = own.wait, own.again, own.refusal
        self._tell = tell
        self.ended = own.ended
        self._own = own

    def tell(self, outcome: str, account: str = "") -> None:
        """Take the outcome."""
        self._own.tell(outcome, account)
        self._tell(outcome, account)


class _Asked:
    """The parent's verdict."""

    def __init__(
        self,
        admission: RemoteAdmission,
        known: tuple[str, str],
        facts: list[Any],
        verdict: list[Any],
        number: int,
        own: Weighed,
    ) -> None:
        self.wait, self.again, *refusal = verdict
        self.refusal = refusal_from_json(refusal)
        self._admission = admission
        self._known = known
        self._facts = facts
        self._number = number
        self._own = own
        self._outcome = "", ""

    def tell(self, outcome: str, account: str = "") -> None:
        """Take the outcome."""
        self._outcome = outcome, account
        _, _, guess, _, is_answer = self._facts
        if outcome == RIGHT and not is_answer:
            self._admission._trusted.note(self._known, guess)
        self._own.tell(outcome, account)

    def ended(self) -> None:
        """Tell the parent the result."""
        self._admission._tell("ended", [self._number, *self._outcome])
        self._own.ended()


class TrustedPasswords:
    """Digests of passwords that were right, by login name and network."""

    def __init__(self, limits: ThrottleLimits, seconds: Callable[[], float]) -> None:
        self.limits = limits
        self._seconds = seconds
        self._known: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def knows(self, known: tuple[str, str], guess: str) -> bool:
        """Whether this password was right before."""
        right, at = self._known.get(known, ("", 0.0))
        is_fresh = self._seconds() < at + self.limits.trust
        return is_fresh and hmac.compare_digest(right, guess)

    def note(self, known: tuple[str, str], guess: str) -> bool:
        """Record that a password is right; whether the parent has to know.

        It forgets the wrong passwords of this account and network then.  For ``TOLD_AGAIN``
        seconds once is enough.
        """
        now = self._seconds()
        right, at = self._known.get(known, ("", 0.0))
        if right == guess and 0 <= now - at < TOLD_AGAIN:
            return False
        self._known[known] = guess, now
        self._known.move_to_end(known)
        while len(self._known) > self.limits.entries:
            self._known.popitem(last=False)
        return True

    def forget(self, known: tuple[str, str]) -> None:
        """It is wrong now, or another one is right."""
        self._known.pop(known, None)


def share_of(throttle: ThrottleLimits, workers: int) -> ThrottleLimits:
    """One worker's share of the numbers of wrong passwords."""
    refuse_after = throttle.refuse_after
    return evolve(
        throttle,
        free=throttle.free // workers,
        network_free=throttle.network_free // workers,
        refuse_after=refuse_after and max(1, refuse_after // workers),
    )


def _full(key: Key, rules: AdmissionRules) -> str:
    limits = rules.limits
    return {
        "connections": f"{limits.connections} connections are open ({limits.setting})",
        "address": f"{key.of} has {limits.per_address} connections",
        "user": f"{key.of} has {limits.per_user} sessions",
    }[key.limit]
