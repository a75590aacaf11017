"""Accounts: directories, and the SASL mechanisms that prove who a client is."""

from __future__ import annotations

from typing import NamedTuple

from twisted.cred.credentials import ICredentials
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from gateway.model import (
    Account,
)


class IDirectory(Interface):
    """A directory of accounts, which verifies passwords.

    A directory that logs its outages, once at the beginning and once at the end, fails
    with ``DirectoryDown(..., logged=True)``: then nothing else logs the outage.
    """

    def find(login: str) -> Deferred[Account | None]:
        """The account of a canonical login name, or None.

        Fails with ``DirectoryDown`` or ``DirectoryMisconfigured``.
        """

    def recipient(address: str) -> Deferred[Account | None]:
        """The account of a mail address in lower case, or None.

        Fails as ``find`` does.
        """

    def owner(mailbox: str) -> Deferred[Account | None]:
        """The account that owns the mailbox of this name, or None.

        Fails as ``find`` does.
        """

    def accounts() -> Deferred[list[Account]]:
        """All accounts with a mailbox, as far as known, in any order; fails as ``find`` does."""

    def verify(login: str, password: bytes) -> Deferred[Account]:
        """The account, if the password is right.

        Unknown names take the same time as known ones.  Fails with
        ``BadCredentials``, ``DirectoryDown`` or ``DirectoryMisconfigured``.
        """


class IOwnRetention(Interface):
    """A directory that can find the accounts with their own retention policies."""

    def with_retention() -> Deferred[list[Account]]:
        """These accounts; called at start and periodically; fails as ``find`` does."""


class ICache(Interface):
    """A directory or a store that keeps what it has found, for a while or until it changes."""

    def forget(account: Account | None) -> int:
        """Drop what is kept of an account, or of all; how many entries that were.

        An operator asks for it; on the reactor's thread.  Open sessions go on with what they have.
        """


class IMechanism(Interface):
    """One exchange of a SASL mechanism, server side (RFC 4422, RFC 5034)."""

    def step(response: bytes | None) -> Deferred[Challenge | Proven]:
        """Process the client's response; fires with ``Challenge`` or ``Proven``.

        ``None`` on the first call means that the client sent no initial
        response; ``b""`` that it sent an empty one: they differ.
        Fails with ``MechanismFailed`` or ``BadCredentials``.
        """


class Challenge(NamedTuple):
    """Send these octets and step again with the client's response."""

    octets: bytes


class Proven(NamedTuple):
    """The exchange is over; these credentials go to the portal."""

    credentials: ICredentials

    def __repr__(self) -> str:
        return "Proven(...)"


class INtlmResponse(ICredentials):
    """The response of an NTLM client; a checker asks an ``INtlmAuthority``."""

    username = Attribute("bytes: DOMAIN\\user or user, for the log.")
    user = Attribute("str: the name as the client sent it.")
    domain = Attribute("str: its domain as the client sent it; may be empty.")
    challenge = Attribute("bytes: the challenge, 8 octets.")
    response = Attribute("bytes: the NtChallengeResponse.")
    legacy = Attribute("bool: an NTLMv1 or NTLM2 session response.")
    proof = Attribute("gateway.sasl.ntlmssp.Proof: the content of an NTLMv2 response; else None.")

    def check(session_base_key: bytes) -> None:
        """Check the rest of the message, once the response is verified.

        Raises ``BadCredentials`` for a wrong integrity code, time, channel binding or
        target.
        """


class INtlmAuthority(Interface):
    """Verifies NTLM responses."""

    def prove(claim: INtlmResponse) -> Deferred[tuple[str, bytes]]:
        """The login name and the session base key of an ``INtlmResponse``.

        The key may be empty for a legacy response.  Unknown names cost the
        same work as known ones.  Fails with ``BadCredentials``,
        ``DirectoryDown`` or ``DirectoryMisconfigured``.
        """
