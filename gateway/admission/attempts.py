"""One login by the throttle's verdict: wait, refuse or try, and report the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from gateway.admission.throttle import BARRED, RIGHT, UNANSWERED, WRONG, Attempt, Throttle
from gateway.errors import (
    BadCredentials,
    GatewayError,
    LoginDisabled,
    PasswordUnanswered,
    UnknownLogin,
)
from gateway.events import Emit, LoginDelayed
from gateway.model import LoginAttempt
from gateway.saslprep import login_name, shown_name

T = TypeVar("T")


class Weighed(Protocol):
    """The throttle's verdict on one login."""

    wait: float
    """Seconds to wait first."""

    again: bool
    """Weigh the login again after that: it depends on others that are being tried."""

    refusal: GatewayError | None
    """Why it fails after that; None: try it."""

    def tell(self, outcome: str, account: str = "") -> None:
        """Take the outcome of the login, one of those of ``throttle.py``.

        ``account``: the account that the directory found.
        """

    def ended(self) -> None:
        """The login is over; called exactly once, after ``tell`` if it was tried."""


def carry_out(
    weighed: Weighed,
    attempt: LoginAttempt,
    log_in: Callable[[], Deferred[T]],
    weigh_again: Callable[[], Deferred[T]],
    clock: Callable[[], IReactorTime],
    emit: Emit,
) -> Deferred[T]:
    """Try a login as its verdict says; answers as ``IAdmission.attempt``."""
    if weighed.again:
        weighed.ended()
        again: Deferred[None] = deferLater(clock(), weighed.wait, lambda: None)
        return again.addCallback(lambda _: weigh_again())

    refusal = weighed.refusal

    def try_it(_: object) -> Deferred[T]:
        return log_in() if refusal is None else fail(refusal)

    def good(result: T) -> T:
        weighed.tell(RIGHT)
        weighed.ended()
        return result

    def bad(failure: Failure) -> Failure:
        error = failure.value
        if refusal is None and isinstance(error, BadCredentials) and error.guessed:
            is_barred = isinstance(error, LoginDisabled | UnknownLogin)
            weighed.tell(BARRED if is_barred else WRONG, attempt.account or error.account)
        elif isinstance(error, PasswordUnanswered):
            weighed.tell(UNANSWERED)
        weighed.ended()
        return failure

    if weighed.wait:
        peer, name = attempt.peer, shown_name(attempt.username)
        emit(LoginDelayed(peer.session, name, peer.host, weighed.wait, peer.listener))
        waited: Deferred[None] = deferLater(clock(), weighed.wait, lambda: None)
        answer = waited.addCallback(try_it)
    else:
        answer = try_it(None)
        if answer.called and not answer.paused and not isinstance(answer.result, Failure):
            # As with a cached password.  Callbacks would cost more.
            weighed.tell(RIGHT)
            weighed.ended()
            return answer
    return answer.addCallbacks(good, bad)


def weigh(throttle: Throttle, attempt: LoginAttempt) -> Attempt:
    """The verdict of a throttle in this process."""
    name, host = canonical_name(attempt), attempt.peer.host
    answers = attempt.is_answer
    return throttle.weigh(name, host, attempt.secret, attempt.account, answers=answers)


def canonical_name(attempt: LoginAttempt) -> str:
    """The canonical login name, so that another spelling is no other account."""
    try:
        return login_name(attempt.username)
    except ValueError:
        return ""
