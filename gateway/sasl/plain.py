"""PLAIN (RFC 4616): one message with everything in it, client first."""

from __future__ import annotations

from twisted.cred.credentials import UsernamePassword
from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from gateway.errors import MechanismFailed
from gateway.interfaces import Challenge, IMechanism, Proven
from gateway.sasl.credentials import ActingPassword
from gateway.saslprep import login_name


@implementer(IMechanism)
class Plain:
    """One exchange of PLAIN."""

    def step(self, response: bytes | None) -> Deferred[Challenge | Proven]:
        """An empty challenge, then the credentials."""
        if response is None:
            return execute(Challenge, b"")
        return execute(_read, response)


def _read(message: bytes) -> Proven:
    fields = message.split(b"\0")
    if len(fields) != 3:
        raise MechanismFailed("PLAIN takes three fields")
    authzid, authcid, password = fields
    if not (authcid and password):
        raise MechanismFailed("PLAIN needs a name and a password")
    try:
        name = login_name(authcid)
        acts_as = login_name(authzid) if authzid else name
    except ValueError:
        raise MechanismFailed("PLAIN needs names in UTF-8") from None
    if acts_as != name:
        return Proven(ActingPassword(authcid, password, authzid))
    return Proven(UsernamePassword(authcid, password))
