"""A user as the server sees it, and what keeps logins and mail out."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from gateway.config.quota import DomainQuota, Quota
from gateway.config.retention import DomainRetention, Retention
from gateway.config.settings import DirectorySettings
from gateway.errors import DirectoryDown, NoSuchUser
from gateway.model import Account, LastLogin
from gateway.model import Quota as OwnQuota
from gateway.operations.users.users import UserEntry, list_delegates, show_user
from memory_tools import NOW, OperationCase

BOB = Account(
    name="bob@example.org",
    mailbox="bob@example.org",
    home="/home/bob",
    secret="{SSHA256}c2VjcmV0LWhhc2gtb2YtYm9i",
    nt_hash=b"nt-hash-of-bob!!",
    addresses=("bob@example.org", "sales@example.org"),
    delegates=frozenset({"carol@example.org", "left@example.org"}),
    languages=("de",),
)
CAROL = Account(
    name="carol@example.org",
    mailbox="carols@example.org",
    may_log_in=False,
    gets_mail=False,
    quota=OwnQuota(octets=10),
    retention="read 7d",
)


class UserCase(OperationCase):
    def setUp(self) -> None:
        super().setUp()
        quota = Quota(octets="1G", messages=50, domains={"example.org": DomainQuota(octets="2G")})
        retention = Retention(
            enabled=True, policy="any 1y", domains={"example.org": DomainRetention("read 30d")}
        )
        self.settings = evolve(self.settings, quota=quota, retention=retention)
        self.accounts |= {BOB.name: BOB, CAROL.name: CAROL}
        for account in (BOB, CAROL):
            self.store.add(account.mailbox)
        self.throttled: list[Any] = []
        self.delayed: list[Any] = []
        self.questions.answer(
            "waiting", lambda _: {"throttled": self.throttled, "delayed": self.delayed, "total": 0}
        )

    def show(self, user: str) -> UserEntry:
        """What an operator sees."""
        found = self.ask(show_user, user=user)
        assert isinstance(found, UserEntry)
        return found


class ShowTests(UserCase):
    def test_a_user_is_found_by_login_name_address_and_mailbox(self) -> None:
        found = [(one, self.show(one)) for one in ("BOB@example.org", "sales@example.org")]
        self.assertEqual([one.found_by for _, one in found], ["login", "address"])
        carol = self.show("carols@example.org")
        self.assertEqual((carol.found_by, carol.name), ("mailbox", "carol@example.org"))

    def test_the_entry_has_all_but_its_secrets(self) -> None:
        bob = self.show("bob@example.org")
        self.assertEqual((bob.home, bob.languages, bob.may_log_in), ("/home/bob", ("de",), True))
        self.assertEqual(bob.addresses, ("bob@example.org", "sales@example.org"))
        self.assertEqual(bob.hashes, ("SSHA256", "NT"))
        self.assertNotIn("c2VjcmV0", repr(bob))
        self.assertNotIn("nt-hash", repr(bob))

    def test_quota_and_policy_say_where_they_come_from(self) -> None:
        bob, carol = self.show(BOB.name).box, self.show(CAROL.name).box
        self.assertEqual((bob.limit_octets, bob.limit_octets_from), (2**31, "domain example.org"))
        self.assertEqual((bob.limit_messages, bob.limit_messages_from), (50, "default"))
        self.assertEqual((bob.policy, bob.policy_from), ("read 30d", "domain example.org"))
        self.assertEqual((carol.limit_octets, carol.limit_octets_from), (10, "account"))
        self.assertEqual((carol.policy, carol.policy_from), ("read 7d", "account"))

    def test_the_last_login_is_known(self) -> None:
        login = LastLogin(NOW - 5, "PASS", "local")
        self.successResultOf(self.state.keep_logins({BOB.mailbox: login}))
        self.assertEqual(self.show(BOB.name).box.last_login, NOW - 5)

    def test_an_unknown_user_is_an_error_with_a_cure(self) -> None:
        for user in ("nobody", "", "\x00", "\ud800", "x" * 4000, "../../etc/passwd"):
            error = self.fault(show_user, user=user)
            self.assertIsInstance(error, NoSuchUser)
            self.assertIn("check how it is written", str(error))
            self.assertLess(len(str(error)), 1000)


class RefusalTests(UserCase):
    def test_nothing_keeps_bob_out(self) -> None:
        bob = self.show(BOB.name)
        self.assertEqual((bob.login_refused[1:], bob.delivery_refused), ((), ()))

    def test_a_disabled_account_says_so(self) -> None:
        carol = self.show(CAROL.name)
        self.assertIn("may not log in", carol.login_refused[0])
        self.assertIn("takes no mail", carol.delivery_refused[0])

    def test_a_mailbox_of_another_server_says_where_it_is(self) -> None:
        directory = DirectorySettings(hosts=("here.example.org",))
        self.settings = evolve(self.settings, directory=directory)
        self.accounts[BOB.name] = evolve(BOB, host="there.example.org")
        bob = self.show(BOB.name)
        self.assertFalse(bob.is_here)
        for reasons in (bob.login_refused, bob.delivery_refused):
            self.assertIn("on there.example.org", reasons[0])

    def test_a_full_mailbox_says_how_full(self) -> None:
        self.accounts[BOB.name] = evolve(BOB, quota=OwnQuota(octets=10))
        self.store.add(BOB.mailbox).deliver(b"x" * 20)
        (reason,) = self.show(BOB.name).delivery_refused
        self.assertIn("the mailbox is full", reason)
        self.assertIn("of 10 octets", reason)
        self.assertIn("account", reason)

    def test_the_throttle_and_login_delay_are_reasons(self) -> None:
        self.throttled = [[BOB.name, "192.0.2.0/24", False, 5, 0, 8.0, False, 90.0]]
        self.throttled += [["bob", "192.0.2.0/24", False, 5, 0, 8.0, False, 90.0]]
        self.delayed = [[BOB.mailbox, 12.0]]
        reasons = self.show(BOB.name).login_refused
        self.assertIn("5 wrong passwords came from 192.0.2.0/24: others wait 8 s", reasons)
        self.assertEqual(sum("192.0.2.0/24" in one for one in reasons), 1)
        self.assertIn("LOGIN-DELAY: the next login may come in 12 s", reasons)

    def test_without_an_answer_of_the_parent_the_rest_is_told(self) -> None:
        def down(_: object) -> None:
            raise DirectoryDown("parent away")

        self.questions.answer("waiting", down)
        self.assertIn("nobody can tell", self.show(BOB.name).login_refused[-1])


class DelegateTests(UserCase):
    def test_delegates_are_listed_in_both_directions(self) -> None:
        bob = self.ask(list_delegates, user=BOB.name)
        self.assertEqual((bob.of, bob.unknown), (("carol@example.org",), ("left@example.org",)))
        self.assertEqual((bob.opens, bob.are_allowed), ((), False))
        carol = self.ask(list_delegates, user="carols@example.org")
        self.assertEqual((carol.of, carol.opens), ((), ("bob@example.org",)))

    def test_an_unknown_user_has_none(self) -> None:
        self.assertIsInstance(self.fault(list_delegates, user="nobody"), NoSuchUser)
