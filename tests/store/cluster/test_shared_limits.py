"""Sessions per user, LOGIN-DELAY and the throttle hold in all gateways of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from psycopg.errors import UntranslatableCharacter
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ENGINES
from gateway.admission.cluster_sessions import ANSWER_WITHIN
from gateway.admission.limits import ConnectionLimits
from gateway.admission.throttle import ThrottleLimits
from gateway.errors import LoginTooSoon, TooManyGuesses, TooManySessions, WrongPassword
from gateway.events import BackEndBack, BackEndDown, LoginDelayed
from gateway.model import Guess
from gateway.state.cluster.limits import LEASE
from gateway.testing.admission_contract import admission_tests
from relay import Relay
from shared_admission import HERE, Cluster, Member, bench_on

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]


class SharedCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = Cluster(self)

    def refused(self, login: Deferred[Any], kind: type[Exception]) -> None:
        """It fails so."""
        self.failureResultOf(login, kind)


class SessionTests(SharedCase):
    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = self.cluster.gateway(), self.cluster.gateway()

    def test_the_sessions_of_a_user_count_in_all_gateways_together(self) -> None:
        leave = self.successResultOf(self.one.enter())
        self.successResultOf(self.two.enter())
        self.refused(self.two.enter(), TooManySessions)
        self.refused(self.one.enter(), TooManySessions)
        self.successResultOf(self.two.enter("bob"))
        leave()
        leave()
        self.successResultOf(self.two.enter())
        self.refused(self.one.enter(), TooManySessions)

    def test_the_sessions_of_a_gateway_that_has_died_count_until_its_term_is_over(self) -> None:
        clock = Clock()
        dead = self.cluster.gateway(clock=clock)
        for _ in range(2):
            self.successResultOf(dead.enter())
        # Nobody advances the clock of the one that has died; attempts extend nothing.
        for _ in range(5):
            self.cluster.pass_time(int(LEASE / 5) - 1)
            self.refused(self.two.enter(), TooManySessions)
        self.cluster.pass_time(6)
        self.successResultOf(self.two.enter())

    def test_the_sessions_of_a_gateway_that_lives_count_as_long_as_they_take(self) -> None:
        for _ in range(2):
            self.successResultOf(self.one.enter())
        self.cluster.pass_time(int(3 * LEASE))
        self.refused(self.two.enter(), TooManySessions)

    def test_the_sessions_of_a_gateway_that_has_ended_count_no_more(self) -> None:
        for _ in range(2):
            self.successResultOf(self.one.enter())
        self.successResultOf(self.one.admission.close())
        for _ in range(2):
            self.successResultOf(self.two.enter())

    def test_a_gateway_that_was_stopped_for_longer_than_its_term_counts_its_sessions_again(
        self,
    ) -> None:
        clock = Clock()
        paused = self.cluster.gateway(clock=clock)
        for _ in range(2):
            leave = self.successResultOf(paused.enter())
        self.cluster.pass_time(int(LEASE) + 1)
        clock.advance(LEASE + 1)
        self.assertEqual(self.cluster.sessions(), 2)
        self.refused(self.two.enter(), TooManySessions)
        leave()
        self.successResultOf(self.two.enter())

    def test_a_clock_of_a_gateway_that_stands_still_makes_it_count_in_nobodys_place(self) -> None:
        self.cluster.shift(LEASE + 1)
        self.successResultOf(self.one.enter())
        self.assertEqual(self.cluster.sessions(), 1)

    def test_a_limit_in_each_gateway_asks_nothing(self) -> None:
        alone = self.cluster.gateway(count_sessions=False)
        self.successResultOf(alone.enter())
        self.assertEqual(alone.database.asked, [])


class QuestionTests(SharedCase):
    def held(self, **more: Any) -> tuple[Member, Callable[[], int]]:
        """A gateway, and what lets the database answer, and returns how often it was asked."""
        held: list[tuple[Callable[[], Any], Deferred[Any]]] = []

        def run(work: Callable[[], Any]) -> Deferred[Any]:
            held.append((work, Deferred()))
            return held[-1][1]

        def answer() -> int:
            questions = 0
            while held:
                work, answer = held.pop(0)
                answer.callback(work())
                questions += 1
            return questions

        return self.cluster.gateway(run=run, **more), answer

    def test_a_login_asks_one_question_and_so_does_its_end(self) -> None:
        one = self.cluster.gateway(login_delay="5")
        del one.database.asked[:]
        leave = self.successResultOf(one.enter())
        self.assertEqual(len(one.database.asked), 1)
        leave()
        self.assertEqual(len(one.database.asked), 2)

    def test_with_login_delay_alone_only_the_login_asks(self) -> None:
        one = self.cluster.gateway(login_delay="5", count_sessions=False)
        self.successResultOf(one.enter("bob"))
        del one.database.asked[:]
        self.successResultOf(one.enter())()
        self.assertEqual(len(one.database.asked), 1)

    def test_logins_that_come_together_share_a_question(self) -> None:
        one, answer = self.held()
        self.assertEqual(answer(), 1)
        logins = [one.enter(f"user{number}") for number in range(100)]
        # The first alone, and all others together.
        self.assertEqual(answer(), 2)
        for leave in map(self.successResultOf, logins):
            leave()
        self.assertEqual(answer(), 2)
        self.assertEqual(self.cluster.sessions("user99"), 0)

    def test_logins_of_one_user_that_come_together_count_one_after_the_other(self) -> None:
        one, answer = self.held()
        two = self.cluster.gateway()
        answer()
        logins = [one.enter() for _ in range(3)]
        answer()
        for login in logins[:2]:
            self.successResultOf(login)
        self.refused(logins[2], TooManySessions)
        self.refused(two.enter(), TooManySessions)

    def test_no_login_waits_longer_than_a_while(self) -> None:
        one, answer = self.held()
        answer()
        logins = [one.enter(), one.enter("bob")]
        self.cluster.clock.advance(ANSWER_WITHIN - 0.1)
        self.assertNoResult(logins[0])
        self.cluster.clock.advance(0.1)
        leave, _ = map(self.successResultOf, logins)
        self.successResultOf(one.enter("carol"))
        self.assertEqual([type(event) for event in one.events], [BackEndDown])
        leave()
        # The answers come: what ended meanwhile is told, and so is what began.
        answer()
        counts = [self.cluster.sessions(name) for name in ("alice", "bob", "carol")]
        self.assertEqual(counts, [0, 1, 1])
        self.assertEqual([type(event) for event in one.events], [BackEndDown, BackEndBack])


class LoginDelayTests(SharedCase):
    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = (
            self.cluster.gateway(login_delay="30", count_sessions=False) for _ in range(2)
        )

    def test_login_delay_holds_in_every_gateway_and_only_a_login_begins_it(self) -> None:
        self.successResultOf(self.one.enter())
        for _ in range(2):
            self.cluster.pass_time(14)
            self.refused(self.two.enter(), LoginTooSoon)
        self.successResultOf(self.two.enter("bob"))
        self.cluster.pass_time(2)
        self.successResultOf(self.two.enter())
        self.refused(self.one.enter(), LoginTooSoon)

    def test_an_operator_ends_login_delay_in_every_gateway(self) -> None:
        three = self.cluster.gateway(login_delay="30", count_sessions=False)
        self.successResultOf(self.one.enter())
        self.successResultOf(self.one.enter("bob"))
        self.two.forgive(names=["alice"], mailboxes=["alice"])
        self.cluster.pass_time(2)
        self.successResultOf(self.one.enter())
        self.refused(three.enter("bob"), LoginTooSoon)
        self.refused(three.enter(), LoginTooSoon)

    def test_a_login_that_this_machine_refuses_begins_none(self) -> None:
        full = self.cluster.gateway(
            login_delay="30", limits=ConnectionLimits(per_user=1), count_sessions=False
        )
        self.successResultOf(full.enter())
        self.cluster.pass_time(31)
        self.refused(full.enter(), TooManySessions)
        self.successResultOf(self.two.enter())

    def test_a_login_before_the_clock_was_set_back_is_no_reason(self) -> None:
        self.successResultOf(self.one.enter())
        self.cluster.shift(-3600)
        self.successResultOf(self.two.enter())

    def test_an_answer_that_is_lost_and_asked_for_again_is_the_same(self) -> None:
        relay = Relay(ENGINES[0].postgresql.port)
        self.addCleanup(relay.stop)
        lossy = self.cluster.gateway(login_delay="30", url=through(relay))
        relay.lose_answer_to = b"count_sessions"
        self.successResultOf(lossy.enter())
        self.assertEqual((relay.cuts, self.cluster.sessions()), (1, 1))


class ThrottleTests(SharedCase):
    def setUp(self) -> None:
        super().setUp()
        self.throttle(ThrottleLimits())

    def throttle(self, limits: ThrottleLimits) -> None:
        """Two gateways with these limits."""
        self.one, self.two = (self.cluster.gateway(throttle=limits) for _ in range(2))

    def guess(self, member: Member, *passwords: bytes) -> None:
        """Wrong ones."""
        for password in passwords:
            login, _ = member.try_password(password)
            self.failureResultOf(login, WrongPassword)

    def test_a_wrong_password_counts_in_every_gateway_within_two_seconds(self) -> None:
        self.guess(self.one, b"a", b"b")
        self.guess(self.two, b"c")
        self.cluster.pass_time(2)
        for member in (self.one, self.two):
            login, asked = member.try_password(b"d")
            self.assertNoResult(login)
            self.assertEqual(asked, [])
            self.assertIsInstance(member.events[-1], LoginDelayed)

    def test_the_same_wrong_password_is_one_and_no_other_gateway_asks_the_directory(self) -> None:
        for _ in range(3):
            self.guess(self.one, b"old")
        self.cluster.pass_time(2)
        login, asked = self.two.try_password(b"old")
        self.failureResultOf(login, WrongPassword)
        self.assertEqual(asked, [])
        # One wrong password, so another one waits for nothing.
        self.guess(self.two, b"other")

    def test_with_a_key_of_a_reload_a_wrong_password_is_the_same_as_with_a_key_of_the_start(
        self,
    ) -> None:
        self.one.take_key(b"another")
        started = self.cluster.gateway(key=b"another")
        self.guess(self.one, b"old")
        self.cluster.pass_time(2)
        login, asked = started.try_password(b"old")
        self.failureResultOf(login, WrongPassword)
        self.assertEqual(asked, [])

    def test_a_password_that_one_gateway_finds_changed_is_trusted_in_no_other(self) -> None:
        for member in (self.one, self.two):
            self.successResultOf(member.try_password(b"old", right=True)[0])
        self.guess(self.one, b"old")
        self.cluster.pass_time(2)
        for member in (self.one, self.two):
            login, asked = member.try_password(b"old")
            self.failureResultOf(login, WrongPassword)
            self.assertEqual(asked, [])

    def test_the_right_password_forgives_in_every_gateway(self) -> None:
        self.throttle(ThrottleLimits(refuse_after=3))
        self.guess(self.one, b"a", b"b")
        self.cluster.pass_time(2)
        self.assertEqual(self.successResultOf(self.two.try_password(b"x", right=True)[0]), "in")
        self.cluster.pass_time(2)
        self.guess(self.one, b"c", b"d")
        login, asked = self.one.try_password(b"x", right=True)
        self.assertEqual((self.successResultOf(login), asked), ("in", [True]))

    def test_what_an_operator_forgives_is_forgiven_in_every_gateway(self) -> None:
        self.throttle(ThrottleLimits(refuse_after=3))
        self.guess(self.one, b"a")
        self.guess(self.two, b"b")
        self.cluster.pass_time(2)
        # Not yet told when it is forgiven.
        self.guess(self.two, b"c")
        self.two.forgive(names=["alice"])
        self.cluster.pass_time(2)
        late = self.cluster.gateway(throttle=ThrottleLimits(refuse_after=3))
        self.cluster.pass_time(1)
        for member in (self.one, self.two, late):
            login, _ = member.try_password(b"x", right=True)
            self.assertEqual(self.successResultOf(login), "in")

    def test_wrong_passwords_that_a_gateway_hears_after_it_has_forgiven_them_do_not_count(
        self,
    ) -> None:
        limits, clock = ThrottleLimits(refuse_after=3), Clock()
        self.throttle(limits)
        late = self.cluster.gateway(throttle=limits, clock=clock)
        self.guess(self.one, b"a", b"b", b"c")
        self.cluster.pass_time(1)
        late.forgive(names=["alice"])
        clock.advance(1)
        self.assertEqual(self.successResultOf(late.try_password(b"x", right=True)[0]), "in")

    def test_what_an_operator_forgives_is_of_that_address_and_forgives_nothing_later(self) -> None:
        self.throttle(ThrottleLimits(refuse_after=3))
        self.guess(self.one, b"a", b"b", b"c")
        self.two.forgive(address="198.51.100.0/24")
        self.cluster.pass_time(2)
        login, asked = self.two.try_password(b"d")
        self.cluster.pass_time(20)
        self.failureResultOf(login, TooManyGuesses)
        self.two.forgive(address=HERE)
        self.cluster.pass_time(2)
        self.guess(self.one, b"e", b"f", b"g")
        self.cluster.pass_time(20)
        login, asked = self.one.try_password(b"h")
        self.cluster.pass_time(20)
        self.failureResultOf(login, TooManyGuesses)
        self.assertEqual(asked, [])

    def test_wrong_passwords_before_it_started_count_in_a_gateway(self) -> None:
        self.throttle(ThrottleLimits(refuse_after=3))
        self.guess(self.one, b"a", b"b", b"c")
        self.cluster.pass_time(600)
        late = self.cluster.gateway(throttle=ThrottleLimits(refuse_after=3))
        self.cluster.pass_time(1)
        login, asked = late.try_password(b"d")
        self.cluster.pass_time(20)
        self.failureResultOf(login, TooManyGuesses)
        self.assertEqual(asked, [])

    def test_a_name_that_no_database_can_hold_keeps_no_others_back(self) -> None:
        bad = Guess("a\0b", "192.0.2.1", "digest", "", False, False)
        self.one.admission._guesses.note(bad)
        self.cluster.pass_time(1)
        self.assertEqual(len(self.flushLoggedErrors(UntranslatableCharacter)), 1)
        self.guess(self.one, b"a", b"b", b"c")
        self.cluster.pass_time(2)
        self.assertNoResult(self.two.try_password(b"d")[0])

    def test_neither_a_password_nor_an_old_guess_is_in_the_database(self) -> None:
        self.guess(self.one, b"hunter2")
        self.cluster.pass_time(1)
        ((row,),) = self.cluster.owner.read("SELECT guess::text FROM pop3gw.guess")
        self.assertIn("192.0.2.1", row)
        self.assertNotIn("hunter2", row)
        self.assertNotIn("hunter2", repr(self.one.admission._guesses._telling))
        self.cluster.shift(1800)
        self.cluster.pass_time(62)
        self.assertEqual(self.cluster.owner.read("SELECT FROM pop3gw.guess"), [])


def through(relay: Relay) -> str:
    """The database, by way of a relay."""
    url = ENGINES[0].url
    return f"{url.replace(str(ENGINES[0].postgresql.port), str(relay.port))}?sslmode=disable"


class OutageTests(SharedCase):
    def setUp(self) -> None:
        super().setUp()
        self.relay = Relay(ENGINES[0].postgresql.port)
        self.addCleanup(self.relay.stop)
        self.far = self.cluster.gateway(url=through(self.relay), login_delay="30")
        self.near = self.cluster.gateway(login_delay="30")

    def test_logins_go_on_while_the_database_is_away_and_count_when_it_is_back(self) -> None:
        first = self.successResultOf(self.far.enter())
        self.relay.go_away()
        self.cluster.clock.advance(1)
        self.successResultOf(self.far.enter("bob"))
        self.successResultOf(self.far.enter("carol"))()
        for name in ("bob", "carol"):
            # What this gateway knows by itself goes on to hold.
            self.refused(self.far.enter(name), LoginTooSoon)
        first()
        self.cluster.clock.advance(20)
        self.assertEqual([type(event) for event in self.far.events], [BackEndDown])
        self.assertIn("each gateway counts by itself", self.far.events[0].reason)
        self.relay.is_away = False
        self.cluster.pass_time(1)
        self.assertEqual([type(event) for event in self.far.events], [BackEndDown, BackEndBack])
        counts = [self.cluster.sessions(name) for name in ("alice", "bob", "carol")]
        self.assertEqual(counts, [0, 1, 0])
        # The delay of logins in the outage is told, too.
        self.cluster.owner.transact(
            lambda cursor, _: cursor.execute(
                "UPDATE pop3gw.login SET at = at + interval '5 seconds'"
            )
        )
        for name in ("bob", "carol"):
            self.refused(self.near.enter(name), LoginTooSoon)

    def test_guesses_of_an_outage_are_told_afterwards(self) -> None:
        self.relay.go_away()
        for password in (b"a", b"b", b"c"):
            self.failureResultOf(self.far.try_password(password)[0], WrongPassword)
            self.cluster.clock.advance(1)
        self.relay.is_away = False
        self.cluster.clock.advance(1)
        self.cluster.clock.advance(1)
        self.assertNoResult(self.near.try_password(b"d")[0])


class ClusterAdmissionTests(admission_tests(bench_on(lambda: ENGINES[0].url))):  # type: ignore[misc]
    pass
