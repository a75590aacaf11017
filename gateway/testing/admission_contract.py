"""What every admission promises, as a suite: give it an admission and it is a TestCase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import (
    BadCredentials,
    DirectoryDown,
    GatewayError,
    LoginDisabled,
    LoginTooSoon,
    NotAdmitted,
    PasswordUnanswered,
    TooManySessions,
)
from gateway.interfaces import IAdmission, Leave
from gateway.model import Connection, LoginAttempt, Peer, Terms

__all__ = [
    "CONNECTIONS",
    "DELAY",
    "FREE",
    "LOGIN_DELAY",
    "PER_ADDRESS",
    "PER_USER",
    "AdmissionBench",
    "admission_tests",
]

CONNECTIONS, PER_ADDRESS, PER_USER = 4, 2, 2
"""The limits on connections and sessions that the suite expects."""

FREE, DELAY = 2, 4.0
"""Wrong passwords of one account before a delay, and the first delay in seconds."""

LOGIN_DELAY = 30
"""Seconds; users may have less by their ``Terms``."""

HERE, THERE = "192.0.2.1", "198.51.100.1"
AT_ONCE = Terms(login_delay=0)


@frozen
class AdmissionBench:
    """An admission with the limits above, and its time."""

    admission: IAdmission
    advance: Callable[[float], object]
    """Let seconds pass; 0: only have what is on its way arrive."""


def admission_tests(
    make_bench: Callable[[SynchronousTestCase], AdmissionBench],
) -> type[SynchronousTestCase]:
    """The suite for the admission that ``make_bench`` makes."""

    class AdmissionTests(SynchronousTestCase):
        def setUp(self) -> None:
            self.bench = make_bench(self)
            self.ids = 0
            self.tried: list[bytes] = []

        # -- asking ----------------------------------------------------------

        def _now(self, asked: Deferred[Any]) -> Any:
            self.bench.advance(0)
            return self.successResultOf(asked)

        def _refused(self, asked: Deferred[Any], error: type[GatewayError]) -> None:
            self.bench.advance(0)
            self.failureResultOf(asked, error)

        def _connection(self, host: str = HERE) -> Connection:
            self.ids += 1
            return Connection(f"{self.ids:x}", host)

        def _connect(self, host: str = HERE) -> Deferred[Leave]:
            return self.bench.admission.connect(self._connection(host))

        def _enter(self, mailbox: str, terms: Terms = AT_ONCE) -> Deferred[Leave]:
            return self.bench.admission.enter(self._connection(), mailbox, terms)

        def _attempt(
            self, secret: bytes, answer: GatewayError | str = "in", host: str = HERE
        ) -> Deferred[Any]:
            def log_in() -> Deferred[Any]:
                self.tried.append(secret)
                return succeed(answer) if isinstance(answer, str) else fail(answer)

            attempt = LoginAttempt(Peer(host, True, "1"), b"alice", secret)
            return self.bench.admission.attempt(attempt, log_in)

        # -- connections -----------------------------------------------------

        def test_it_provides_what_it_says(self) -> None:
            self.assertTrue(IAdmission.providedBy(self.bench.admission))

        def test_connections_in_all_have_a_limit(self) -> None:
            hosts = [f"192.0.2.{number}" for number in range(CONNECTIONS)]
            leaves = [self._now(self._connect(host)) for host in hosts]
            for _ in range(2):
                self._refused(self._connect(THERE), TooManySessions)
            leaves[0]()
            leaves[0]()
            self._now(self._connect(THERE))
            self._refused(self._connect(THERE), TooManySessions)

        def test_connections_from_one_address_have_a_limit(self) -> None:
            leaves = [self._now(self._connect()) for _ in range(PER_ADDRESS)]
            self._refused(self._connect(), TooManySessions)
            self._now(self._connect(THERE))
            leaves[0]()
            leaves[0]()
            self._now(self._connect())
            self._refused(self._connect(), TooManySessions)

        def test_all_addresses_of_a_64_bit_network_of_ipv6_are_one(self) -> None:
            for number in range(PER_ADDRESS):
                self._now(self._connect(f"2001:db8::{number:x}"))
            self._refused(self._connect("2001:db8::ffff:0:0:1"), TooManySessions)
            self._now(self._connect("2001:db8:0:1::1"))

        def test_an_ipv4_address_is_one_in_both_forms(self) -> None:
            for host in (HERE, f"::ffff:{HERE}"):
                self._now(self._connect(host))
            self._refused(self._connect(HERE), TooManySessions)
            self._now(self._connect(f"::ffff:{THERE}"))

        def test_clients_of_unix_sockets_are_one(self) -> None:
            for _ in range(PER_ADDRESS):
                self._now(self._connect(""))
            self._refused(self._connect(""), TooManySessions)

        # -- sessions --------------------------------------------------------

        def test_sessions_of_one_mailbox_have_a_limit(self) -> None:
            leaves = [self._now(self._enter("alice")) for _ in range(PER_USER)]
            self._refused(self._enter("alice"), TooManySessions)
            self._now(self._enter("bob"))
            leaves[0]()
            leaves[0]()
            self._now(self._enter("alice"))
            self._refused(self._enter("alice"), TooManySessions)

        def test_a_session_begins_the_login_delay_of_its_mailbox(self) -> None:
            admission = self.bench.admission
            self._now(admission.check("alice", Terms()))
            self._now(self._enter("alice", Terms()))
            self._refused(admission.check("alice", Terms()), LoginTooSoon)
            self._refused(self._enter("alice", Terms()), LoginTooSoon)
            self._now(admission.check("alice", AT_ONCE))
            self._now(admission.check("bob", Terms()))
            self.bench.advance(LOGIN_DELAY)
            self._now(admission.check("alice", Terms()))

        def test_a_login_that_comes_too_soon_is_no_session_and_begins_no_delay(self) -> None:
            self._now(self._enter("alice", Terms()))()
            self.bench.advance(LOGIN_DELAY - 1)
            for _ in range(PER_USER):
                self._refused(self._enter("alice", Terms()), LoginTooSoon)
            self.bench.advance(1)
            for _ in range(PER_USER):
                self._now(self._enter("alice", AT_ONCE))

        def test_one_session_too_many_begins_no_delay(self) -> None:
            for _ in range(PER_USER):
                self._now(self._enter("alice"))
            self.bench.advance(LOGIN_DELAY - 1)
            self._refused(self._enter("alice"), TooManySessions)
            self.bench.advance(1)
            self._now(self.bench.admission.check("alice", Terms()))

        # -- passwords -------------------------------------------------------

        def test_an_attempt_answers_as_the_login_does(self) -> None:
            self.assertEqual(self._now(self._attempt(b"right", "in")), "in")
            self._refused(self._attempt(b"wrong", BadCredentials("wrong")), BadCredentials)
            self._refused(self._attempt(b"any", DirectoryDown("down")), DirectoryDown)
            self.assertEqual(self.tried, [b"right", b"wrong", b"any"])

        def _wrong(self) -> None:
            """Use up the wrong passwords that bring no delay."""
            for number in range(FREE):
                wrong = BadCredentials("wrong")
                self._refused(self._attempt(b"wrong %d" % number, wrong), BadCredentials)
            self.tried.clear()

        def test_after_wrong_passwords_another_one_waits(self) -> None:
            self._wrong()
            waiting = self._attempt(b"right")
            self.bench.advance(DELAY - 0.1)
            self.assertNoResult(waiting)
            self.assertEqual(self.tried, [])
            self.bench.advance(0.1)
            self.assertEqual(self._now(waiting), "in")

        def test_others_do_not_wait(self) -> None:
            self._wrong()
            self.assertEqual(self._now(self._attempt(b"right", host=THERE)), "in")

        def test_the_same_wrong_password_is_not_tried_again(self) -> None:
            self._refused(self._attempt(b"old", BadCredentials("wrong")), BadCredentials)
            self._refused(self._attempt(b"old"), BadCredentials)
            self.assertEqual(self.tried, [b"old"])

        def test_a_right_password_ends_the_delay(self) -> None:
            self._wrong()
            waiting = self._attempt(b"right")
            self.bench.advance(DELAY)
            self._now(waiting)
            self.assertEqual(self._now(self._attempt(b"right")), "in")

        def test_neither_an_outage_nor_a_refusal_after_the_proof_is_a_wrong_password(self) -> None:
            for number in range(2 * FREE):
                for error in (DirectoryDown("down"), NotAdmitted("no delegate")):
                    self._refused(self._attempt(b"any %d" % number, error), type(error))
            self.assertEqual(self._now(self._attempt(b"right")), "in")

        def test_a_right_password_is_tried_again_after_the_account_was_locked(self) -> None:
            self._now(self._attempt(b"right"))
            for _ in range(2 * FREE):
                self._refused(self._attempt(b"right", LoginDisabled("locked")), LoginDisabled)
            self.assertEqual(self._now(self._attempt(b"right")), "in")

        def test_a_password_that_got_no_answer_in_time_counts_each_time_it_is_sent(self) -> None:
            late = PasswordUnanswered("late")
            self._now(self._attempt(b"old"))
            for _ in range(FREE):
                self._refused(self._attempt(b"old", late), PasswordUnanswered)
            self.tried.clear()
            waiting = self._attempt(b"old")
            self.bench.advance(DELAY - 0.1)
            self.assertNoResult(waiting)
            self.assertEqual(self.tried, [])
            self.bench.advance(0.1)
            self.assertEqual(self._now(waiting), "in")

    return AdmissionTests
