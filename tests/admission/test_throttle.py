"""Guesses become slow; owners, their phones and their neighbours do not."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.admission.throttle import UNANSWERED, Attempt, Throttle, ThrottleLimits
from gateway.errors import BadCredentials, TooManyGuesses
from harness import ALICE, SECRET, Wire, plain

HERE, THERE = "192.0.2.1", "198.51.100.9"


class ThrottleCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.numbers = count()

    def throttle(self, **limits: float) -> Throttle:
        return Throttle(ThrottleLimits(**limits), self.clock.seconds)  # type: ignore[arg-type]

    def weigh(
        self, throttle: Throttle, login: str = "alice", host: str = HERE, guess: bytes = b"new"
    ) -> Attempt:
        """An attempt that waited as it had to, and came to no end that matters."""
        attempt = throttle.weigh(login, host, guess)
        self.clock.advance(attempt.wait)
        attempt.ended()
        return attempt

    def wait(self, throttle: Throttle, login: str = "alice", host: str = HERE) -> float:
        """What a login has to wait."""
        return self.weigh(throttle, login, host).wait

    def fail_with(
        self, throttle: Throttle, guess: bytes, login: str = "alice", host: str = HERE, **how: str
    ) -> Attempt:
        attempt = throttle.weigh(login, host, guess)
        self.clock.advance(attempt.wait)
        attempt.failed(**how)
        attempt.ended()
        return attempt

    def succeed(
        self, throttle: Throttle, login: str = "alice", host: str = HERE, guess: bytes = b"right"
    ) -> None:
        attempt = throttle.weigh(login, host, guess)
        attempt.succeeded()
        attempt.ended()

    def guess(self, throttle: Throttle, count: int, login: str = "alice", host: str = HERE) -> None:
        for number in range(count):
            self.fail_with(throttle, b"guess %d" % number, login, host)


class DelayTests(ThrottleCase):
    def test_a_few_wrong_passwords_are_free_and_then_the_delay_doubles_up_to_the_longest(
        self,
    ) -> None:
        throttle = self.throttle(free=3, delay=1, longest=15)
        delays = [self.fail_with(throttle, b"%d" % number).wait for number in range(10)]
        self.assertEqual(delays, [0, 0, 0, 1, 2, 4, 8, 15, 15, 15])

    def test_the_same_wrong_password_again_and_again_counts_once(self) -> None:
        throttle = self.throttle()
        for _ in range(1000):
            self.fail_with(throttle, b"last year's")
        self.assertEqual(self.wait(throttle), 0)

    def test_nobody_can_slow_an_account_down_for_another_network(self) -> None:
        throttle = self.throttle()
        self.guess(throttle, 100)
        self.assertGreater(self.wait(throttle), 0)
        self.assertEqual(self.wait(throttle, host=THERE), 0)

    def test_one_password_tried_on_many_accounts_slows_the_network_down(self) -> None:
        throttle = self.throttle(network_free=20)
        for number in range(30):
            self.fail_with(throttle, b"summer2026", f"user{number}")
        self.assertGreater(self.wait(throttle, "carol"), 0)
        self.assertEqual(self.wait(throttle, "carol", THERE), 0)

    def test_a_known_and_an_unknown_account_are_slowed_down_alike(self) -> None:
        throttle = self.throttle()
        for login in ("alice", "nobody"):
            self.guess(throttle, 5, login)
        self.assertEqual(self.wait(throttle), self.wait(throttle, "nobody"))

    def test_after_the_window_all_is_forgotten(self) -> None:
        throttle = self.throttle(window=900)
        self.guess(throttle, 50)
        self.clock.advance(900)
        self.assertEqual(self.wait(throttle), 0)

    def test_a_good_login_clears_its_account_and_spares_it_its_networks_failures(self) -> None:
        throttle = self.throttle()
        self.guess(throttle, 5)
        self.guess(throttle, 50, login="bob")
        self.succeed(throttle)
        self.assertEqual(self.wait(throttle), 0)
        self.assertGreater(self.wait(throttle, "carol"), 0)
        self.guess(throttle, 5)
        self.assertGreater(self.wait(throttle), 0)

    def test_the_password_that_was_right_before_is_never_slowed_down(self) -> None:
        throttle = self.throttle(refuse_after=4)
        self.succeed(throttle, guess=b"right")
        self.guess(throttle, 50)
        self.assertIsNotNone(self.weigh(throttle).refusal)
        again = self.weigh(throttle, guess=b"right")
        self.assertEqual((again.wait, again.refusal), (0, None))

    def test_a_password_stays_trusted_once_the_account_behind_its_name_is_known(self) -> None:
        throttle = self.throttle(refuse_after=4)
        self.succeed(throttle, "alice", guess=b"right")
        for number in range(4):
            self.fail_with(throttle, b"%d" % number, "alice", account="alice@example.org")
        self.assertIsNotNone(self.weigh(throttle).refusal)
        again = self.weigh(throttle, guess=b"right")
        self.assertEqual((again.wait, again.refusal), (0, None))

    def test_a_password_that_was_changed_reaches_the_directory_once_more(self) -> None:
        for limits in ({"refuse_after": 4}, {"wrong_ttl": 3600.0}):
            throttle = self.throttle(**limits)
            self.succeed(throttle, guess=b"old")
            self.fail_with(throttle, b"old")
            for _ in range(20):
                self.clock.advance(60)
                again = self.weigh(throttle, guess=b"old")
                self.assertIsInstance(again.refusal, BadCredentials)

    def test_the_old_password_ends_no_trust_in_the_new_one(self) -> None:
        throttle = self.throttle(refuse_after=4)
        for guess in (b"old", b"new"):
            self.succeed(throttle, guess=guess)
        self.fail_with(throttle, b"old")
        self.guess(throttle, 4)
        again = self.weigh(throttle, guess=b"new")
        self.assertEqual((again.wait, again.refusal), (0, None))

    def test_a_network_stays_known_after_the_password_was_changed(self) -> None:
        throttle = self.throttle()
        self.succeed(throttle, guess=b"old")
        self.guess(throttle, 50, login="bob")
        self.fail_with(throttle, b"old")
        self.assertEqual(self.wait(throttle), 0)

    def test_a_login_that_came_to_no_answer_leaves_the_trust(self) -> None:
        throttle = self.throttle(refuse_after=4)
        self.succeed(throttle, guess=b"right")
        self.weigh(throttle, guess=b"right")
        self.guess(throttle, 4)
        self.assertIsNone(self.weigh(throttle, guess=b"right").refusal)

    def test_guesses_at_once_from_a_known_network_are_no_more_than_the_directory_may_see(
        self,
    ) -> None:
        throttle = self.throttle(free=3, refuse_after=5)
        self.succeed(throttle, guess=b"right")
        right = throttle.weigh("alice", HERE, b"right")
        attempts = [throttle.weigh("alice", HERE, b"%d" % number) for number in range(1000)]
        self.assertEqual(sum(one.refusal is None for one in attempts), 5)
        again = throttle.weigh("alice", HERE, b"0")
        self.assertTrue(again.again)
        self.assertIsNone(right.refusal)

    def test_a_thousand_connections_at_once_get_no_more_guesses_than_one(self) -> None:
        throttle = self.throttle(free=3, longest=15)
        attempts = [throttle.weigh("alice", HERE, b"%d" % number) for number in range(1000)]
        taken = [one.wait for one in attempts if one.refusal is None]
        # One after the other, and none is taken that would have to wait for too long.
        self.assertEqual(taken, [0, 0, 0, 1, 3, 7, 15, 30, 45, 60])
        for one in attempts:
            one.ended()
        self.assertEqual(throttle._pending, {})

    def test_as_many_at_once_as_the_directory_may_see_and_no_more(self) -> None:
        throttle = self.throttle(free=3, refuse_after=5)
        attempts = [throttle.weigh("alice", HERE, b"%d" % number) for number in range(1000)]
        self.assertEqual(sum(one.refusal is None for one in attempts), 5)

    def answers(self, throttle: Throttle, most: int) -> list[Attempt]:
        """Logins at once by answers to challenges, of which no two are ever the same."""
        return [
            throttle.weigh("alice", HERE, b"answer %d" % next(self.numbers), answers=True)
            for _ in range(most)
        ]

    def try_all(self, attempts: list[Attempt]) -> list[Attempt]:
        """Those that are tried now; the others end."""
        tried = [one for one in attempts if one.refusal is None and not one.again]
        for one in attempts:
            if one not in tried:
                one.ended()
        return tried

    def test_wrong_answers_at_once_from_a_known_network_are_no_more_than_the_directory_may_see(
        self,
    ) -> None:
        throttle = self.throttle(free=3, refuse_after=4)
        self.succeed(throttle)
        attempts = self.answers(throttle, 100)
        self.assertEqual({one.refusal for one in attempts}, {None})
        tried = self.try_all(attempts)
        self.assertEqual([one.wait for one in tried], [0] * 4)
        for one in tried:
            one.failed()
            one.ended()
        self.assertEqual(self.try_all(self.answers(throttle, 100)), [])
        self.assertEqual(throttle._pending, {})

    def test_right_answers_at_once_from_a_known_network_wait_for_each_other_and_all_get_in(
        self,
    ) -> None:
        throttle = self.throttle(free=1, refuse_after=4)
        self.succeed(throttle)
        self.fail_with(throttle, b"a slip")
        left, rounds = 10, 0
        while left:
            attempts = self.answers(throttle, left)
            self.assertEqual({one.refusal for one in attempts}, {None})
            for one in self.try_all(attempts):
                one.succeeded()
                one.ended()
                left -= 1
            rounds += 1
        # The slip leaves room for three; then all is forgotten.
        self.assertEqual(rounds, 3)

    def test_right_answers_at_once_wait_for_nothing_where_no_account_is_locked(self) -> None:
        throttle = self.throttle(free=1)
        self.succeed(throttle)
        waits = {(one.wait, one.again, one.refusal) for one in self.answers(throttle, 100)}
        self.assertEqual(waits, {(0, False, None)})

    def test_passwords_and_answers_at_once_are_together_no_more_than_the_directory_may_see(
        self,
    ) -> None:
        for is_known in (False, True):
            throttle = self.throttle(free=3, refuse_after=4)
            if is_known:
                self.succeed(throttle)
            passwords = [throttle.weigh("alice", HERE, b"%d" % number) for number in range(2)]
            tried = self.try_all([*passwords, *self.answers(throttle, 9)])
            more = [throttle.weigh("alice", HERE, b"more %d" % number) for number in range(9)]
            self.assertEqual((len(tried), self.try_all(more)), (4, []))

    def test_who_guesses_for_many_accounts_at_once_waits_in_one_queue(self) -> None:
        throttle = self.throttle(network_free=20, longest=15)
        for number in range(25):
            self.fail_with(throttle, b"summer2026", f"user{number}")
        attempts = [throttle.weigh(f"other{number}", HERE, b"x") for number in range(900)]
        self.assertEqual([one.wait for one in attempts if one.refusal is None], [15, 30, 45, 60])

    def test_many_logins_at_once_with_one_password_do_not_slow_each_other_down(self) -> None:
        throttle = self.throttle(free=1)
        attempts = [throttle.weigh("alice", HERE, b"right") for _ in range(16)]
        self.assertEqual({(one.wait, one.refusal) for one in attempts}, {(0, None)})

    def test_where_accounts_are_locked_one_of_many_logins_with_one_password_is_tried_first(
        self,
    ) -> None:
        throttle = self.throttle(free=1, refuse_after=4)
        first, *others = [throttle.weigh("alice", HERE, b"guess") for _ in range(16)]
        self.assertEqual((first.wait, first.again), (0, False))
        self.assertEqual({(one.again, one.refusal) for one in others}, {(True, None)})
        for other in others:
            other.ended()
        first.succeeded()
        first.ended()
        again = [throttle.weigh("alice", HERE, b"guess") for _ in range(15)]
        self.assertEqual({(one.wait, one.again) for one in again}, {(0, False)})

    def test_a_wrong_password_is_known_for_a_while_and_then_looked_at_again(self) -> None:
        throttle = self.throttle(wrong_ttl=60)
        self.fail_with(throttle, b"old")
        self.assertIsInstance(self.weigh(throttle, guess=b"old").refusal, BadCredentials)
        self.assertIsNone(self.weigh(throttle, guess=b"old", host=THERE).refusal)
        self.assertIsNone(self.weigh(throttle, guess=b"other").refusal)
        self.clock.advance(60)
        self.assertIsNone(self.weigh(throttle, guess=b"old").refusal)

    def test_before_a_directory_would_lock_the_account_no_other_password_is_looked_at(self) -> None:
        throttle = self.throttle(refuse_after=4, wrong_ttl=60, window=900)
        self.guess(throttle, 4)
        self.assertIsInstance(self.weigh(throttle).refusal, TooManyGuesses)
        self.assertIsNone(self.weigh(throttle, host=THERE).refusal)
        self.clock.advance(890)
        # Nor one that was wrong: the directory would count it again.
        self.assertIsInstance(self.weigh(throttle, guess=b"guess 1").refusal, BadCredentials)
        self.assertIsInstance(self.weigh(throttle).refusal, TooManyGuesses)
        self.clock.advance(10)
        self.assertIsNone(self.weigh(throttle).refusal)

    def test_where_accounts_are_locked_a_password_without_an_answer_is_not_sent_without_end(
        self,
    ) -> None:
        throttle = self.throttle(refuse_after=4, window=900)
        self.succeed(throttle, guess=b"old")
        sent = 0
        for _ in range(10):
            attempt = throttle.weigh("alice", HERE, b"old")
            self.clock.advance(attempt.wait)
            if attempt.refusal is None:
                sent += 1
                attempt.tell(UNANSWERED)
            else:
                # Nobody knows that it is wrong.
                self.assertIsInstance(attempt.refusal, TooManyGuesses)
            attempt.ended()
        self.assertEqual(sent, 4)
        self.clock.advance(900)
        self.assertIsNone(self.weigh(throttle, guess=b"old").refusal)

    def test_who_is_known_to_be_one_account_is_one_from_the_first_guess_on(self) -> None:
        throttle = self.throttle(refuse_after=2)
        for number, spelling in enumerate(("alice", "alice@lab.test", "a.smith@example.org")):
            attempt = throttle.weigh(spelling, HERE, b"%d" % number, "alice@example.org")
            self.assertEqual(attempt.refusal is None, number < 2)
            if attempt.refusal is None:
                attempt.failed("alice@example.org")
            attempt.ended()

    def test_no_spelling_of_a_name_gives_guesses_for_free(self) -> None:
        throttle = self.throttle(free=3)
        for number, spelling in enumerate(
            ("alice", r"lab\alice", "x/alice", "x/alice/mailbox", r"other\alice")
        ):
            self.fail_with(throttle, b"%d" % number, spelling)
        self.assertEqual(self.wait(throttle), 4)

    def test_a_password_that_was_wrong_in_one_domain_may_be_right_in_another(self) -> None:
        throttle = self.throttle()
        for spelling in (r"other\alice", "other/alice", "lab/alice/mailbox"):
            self.fail_with(throttle, b"right", spelling)
            self.assertIsNone(self.weigh(throttle, guess=b"right").refusal)
            self.assertIsNotNone(self.weigh(throttle, spelling, guess=b"right").refusal)

    def test_what_the_directory_finds_under_several_names_is_one_account(self) -> None:
        throttle = self.throttle(free=3)
        spellings = ("alice", "alice@lab.test", "a.smith@example.org")
        for number, spelling in enumerate(spellings * 2):
            self.fail_with(throttle, b"%d" % number, spelling, account="alice@example.org")
        for spelling in ("alice", "alice@lab.test", "alice@example.org"):
            self.assertEqual(self.wait(throttle, spelling), 8)
        self.assertEqual(self.wait(throttle, "bob@lab.test"), 0)

    def test_ipv6_counts_by_its_64_and_mapped_ipv4_as_ipv4(self) -> None:
        throttle = self.throttle()
        self.guess(throttle, 5, host="2001:db8:1:2::1")
        self.assertGreater(self.wait(throttle, host="2001:db8:1:2:ffff::9%eth0"), 0)
        self.assertEqual(self.wait(throttle, host="2001:db8:1:3::1"), 0)
        self.guess(throttle, 5, host=f"::ffff:{HERE}")
        self.assertGreater(self.wait(throttle, host=HERE), 0)
        self.assertEqual(self.wait(throttle, host="not an address"), 0)

    def test_memory_is_bounded_however_many_addresses_there_are(self) -> None:
        throttle = self.throttle(entries=100)
        for number in range(1000):
            host = f"10.0.{number // 250}.{number % 250}"
            self.fail_with(throttle, b"x", f"alice{number}", host, account="alice@example.org")
            self.succeed(throttle, "bob", host)
        for remembered in (throttle._wrong, throttle._trusted, throttle._accounts):
            self.assertLessEqual(len(remembered), 100)
        self.guess(throttle, 10_000)
        self.assertLess(max(len(one.seen) for one in throttle._wrong.values()), 100)
        self.assertEqual(throttle._pending, {})

    def test_no_password_can_be_read_from_what_is_remembered(self) -> None:
        throttle = self.throttle()
        self.fail_with(throttle, b"c4nary")
        self.succeed(throttle, guess=b"c4nary")
        shown = repr([one.seen for one in throttle._wrong.values()]) + repr(throttle._trusted)
        self.assertNotIn("c4nary", shown)

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([HERE, THERE]), st.binary())))
    def test_no_delay_is_ever_longer_than_the_longest(
        self, guesses: list[tuple[str, str, bytes]]
    ) -> None:
        throttle = self.throttle(free=0, network_free=0)
        for login, host, password in guesses:
            self.fail_with(throttle, password, login, host)
            self.assertLessEqual(self.wait(throttle, login, host), 15)
            self.assertGreater(self.wait(throttle, login, host), 0)


class WireTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wire = Wire(throttle=ThrottleLimits(free=2, delay=4))
        self.client = self.wire.connect(HERE, secure=True)

    def test_a_guess_waits_and_so_does_the_right_password_after_guesses(self) -> None:
        for number in range(2):
            answer = self.client.log_in(password=f"guess {number}")
            self.assertTrue(answer.startswith(b"-ERR [AUTH] "))
        self.assertEqual(self.client.log_in(), b"")
        self.wire.clock.advance(3)
        self.assertEqual(self.client.read(), b"")
        self.wire.clock.advance(1)
        self.assertTrue(self.client.read().startswith(b"+OK "))

    def test_another_spelling_of_the_name_is_no_other_account(self) -> None:
        self.client.log_in(password="one")
        self.client.log_in(name=ALICE.upper(), password="two")
        self.assertEqual(self.client.log_in(name=ALICE.title(), password="three"), b"")

    def test_who_hangs_up_while_waiting_leaves_nothing_behind(self) -> None:
        for number in range(2):
            self.client.log_in(password=f"guess {number}")
        self.client.log_in(password="guess 3")
        self.client.hang_up()
        self.wire.clock.advance(4)
        self.assertIsNone(self.successResultOf(self.wire.factory.drain(1)))

    def test_too_many_guesses_are_told_from_a_wrong_password(self) -> None:
        wire = Wire(throttle=ThrottleLimits(free=9, refuse_after=2))
        client = wire.connect(HERE, secure=True)
        for number in range(2):
            client.log_in(password=f"guess {number}")
        self.assertTrue(client.log_in(password="guess 3").startswith(b"-ERR [SYS/TEMP] "))
        self.assertTrue(client.log_in(password="guess 1").startswith(b"-ERR [AUTH] "))

    def test_who_may_not_open_anothers_mailbox_has_no_wrong_password(self) -> None:
        for _ in range(5):
            answer = self.client.send(b"AUTH PLAIN " + plain(authzid="bob@example.org"))
            self.assertTrue(answer.startswith(b"-ERR [AUTH] "))
        self.assertTrue(self.client.send(b"AUTH PLAIN " + plain()).startswith(b"+OK "))

    def test_others_are_not_held_up(self) -> None:
        for number in range(2):
            self.client.log_in(password=f"guess {number}")
        self.assertEqual(self.client.log_in(password="guess 3"), b"")
        other = self.wire.connect(THERE, secure=True)
        self.assertTrue(other.log_in(ALICE, SECRET).startswith(b"+OK "))
