"""GSSAPI (Kerberos): the row of the mechanism, and the checker of principals."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from attrs import frozen
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from gateway.auth.delegates import Delegates
from gateway.errors import BadCredentials, ConfigError
from gateway.kinds import Fault, MechanismKind, MechanismParts, Offer, Whole
from gateway.sasl.credentials import IGssName
from gateway.sasl.gssapi import GssAcceptor, Gssapi, check

__all__ = ["PrincipalChecker"]


@implementer(ICredentialsChecker)
class PrincipalChecker:
    """Maps the principal of a verified ticket to a login name."""

    credentialInterfaces = (IGssName,)

    def __init__(
        self, delegates: Delegates, realms: Collection[str], *, with_realm: bool = True
    ) -> None:
        """``realms``: the realms of our users; ``with_realm``: login names are user@realm."""
        self._delegates = delegates
        self._realms = realms
        self._with_realm = with_realm

    def requestAvatarId(self, credentials: IGssName) -> Deferred[bytes | tuple[()]]:
        """The login name; fails with ``BadCredentials`` or a directory's errors."""
        principal = credentials.principal
        user, _, realm = principal.rpartition("@")
        # With cross-realm trust a ticket may name alice of another realm, who is
        # another user; alice/admin and escaped names are no users.
        if realm not in self._realms or not user or not {"/", "\\", "@"}.isdisjoint(user):
            return fail(BadCredentials(f"{principal} is no user of {', '.join(self._realms)}"))
        name = principal if self._with_realm else user
        acts_as = credentials.acts_as
        if acts_as.decode("utf-8") in (principal, user):
            acts_as = b""
        try:
            login, wanted = self._delegates.parties(name.encode("utf-8"), acts_as)
        except BadCredentials as error:
            return fail(error)
        if login != name.lower():
            # To a KDC a full-width alice is another principal.  Only case may
            # differ: Active Directory keeps names as users type them.
            return fail(BadCredentials(f"{principal} is not how {login} is written"))
        return self._delegates.admit(login, wanted)


@frozen
class GssapiSettings:
    """``[gssapi]``: AUTH GSSAPI (Kerberos)."""

    keytab: str = ""
    services: tuple[str, ...] = ("pop", "POP", "pop3", "POP3")
    realms: tuple[str, ...] = ()
    login: Literal["principal", "user"] = "principal"


def acceptor(gssapi: GssapiSettings, whole: Whole) -> GssAcceptor:
    """Which Kerberos tickets the server accepts."""
    return GssAcceptor(
        keytab=whole.path_of(gssapi.keytab),
        services=gssapi.services,
        replays=whole.path_of("krb5.rcache2"),
    )


def _make(gssapi: GssapiSettings, parts: MechanismParts) -> Offer:
    accepts = acceptor(gssapi, parts.whole)
    if problems := check(accepts):
        raise ConfigError([f"gssapi: {problem}" for problem in problems])
    delegates = Delegates(parts.directory, allowed=parts.delegates)
    with_realm = gssapi.login == "principal"
    checker = PrincipalChecker(delegates, gssapi.realms, with_realm=with_realm)
    return Offer(lambda _: Gssapi(accepts, parts.run), checker)


def _faults(gssapi: GssapiSettings, _: Whole) -> Iterator[Fault]:
    if gssapi.keytab and not gssapi.realms:
        yield "gssapi.realms", "expected the realms of your users"


def _files(gssapi: GssapiSettings, whole: Whole) -> Mapping[str, str]:
    return {whole.path_of(gssapi.keytab): "gssapi.keytab"} if gssapi.keytab else {}


GSSAPI = MechanismKind(
    name="GSSAPI",
    settings=GssapiSettings,
    make=_make,
    faults=_faults,
    files=_files,
    is_set_up=lambda gssapi: bool(gssapi.keytab),
)
