"""Admission over several worker processes: the limits of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from admission_of_workers import Workers
from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.admission.parent_link import HERE
from gateway.admission.rules import AdmissionRules
from gateway.admission.throttle import ThrottleLimits
from gateway.errors import BadCredentials, LoginTooSoon, TooManyGuesses, TooManySessions
from gateway.events import ParentAway, ParentBack
from gateway.interfaces import IAdmission
from gateway.model import Connection, LoginAttempt, Peer, Terms
from gateway.pop3.profile import Profile

HOST = "192.0.2.1"
AT_ONCE = Terms(login_delay=0)
LOCKING = AdmissionRules(throttle=ThrottleLimits(free=3, delay=0.5, refuse_after=4))


class Directory:
    """Counts the passwords that reach it."""

    def __init__(self) -> None:
        self.right = b"right"
        self.asked: list[bytes] = []

    def log_in(self, admission: IAdmission, secret: bytes, host: str = HOST) -> Deferred[Any]:
        """A client logs in by this password."""

        def log_in() -> Deferred[Any]:
            self.asked.append(secret)
            is_right = secret == self.right
            return succeed("in") if is_right else fail(BadCredentials("wrong", account="alice"))

        return admission.attempt(LoginAttempt(Peer(host, True, "1"), b"alice", secret), log_in)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Directory()

    def make(self, count: int = 2, **rules: Any) -> None:
        """Workers with these rules."""
        self.workers = Workers(count, Clock(), AdmissionRules(**rules) if rules else None)

    def now(self, asked: Deferred[Any]) -> Any:
        """What is answered at once."""
        self.workers.advance(0)
        return self.successResultOf(asked)

    def refused(self, asked: Deferred[Any], error: type[Exception]) -> None:
        self.workers.advance(0)
        self.failureResultOf(asked, error)

    def try_password(self, worker: int, secret: bytes) -> Deferred[Any]:
        return self.directory.log_in(self.workers.admissions[worker], secret)

    def messages(self, act: Callable[[], object]) -> int:
        """How many writes between the processes an act causes."""
        wires = [
            wire for ends in self.workers.ends.values() for wire in (ends.to_parent, ends.to_worker)
        ]
        before = sum(len(wire.written) for wire in wires)
        act()
        self.workers.advance(0)
        return sum(len(wire.written) for wire in wires) - before


class PasswordTests(Case):
    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.booleans()), max_size=40))
    def test_no_more_guesses_reach_the_directory_than_with_one_process(
        self, guesses: list[tuple[int, int, bool]]
    ) -> None:
        clock, alone = Clock(), Directory()
        local = LocalAdmission(lambda: clock, throttle=LOCKING.throttle)
        self.directory = Directory()
        self.workers = Workers(3, Clock(), LOCKING)
        for worker, guess, is_hasty in guesses:
            secret = b"guess %d" % guess
            for answer in (self.try_password(worker, secret), alone.log_in(local, secret)):
                answer.addErrback(lambda _: None)
            if not is_hasty:
                self.workers.advance(0)
        for _ in range(50):
            clock.advance(10)
            self.workers.advance(10)
        self.assertLessEqual(len(self.directory.asked), 4)
        self.assertEqual(len(self.directory.asked), len(alone.asked))

    def test_a_crowd_of_guesses_at_once_reaches_the_directory_as_often_as_allowed(self) -> None:
        self.workers = Workers(3, Clock(), LOCKING)
        for number in range(300):
            self.try_password(number % 3, b"guess %d" % number).addErrback(lambda _: None)
        for _ in range(50):
            self.workers.advance(10)
        self.assertEqual(len(self.directory.asked), 4)

    def test_one_wrong_password_many_times_at_once_reaches_the_directory_once(self) -> None:
        self.workers = Workers(3, Clock(), LOCKING)
        answers, asked = list[Deferred[Any]](), list[bytes]()

        def log_in() -> Deferred[Any]:
            asked.append(b"old")
            answers.append(Deferred())
            return answers[-1]

        attempt = LoginAttempt(Peer(HOST, True, "1"), b"alice", b"old")
        results = [self.workers.admissions[at % 3].attempt(attempt, log_in) for at in range(30)]
        for _ in range(5):
            self.workers.advance(1)
        answers[0].errback(BadCredentials("wrong", account="alice"))
        for _ in range(20):
            self.workers.advance(1)
        for result in results:
            self.failureResultOf(result, BadCredentials)
        self.assertEqual(asked, [b"old"])

    def test_one_right_password_many_times_at_once_lets_all_in(self) -> None:
        self.workers = Workers(3, Clock(), LOCKING)
        results = [self.try_password(at % 3, b"right") for at in range(30)]
        for _ in range(5):
            self.workers.advance(1)
        self.assertEqual([self.successResultOf(result) for result in results], ["in"] * 30)

    def test_a_password_that_was_right_before_asks_nobody(self) -> None:
        self.make()
        self.assertEqual(self.now(self.try_password(0, b"right")), "in")
        self.workers.advance(0)
        answer: list[Any] = []
        asked = self.messages(lambda: answer.append(self.try_password(0, b"right")))
        self.assertEqual((self.successResultOf(answer[0]), asked), ("in", 0))

    def test_after_some_seconds_the_parent_hears_that_it_was_right_again(self) -> None:
        self.make(throttle=ThrottleLimits(free=2, delay=4.0))
        self.now(self.try_password(0, b"right"))
        for number in range(2):
            self.refused(self.try_password(1, b"wrong %d" % number), BadCredentials)
        self.workers.advance(60)
        self.now(self.try_password(0, b"right"))
        self.refused(self.try_password(1, b"another"), BadCredentials)

    def test_another_right_password_ends_the_trust_in_the_last_one_everywhere(self) -> None:
        self.make(count=3, throttle=LOCKING.throttle)
        for worker in range(3):
            self.now(self.try_password(worker, b"right"))
        self.directory.right = b"new"
        self.now(self.try_password(0, b"new"))
        self.directory.asked.clear()
        for worker in (1, 2, 1, 2):
            self.refused(self.try_password(worker, b"right"), BadCredentials)
        self.assertEqual(self.directory.asked, [b"right"])

    def test_a_password_that_is_no_longer_right_is_asked_of_the_parent_again(self) -> None:
        self.make()
        self.now(self.try_password(0, b"right"))
        self.directory.right = b"new"
        self.refused(self.try_password(0, b"right"), BadCredentials)
        self.assertGreater(self.messages(lambda: self.try_password(0, b"right").addErrback(str)), 0)

    def test_a_password_that_was_changed_reaches_the_directory_once_more_from_all_workers(
        self,
    ) -> None:
        self.make(count=3, throttle=LOCKING.throttle)
        for worker in range(3):
            self.now(self.try_password(worker, b"right"))
        self.directory.right = b"new"
        self.directory.asked.clear()
        for at in range(20):
            self.refused(self.try_password(at % 3, b"right"), BadCredentials)
            self.workers.advance(60)
        self.assertEqual(self.directory.asked, [b"right"])

    def test_so_it_does_while_the_parent_is_away(self) -> None:
        self.make(throttle=LOCKING.throttle)
        self.now(self.try_password(0, b"right"))
        self.workers.ends[0].to_parent.stop_reading()
        self.directory.right = b"new"
        self.directory.asked.clear()
        for _ in range(5):
            login = self.try_password(0, b"right")
            self.workers.advance(30)
            self.failureResultOf(login, BadCredentials)
        self.assertEqual(self.directory.asked, [b"right"])

    def test_the_parent_keeps_nothing_of_logins_that_ended(self) -> None:
        self.make()
        for secret in (b"right", b"wrong"):
            self.try_password(0, secret).addErrback(lambda _: None)
        self.workers.advance(0)
        self.workers.advance(30)
        waiting = self.try_password(1, b"other")
        self.workers.ends[1].to_parent.stop_reading()
        self.workers.advance(30)
        self.workers.ends[1].to_parent.read_again()
        waiting.addErrback(lambda _: None)
        self.workers.advance(30)
        self.assertEqual(self.workers.served._attempts, {})

    def test_what_a_worker_tells_has_no_password(self) -> None:
        self.make()
        self.refused(self.try_password(0, b"hunter2"), BadCredentials)
        self.workers.advance(0)
        written = b"".join(self.workers.ends[0].to_parent.written)
        self.assertIn(b"alice", written)
        self.assertNotIn(b"hunter2", written)


class LimitTests(Case):
    def enter(self, worker: int, mailbox: str = "alice", terms: Terms = AT_ONCE) -> Any:
        admission = self.workers.admissions[worker]
        return admission.enter(Connection("1", HOST), mailbox, terms)

    def test_a_login_within_the_share_asks_nobody(self) -> None:
        self.make(limits=ConnectionLimits(100, 100, 16))
        connection = Connection("1", HOST)

        def log_in() -> None:
            leave = self.successResultOf(self.workers.admissions[0].connect(connection))
            session = self.successResultOf(self.enter(0))
            session()
            leave()

        self.assertEqual(self.messages(log_in), 0)

    @given(st.lists(st.integers(0, 2), min_size=1, max_size=30))
    def test_sessions_of_one_user_over_all_workers_are_exactly_the_limit(
        self, workers: list[int]
    ) -> None:
        self.workers = Workers(3, Clock(), AdmissionRules(limits=ConnectionLimits(per_user=7)))
        asked = [self.enter(worker) for worker in workers]
        self.workers.advance(0)
        results: list[Any] = []
        for answer in asked:
            answer.addErrback(lambda failure: failure.type).addCallback(results.append)
        leaves = [result for result in results if result is not TooManySessions]
        self.assertEqual(len(leaves), min(7, len(workers)))
        for leave in leaves:
            leave()
            leave()
        self.workers.advance(0)
        for worker in range(3):
            self.assertTrue(callable(self.now(self.enter(worker))))

    def test_one_session_a_user_holds_over_all_workers(self) -> None:
        self.make(count=4, limits=ConnectionLimits(per_user=1))
        leave = self.now(self.enter(0))
        for worker in range(4):
            self.refused(self.enter(worker), TooManySessions)
        leave()
        self.now(self.enter(3))

    def test_what_a_killed_worker_counted_is_free(self) -> None:
        self.make(count=2, limits=ConnectionLimits(per_user=3))
        for _ in range(3):
            self.now(self.enter(0))
        self.refused(self.enter(1), TooManySessions)
        self.workers.kill(0)
        for _ in range(3):
            self.now(self.enter(1))
        self.workers.start(0)
        self.refused(self.enter(0), TooManySessions)

    def test_what_a_dead_worker_sent_last_changes_nothing_for_its_successor(self) -> None:
        self.make(count=2, limits=ConnectionLimits(per_user=10))
        for leave in [self.now(self.enter(0)) for _ in range(8)]:
            leave()
        # It has given places back, but its end is known first.
        ends = self.workers.ends.pop(0)
        self.workers.served.leave(0)
        self.workers.clock.advance(0)
        ends.turn()
        ends.end()
        self.workers.start(0)
        asked = [self.enter(worker) for worker in (0, 1) for _ in range(10)]
        self.workers.advance(2)
        entered = [answer for answer in asked if callable(answer.addErrback(str).result)]
        self.assertEqual(len(entered), 10)

    def test_places_given_back_while_the_parent_does_not_read_are_free_afterwards(self) -> None:
        self.make(count=2, limits=ConnectionLimits(per_user=10))
        leaves = [self.now(self.enter(0)) for _ in range(10)]
        ends = self.workers.ends[0]
        ends.to_parent.stop_reading()
        for size, count in ((2**20, 5), (2**10, 2**10), (0, 2**6)):
            for _ in range(count):
                ends.worker.offer(HERE, "x" * size)
        for leave in leaves:
            leave()
        ends.to_parent.read_again()
        for _ in range(10):
            self.now(self.enter(1))
        self.refused(self.enter(0), TooManySessions)

    def test_login_delay_holds_over_all_workers(self) -> None:
        self.make(profile=Profile(login_delay="30"))
        self.now(self.enter(0, terms=Terms()))
        self.refused(self.enter(1, terms=Terms()), LoginTooSoon)
        self.refused(self.workers.admissions[1].check("alice", Terms()), LoginTooSoon)
        self.workers.advance(30)
        self.now(self.enter(1, terms=Terms()))


class AwayTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.make(
            limits=ConnectionLimits(per_user=4),
            throttle=ThrottleLimits(free=9, refuse_after=4),
            profile=Profile(login_delay="30 USER"),
        )
        for ends in self.workers.ends.values():
            ends.to_parent.stop_reading()

    def _answered(self, asked: Deferred[Any]) -> Any:
        for _ in range(4):
            self.workers.advance(1)
        results: list[Any] = []
        asked.addErrback(lambda failure: failure.type).addCallback(results.append)
        self.assertEqual(len(results), 1, "no answer")
        return results[0]

    def test_workers_keep_to_their_share_and_say_so_once(self) -> None:
        for worker in range(2):
            admission = self.workers.admissions[worker]
            results = [
                self._answered(
                    admission.enter(Connection("1", HOST), "alice", Terms(login_delay=0))
                )
                for _ in range(3)
            ]
            self.assertEqual(
                [callable(one) and one is not TooManySessions for one in results],
                [True, True, False],
            )
        self.assertEqual(self.workers.events, [ParentAway(2), ParentAway(2)])

    def test_no_more_guesses_reach_the_directory_than_all_may_have(self) -> None:
        for number in range(20):
            self._answered(self.try_password(number % 2, b"guess %d" % number))
        self.assertEqual(len(self.directory.asked), 4)

    def test_a_limit_of_less_than_one_guess_for_each_worker_refuses_all(self) -> None:
        self.workers = Workers(2, Clock(), evolve(LOCKING, throttle=ThrottleLimits(refuse_after=1)))
        for ends in self.workers.ends.values():
            ends.to_parent.stop_reading()
        self.assertIs(self._answered(self.try_password(0, b"guess")), TooManyGuesses)
        self.assertEqual(self.directory.asked, [])

    def test_who_logged_in_here_waits_here(self) -> None:
        admission, connection = self.workers.admissions[0], Connection("1", HOST)
        self.assertTrue(callable(self._answered(admission.enter(connection, "alice", Terms()))))
        self.assertIs(self._answered(admission.check("alice", Terms())), LoginTooSoon)

    def test_when_the_parent_is_back_it_is_asked_again(self) -> None:
        self._answered(self.try_password(0, b"guess"))
        for ends in self.workers.ends.values():
            ends.to_parent.read_again()
        for _ in range(3):
            self.workers.advance(1)
        self.assertIsInstance(self.workers.events[-1], ParentBack)
        self.refused(self.try_password(0, b"guess 2"), BadCredentials)
        self.refused(self.try_password(1, b"guess 2"), BadCredentials)
        self.assertEqual(self.directory.asked, [b"guess", b"guess 2"])

    def test_logins_while_the_parent_is_away_owe_it_nothing(self) -> None:
        # However long it is away: what is owed is not dropped.
        for number in range(9):
            self._answered(self.try_password(0, b"guess %d" % number))
        self.workers.ends[0].to_parent.read_again()
        self.workers.advance(0)
        written = b"".join(self.workers.ends[0].to_parent.written)
        # That of the question to which no answer came.
        self.assertEqual(written.count(b"pop3.ended"), 1)

    def test_guesses_while_the_parent_was_away_count_when_it_is_back(self) -> None:
        for number in range(4):
            self._answered(self.try_password(number % 2, b"guess %d" % number))
        for ends in self.workers.ends.values():
            ends.to_parent.read_again()
        for _ in range(3):
            self.workers.advance(1)
        self.assertIs(self._answered(self.try_password(0, b"guess 5")), TooManyGuesses)
        self.assertIs(self._answered(self.try_password(1, b"guess 6")), TooManyGuesses)
        self.assertEqual(len(self.directory.asked), 4)
        self.assertEqual(self.workers.served._attempts, {})
