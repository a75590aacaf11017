"""The checker for names and passwords."""

from __future__ import annotations

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.auth.delegates import Delegates
from gateway.auth.verified import Verified
from gateway.errors import BadCredentials, DirectoryDown, Overloaded
from gateway.interfaces import IDirectory
from gateway.model import Account
from gateway.sasl.credentials import IActingPassword

log = Logger()


@implementer(ICredentialsChecker)
class PasswordChecker:
    """Asks a directory, and remembers right answers for a short time.

    The avatar id is the login name, canonical and in UTF-8, whose mailbox is to
    be opened.  An ordinary checker: any Twisted application can register it in
    its own portal.
    """

    credentialInterfaces = (IUsernamePassword, IActingPassword)

    def __init__(
        self, directory: IDirectory, verified: Verified, delegates: Delegates | None = None
    ) -> None:
        self.directory = directory
        self._verified = verified
        self._delegates = delegates or Delegates(directory)

    def requestAvatarId(self, credentials: IUsernamePassword) -> Deferred[bytes | tuple[()]]:
        """The login name; fails with ``BadCredentials`` or a directory's errors."""
        try:
            login, wanted = self._delegates.parties(
                credentials.username, getattr(credentials, "acts_as", b"")
            )
        except BadCredentials as error:
            return fail(error)
        password = credentials.password
        if self._verified.knows(login, password):
            return self._delegates.admit(login, wanted)

        def right(_: Account) -> str:
            self._verified.keep(login, password)
            return login

        def wrong(failure: Failure) -> str | Failure:
            if failure.check(BadCredentials):
                self._verified.refused(login, password)
            elif failure.check(DirectoryDown, Overloaded) and self._verified.knew(login, password):
                log.warn("let {login} in as before: {error}", login=login, error=failure.value)
                return login
            return failure

        asked = self.directory.verify(login, password).addCallbacks(right, wrong)
        return asked.addCallback(self._delegates.admit, wanted)
