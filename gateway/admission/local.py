"""Admission within one process: connection limits, login throttle and LOGIN-DELAY."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.admission.limits import ConnectionCounts, ConnectionLimits
from gateway.admission.login_delay import LoginDelay
from gateway.admission.throttle import Attempt, Throttle, ThrottleLimits
from gateway.errors import BadCredentials, GatewayError
from gateway.events import Emit, LoginDelayed
from gateway.interfaces import IAdmission, Leave
from gateway.model import Connection, LoginAttempt, Terms
from gateway.observe.log import emit_to_log
from gateway.pop3.profile import Profile
from gateway.saslprep import login_name, shown_name

__all__ = ["LocalAdmission"]

T = TypeVar("T")


@implementer(IAdmission)
class LocalAdmission:
    """Counts in memory; a restart forgets everything."""

    def __init__(
        self,
        clock: Callable[[], IReactorTime],
        *,
        limits: ConnectionLimits = ConnectionLimits(),
        throttle: ThrottleLimits | None = None,
        profile: Profile = Profile(),
        emit: Emit = emit_to_log,
    ) -> None:
        """``profile`` has the LOGIN-DELAY; without ``throttle`` nobody waits after wrong passwords.

        ``clock`` gives the clock when it is first needed; ``emit`` takes events.
        """

        def seconds() -> float:
            return clock().seconds()

        self._clock = clock
        self._emit = emit
        self._counts = ConnectionCounts(limits)
        self._throttle = None if throttle is None else Throttle(throttle, seconds)
        self.login_delay = LoginDelay(profile, seconds)

    def configure(
        self,
        *,
        limits: ConnectionLimits,
        throttle: ThrottleLimits | None = None,
        profile: Profile = Profile(),
    ) -> None:
        """Other limits from now on, as in the constructor; what was counted stays counted."""
        self._counts.configure(limits)
        if self._throttle is not None and throttle is not None:
            self._throttle.configure(throttle)
        self.login_delay.configure(profile)

    def connect(self, connection: Connection) -> Deferred[Leave]:
        """Count a connection."""
        try:
            return succeed(self._counts.connect(connection.host))
        except GatewayError as error:
            return fail(error)

    def check(self, mailbox: str, terms: Terms) -> Deferred[None]:
        """Fail with ``LoginTooSoon`` while LOGIN-DELAY lasts."""
        try:
            self.login_delay.check(mailbox, terms)
        except GatewayError as error:
            return fail(error)
        return succeed(None)

    def enter(self, connection: Connection, mailbox: str, terms: Terms) -> Deferred[Leave]:  # noqa: ARG002
        """Count a session, and begin its LOGIN-DELAY."""
        try:
            leave = self._counts.enter(mailbox)
        except GatewayError as error:
            return fail(error)
        try:
            self.login_delay.begin(mailbox, terms)
        except GatewayError as error:
            leave()
            return fail(error)
        return succeed(leave)

    def attempt(self, attempt: LoginAttempt, log_in: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Try a password when the throttle lets it."""
        if self._throttle is None:
            return log_in()
        peer, account = attempt.peer, attempt.account
        weighed = self._throttle.weigh(
            _name(attempt), peer.host, attempt.secret, account, answers=attempt.is_answer
        )
        answer = self._wait(weighed, attempt, log_in) if weighed.wait else _try(weighed, log_in)

        def good(result: T) -> T:
            weighed.succeeded()
            weighed.ended()
            return result

        def bad(failure: Failure) -> Failure:
            error = failure.value
            if weighed.refusal is None and isinstance(error, BadCredentials) and error.guessed:
                weighed.failed(account or error.account)
            weighed.ended()
            return failure

        return answer.addCallbacks(good, bad)

    def _wait(
        self, weighed: Attempt, attempt: LoginAttempt, log_in: Callable[[], Deferred[T]]
    ) -> Deferred[T]:
        peer, name = attempt.peer, shown_name(attempt.username)
        self._emit(LoginDelayed(peer.session, name, peer.host, weighed.wait))
        return deferLater(self._clock(), weighed.wait, lambda: None).addCallback(
            lambda _: _try(weighed, log_in)
        )


def _try(weighed: Attempt, log_in: Callable[[], Deferred[T]]) -> Deferred[T]:
    return log_in() if weighed.refusal is None else fail(weighed.refusal)


def _name(attempt: LoginAttempt) -> str:
    """The canonical login name, so that another spelling is no other account."""
    try:
        return login_name(attempt.username)
    except ValueError:
        return ""
