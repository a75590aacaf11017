"""Several password sources as one checker."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import LoginFailed
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import BadCredentials, DirectoryDown

__all__ = ["Chain"]


@implementer(ICredentialsChecker)
class Chain:
    """The first checker that says yes.

    A portal keeps one checker for each kind of credentials, and of two the
    last one wins without a word.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, *checkers: ICredentialsChecker) -> None:
        self._checkers = [_in_octets(checker) for checker in checkers]

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """The first avatar id.  Where one of them could not say, nor does this one."""
        return self._ask(0, credentials, None)

    def _ask(self, number: int, credentials: Any, outage: Failure | None) -> Deferred[Any]:
        if number == len(self._checkers):
            return fail(outage or BadCredentials("no password source knows that password"))
        asked = maybeDeferred(self._checkers[number].requestAvatarId, credentials)

        def no(failure: Failure) -> Deferred[Any]:
            trouble = _trouble(failure)
            return self._ask(number + 1, credentials, outage or trouble)

        return asked.addErrback(no)


def _trouble(failure: Failure) -> Failure | None:
    """Why nothing is known of the password; None where it is wrong."""
    if not failure.check(LoginFailed):
        return failure
    # What ``--auth file:`` refuses everybody for while its file cannot be read.
    cause = getattr(failure.value, "__context__", None)
    return Failure(DirectoryDown(str(cause))) if isinstance(cause, OSError) else None


def _in_octets(checker: ICredentialsChecker) -> ICredentialsChecker:
    """``--auth memory:`` keeps the text of the command line, and clients send octets."""
    if type(checker) is not InMemoryUsernamePasswordDatabaseDontUse:
        return checker
    octets = InMemoryUsernamePasswordDatabaseDontUse()
    for name, password in checker.users.items():
        octets.addUser(_encoded(name), _encoded(password))
    return octets


def _encoded(text: bytes | str) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
