"""LOGIN-DELAY is kept to: who comes again too soon waits, and nobody else (RFC 2449 6.5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_classic import ClassicRealm, ListMailbox
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.admission.limits import ConnectionLimits
from gateway.admission.login_delay import LoginDelay
from gateway.errors import LoginTooSoon, StoreDown
from gateway.model import Account, Terms
from gateway.pop3.profile import Profile
from harness import ALICE, SECRET, Wire, plain

BOB = "bob@example.org"
TOO_SOON = rb"\A-ERR \[LOGIN-DELAY\] [^\r\n]+\r\n\Z"
AS_FOR_ALL = Terms()


def delayed(said: str = "30", **more: object) -> Wire:
    """A server with this LOGIN-DELAY."""
    return Wire(profile=Profile(login_delay=said), **more)


class WireTests(SynchronousTestCase):
    @pytest.mark.conformance("P-13")
    def test_the_delay_that_capa_tells_is_the_one_that_is_kept_to(self) -> None:
        wire = delayed()
        client = wire.connect()
        (said,) = [line for line in client.lines(b"CAPA") if line.startswith(b"LOGIN-DELAY")]
        client.log_in()
        self.assertIn(said, client.lines(b"CAPA"))
        client.send(b"QUIT")
        seconds = int(said.split()[1])
        wire.clock.advance(seconds - 0.001)
        self.assertRegex(wire.connect().log_in(), TOO_SOON)
        wire.clock.advance(0.001)
        self.assertTrue(wire.connect().log_in().startswith(b"+OK "))

    def test_what_came_too_soon_does_not_begin_the_delay_anew(self) -> None:
        wire = delayed()
        wire.login().send(b"QUIT")
        client = wire.connect()
        for _ in range(3):
            wire.clock.advance(9)
            self.assertRegex(client.log_in(), TOO_SOON)
        wire.clock.advance(3)
        self.assertTrue(client.log_in().startswith(b"+OK "))
        self.assertTrue(client.send(b"STAT").startswith(b"+OK 3 "))

    def test_it_counts_from_the_login_however_long_the_session(self) -> None:
        wire = delayed()
        client = wire.login()
        wire.clock.advance(30)
        client.send(b"QUIT")
        self.assertTrue(wire.connect().log_in().startswith(b"+OK "))

    def test_it_holds_for_every_way_to_log_in_and_for_the_name_in_any_spelling(self) -> None:
        wire = delayed()
        wire.login()
        self.assertRegex(wire.connect().send(b"AUTH PLAIN " + plain()), TOO_SOON)
        self.assertRegex(wire.connect().log_in(ALICE.upper()), TOO_SOON)

    @pytest.mark.conformance("P-11", "X-V0009", "X-V0001")
    def test_only_who_has_the_right_password_is_told_that_it_is_too_soon(self) -> None:
        wire = delayed()
        wire.login()
        client = wire.connect()
        self.assertTrue(client.send(b"USER " + ALICE.encode()).startswith(b"+OK "))
        for name, password in ((ALICE, "wrong"), ("nobody@example.org", SECRET)):
            self.assertTrue(client.log_in(name, password).startswith(b"-ERR [AUTH] "), name)
        self.assertRegex(client.log_in(), TOO_SOON)

    def test_a_failed_login_makes_nobody_wait(self) -> None:
        wire = delayed()
        client = wire.connect()
        self.assertTrue(client.log_in(password="wrong").startswith(b"-ERR [AUTH] "))
        open_well, wire.store.open = wire.store.open, lambda *_: fail(StoreDown("disk"))
        self.assertTrue(client.log_in().startswith(b"-ERR [SYS/TEMP] "))
        wire.store.open = open_well
        self.assertTrue(client.log_in().startswith(b"+OK "))

    def test_a_login_that_fails_once_the_maildrop_is_open_makes_nobody_wait(self) -> None:
        wire = delayed(
            "30 USER",
            terms=lambda _: Terms(login_delay=0),
            limits=ConnectionLimits(per_user=1),
        )
        first = wire.login()
        wire.clock.advance(29)
        self.assertTrue(wire.connect().log_in().startswith(b"-ERR [SYS/TEMP] "))
        first.send(b"QUIT")
        wire.clock.advance(1)
        wire.login_delay.check(ALICE, AS_FOR_ALL)

    def test_one_user_does_not_wait_for_another(self) -> None:
        wire = delayed(passwords={ALICE: SECRET, BOB: "builder"})
        wire.store.add(BOB)
        wire.login()
        self.assertTrue(wire.connect().log_in(BOB, "builder").startswith(b"+OK "))

    def test_where_users_differ_each_waits_as_long_as_capa_told_them(self) -> None:
        own = {ALICE: 10, BOB: None}

        def terms(account: Account) -> Terms:
            return Terms(login_delay=own[account.name])

        wire = delayed("30 USER", passwords={ALICE: SECRET, BOB: "builder"}, terms=terms)
        wire.store.add(BOB)
        alice, bob = wire.login(), wire.connect()
        self.assertIn(b"LOGIN-DELAY 30 USER", bob.lines(b"CAPA"))
        bob.log_in(BOB, "builder")
        self.assertIn(b"LOGIN-DELAY 10", alice.lines(b"CAPA"))
        self.assertIn(b"LOGIN-DELAY 30", bob.lines(b"CAPA"))
        wire.clock.advance(10)
        self.assertTrue(wire.connect().log_in().startswith(b"+OK "))
        self.assertRegex(wire.connect().log_in(BOB, "builder"), TOO_SOON)
        wire.clock.advance(20)
        self.assertTrue(wire.connect().log_in(BOB, "builder").startswith(b"+OK "))

    def test_without_one_a_user_may_come_again_at_once_and_nothing_is_remembered(self) -> None:
        for said in ("", "0", "0 USER"):
            wire = delayed(said)
            for _ in range(3):
                self.assertTrue(wire.connect().log_in().startswith(b"+OK "), said)
            self.assertEqual(len(wire.login_delay), 0)

    def test_the_reply_is_in_the_language_that_was_chosen(self) -> None:
        wire = delayed()
        wire.login()
        client = wire.connect()
        client.send(b"LANG de")
        self.assertRegex(client.log_in(), rb"\A-ERR \[LOGIN-DELAY\] Zu bald ")


class OrderTests(SynchronousTestCase):
    def test_who_is_too_soon_does_not_have_the_maildrop_opened(self) -> None:
        wire = delayed()
        wire.login()
        opened: list[Account] = []
        wire.store.open = lambda account, _: opened.append(account) or fail(StoreDown("asked"))
        self.assertRegex(wire.connect().log_in(), TOO_SOON)
        self.assertEqual(opened, [])

    def test_of_two_logins_at_once_one_is_let_in_and_the_other_gives_all_back(self) -> None:
        wire = delayed()
        answers: list[Deferred[object]] = []
        open_now = wire.store.open

        def open_later(*_: object) -> Deferred[object]:
            answer: Deferred[object] = Deferred()
            answers.append(answer)
            return answer

        wire.store.open = open_later
        first, second = wire.connect(), wire.connect()
        self.assertEqual(first.log_in() + second.log_in(), b"")
        given_back: list[int] = []
        for number in (1, 0):
            maildrop, _ = self.successResultOf(open_now(Account(name=ALICE, mailbox=ALICE), None))
            answers[number].callback((maildrop, lambda number=number: given_back.append(number)))
        self.assertTrue(second.read().startswith(b"+OK "))
        self.assertRegex(first.read(), TOO_SOON)
        self.assertEqual(given_back, [0])

    def test_a_client_that_is_gone_before_its_login_ends_was_not_logged_in(self) -> None:
        wire = delayed()
        answer: Deferred[object] = Deferred()
        open_now, wire.store.open = wire.store.open, lambda *_: answer
        client = wire.connect()
        client.log_in()
        client.hang_up()
        opened = self.successResultOf(open_now(Account(name=ALICE, mailbox=ALICE), None))
        answer.callback(opened)
        wire.store.open = open_now
        self.assertTrue(wire.connect().log_in().startswith(b"+OK "))

    def test_a_portal_that_knows_nothing_of_it_has_it_too(self) -> None:
        realm = ClassicRealm(ListMailbox([b"x\r\n"]))
        checker = InMemoryUsernamePasswordDatabaseDontUse(**{ALICE: SECRET.encode()})
        wire = delayed(portal=Portal(realm, [checker]), admission=lambda _: None)
        client = wire.login()
        self.assertIn(b"LOGIN-DELAY 30", client.lines(b"CAPA"))
        self.assertRegex(wire.connect().log_in(), TOO_SOON)
        self.assertEqual(realm.logouts, 1)
        wire.clock.advance(30)
        self.assertTrue(wire.connect().log_in().startswith(b"+OK "))


class LastLoginsTests(SynchronousTestCase):
    def last(self, said: str = "30 USER", **more: int) -> LoginDelay:
        self.clock = Clock()
        return LoginDelay(Profile(login_delay=said), self.clock.seconds, **more)

    def test_a_clock_that_was_set_back_locks_nobody_out(self) -> None:
        last = self.last()
        self.clock.advance(86_400)
        last.begin("a", AS_FOR_ALL)
        self.clock.rightNow -= 3600
        last.begin("a", AS_FOR_ALL)
        self.clock.advance(10)
        with self.assertRaises(LoginTooSoon):
            last.check("a", AS_FOR_ALL)
        self.clock.rightNow -= 3600
        last.begin("b", AS_FOR_ALL)
        self.assertEqual(len(last), 1)

    def test_when_there_are_too_many_who_has_been_in_longest_ago_is_forgotten(self) -> None:
        last = self.last(entries=2)
        for user in "abac":
            last.begin(user, Terms(login_delay=0))
            self.clock.advance(1)
        self.assertEqual(len(last), 2)
        last.check("b", AS_FOR_ALL)
        for user in "ac":
            with self.assertRaises(LoginTooSoon):
                last.check(user, AS_FOR_ALL)

    def test_what_makes_nobody_wait_any_more_is_forgotten(self) -> None:
        last = self.last()
        for number in range(100):
            last.begin(str(number), AS_FOR_ALL)
            self.clock.advance(1)
            self.assertLessEqual(len(last), 30)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from("abc"),
                st.integers(0, 20),
                st.sampled_from([None, 0, 5, 30, 99]),
            )
        )
    )
    def test_a_login_is_let_in_just_when_no_other_was_within_its_delay(
        self, tries: list[tuple[str, int, int | None]]
    ) -> None:
        last = self.last()
        good: list[tuple[str, float]] = []
        for user, pause, own in tries:
            self.clock.advance(pause)
            now = self.clock.seconds()
            delay = 30 if own is None else min(own, 30)
            expected = not any(who == user and now - at < delay for who, at in good)
            try:
                last.begin(user, Terms(login_delay=own))
            except LoginTooSoon:
                self.assertFalse(expected)
            else:
                self.assertTrue(expected)
                good.append((user, now))
