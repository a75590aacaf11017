"""The checker, its memory, the realm, and the one place that logs in."""

from __future__ import annotations

from typing import Any

from twisted.cred.credentials import UsernamePassword
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.mail.interfaces import IMailboxPOP3
from twisted.trial.unittest import SynchronousTestCase

from gateway.auth.login import PortalLogin
from gateway.auth.password_cache import PasswordCache
from gateway.auth.passwords import PasswordChecker
from gateway.auth.realm import MaildropRealm
from gateway.directory.memory import MemoryDirectory
from gateway.errors import BadCredentials, DirectoryDown, DirectoryMisconfigured, Overloaded
from gateway.interfaces import IMaildrop
from gateway.model import Account, Peer
from gateway.store.memory import MemoryStore

PEER = Peer("192.0.2.1", True, "1")


class Counting(MemoryDirectory):
    """Counts how often a password is verified."""

    verified = 0

    def verify(self, login: str, password: bytes) -> Deferred[Account]:
        """As its parent."""
        self.verified += 1
        return super().verify(login, password)


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
        return PortalLogin(Portal(realm, [checker]))(UsernamePassword(b"alice", b"a"), PEER)

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
        answer = PortalLogin(Portal(self.realm, []))(UsernamePassword(b"alice", b"a"), PEER)
        self.failureResultOf(answer, DirectoryMisconfigured)

    def test_the_realm_has_maildrops_and_nothing_else(self) -> None:
        with self.assertRaises(NotImplementedError):
            self.realm.requestAvatar(b"alice", PEER, IMailboxPOP3)
        answer = self.realm.requestAvatar(b"alice", PEER, IMailboxPOP3, IMaildrop)
        self.assertIs(self.successResultOf(answer)[0], IMaildrop)
