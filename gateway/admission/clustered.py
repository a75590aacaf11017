"""Admission in a process of one of several machines: its own, and what they count together."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.admission.attempts import canonical_name
from gateway.admission.cluster_guesses import ClusterGuesses
from gateway.admission.cluster_sessions import ClusterSessions
from gateway.admission.local import LocalAdmission
from gateway.admission.remote import RemoteAdmission
from gateway.admission.rules import AdmissionRules
from gateway.admission.throttle import ThrottleLimits
from gateway.errors import BadCredentials, GatewayError, LoginDisabled, PasswordUnanswered
from gateway.events import Emit
from gateway.interfaces import IAdmission, ISharedLimits, Leave, Run
from gateway.model import Connection, Guess, LoginAttempt, Terms
from gateway.observe.looping import looping
from gateway.observe.outage import Outage
from gateway.pop3.capabilities import login_delay_seconds

T = TypeVar("T")

EACH = 1.0
"""Seconds between two exchanges of guesses."""


@implementer(IAdmission)
class ClusterAdmission:
    """Admission of a process, which decides by itself while the others cannot be asked."""

    def __init__(
        self,
        own: LocalAdmission | RemoteAdmission,
        limits: ISharedLimits,
        run: Run,
        clock: IReactorTime,
        rules: AdmissionRules,
        *,
        count_sessions: bool,
        key: bytes,
        emit: Emit,
    ) -> None:
        """``own``: that of this machine; ``run`` does what blocks.

        ``count_sessions``: sessions of a user count in all machines together; ``key``: a secret of
        all of them, under which passwords become digests.
        """
        self._own = own
        self._limits = limits
        self._run = run
        self._clock = clock
        self._count_sessions = count_sessions
        outage = Outage("limits in the database", clock.seconds, emit)
        self._sessions = ClusterSessions(limits, run, clock, outage, per_user=0)
        self._guesses = ClusterGuesses(limits, run, outage, own.learn, 0.0)
        own.forgiven = self._guesses.forgive
        self._loop = looping(self._tick, "limits of a cluster", clock)
        self.configure(rules, key)

    def configure(self, rules: AdmissionRules, key: bytes) -> None:
        """Other limits from now on; the machine's own admission is configured by itself."""
        self._key = key
        self._profile = rules.profile
        self._sessions.per_user = rules.limits.per_user if self._count_sessions else 0
        self._guesses.window = (rules.throttle or ThrottleLimits()).window

    def start(self) -> None:
        """Begin to ask, once the reactor runs."""
        self._loop.start(EACH, now=False)
        self._clock.callLater(0, self._begin)

    def _begin(self) -> None:
        if self._count_sessions and self._loop.running:
            self._sessions.join()

    def _tick(self) -> None:
        self._sessions.tick()
        if not self._sessions.is_away:
            # One thread waits in an outage, not two.
            self._guesses.tick()

    def close(self) -> Deferred[None]:
        """Ask no more; what was counted here counts no more."""
        if self._loop.running:
            self._loop.stop()
        self._sessions.stop()

        def failed(failure: Failure) -> None:
            # The term ends by itself.
            failure.trap(GatewayError)

        close = partial(self._limits.close, self._sessions.member)
        return self._run(close).addErrback(failed)

    # -- what a login asks -------------------------------------------------------

    def connect(self, connection: Connection) -> Deferred[Leave]:
        """Count a connection, in this machine."""
        return self._own.connect(connection)

    def check(self, mailbox: str, terms: Terms) -> Deferred[None]:
        """Fail with ``LoginTooSoon`` after a login to this machine; ``enter`` knows the others."""
        return self._own.check(mailbox, terms)

    def enter(self, connection: Connection, mailbox: str, terms: Terms) -> Deferred[Leave]:
        """Count a session, and begin its LOGIN-DELAY."""
        delay = login_delay_seconds(self._profile, terms)
        if not (delay or self._count_sessions):
            return self._own.enter(connection, mailbox, terms)

        def counted(found: tuple[Leave, Leave]) -> Deferred[Leave]:
            leave, undo = found

            def entered(leave_own: Leave) -> Leave:
                def leave_both() -> None:
                    leave_own()
                    leave()

                return leave_both

            def refused(failure: Failure) -> Failure:
                undo()
                return failure

            return self._own.enter(connection, mailbox, terms).addCallbacks(entered, refused)

        return self._sessions.enter(mailbox, delay).addCallback(counted)

    def attempt(self, attempt: LoginAttempt, log_in: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Try a password when the throttle lets it, and tell the others."""
        # The same password is the same guess in every machine.
        digest = hmac.digest(self._key, attempt.secret, "sha256").hex()[:24]
        note = partial(self._note, attempt)

        def right(result: T) -> T:
            note(digest, "", True)
            return result

        def wrong(failure: Failure) -> Failure:
            error = failure.value
            if isinstance(error, LoginDisabled):
                # It may be right, and no gateway is to take it for a wrong one.
                return failure
            if isinstance(error, BadCredentials) and error.guessed:
                note(digest, error.account, False)
            elif isinstance(error, PasswordUnanswered):
                # As one that no other login has: nobody knows that it is wrong.
                note(os.urandom(12).hex(), "", False)
            return failure

        return self._own.attempt(
            attempt._replace(secret=digest.encode()),
            lambda: log_in().addCallbacks(right, wrong),
        )

    def _note(self, attempt: LoginAttempt, digest: str, account: str, is_right: bool) -> None:
        name, host = canonical_name(attempt), attempt.peer.host
        account = attempt.account or account
        self._guesses.note(Guess(name, host, digest, account, attempt.is_answer, is_right))
