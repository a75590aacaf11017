"""Several password checkers as one."""

from __future__ import annotations

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
    """Tries password checkers in order, until one accepts the password.

    A ``Portal`` keeps one checker per kind of credentials: of two it would
    silently use the last one.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, *checkers: ICredentialsChecker) -> None:
        self._checkers = [_in_octets(checker) for checker in checkers]

    def requestAvatarId(self, credentials: IUsernamePassword) -> Deferred[bytes | tuple[()]]:
        """The avatar id of the first checker that accepts the password.

        Fails with ``BadCredentials`` if all reject it, else with the first outage.
        """
        return self._ask(0, credentials, None)

    def _ask(
        self, number: int, credentials: IUsernamePassword, outage: Failure | None
    ) -> Deferred[bytes | tuple[()]]:
        if number == len(self._checkers):
            return fail(outage or BadCredentials("no password source knows that password"))
        asked = maybeDeferred(self._checkers[number].requestAvatarId, credentials)

        def no(failure: Failure) -> Deferred[bytes | tuple[()]]:
            trouble = _trouble(failure)
            return self._ask(number + 1, credentials, outage or trouble)

        return asked.addErrback(no)


def _trouble(failure: Failure) -> Failure | None:
    """The failure if the checker could not verify the password; None if it is wrong."""
    if not failure.check(LoginFailed):
        return failure
    # ``--auth file:`` rejects every password while its file cannot be read.
    cause = getattr(failure.value, "__context__", None)
    return Failure(DirectoryDown(str(cause))) if isinstance(cause, OSError) else None


def _in_octets(checker: ICredentialsChecker) -> ICredentialsChecker:
    """``--auth memory:`` keeps str from the command line; clients send octets."""
    if type(checker) is not InMemoryUsernamePasswordDatabaseDontUse:
        return checker
    octets = InMemoryUsernamePasswordDatabaseDontUse()
    for name, password in checker.users.items():
        octets.addUser(_encoded(name), _encoded(password))
    return octets


def _encoded(text: bytes | str) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
