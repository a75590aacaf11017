"""A password that is checked for something else than a mailbox: the page's login."""

from __future__ import annotations

from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.admission.local import LocalAdmission
from gateway.admission.throttle import ThrottleLimits
from gateway.auth.login import PortalLogin
from gateway.auth.password_cache import PasswordCache
from gateway.auth.passwords import PasswordChecker
from gateway.auth.realm import MaildropRealm
from gateway.directory.memory import MemoryDirectory
from gateway.errors import BadCredentials, TooManyGuesses
from gateway.model import Account, Peer
from gateway.store.memory import MemoryStore

ALICE, SECRET = "alice@example.org", b"wonderland"

PEER = Peer("192.0.2.1", True, "7f")


@implementer(ICredentialsChecker)
class LetsAnybodyIn:
    """A checker of another application."""

    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, _: object) -> Deferred[object]:
        """Nobody in particular."""
        return succeed(ANONYMOUS)


class PasswordAloneTests(SynchronousTestCase):
    def setUp(self) -> None:
        accounts = {ALICE: Account(name=ALICE, mailbox=ALICE)}
        directory = MemoryDirectory({ALICE: SECRET.decode()}, accounts)
        self.clock, self.store = Clock(), MemoryStore()
        self.realm = MaildropRealm(directory, self.store)
        checker = PasswordChecker(directory, PasswordCache(self.clock.seconds, ttl=0, size=1))
        throttle = ThrottleLimits(free=2, delay=4.0, refuse_after=4, window=900)
        self.admission = LocalAdmission(lambda: self.clock, throttle=throttle)
        portal = Portal(self.realm, [checker])
        self.login = PortalLogin(portal, self.admission, lambda login: succeed(login))

    def check(self, name: bytes, password: bytes) -> Deferred[str]:
        """Check it."""
        return self.login.verify(name, password, PEER)

    def test_the_right_password_names_the_account_and_opens_no_mailbox(self) -> None:
        self.assertEqual(self.successResultOf(self.check(b"Alice@Example.org", SECRET)), ALICE)
        self.assertEqual(self.store.mailboxes, {})

    def test_wrong_ones_fail_wait_and_are_refused_as_at_a_login(self) -> None:
        for password in (b"one", b"two"):
            self.failureResultOf(self.check(ALICE.encode(), password), BadCredentials)
        for password in (b"three", b"four"):
            waiting = self.check(ALICE.encode(), password)
            self.assertNoResult(waiting)
            self.clock.advance(20)
            self.failureResultOf(waiting, BadCredentials)
        refused = self.check(ALICE.encode(), b"five")
        self.clock.advance(20)
        self.failureResultOf(refused, TooManyGuesses)

    def test_delegates_odd_names_and_octets_are_refused_before_any_check(self) -> None:
        for name in (b"alice@example.org/bob", b"dom/alice/bob", b"", b"\xff", b"a\x00b"):
            self.failureResultOf(self.check(name, SECRET), BadCredentials)
        self.failureResultOf(self.check(ALICE.encode(), b"\xff"), BadCredentials)

    def test_a_checker_that_lets_anybody_in_lets_no_operator_in(self) -> None:
        self.login = PortalLogin(Portal(self.realm, [LetsAnybodyIn()]), self.admission)
        self.failureResultOf(self.check(ALICE.encode(), SECRET), BadCredentials)
