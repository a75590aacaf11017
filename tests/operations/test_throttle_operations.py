"""Who waits and why, as an operator sees it, and how the operator forgives."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from admission_of_workers import Workers
from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.admission.rules import AdmissionRules
from gateway.admission.throttle import ThrottleLimits
from gateway.app.parts.admissions import answer_operators
from gateway.config.listeners import LimitSettings
from gateway.errors import BadCredentials, BadRequest, BadValue
from gateway.interfaces import IAdmission
from gateway.model import Account, Connection, LoginAttempt, Peer, Terms
from gateway.operations.users.throttle import Throttled, forgive, list_throttled
from gateway.pop3.profile import Profile
from memory_tools import NOW, OperationCase

HOST = "192.0.2.1"
RULES = AdmissionRules(
    ConnectionLimits(per_address=4, per_user=2),
    ThrottleLimits(free=2, delay=4.0, network_free=5, longest=60.0),
    Profile(login_delay="30 USER"),
)


class ThrottleCase(OperationCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        limits = LimitSettings(connections_per_address=4, sessions_per_user=2)
        self.settings = evolve(self.settings, limits=limits)
        bob = Account(name="bob@example.org", mailbox="bob-mail", addresses=("post@example.org",))
        self.accounts |= {"bob": bob, "bob@example.org": bob}
        self.serve()

    def serve(self) -> None:
        """Have admission serve clients and answer operators."""
        rules = {"limits": RULES.limits, "throttle": RULES.throttle, "profile": RULES.profile}
        self.admission: Any = LocalAdmission(lambda: self.clock, **rules)  # type: ignore[arg-type]
        answer_operators(self.questions, {"pop3": self.admission})

    def turn(self) -> None:
        """Have messages arrive."""

    def guess(self, name: str, count: int, host: str = HOST, *, admission: Any = None) -> None:
        """A client tries wrong passwords."""
        guesses: IAdmission = admission or self.admission
        for number in range(count):
            wrong = BadCredentials("wrong")
            attempt = LoginAttempt(Peer(host, True, "1"), name.encode(), b"guess%d" % number)
            tried = guesses.attempt(attempt, lambda wrong=wrong: fail(wrong))
            for _ in range(3):
                self.turn()
                self.clock.advance(60)
            self.failureResultOf(tried, BadCredentials)

    def wait(self, name: str, host: str = HOST) -> float:
        """How long the next login of this user takes."""
        attempt = LoginAttempt(Peer(host, True, "1"), name.encode(), b"another")
        began, done = self.clock.seconds(), []
        tried: Deferred[Any] = self.admission.attempt(attempt, lambda: succeed("in"))
        tried.addCallback(lambda _: done.append(self.clock.seconds() - began))
        while not done:
            self.turn()
            self.clock.advance(0.5)
        return done[0]

    def rows(self, **arguments: Any) -> list[Throttled]:
        """What the list shows."""
        return list(self.ask(list_throttled, **arguments).items)


class ListTests(ThrottleCase):
    def test_wrong_passwords_are_listed_with_what_the_next_one_meets(self) -> None:
        self.guess("bob", 3)
        account, network = self.rows()
        self.assertEqual(
            (account.kind, account.user, account.network, account.count, account.delay),
            ("passwords", "bob", "192.0.2.1/32", 3, 8.0),
        )
        self.assertEqual((network.user, network.count, network.delay), ("", 3, 0.0))
        self.assertIn(
            "3 wrong passwords for bob from 192.0.2.1/32: others wait 8 s", account.reason
        )
        assert account.until is not None
        self.assertGreater(account.until, NOW)

    def test_no_password_is_in_the_answer(self) -> None:
        self.guess("bob", 3)
        self.assertNotIn("guess", repr(self.rows()))

    def test_who_waits_longest_comes_first_and_a_search_finds_a_part(self) -> None:
        self.guess("carol", 2, "198.51.100.7")
        self.guess("bob", 4)
        self.assertEqual([row.user for row in self.rows()][:2], ["bob", "carol"])
        self.assertEqual({row.network for row in self.rows(search="198.51")}, {"198.51.100.7/32"})
        self.assertEqual([row.user for row in self.rows(search="CAR")], ["carol"])

    def test_a_directory_that_locks_accounts_has_others_refused(self) -> None:
        limits = ThrottleLimits(free=1, delay=1.0, refuse_after=2, longest=60.0)
        self.admission = LocalAdmission(lambda: self.clock, throttle=limits)
        answer_operators(self.questions, {"pop3": self.admission})
        self.guess("bob", 2)
        row = self.rows()[0]
        self.assertTrue(row.refused)
        self.assertIn("others are refused", row.reason)

    def test_login_delay_is_listed_until_it_is_over(self) -> None:
        self.successResultOf(self.admission.enter(Connection("1", HOST), "bob-mail", Terms()))
        self.turn()
        self.clock.advance(10)
        (row,) = self.rows(kind="login-delay")
        self.assertEqual((row.user, row.delay, row.until), ("bob-mail", 20.0, NOW + 20))
        self.clock.advance(21)
        self.assertEqual(self.rows(), [])

    def test_addresses_and_users_near_their_limit_are_listed(self) -> None:
        for _ in range(4):
            self.successResultOf(self.admission.connect(Connection("1", HOST)))
        for _ in range(2):
            self.admission.enter(Connection("1", HOST), "carol", Terms(login_delay=0))
        self.admission.enter(Connection("1", HOST), "dora", Terms(login_delay=0))
        for _ in range(3):
            self.successResultOf(self.admission.connect(Connection("2", "192.0.2.9")))
        connections, sessions = self.rows(kind="connections"), self.rows(kind="sessions")
        self.assertEqual([(row.network, row.count) for row in connections], [(HOST, 4)])
        self.assertTrue(connections[0].refused)
        self.assertEqual(
            [(row.user, row.count, row.refused) for row in sessions], [("carol", 2, True)]
        )

    def test_an_answer_is_bounded_however_many_guess(self) -> None:
        for number in range(1500):
            host = f"2001:db8:{number:x}::1"
            attempt = self.admission._throttle.weigh(f"user{number}", host, b"guess")
            attempt.failed()
            attempt.ended()
        page = self.ask(list_throttled, per_page=1000)
        self.assertEqual((len(page.items), page.total), (1000, 1000))


class ForgiveTests(ThrottleCase):
    def test_a_user_who_is_forgiven_does_not_wait_and_others_still_do(self) -> None:
        self.guess("bob", 2)
        self.guess("carol", 2)
        done = self.ask(forgive, user="bob")
        self.assertEqual((done.places, done.delays), (1, 0))
        self.assertEqual((self.wait("bob"), self.wait("carol")), (0.0, 4.0))

    def test_every_name_of_the_account_is_meant(self) -> None:
        for name in ("bob", "bob@example.org", "post@example.org"):
            self.guess(name, 1)
        done = self.ask(forgive, user="BOB")
        self.assertEqual(done.names, ("bob", "bob@example.org", "post@example.org"))
        self.assertEqual(done.places, 3)

    def test_a_mail_address_means_its_account(self) -> None:
        self.guess("bob@example.org", 2)
        self.accounts["x"] = self.accounts.pop("bob@example.org")
        self.assertEqual(self.ask(forgive, user="post@example.org").places, 1)

    def test_a_name_that_no_account_has_can_be_forgiven(self) -> None:
        self.guess("nobody", 2)
        self.assertEqual(self.ask(forgive, user="nobody").places, 1)

    def test_an_address_is_forgiven_for_all_its_users(self) -> None:
        for number in range(6):
            self.guess(f"user{number}", 1)
        self.assertGreater(self.wait("stranger"), 0.0)
        self.assertEqual(self.ask(forgive, address=HOST).places, 7)
        self.assertEqual(self.wait("other"), 0.0)

    def test_a_user_and_an_address_together_mean_both(self) -> None:
        self.guess("bob", 2)
        self.guess("bob", 2, "198.51.100.7")
        self.assertEqual(self.ask(forgive, user="bob", address="198.51.100.7").places, 1)
        self.assertEqual((self.wait("bob"), self.wait("bob", "198.51.100.7")), (4.0, 0.0))

    def test_a_network_as_the_list_shows_it_can_be_forgiven(self) -> None:
        self.guess("bob", 2, "2001:db8::5")
        (row, _) = self.rows(search="2001")
        self.assertEqual(row.network, "2001:db8::/64")
        self.assertEqual(self.ask(forgive, address="2001:DB8:0::9/64").places, 2)
        self.guess("bob", 2, "2001:db8::5")
        self.assertEqual(self.ask(forgive, address=row.network).places, 2)

    def test_login_delay_of_the_user_ends(self) -> None:
        self.successResultOf(self.admission.enter(Connection("1", HOST), "bob-mail", Terms()))
        self.turn()
        self.assertEqual(self.ask(forgive, user="bob").delays, 1)
        self.assertEqual(self.rows(kind="login-delay"), [])

    def test_nobody_is_forgiven_by_mistake(self) -> None:
        self.guess("bob", 2)
        odd = [{name: text} for name in ("user", "address") for text in ("\ud800", "\x00")]
        for arguments in ({}, {"user": "", "address": ""}, *odd):
            self.assertIsInstance(self.fault(forgive, **arguments), BadRequest)
        for address in ("not an address", "999.1.1.1", "192.0.2.0/33", " 192.0.2.1", "localhost"):
            error = self.fault(forgive, user="bob", address=address)
            self.assertIsInstance(error, BadValue)
            self.assertIn("address: expected an IP address or a network", str(error))
        nobody = {"names": [], "address": "", "mailboxes": []}
        self.assertEqual(self.admission.forgive(nobody), {"places": 0, "delays": 0})
        self.assertEqual(self.wait("bob"), 4.0)


class WorkersTests(ThrottleCase):
    """Two workers and their parent, which has the throttle."""

    def serve(self) -> None:
        """Begin."""
        self.workers = Workers(2, self.clock, RULES)
        self.admission, self.other = self.workers.admissions.values()
        served = self.workers.served
        self.questions.answer("waiting", served.waiting)
        self.questions.answer("forgive", served.forgive)

    def turn(self) -> None:
        """Have messages arrive."""
        self.workers.advance(0)

    def test_guesses_at_both_workers_are_listed_once_and_forgiven_everywhere(self) -> None:
        self.questions.answer("counted", lambda _: [])
        self.guess("bob", 2)
        self.guess("bob", 3, admission=self.other)
        self.assertEqual([row.count for row in self.rows(search="bob")], [3])
        self.ask(forgive, user="bob")
        self.turn()
        self.assertEqual(self.wait("bob"), 0.0)
        # Nor do the workers remember anything, should the parent not answer.
        for admission in (self.admission, self.other):
            own = [one.place.account for one in admission._own.waiting(lambda _: True, 9)]
            self.assertNotIn("bob", own)

    def test_connections_to_both_workers_are_added_up(self) -> None:
        for admission in (self.admission, self.other):
            self.successResultOf(admission.connect(Connection("1", HOST)))
        counts = [one.counted("address") for one in (self.admission, self.other)]
        self.assertEqual(counts, [[[HOST, 1]], [[HOST, 1]]])
