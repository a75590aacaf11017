"""The checker for names and passwords."""

from __future__ import annotations

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.auth.verified import Verified
from gateway.errors import BadCredentials, DirectoryDown
from gateway.interfaces import IDirectory
from gateway.model import Account
from gateway.saslprep import login_name

log = Logger()


@implementer(ICredentialsChecker)
class PasswordChecker:
    """Asks a directory, and remembers right answers for a short time.

    The avatar id is the login name in its canonical form, in UTF-8.  An ordinary
    checker: any Twisted application can register it in its own portal.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, directory: IDirectory, verified: Verified) -> None:
        self._directory = directory
        self._verified = verified

    def requestAvatarId(self, credentials: IUsernamePassword) -> Deferred[bytes | tuple[()]]:
        """The canonical name; fails with ``BadCredentials`` or a directory's errors."""
        try:
            login = login_name(credentials.username)
        except ValueError:
            return fail(BadCredentials("the name is not valid"))
        password = credentials.password
        if self._verified.knows(login, password):
            return succeed(login.encode())

        def right(account: Account) -> bytes:
            self._verified.keep(login, password)
            return account.name.encode()

        def wrong(failure: Failure) -> bytes | Failure:
            if failure.check(BadCredentials):
                self._verified.drop(login)
            elif failure.check(DirectoryDown) and self._verified.knew(login, password):
                log.warn("let {login} in as before: {error}", login=login, error=failure.value)
                return login.encode()
            return failure

        return self._directory.verify(login, password).addCallbacks(right, wrong)
