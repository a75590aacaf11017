"""Login: the one place that calls ``Portal.login``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.cred.error import LoginDenied, LoginFailed, UnhandledCredentials
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.mail.interfaces import IMailboxPOP3
from twisted.python.failure import Failure

from gateway.admission.throttle import Throttle
from gateway.auth.delegates import split_login
from gateway.errors import (
    BadCredentials,
    DirectoryMisconfigured,
    GatewayError,
    MailboxUnusable,
    TooManySessions,
)
from gateway.interfaces import IMaildrop
from gateway.model import Peer
from gateway.sasl.credentials import IActing, INtlmResponse
from gateway.saslprep import login_name, shown_name
from gateway.store.classic import ClassicMaildrop

log = Logger()

Opened = tuple[Any, Callable[[], object]]
"""An ``IMaildrop`` and what gives it back."""


class PortalLogin:
    """Credentials in, an open maildrop out, whatever realm and checkers the portal has."""

    def __init__(
        self,
        portal: Portal,
        throttle: Throttle | None = None,
        clock: Callable[[], IReactorTime] | None = None,
        identify: Callable[[str], Deferred[str]] | None = None,
    ) -> None:
        """``throttle`` slows guesses down, on the clock that ``clock`` gives.

        ``identify`` tells whose login name one is, an empty name for nobody's:
        where a directory locks accounts, guesses must not be told apart by
        how the name is spelt.
        """
        self._identify = identify
        self._portal = portal
        self._throttle = throttle
        self._clock = clock

    def __call__(self, credentials: Any, peer: Peer) -> Deferred[Opened]:
        """The maildrop and the function that logs it out.

        Fails with ``BadCredentials`` for every way in which cred says no, and
        with whatever else realm or checker fail with.
        """
        if not _is_utf8(getattr(credentials, "password", b"")):
            # By PASS and by every mechanism alike: CAPA announces UTF8 (RFC 6856 section 2.2),
            # and no directory can be asked about anything else.
            return fail(BadCredentials("the password is not UTF-8"))
        guess = _guess(credentials)
        if self._throttle is None or self._clock is None or guess is None:
            return self._log_in(credentials, peer)
        name = _name(credentials)
        if self._identify is None:
            return self._weighed(credentials, peer, name, guess, "")
        asked = self._identify(split_login(name)[0])
        return asked.addCallback(
            lambda account: self._weighed(credentials, peer, name, guess, account)
        )

    def _weighed(
        self, credentials: Any, peer: Peer, name: str, guess: bytes, account: str
    ) -> Deferred[Opened]:
        assert self._throttle is not None
        assert self._clock is not None
        answers = INtlmResponse.providedBy(credentials)
        attempt = self._throttle.weigh(name, peer.host, guess, account, answers=answers)
        answer: Deferred[Any]
        if attempt.wait:
            log.info(
                "session {number}: login of {login} from {host} waits {wait:.1f} s",
                number=peer.session,
                login=shown_name(credentials.username),
                host=peer.host,
                wait=attempt.wait,
            )
            answer = deferLater(
                self._clock(), attempt.wait, self._try, credentials, peer, attempt.refusal
            )
        else:
            answer = self._try(credentials, peer, attempt.refusal)

        def good(opened: Opened) -> Opened:
            attempt.succeeded()
            attempt.ended()
            return opened

        def bad(failure: Failure) -> Failure:
            error = failure.value
            guessed = isinstance(error, BadCredentials) and error.guessed
            if attempt.refusal is None and guessed:
                attempt.failed(account or getattr(failure.value, "account", ""))
            attempt.ended()
            return failure

        return answer.addCallbacks(good, bad)

    def _try(self, credentials: Any, peer: Peer, refusal: GatewayError | None) -> Deferred[Opened]:
        return self._log_in(credentials, peer) if refusal is None else fail(refusal)

    def _log_in(self, credentials: Any, peer: Peer) -> Deferred[Opened]:
        asked: Deferred[Any] = self._portal.login(credentials, peer, IMaildrop, IMailboxPOP3)
        return asked.addCallbacks(
            _opened, _said_no, callbackArgs=(credentials,), errbackArgs=(credentials,)
        )


def _is_utf8(password: bytes) -> bool:
    try:
        password.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _guess(credentials: Any) -> bytes | None:
    """What somebody who guesses would have to change; None where nothing can be guessed."""
    for name in ("password", "response"):
        if isinstance(guess := getattr(credentials, name, None), bytes):
            return guess
    return None


def _name(credentials: Any) -> str:
    """The one form of the name, so that no spelling gives a guess for free."""
    try:
        return login_name(credentials.username)
    except ValueError:
        return ""


def _opened(result: tuple[Any, Any, Callable[[], object]], credentials: Any) -> Opened:
    _, avatar, logout = result
    # The avatar tells what it is; the interface returned beside it may be
    # whichever came first in the realm's mind.
    if IMaildrop.providedBy(avatar):
        return avatar, logout
    if IMailboxPOP3.providedBy(avatar):
        name = bytes(credentials.username).decode("utf-8", "backslashreplace")
        return ClassicMaildrop(avatar, name), logout
    logout()
    raise MailboxUnusable(f"the realm gave {type(avatar).__qualname__}, which is no mailbox")


def _said_no(failure: Failure, credentials: Any) -> Any:
    if failure.check(UnhandledCredentials):
        if IActing.providedBy(credentials) and credentials.acts_as:
            raise BadCredentials("nobody may act as another here")
        raise DirectoryMisconfigured("no checker takes these credentials")
    if failure.check(BadCredentials):
        return failure
    if failure.check(LoginDenied):
        # For realms whose user comes too often, or whose server has too much to do.
        raise TooManySessions(str(failure.value))
    if failure.check(LoginFailed):
        raise BadCredentials(str(failure.value))
    return failure
