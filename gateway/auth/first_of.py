"""Several password sources as one checker."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import LoginFailed, UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import BadCredentials


@implementer(ICredentialsChecker)
class FirstOf:
    """The first checker that says yes.

    A portal keeps one checker for each kind of credentials, and of two the
    last one wins without a word.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, *checkers: ICredentialsChecker) -> None:
        self._checkers = checkers

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """The first avatar id.  Where one of them could not say, nor does this one."""
        return self._ask(0, credentials, None)

    def _ask(self, number: int, credentials: Any, outage: Failure | None) -> Deferred[Any]:
        if number == len(self._checkers):
            return fail(outage or BadCredentials("no password source knows that password"))
        asked = maybeDeferred(self._checkers[number].requestAvatarId, credentials)

        def no(failure: Failure) -> Deferred[Any]:
            said_no = failure.check(BadCredentials, UnauthorizedLogin, LoginFailed)
            return self._ask(number + 1, credentials, outage if said_no else outage or failure)

        return asked.addErrback(no)
