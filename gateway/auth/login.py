"""Login: the one place that calls ``Portal.login``, and checks of a password alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.cred.credentials import ICredentials, IUsernamePassword, UsernamePassword
from twisted.cred.error import LoginDenied, LoginFailed, UnhandledCredentials
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.mail.interfaces import IMailboxPOP3
from twisted.python.failure import Failure

from gateway.errors import (
    BadCredentials,
    DirectoryMisconfigured,
    MailboxUnusable,
    TooManySessions,
)
from gateway.interfaces import IAdmission, IDirectory, IMaildrop, INtlmResponse
from gateway.model import Account, LoginAttempt, Peer
from gateway.sasl.credentials import IActing
from gateway.saslprep import login_name, split_login
from gateway.store.classic import ClassicMaildrop

Opened = tuple[IMaildrop, Callable[[], object]]
"""A maildrop, and the function that releases it."""


class PortalLogin:
    """Credentials to an open maildrop, for any portal."""

    def __init__(
        self,
        portal: Portal,
        admission: IAdmission,
        identify: Callable[[str], Deferred[str]] | None = None,
    ) -> None:
        """``identify`` finds the account name of a login name, an empty name for none.

        Directories that lock accounts need it: a guess must count for the
        account, however the login name is spelt.
        """
        self._portal = portal
        self._admission = admission
        self._identify = identify

    def __call__(self, credentials: ICredentials, peer: Peer) -> Deferred[Opened]:
        """The maildrop and the function that logs it out.

        Fails with ``BadCredentials`` if cred rejects the login, and with any other error
        of admission, realm or checker.
        """
        secret = getattr(credentials, "password", None)
        if secret is None:
            secret = getattr(credentials, "response", None)
        elif not _is_utf8(secret):
            # For PASS and every mechanism: CAPA announces UTF8 (RFC 6856 section 2.2),
            # and no directory can be asked about anything else.
            return fail(BadCredentials("the password is not UTF-8"))
        if not isinstance(secret, bytes):
            # There is nothing to guess.
            return self._log_in(credentials, peer)
        username, is_answer = _username(credentials), INtlmResponse.providedBy(credentials)
        attempt = partial(LoginAttempt, peer, username, secret, is_answer=is_answer)
        log_in = partial(self._log_in, credentials, peer)
        if self._identify is None:
            return self._admission.attempt(attempt(), log_in)
        return self._identify(_user(username)).addCallback(
            lambda account: self._admission.attempt(attempt(account=account), log_in)
        )

    def verify(self, username: bytes, password: bytes, peer: Peer) -> Deferred[str]:
        """Check a password for something else than a mailbox; fires with the account's login name.

        It counts as a login does.  Fails with ``BadCredentials`` also for an account that may not
        log in and for a delegate, and as a call does.
        """
        if not _is_utf8(password):
            return fail(BadCredentials("the password is not UTF-8"))
        user = _user(username)
        if not user or login_name(username) != user:
            return fail(BadCredentials("expected a login name without a mailbox"))
        checker = self._portal.checkers[IUsernamePassword]
        credentials = UsernamePassword(username, password)
        attempt = partial(LoginAttempt, peer, username, password)

        def log_in() -> Deferred[str]:
            asked = maybeDeferred(checker.requestAvatarId, credentials)
            return asked.addCallbacks(_name, _said_no, errbackArgs=(credentials,))

        if self._identify is None:
            return self._admission.attempt(attempt(), log_in)
        return self._identify(user).addCallback(
            lambda account: self._admission.attempt(attempt(account=account), log_in)
        )

    def _log_in(self, credentials: ICredentials, peer: Peer) -> Deferred[Opened]:
        asked = self._portal.login(credentials, peer, IMaildrop, IMailboxPOP3)
        result = asked.result if asked.called and not asked.paused else None
        if type(result) is tuple and len(result) == 3:
            _, avatar, logout = result
            if IMaildrop.providedBy(avatar):
                # The usual case.  Callbacks would cost more.
                return succeed((avatar, logout))
        return asked.addCallbacks(
            _opened, _said_no, callbackArgs=(credentials,), errbackArgs=(credentials,)
        )


def account_of(login: str, directory: IDirectory, bare: Callable[[str], str]) -> Deferred[str]:
    """The account that guesses at a login name count for; empty: unknown.

    A domain may know a user by names that the directory does not have.  ``bare`` takes its
    domain away; guesses then count for the account of that user, or for that name.
    """

    def name(account: Account | None) -> str:
        return "" if account is None else account.name

    def named(one: str) -> Deferred[str]:
        return directory.find(one).addCallbacks(name, lambda _: "")

    def of_the_user(found: str) -> str | Deferred[str]:
        user = bare(login)
        if found or user == login:
            return found
        return named(user).addCallback(lambda account: account or user)

    return named(login).addCallback(of_the_user)


def _name(avatar_id: bytes | str | tuple[()]) -> str:
    if isinstance(avatar_id, tuple):
        raise BadCredentials("anonymous login has no account")
    return avatar_id if isinstance(avatar_id, str) else bytes(avatar_id).decode("utf-8", "replace")


def _is_utf8(password: bytes) -> bool:
    try:
        password.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _username(credentials: ICredentials) -> bytes:
    return bytes(getattr(credentials, "username", b""))


def _user(username: bytes) -> str:
    """The login name without the mailbox of a delegate; empty: not valid."""
    try:
        return split_login(login_name(username))[0]
    except ValueError:
        return ""


def _opened(
    result: tuple[object, object, Callable[[], object]], credentials: ICredentials
) -> Opened:
    _, avatar, logout = result
    # The avatar tells what it is; the interface returned beside it may be
    # whichever came first in the realm's mind.
    if IMaildrop.providedBy(avatar):
        return avatar, logout
    if IMailboxPOP3.providedBy(avatar):
        name = _username(credentials).decode("utf-8", "backslashreplace")
        return ClassicMaildrop(avatar, name), logout
    logout()
    raise MailboxUnusable(f"the realm gave {type(avatar).__qualname__}, which is no mailbox")


def _said_no(failure: Failure, credentials: ICredentials) -> Failure:
    if failure.check(UnhandledCredentials):
        if IActing.providedBy(credentials) and getattr(credentials, "acts_as", None):
            raise BadCredentials("nobody may act as another here")
        raise DirectoryMisconfigured("no checker takes these credentials")
    if failure.check(BadCredentials):
        return failure
    if failure.check(LoginDenied):
        # A realm rejects users who log in too often, or while its server is overloaded.
        raise TooManySessions(str(failure.value))
    if failure.check(LoginFailed):
        raise BadCredentials(str(failure.value))
    return failure
