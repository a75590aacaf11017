"""Kinds of credentials that SASL mechanisms verify, beside names with passwords.

Checkers of any portal can accept them by their interfaces.
"""

from __future__ import annotations

from attrs import field, frozen
from twisted.cred.credentials import ICredentials
from zope.interface import Attribute, implementer

__all__ = [
    "ActingPassword",
    "GssName",
    "IActing",
    "IActingPassword",
    "IGssName",
]


class IActing(ICredentials):
    """A user who may ask for another mailbox; the checker must authorize that."""

    username = Attribute("bytes: the authentication identity.")
    acts_as = Attribute('bytes: owner of the wanted mailbox; b"" for the own one.')


class IActingPassword(IActing):
    """A name with its password, for another mailbox (the two identities of RFC 4616)."""

    password = Attribute("bytes: the password of ``username``.")


@implementer(IActingPassword)
@frozen
class ActingPassword:
    """Not an ``IUsernamePassword``: a checker of those would ignore the other mailbox."""

    username: bytes
    password: bytes = field(repr=False)
    acts_as: bytes


class IGssName(IActing):
    """A Kerberos principal with a verified ticket, and the wanted mailbox."""

    username = Attribute("bytes: the principal in UTF-8, for the log.")
    principal = Attribute(
        "str: the principal with its realm, escaped as MIT Kerberos prints it: alice@EXAMPLE.ORG."
    )


@implementer(IGssName)
@frozen
class GssName:
    """The credentials of GSSAPI."""

    principal: str
    acts_as: bytes = b""

    @property
    def username(self) -> bytes:
        """The principal in UTF-8."""
        return self.principal.encode()
