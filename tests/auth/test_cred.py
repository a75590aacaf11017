"""Our checkers in other applications of Twisted, and other applications' checkers in ours."""

from __future__ import annotations

import base64
import os
from typing import Any

from twisted.cred import error
from twisted.cred.checkers import ANONYMOUS, FilePasswordDB
from twisted.cred.credentials import UsernamePassword
from twisted.cred.portal import IRealm, Portal
from twisted.cred.strcred import makeChecker
from twisted.internet.defer import fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.guard import BasicCredentialFactory, HTTPAuthSessionWrapper
from twisted.web.resource import IResource
from twisted.web.static import Data
from twisted.web.test.requesthelper import DummyRequest
from zope.interface import implementer

from gateway import errors
from gateway.admission.local import LocalAdmission
from gateway.auth.chain import Chain
from gateway.auth.login import PortalLogin
from gateway.auth.password_cache import PasswordCache
from gateway.auth.passwords import PasswordChecker
from gateway.auth.realm import MaildropRealm
from gateway.directory.memory import LoginIsMailbox, MemoryDirectory
from gateway.errors import (
    BadCredentials,
    BadMailboxName,
    DirectoryDown,
    GatewayError,
    LoginDisabled,
    NotAdmitted,
    TooManySessions,
    UnknownLogin,
    WrongPassword,
)
from gateway.interfaces import IMaildrop
from gateway.model import Peer
from gateway.store.memory import MemoryStore

PASSWORDS = {"alice": "wonderland", "jürgen": "grün €"}


def checker(directory: Any) -> PasswordChecker:
    """Ours, which remembers nothing."""
    return PasswordChecker(directory, PasswordCache(Clock().seconds, ttl=0, size=1))


@implementer(IRealm)
class Pages:
    """Everybody has a page with his name."""

    def requestAvatar(self, avatarId: bytes, mind: object, *interfaces: object) -> Any:
        """The page."""
        del mind, interfaces
        page = Data(avatarId, "text/plain")
        page.isLeaf = True
        return IResource, page, lambda: None


class Answers:
    """A directory, or a checker, with one answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def verify(self, *_: object) -> Any:
        """The answer."""
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)

    requestAvatarId = requestAvatar = verify


class OursElsewhereTests(SynchronousTestCase):
    def status(self, directory: Any, password: str) -> tuple[int, bytes]:
        """What HTTP's basic authentication answers to alice."""
        portal = Portal(Pages(), [checker(directory)])
        guarded = HTTPAuthSessionWrapper(portal, [BasicCredentialFactory(b"x")])
        request = DummyRequest([b"page"])
        secret = base64.b64encode(f"alice:{password}".encode())
        request.requestHeaders.addRawHeader(b"authorization", b"Basic " + secret)
        request.prepath = [b"page"]
        request.render(guarded.getChildWithDefault(b"page", request))
        return request.responseCode or 200, b"".join(request.written)

    def test_a_wrong_password_is_401_in_twisted_web(self) -> None:
        directory = MemoryDirectory(PASSWORDS)
        self.assertEqual(self.status(directory, "wonderland"), (200, b"alice"))
        for wrong in ("", "Wonderland", "\0", "x" * 5000):
            self.assertEqual(self.status(directory, wrong)[0], 401)

    def test_an_account_that_may_not_log_in_is_401_in_twisted_web(self) -> None:
        for refusal in (BadCredentials("disabled"), NotAdmitted("another's")):
            self.assertEqual(self.status(Answers(refusal), "x")[0], 401)

    def test_an_outage_is_no_wrong_password_in_twisted_web(self) -> None:
        for outage in (
            DirectoryDown("down"),
            errors.Overloaded("full"),
            errors.TookTooLong("late"),
        ):
            self.assertEqual(self.status(Answers(outage), "wonderland")[0], 500)
            self.assertEqual(len(self.flushLoggedErrors(type(outage))), 1)

    def test_wrong_credentials_are_the_only_login_failures(self) -> None:
        ours = [one for one in vars(errors).values() if isinstance(one, type)]
        ours = [one for one in ours if issubclass(one, GatewayError)]
        failures = {one for one in ours if issubclass(one, error.LoginFailed)}
        self.assertEqual(
            failures, {BadCredentials, LoginDisabled, NotAdmitted, UnknownLogin, WrongPassword}
        )
        for one in failures:
            self.assertTrue(issubclass(one, error.UnauthorizedLogin))

    def test_the_avatar_id_is_of_the_type_that_the_service_works_with(self) -> None:
        asked = checker(MemoryDirectory(PASSWORDS)).requestAvatarId
        for name, password in PASSWORDS.items():
            octets = UsernamePassword(name.upper().encode(), password.encode())
            self.assertEqual(self.successResultOf(asked(octets)), name.encode())
            text = UsernamePassword(name.upper(), password)
            self.assertEqual(self.successResultOf(asked(text)), name)

    def test_text_that_was_read_as_latin_1_is_the_utf_8_that_the_client_sent(self) -> None:
        asked = checker(MemoryDirectory(PASSWORDS)).requestAvatarId
        sent = [text.encode().decode("latin-1") for text in ("jürgen", "grün €")]
        self.assertEqual(self.successResultOf(asked(UsernamePassword(*sent))), "jürgen")

    def test_text_that_is_no_utf_8_is_a_wrong_password(self) -> None:
        asked = checker(MemoryDirectory(PASSWORDS)).requestAvatarId
        for name, password in (("\ud800", "x"), ("\udcff", "x"), ("alice", "\ud800"), ("", "x")):
            self.failureResultOf(asked(UsernamePassword(name, password)), BadCredentials)


class OthersHereTests(SynchronousTestCase):
    def log_in(self, portal: Portal, name: str, password: str) -> Any:
        credentials = UsernamePassword(name.encode(), password.encode())
        return PortalLogin(portal, LocalAdmission(Clock))(credentials, Peer("192.0.2.1", True, "1"))

    def portal(self, *checkers: Any) -> Portal:
        store = MemoryStore()
        for name in ("alice", "bob", "jürgen"):
            store.add(name)
        return Portal(MaildropRealm(LoginIsMailbox(), store), [Chain(*checkers)])

    def opened(self, *arguments: Any) -> str:
        maildrop, _ = self.successResultOf(self.log_in(*arguments))
        return str(maildrop.name)

    def test_names_from_the_command_line_are_those_that_clients_send(self) -> None:
        portal = self.portal(makeChecker("memory:alice:wonderland:jürgen:grün €"))
        self.assertEqual(self.opened(portal, "alice", "wonderland"), "alice")
        self.assertEqual(self.opened(portal, "jürgen", "grün €"), "jürgen")
        for name, password in (("alice", "grün €"), ("bob", "wonderland"), ("alice", "")):
            self.failureResultOf(self.log_in(portal, name, password), BadCredentials)

    def test_names_from_a_file_are_those_that_clients_send(self) -> None:
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write("alice:wonderland\njürgen:grün €\n")
        portal = self.portal(makeChecker(f"file:{path}"))
        self.assertEqual(self.opened(portal, "alice", "wonderland"), "alice")
        self.assertEqual(self.opened(portal, "jürgen", "grün €"), "jürgen")
        self.failureResultOf(self.log_in(portal, "alice", "x"), BadCredentials)

    def test_a_file_that_cannot_be_read_is_no_wrong_password(self) -> None:
        portal = self.portal(FilePasswordDB(os.path.join(self.mktemp(), "none")))
        failure = self.failureResultOf(self.log_in(portal, "alice", "wonderland"))
        self.assertIsNone(failure.check(BadCredentials))
        self.flushLoggedErrors()

    def test_an_avatar_id_may_be_octets_or_text(self) -> None:
        for avatar_id in (b"alice", "alice"):
            portal = self.portal(Answers(avatar_id))
            self.assertEqual(self.opened(portal, "x", "x"), "alice")

    def test_an_avatar_id_that_is_no_name_opens_no_mailbox(self) -> None:
        for avatar_id, wanted in ((ANONYMOUS, BadCredentials), (b"\xff", BadMailboxName)):
            self.failureResultOf(self.log_in(self.portal(Answers(avatar_id)), "x", "x"), wanted)

    def test_a_realm_that_denies_a_login_does_not_call_the_password_wrong(self) -> None:
        for refusal, wanted in (
            (error.LoginDenied("too often"), TooManySessions),
            (error.LoginFailed("no"), BadCredentials),
            (NotAdmitted("no delegate"), NotAdmitted),
        ):
            realm = implementer(IRealm)(Answers)(refusal)
            portal = Portal(realm, [Chain(Answers(b"alice"))])
            self.failureResultOf(self.log_in(portal, "alice", "x"), wanted)

    def test_what_a_realm_answers_by_mistake_is_a_failure_of_the_login(self) -> None:
        for mistake in ((IMaildrop, object()), None, (IMaildrop, object(), lambda: None)):
            realm = implementer(IRealm)(Answers)(mistake)
            portal = Portal(realm, [Chain(Answers(b"alice"))])
            self.failureResultOf(self.log_in(portal, "alice", "x"))

    def test_bad_credentials_keep_the_account_name(self) -> None:
        known = BadCredentials("wrong", account="alice")
        portal = Portal(MaildropRealm(LoginIsMailbox(), MemoryStore()), [checker(Answers(known))])
        failure = self.failureResultOf(self.log_in(portal, "alice", "x"), BadCredentials)
        self.assertEqual(failure.value.account, "alice")
