"""The checker, its memory, the realm, and the one place that logs in."""

from __future__ import annotations

from typing import Any

from twisted.cred.credentials import UsernamePassword
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.mail.interfaces import IMailboxPOP3
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gateway.admission.local import LocalAdmission
from gateway.auth.login import PortalLogin
from gateway.auth.password_cache import PasswordCache
from gateway.auth.passwords import PasswordChecker
from gateway.auth.realm import MaildropRealm
from gateway.directory.memory import MemoryDirectory
from gateway.errors import (
    BadCredentials,
    DirectoryDown,
    DirectoryMisconfigured,
    Overloaded,
    PasswordUnanswered,
    StoreDown,
)
from gateway.interfaces import IMaildrop
from gateway.model import Account, Peer
from gateway.store.memory import MemoryStore

PEER = Peer("192.0.2.1", True, "1")
ADMISSION = LocalAdmission(Clock)


class Counting(MemoryDirectory):
    """Counts how often a password is verified."""

    verified = 0

    def verify(self, login: str, password: bytes) -> Deferred[Account]:
        """As its parent."""
        self.verified += 1
        return super().verify(login, password)


@implementer(IMaildrop)
class CannotHide:
    """Another maildrop, without its ``hide``."""

    def __init__(self, maildrop: Any) -> None:
        self.name, self.terms = maildrop.name, maildrop.terms
        self.listing, self.retrieve = maildrop.listing, maildrop.retrieve
        self.finish, self.abandon = maildrop.finish, maildrop.abandon


class StoreThatCannotHide(MemoryStore):
    """Has such maildrops."""

    def open(self, account: Account, mind: object) -> Deferred[Any]:
        """As its parent."""
        opened = super().open(account, mind)
        return opened.addCallback(lambda opened: (CannotHide(opened[0]), opened[1]))


class CheckerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.directory = Counting({"alice": "a", "bob": "b"})

    def checker(self, ttl: float = 60, size: int = 10) -> PasswordChecker:
        return PasswordChecker(
            self.directory, PasswordCache(self.clock.seconds, ttl=ttl, size=size)
        )

    def ask(self, checker: PasswordChecker, name: bytes, password: bytes) -> Any:
        return checker.requestAvatarId(UsernamePassword(name, password))

    def test_a_right_password_is_remembered_for_its_time(self) -> None:
        checker = self.checker()
        for _ in range(3):
            self.assertEqual(self.successResultOf(self.ask(checker, b"ALICE", b"a")), b"alice")
        self.assertEqual(self.directory.verified, 1)
        self.clock.advance(60)
        self.successResultOf(self.ask(checker, b"alice", b"a"))
        self.assertEqual(self.directory.verified, 2)

    def test_a_wrong_password_is_refused_and_drops_what_was_remembered(self) -> None:
        checker = self.checker()
        self.successResultOf(self.ask(checker, b"alice", b"a"))
        self.failureResultOf(self.ask(checker, b"alice", b"b"), BadCredentials)
        self.successResultOf(self.ask(checker, b"alice", b"a"))
        self.assertEqual(self.directory.verified, 3)

    def test_with_no_time_nothing_is_remembered(self) -> None:
        checker = self.checker(ttl=0)
        for _ in range(2):
            self.successResultOf(self.ask(checker, b"alice", b"a"))
        self.assertEqual(self.directory.verified, 2)

    def test_it_remembers_no_more_than_its_size(self) -> None:
        checker = self.checker(size=1)
        for name in (b"alice", b"bob", b"alice"):
            self.successResultOf(self.ask(checker, name, name[:1]))
        self.assertEqual(self.directory.verified, 3)

    def test_a_name_that_is_none_is_bad_credentials(self) -> None:
        self.failureResultOf(self.ask(self.checker(), b"\xff", b"a"), BadCredentials)

    def test_in_an_outage_who_was_in_shortly_before_is_let_in_where_so_set(self) -> None:
        verified = PasswordCache(self.clock.seconds, ttl=60, size=10, stale=600)
        checker = PasswordChecker(self.directory, verified)
        strict = self.checker()
        for one in (checker, strict):
            self.successResultOf(self.ask(one, b"alice", b"a"))
        self.directory.verify = lambda *_: fail(DirectoryDown("x"))  # type: ignore[method-assign]
        self.clock.advance(659)
        self.assertEqual(self.successResultOf(self.ask(checker, b"alice", b"a")), b"alice")
        self.failureResultOf(self.ask(strict, b"alice", b"a"), DirectoryDown)
        self.failureResultOf(self.ask(checker, b"bob", b"b"), DirectoryDown)
        self.clock.advance(1)
        self.failureResultOf(self.ask(checker, b"alice", b"a"), DirectoryDown)

    def test_in_an_outage_another_password_is_not_let_in_and_locks_nobody_out(self) -> None:
        verified = PasswordCache(self.clock.seconds, ttl=60, size=10, stale=600)
        checker = PasswordChecker(self.directory, verified)
        self.successResultOf(self.ask(checker, b"alice", b"a"))
        # Before the outage a stranger guesses, or a phone sends an old password.
        self.failureResultOf(self.ask(checker, b"alice", b"b"), BadCredentials)
        for kind in (DirectoryDown, Overloaded):
            self.directory.verify = lambda *_, kind=kind: fail(kind("x"))  # type: ignore[method-assign,misc]
            self.failureResultOf(self.ask(checker, b"alice", b"b"), kind)
            self.assertEqual(self.successResultOf(self.ask(checker, b"alice", b"a")), b"alice")

    def test_a_late_answer_about_a_password_is_no_outage_that_lets_in(self) -> None:
        verified = PasswordCache(self.clock.seconds, ttl=1, size=10, stale=600)
        checker = PasswordChecker(self.directory, verified)
        self.successResultOf(self.ask(checker, b"alice", b"a"))
        self.clock.advance(1)
        late = PasswordUnanswered("x")
        self.directory.verify = lambda *_: fail(late)  # type: ignore[method-assign]
        self.failureResultOf(self.ask(checker, b"alice", b"a"), PasswordUnanswered)

    def test_a_password_that_the_directory_refuses_is_not_let_in_in_an_outage(self) -> None:
        verified = PasswordCache(self.clock.seconds, ttl=1, size=10, stale=600)
        checker = PasswordChecker(self.directory, verified)
        self.successResultOf(self.ask(checker, b"alice", b"a"))
        self.clock.advance(1)
        self.directory.verify = lambda *_: fail(BadCredentials("x"))  # type: ignore[method-assign]
        self.failureResultOf(self.ask(checker, b"alice", b"a"), BadCredentials)
        self.directory.verify = lambda *_: fail(DirectoryDown("x"))  # type: ignore[method-assign]
        self.failureResultOf(self.ask(checker, b"alice", b"a"), DirectoryDown)

    def test_neither_password_nor_name_can_be_read_from_what_is_remembered(self) -> None:
        verified = PasswordCache(self.clock.seconds, ttl=60, size=10)
        verified.keep("alice", b"c4nary")
        self.assertNotIn("c4nary", repr(vars(verified)))


class LoginTests(SynchronousTestCase):
    def login(self, realm: Any, checker: Any) -> Deferred[Any]:
        return PortalLogin(Portal(realm, [checker]), ADMISSION)(
            UsernamePassword(b"alice", b"a"), PEER
        )

    def setUp(self) -> None:
        self.directory = MemoryDirectory({"alice": "a"})
        self.store = MemoryStore()
        self.store.add("alice")
        self.realm = MaildropRealm(self.directory, self.store)
        self.checker = PasswordChecker(self.directory, PasswordCache(lambda: 0, ttl=0, size=1))

    def test_the_maildrop_of_the_account_is_opened(self) -> None:
        maildrop, _ = self.successResultOf(self.login(self.realm, self.checker))
        self.assertEqual(maildrop.name, "alice")

    def test_an_account_that_vanished_after_its_password_is_bad_credentials(self) -> None:
        self.directory.find = lambda _: succeed(None)  # type: ignore[method-assign]
        self.failureResultOf(self.login(self.realm, self.checker), BadCredentials)

    def test_an_outage_is_no_bad_credentials(self) -> None:
        self.directory.verify = lambda *_: fail(DirectoryDown("x"))  # type: ignore[method-assign]
        self.failureResultOf(self.login(self.realm, self.checker), DirectoryDown)

    def test_a_portal_without_a_fitting_checker_is_a_misconfiguration(self) -> None:
        answer = PortalLogin(Portal(self.realm, []), ADMISSION)(
            UsernamePassword(b"alice", b"a"), PEER
        )
        self.failureResultOf(answer, DirectoryMisconfigured)

    def test_the_realm_has_maildrops_and_nothing_else(self) -> None:
        with self.assertRaises(NotImplementedError):
            self.realm.requestAvatar(b"alice", PEER, IMailboxPOP3)
        answer = self.realm.requestAvatar(b"alice", PEER, IMailboxPOP3, IMaildrop)
        self.assertIs(self.successResultOf(answer)[0], IMaildrop)


def with_a_policy() -> MemoryDirectory:
    """A directory with an account that has a retention policy of its own."""
    account = Account(name="alice", mailbox="alice", retention="any 90d")
    return MemoryDirectory({"alice": "a"}, {"alice": account})


class HoldTests(SynchronousTestCase):
    """What DELE marks in a mailbox that has a hold, or gets one while a session is open."""

    def setUp(self) -> None:
        self.held: set[str] = set()
        self.directory = MemoryDirectory({"alice": "a"})
        self.asked: list[str] = []

    def now_finds(self, answer: Deferred[Account | None]) -> None:
        def find(login: str) -> Deferred[Account | None]:
            self.asked.append(login)
            return answer

        self.directory.find = find  # type: ignore[method-assign]

    def log_in(self, store: MemoryStore) -> IMaildrop:
        self.mailbox = store.add("alice")
        for number in range(3):
            self.mailbox.deliver(b"%d\r\n" % number)
        realm = MaildropRealm(
            self.directory,
            store,
            is_held=lambda one: one.name in self.held or one.retention == "hold",
        )
        avatar: IMaildrop
        _, avatar, _ = self.successResultOf(realm.requestAvatar(b"alice", PEER, IMaildrop))
        self.assertTrue(verifyObject(IMaildrop, avatar))
        return avatar

    def test_a_hold_that_comes_while_a_session_is_open_makes_quit_hide(self) -> None:
        maildrop = self.log_in(MemoryStore())
        self.held.add("alice")
        self.successResultOf(maildrop.finish({0, 2}, {1}))
        self.assertEqual(list(self.mailbox.messages), [2])
        self.assertEqual(list(self.mailbox.hidden), [1, 3])
        self.assertEqual(list(self.mailbox.read), [2])

    def test_without_a_hold_quit_removes(self) -> None:
        self.held.add("bob")
        maildrop = self.log_in(MemoryStore())
        self.successResultOf(maildrop.finish({0, 2}, {1}))
        self.assertEqual(list(self.mailbox.messages), [2])
        self.assertEqual(self.mailbox.hidden, {})

    def test_what_a_store_cannot_hide_stays_and_what_was_read_is_marked(self) -> None:
        maildrop = self.log_in(StoreThatCannotHide())
        self.held.add("alice")
        self.failureResultOf(maildrop.finish({0}, {1}), StoreDown)
        self.assertEqual(list(self.mailbox.messages), [1, 2, 3])
        self.assertEqual(list(self.mailbox.read), [2])
        self.successResultOf(maildrop.finish((), {0}))
        self.held.clear()
        self.successResultOf(maildrop.finish({0}, ()))
        self.assertEqual(list(self.mailbox.messages), [2, 3])

    def test_a_hold_that_the_directory_gets_while_a_session_is_open_makes_quit_hide(self) -> None:
        maildrop = self.log_in(MemoryStore())
        self.now_finds(succeed(Account(name="alice", mailbox="alice", retention="hold")))
        self.successResultOf(maildrop.finish({0, 2}, {1}))
        self.assertEqual(list(self.mailbox.messages), [2])
        self.assertEqual(list(self.mailbox.hidden), [1, 3])

    def test_quit_waits_for_the_directory_before_it_removes(self) -> None:
        maildrop, answer = self.log_in(MemoryStore()), Deferred[Account | None]()
        self.now_finds(answer)
        done = maildrop.finish({0}, ())
        self.assertNoResult(done)
        self.assertEqual(list(self.mailbox.messages), [1, 2, 3])
        answer.callback(Account(name="alice", mailbox="alice"))
        self.successResultOf(done)
        self.assertEqual((list(self.mailbox.messages), self.mailbox.hidden), ([2, 3], {}))

    def test_where_nobody_can_tell_whether_there_is_a_hold_quit_hides(self) -> None:
        for answer in (
            fail(DirectoryDown("x")),
            succeed(None),
            succeed(Account(name="alice", mailbox="another")),
        ):
            self.directory = with_a_policy()
            maildrop = self.log_in(MemoryStore())
            self.now_finds(answer)
            self.successResultOf(maildrop.finish({0}, ()))
            self.assertEqual(list(self.mailbox.messages), [2, 3])
            self.assertEqual(list(self.mailbox.hidden), [1])

    def test_in_an_outage_mail_of_an_account_without_a_policy_goes(self) -> None:
        maildrop = self.log_in(MemoryStore())
        self.now_finds(fail(DirectoryDown("x")))
        self.successResultOf(maildrop.finish({0}, ()))
        self.assertEqual((list(self.mailbox.messages), self.mailbox.hidden), ([2, 3], {}))

    def test_where_nobody_can_tell_and_nothing_can_be_hidden_it_stays(self) -> None:
        self.directory = with_a_policy()
        maildrop = self.log_in(StoreThatCannotHide())
        self.now_finds(fail(DirectoryDown("x")))
        self.failureResultOf(maildrop.finish({0}, {1}), StoreDown)
        self.assertEqual(list(self.mailbox.messages), [1, 2, 3])
        self.assertEqual(list(self.mailbox.read), [2])

    def test_a_session_that_removes_nothing_asks_the_directory_nothing_at_quit(self) -> None:
        maildrop = self.log_in(MemoryStore())
        self.now_finds(succeed(None))
        self.successResultOf(maildrop.finish((), {1}))
        self.assertEqual((self.asked, list(self.mailbox.read)), ([], [2]))
