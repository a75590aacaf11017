"""LOGIN: not in any RFC, but in every client.  Server first, no authorization identity."""

from __future__ import annotations

from twisted.cred.credentials import UsernamePassword
from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from gateway.errors import MechanismFailed
from gateway.interfaces import Challenge, IMechanism, Proven
from gateway.saslprep import login_name


@implementer(IMechanism)
class LoginMechanism:
    """One exchange of LOGIN."""

    def __init__(self) -> None:
        self._name: bytes | None = None

    def step(self, response: bytes | None) -> Deferred[Challenge | Proven]:
        """Ask for the name, ask for the password, done.

        An initial response is the name, as in deployed servers.
        """
        return execute(self._step, response)

    def _step(self, response: bytes | None) -> Challenge | Proven:
        if response is None:
            return Challenge(b"Username:")
        if self._name is None:
            try:
                login_name(response)
            except ValueError:
                raise MechanismFailed("LOGIN needs a name in UTF-8") from None
            self._name = response
            return Challenge(b"Password:")
        if not response:
            raise MechanismFailed("LOGIN needs a password")
        return Proven(UsernamePassword(self._name, response))
