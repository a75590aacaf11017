"""What mechanisms prove, besides a name with its password: kinds of credentials.

A checker of any portal can take them, by their interfaces.
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
    "INtlmResponse",
]


class IActing(ICredentials):
    """Somebody who may want to act as another; who takes these must decide whether he may."""

    username = Attribute("bytes: who proves to be himself.")
    acts_as = Attribute('bytes: owner of the wanted mailbox; b"" for the own one.')


class IActingPassword(IActing):
    """A name with its password, for another's mailbox (RFC 4616's two identities)."""

    password = Attribute("bytes: the password of ``username``.")


@implementer(IActingPassword)
@frozen
class ActingPassword:
    """Not an ``IUsernamePassword``: a checker that knows only those must not take it for one."""

    username: bytes
    password: bytes = field(repr=False)
    acts_as: bytes


class INtlmResponse(ICredentials):
    """What an NTLM client answered to a challenge; a checker asks an ``INtlmAuthority``."""

    username = Attribute("bytes: DOMAIN\\user or user, for the log.")
    user = Attribute("str: the name as the client sent it.")
    domain = Attribute("str: its domain as the client sent it; may be empty.")
    challenge = Attribute("bytes: the 8 octets that the response answers.")
    response = Attribute("bytes: the NtChallengeResponse.")
    legacy = Attribute("bool: it is NTLMv1 or an NTLM2 session response.")
    proof = Attribute("gateway.sasl.ntlmssp.Proof: what an NTLMv2 response says; else None.")

    def check(session_base_key: bytes) -> None:
        """Check what else the message promises, once the response has proven right.

        Raises ``BadCredentials`` where its integrity code, its time, its
        channel binding or its target is not what it must be.
        """


class IGssName(IActing):
    """A Kerberos principal with a verified ticket, and the mailbox that it asks for."""

    username = Attribute("bytes: the principal in UTF-8, for the log.")
    principal = Attribute(
        "str: the principal with its realm, escaped as MIT Kerberos prints it: alice@EXAMPLE.ORG."
    )


@implementer(IGssName)
@frozen
class GssName:
    """What GSSAPI proves."""

    principal: str
    acts_as: bytes = b""

    @property
    def username(self) -> bytes:
        """The principal in UTF-8."""
        return self.principal.encode()
