"""NTLM: the row of the mechanism, the checker, and the authority that uses NT hashes."""

from __future__ import annotations

import os
import shutil
import socket
import time
from typing import Literal

from attrs import field, frozen
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.auth.winbind import Winbind
from gateway.config import checks as check
from gateway.errors import BadCredentials, ConfigError, UnknownLogin, WrongPassword
from gateway.events import Emit, NTLMv1Accepted
from gateway.interfaces import IDirectory, INtlmAuthority, INtlmResponse
from gateway.kinds import MechanismKind, MechanismParts, Offer
from gateway.model import Account, Peer
from gateway.networks import Network, within
from gateway.observe.log import emit_to_log
from gateway.sasl.ntlm import Ntlm, NtlmOptions
from gateway.sasl.ntlm_proof import prove_v1, prove_v2
from gateway.saslprep import login_name, shown_name

__all__ = ["HashAuthority", "NtlmChecker"]


@implementer(ICredentialsChecker)
class NtlmChecker:
    """Asks an authority; the avatar id is the login name, in UTF-8."""

    credentialInterfaces = (INtlmResponse,)

    def __init__(self, authority: INtlmAuthority, emit: Emit = emit_to_log) -> None:
        self._authority = authority
        self._emit = emit

    def requestAvatarId(self, credentials: INtlmResponse) -> Deferred[bytes | tuple[()]]:
        """The login name; fails with ``BadCredentials`` or a directory's errors."""

        def proven(answer: tuple[str, bytes]) -> bytes | tuple[()]:
            login, key = answer
            credentials.check(key)
            if credentials.legacy:
                self._emit(NTLMv1Accepted(shown_name(credentials.username)))
            return login.encode()

        return self._authority.prove(credentials).addCallback(proven)


@implementer(INtlmAuthority)
class HashAuthority:
    """Verifies responses with the NT hashes of a directory ([MS-NLMP] section 3.3)."""

    def __init__(self, directory: IDirectory, domains: tuple[str, str] = ("", "")) -> None:
        """``domains``: the NetBIOS name of this server's domain, and its DNS name."""
        self._directory = directory
        self._domains = domains

    def prove(self, claim: INtlmResponse) -> Deferred[tuple[str, bytes]]:
        """The name of the account with the NT hash of the response."""
        names = logins(claim.user, claim.domain, self._domains)

        def compare(found: list[Account | None]) -> tuple[str, bytes]:
            known = [(login, one) for login, one in zip(names, found, strict=True) if one]
            login, account = known[0] if known else ("", None)
            if account is not None and (account.name, account) in known:
                # Of several names of the account, the one that its other logins have.
                login = account.name
            return login, _compare(claim, account)

        def unwrapped(failure: Failure) -> Failure:
            return failure.value.subFailure  # type: ignore[union-attr,no-any-return]

        answers = gatherResults([self._directory.find(name) for name in names], consumeErrors=True)
        return answers.addCallbacks(compare, unwrapped)


def logins(user: str, domain: str, ours: tuple[str, str] = ("", "")) -> list[str]:
    """The login names that a client's user and domain may stand for.

    The authority looks up all of them, so that unknown users take as long.
    ``ours``: NetBIOS and DNS name of our domain; a client that sends the former,
    or no domain, is a user of the latter.
    """
    windows, dns = ours
    is_ours = dns and "@" not in user and domain.lower() in ("", windows.lower())
    spelt = [user] if "@" in user or not domain else [rf"{domain}\{user}", f"{user}@{domain}", user]
    spelt += [f"{user}@{dns}"] if is_ours else []
    names = []
    for name in spelt:
        try:
            names.append(login_name(name.encode("utf-8")))
        except ValueError:
            continue
    return names


def _compare(claim: INtlmResponse, account: Account | None) -> bytes:
    """The session base key; raises ``BadCredentials``.

    An account without a hash has no password that NTLM could guess, so clients that
    try NTLM for every user are not throttled; nor are unknown accounts.  Both cost
    the same time, which does not reveal whether an account exists.
    """
    # An unknown account, or one without a hash, costs the same work.
    nt_hash = (account.nt_hash if account else b"") or os.urandom(16)
    key: bytes | None = b""
    if claim.proof is not None:
        key = prove_v2(nt_hash, claim.user, claim.domain, claim.challenge, claim.proof)
    elif not prove_v1(nt_hash, claim.challenge, claim.response):
        key = None
    name = claim.username.decode("utf-8", "backslashreplace")
    if account is None:
        raise UnknownLogin(f"{name} is not in the directory", guessed=False)
    if not account.nt_hash:
        raise BadCredentials(f"{name} has no NT hash", account=account.name, guessed=False)
    if key is None:
        raise WrongPassword(f"wrong NTLM response for {name}", account=account.name)
    return key


@frozen
class NtlmSettings:
    """``[ntlm]``: AUTH NTLM."""

    provider: Literal["off", "hashes", "winbind"] = "off"
    computer: str = ""
    domain: str = field(default="WORKGROUP", **check.NAME)
    dns_computer: str = field(default="", **check.NAME)
    dns_domain: str = field(default="", **check.NAME)
    mic: Literal["require", "allow"] = "require"
    channel_binding: Literal["off", "allow", "require"] = "allow"
    targets: tuple[str, ...] = ()
    max_skew: float = field(default=36 * 3600.0, **check.POSITIVE)
    legacy_networks: tuple[Network, ...] = ()
    helper: tuple[str, ...] = ("ntlm_auth",)
    helpers: int = field(default=4, **check.within(1, 64))
    timeout: float = field(default=10.0, **check.POSITIVE)


def _make(ntlm: NtlmSettings, parts: MechanismParts) -> Offer:
    options = NtlmOptions(
        computer=ntlm.computer or _computer(ntlm.provider),
        domain=ntlm.domain,
        dns_computer=ntlm.dns_computer,
        dns_domain=ntlm.dns_domain,
        joined=ntlm.provider == "winbind",
        require_mic=ntlm.mic == "require",
        bindings=ntlm.channel_binding,
        targets=frozenset(name.lower() for name in ntlm.targets),
        max_skew=ntlm.max_skew,
    )
    is_legacy = within(ntlm.legacy_networks)

    def make(peer: Peer) -> Ntlm:
        legacy = is_legacy(peer.host)
        return Ntlm(options, peer, now=time.time, random=os.urandom, legacy=legacy)

    domains = (ntlm.domain, ntlm.dns_domain)
    if ntlm.provider != "winbind":
        return Offer(make, NtlmChecker(HashAuthority(parts.directory, domains), parts.emit))
    if not (ntlm.helper and shutil.which(ntlm.helper[0])):
        program = " ".join(ntlm.helper[:1]) or "is named"
        raise ConfigError([f"ntlm.helper: no program {program}: install winbind"])
    winbind = Winbind(
        parts.reactor,
        ntlm.helper,
        helpers=ntlm.helpers,
        timeout=ntlm.timeout,
        domains=domains,
        emit=parts.emit,
    )
    return Offer(make, NtlmChecker(winbind, parts.emit), winbind.stop, winbind.bare)


def _computer(provider: str) -> str:
    """The computer name of the NTLM challenge, which anyone may read before login.

    A domain controller requires the name of the domain member (CVE-2015-0005);
    otherwise the name of the machine stays private.
    """
    return socket.gethostname().partition(".")[0].upper()[:15] if provider == "winbind" else "MAIL"


NTLM = MechanismKind(
    name="NTLM",
    settings=NtlmSettings,
    make=_make,
    is_set_up=lambda ntlm: ntlm.provider != "off",
    binds_to_tls=lambda ntlm: ntlm.channel_binding != "off",
    locks=lambda ntlm: ntlm.provider == "winbind",
)
