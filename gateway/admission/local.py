"""Admission within one process: connection limits, login throttle and LOGIN-DELAY."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from gateway.admission import inspection
from gateway.admission.attempts import carry_out, weigh
from gateway.admission.limits import ConnectionCounts, ConnectionLimits
from gateway.admission.login_delay import LoginDelay
from gateway.admission.rules import AdmissionRules
from gateway.admission.throttle import Throttle, ThrottleLimits
from gateway.errors import GatewayError
from gateway.events import Emit
from gateway.interfaces import IAdmission, Leave
from gateway.model import Connection, Forgiveness, Guess, LoginAttempt, Terms
from gateway.observe.log import emit_to_log
from gateway.pop3.profile import Profile

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
        self.seconds = seconds
        self.forgiven: Callable[[Forgiveness], object] = lambda _: None
        """Hears what an operator forgives here, for other servers."""
        self._emit = emit
        self._counts = ConnectionCounts(limits)
        self._throttle = None if throttle is None else Throttle(throttle, seconds)
        self.login_delay = LoginDelay(profile, seconds)

    def configure(self, rules: AdmissionRules) -> None:
        """Other limits from now on; what was counted stays counted."""
        self._counts.configure(rules.limits)
        if self._throttle is not None and rules.throttle is not None:
            self._throttle.configure(rules.throttle)
        self.login_delay.configure(rules.profile)

    def waiting(self, question: Mapping[str, Any]) -> object:
        """Who waits, as ``inspection.waiting``."""
        return inspection.waiting(self._throttle, self.login_delay, question)

    def forgive(self, question: Mapping[str, Any]) -> object:
        """As ``inspection.forgive``."""
        one = inspection.forgiveness(question)
        self.forgiven(one)
        return inspection.forgive(self._throttle, self.login_delay, one)

    def learn(self, told: Guess | Forgiveness) -> None:
        """Count a password that another server has tried, or forgive as its operator does."""
        if isinstance(told, Forgiveness):
            inspection.forgive(self._throttle, self.login_delay, told)
        elif self._throttle is not None:
            self._throttle.learn(
                told.name,
                told.host,
                told.digest.encode(),
                told.account,
                answers=told.is_answer,
                is_right=told.is_right,
            )

    def counted(self, what: str) -> object:
        """The addresses with the most connections (``address``), or the users (``user``)."""
        return inspection.most_counted(self._counts.of(what))

    def connect(self, connection: Connection) -> Deferred[Leave]:
        """Count a connection."""
        try:
            return succeed(self._counts.connect(connection.host))
        except GatewayError as error:
            return fail(error)

    def check(self, mailbox: str, terms: Terms) -> Deferred[None]:
        """Fail with ``LoginTooSoon`` while LOGIN-DELAY lasts."""
        if self.login_delay.longest:
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
        if self.login_delay.longest:
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
        again = partial(self.attempt, attempt, log_in)
        weighed = weigh(self._throttle, attempt)
        return carry_out(weighed, attempt, log_in, again, self._clock, self._emit)
