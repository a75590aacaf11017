"""The checker of login names and passwords."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.auth.delegates import Delegates
from gateway.auth.password_cache import PasswordCache
from gateway.errors import BadCredentials, DirectoryDown, Overloaded, PasswordUnanswered
from gateway.events import CachedPasswordAccepted, Emit, problem_of
from gateway.interfaces import IDirectory
from gateway.model import Account
from gateway.observe.log import emit_to_log
from gateway.sasl.credentials import IActingPassword
from gateway.saslprep import shown_name

__all__ = ["PasswordChecker"]


@implementer(ICredentialsChecker)
class PasswordChecker:
    """Asks a directory, with a password cache.

    The avatar id is the canonical login name of the mailbox's owner.  Any Twisted
    application can register it in its portal.  Most services of Twisted pass octets
    and expect an avatar id in octets; FTP and IRC pass and expect str.
    """

    credentialInterfaces = (IUsernamePassword, IActingPassword)

    def __init__(
        self,
        directory: IDirectory,
        verified: PasswordCache,
        delegates: Delegates | None = None,
        emit: Emit = emit_to_log,
    ) -> None:
        self.directory = directory
        self._verified = verified
        self._emit = emit
        self._delegates = delegates or Delegates(directory)

    def requestAvatarId(self, credentials: IUsernamePassword) -> Deferred[Any]:
        """The login name, as bytes or str like the name in ``credentials``.

        Fails with ``BadCredentials`` or a directory's errors.
        """
        username, password = credentials.username, credentials.password
        acts_as = getattr(credentials, "acts_as", b"")
        if isinstance(username, bytes) and isinstance(password, bytes):
            return self._asked(username, password, acts_as)
        asked = self._asked(_octets(username), _octets(password), acts_as)
        return asked.addCallback(_text) if isinstance(username, str) else asked

    def _asked(self, username: bytes, password: bytes, acts_as: bytes) -> Deferred[Any]:
        try:
            login, wanted = self._delegates.parties(username, acts_as)
        except BadCredentials as error:
            return fail(error)
        if self._verified.knows(login, password):
            return self._delegates.admit(login, wanted)

        def right(_: Account) -> str:
            self._verified.keep(login, password)
            return login

        def wrong(failure: Failure) -> str | Failure:
            if failure.check(BadCredentials):
                self._verified.refused(login, password)
            elif failure.check(PasswordUnanswered):
                # It may be an old one by now, which the directory counts each time.
                return failure
            elif failure.check(DirectoryDown, Overloaded) and self._verified.knew(login, password):
                assert failure.value is not None
                problem = problem_of(failure.value)
                self._emit(CachedPasswordAccepted(shown_name(username), problem))
                return login
            return failure

        asked = self.directory.verify(login, password).addCallbacks(right, wrong)
        return asked.addCallback(self._delegates.admit, wanted)


def _octets(text: bytes | str) -> bytes:
    """The octets that a client sent.

    Twisted's FTP server decodes octets as Latin-1.  If the text encodes back to
    valid UTF-8, that is what the client sent: real Latin-1 is seldom valid UTF-8.
    """
    if isinstance(text, bytes):
        return text
    try:
        octets = text.encode("latin-1")
        octets.decode("utf-8")
    except UnicodeError:
        return text.encode("utf-8", "surrogatepass")
    return octets


def _text(avatar_id: bytes) -> str:
    return avatar_id.decode()
