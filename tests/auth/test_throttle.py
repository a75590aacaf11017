"""Guesses become slow; owners, their phones and their neighbours do not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.auth.throttle import Limits, Throttle
from harness import ALICE, SECRET, Wire

HERE, THERE = "192.0.2.1", "198.51.100.9"


class ThrottleCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def throttle(self, **limits: float) -> Throttle:
        return Throttle(Limits(**limits), self.clock.seconds)  # type: ignore[arg-type]

    def guess(self, throttle: Throttle, count: int, login: str = "alice", host: str = HERE) -> None:
        for number in range(count):
            throttle.failed(login, host, b"guess %d" % number)


class DelayTests(ThrottleCase):
    def test_a_few_wrong_passwords_are_free_and_then_the_delay_doubles_up_to_the_longest(
        self,
    ) -> None:
        throttle, delays = self.throttle(free=3, delay=1, longest=15), []
        for number in range(10):
            delays.append(throttle.delay("alice", HERE))
            throttle.failed("alice", HERE, b"%d" % number)
        self.assertEqual(delays, [0, 0, 0, 1, 2, 4, 8, 15, 15, 15])

    def test_the_same_wrong_password_again_and_again_counts_once(self) -> None:
        throttle = self.throttle()
        for _ in range(1000):
            throttle.failed("alice", HERE, b"last year's")
        self.assertEqual(throttle.delay("alice", HERE), 0)

    def test_nobody_can_slow_an_account_down_for_another_network(self) -> None:
        throttle = self.throttle()
        self.guess(throttle, 100)
        self.assertGreater(throttle.delay("alice", HERE), 0)
        self.assertEqual(throttle.delay("alice", THERE), 0)

    def test_one_password_tried_on_many_accounts_slows_the_network_down(self) -> None:
        throttle = self.throttle(network_free=20)
        for number in range(30):
            throttle.failed(f"user{number}", HERE, b"summer2026")
        self.assertGreater(throttle.delay("carol", HERE), 0)
        self.assertEqual(throttle.delay("carol", THERE), 0)

    def test_a_known_and_an_unknown_account_are_slowed_down_alike(self) -> None:
        throttle = self.throttle()
        for login in ("alice", "nobody"):
            self.guess(throttle, 5, login)
        self.assertEqual(throttle.delay("alice", HERE), throttle.delay("nobody", HERE))

    def test_after_the_window_all_is_forgotten(self) -> None:
        throttle = self.throttle(window=900)
        self.guess(throttle, 50)
        self.clock.advance(900)
        self.assertEqual(throttle.delay("alice", HERE), 0)

    def test_a_good_login_clears_its_account_and_spares_it_its_networks_failures(self) -> None:
        throttle = self.throttle()
        self.guess(throttle, 5)
        self.guess(throttle, 50, login="bob")
        throttle.succeeded("alice", HERE)
        self.assertEqual(throttle.delay("alice", HERE), 0)
        self.assertGreater(throttle.delay("carol", HERE), 0)
        self.guess(throttle, 5)
        self.assertGreater(throttle.delay("alice", HERE), 0)

    def test_ipv6_counts_by_its_64_and_mapped_ipv4_as_ipv4(self) -> None:
        throttle = self.throttle()
        self.guess(throttle, 5, host="2001:db8:1:2::1")
        self.assertGreater(throttle.delay("alice", "2001:db8:1:2:ffff::9%eth0"), 0)
        self.assertEqual(throttle.delay("alice", "2001:db8:1:3::1"), 0)
        self.guess(throttle, 5, host=f"::ffff:{HERE}")
        self.assertGreater(throttle.delay("alice", HERE), 0)
        self.assertEqual(throttle.delay("alice", "not an address"), 0)

    def test_memory_is_bounded_however_many_addresses_there_are(self) -> None:
        throttle = self.throttle(entries=100)
        for number in range(1000):
            host = f"10.0.{number // 250}.{number % 250}"
            throttle.failed("alice", host, b"x")
            throttle.succeeded("bob", host)
        self.assertLessEqual(len(throttle._guesses), 100)
        self.assertLessEqual(len(throttle._trusted), 100)
        self.guess(throttle, 10_000)
        self.assertLess(max(len(one.digests) for one in throttle._guesses.values()), 100)

    def test_no_password_can_be_read_from_what_is_remembered(self) -> None:
        throttle = self.throttle()
        throttle.failed("alice", HERE, b"c4nary")
        shown = repr([one.digests for one in throttle._guesses.values()])
        self.assertNotIn("c4nary", shown)

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([HERE, THERE]), st.binary())))
    def test_no_delay_is_ever_longer_than_the_longest(
        self, guesses: list[tuple[str, str, bytes]]
    ) -> None:
        throttle = self.throttle(free=0, network_free=0)
        for login, host, password in guesses:
            throttle.failed(login, host, password)
            self.assertLessEqual(throttle.delay(login, host), 15)
            self.assertGreater(throttle.delay(login, host), 0)


class WireTests(SynchronousTestCase):
    def setUp(self) -> None:
        clock = Clock()
        self.wire = Wire(throttle=Throttle(Limits(free=2, delay=4), clock.seconds))
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

    def test_others_are_not_held_up(self) -> None:
        for number in range(2):
            self.client.log_in(password=f"guess {number}")
        self.assertEqual(self.client.log_in(password="guess 3"), b"")
        other = self.wire.connect(THERE, secure=True)
        self.assertTrue(other.log_in(ALICE, SECRET).startswith(b"+OK "))
