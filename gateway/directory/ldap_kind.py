"""The row of ``directory.kind = "ldap"``: its section [ldap], and the directory."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import attrs
from attrs import field, frozen

from gateway.config import checks as check
from gateway.directory.entry_map import MAPS, EntryMap
from gateway.directory.ldap_filters import check_filter
from gateway.endpoints import shown
from gateway.errors import ConfigError
from gateway.kinds import DirectoryKind, DirectoryParts, Fault, Whole

if TYPE_CHECKING:
    from gateway.directory.ldap import LdapDirectory

ATTRIBUTE = check.shaped(
    r"|([A-Za-z][A-Za-z0-9-]*|[0-9]+(\.[0-9]+)+)(;[A-Za-z0-9-]+)*", "the name of an LDAP attribute"
)
BASE = check.shaped(r"|[^=]+=(?s:.+)", "a DN such as ou=people,dc=example,dc=org")


def _check_uris(value: tuple[str, ...]) -> None:
    for uri in value:
        if not _is_server(uri):
            raise ValueError(f"expected ldap://HOST:PORT or ldaps://HOST:PORT, found {shown(uri)}")


def _is_server(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return False
    rest = (parts.username, parts.password, parts.path.strip("/"), parts.query, parts.fragment)
    host = re.fullmatch(r"[^\s\\]+", parts.hostname or "")
    return parts.scheme in ("ldap", "ldaps") and bool(host) and port != 0 and not any(rest)


URIS = check.checked(_check_uris)


def filter_with(*places: str) -> dict[str, Any]:
    """A check: an LDAP filter with one of these variables, or empty."""

    def look(value: str) -> None:
        try:
            check_filter(value, places)
        except ValueError as error:
            wanted = " or ".join(f"{{{place}}}" for place in places)
            raise ValueError(
                f"expected a filter in parentheses with {wanted} in it, found {shown(value)}"
                f" ({str(error)[:200]})"
            ) from None

    return check.optional(look)


@frozen
class LdapSettings:
    """``[ldap]``: servers, search and attributes of ``directory.kind = "ldap"``."""

    uris: tuple[str, ...] = field(default=(), **URIS)
    start_tls: bool = False
    ca_file: str = ""
    timeout: int = field(default=5, **check.within(1, 60))
    retry_after: float = field(default=10.0, **check.within(0, 3600))
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False, metadata={check.SECRET: True})
    bind_password_file: str = ""
    base: str = field(default="", **BASE)
    scope: Literal["subtree", "one"] = "subtree"
    filter: str = field(default="", **filter_with("login", "user"))
    recipient_filter: str = field(default="", **filter_with("login"))
    bind_as: str = field(default="", **check.shaped(r"|.*\{login\}.*", "a name with {login} in it"))
    domains: tuple[str, ...] = ()
    map: str = field(default="openldap", **check.one_of(MAPS))
    mailbox: str = field(default="", **ATTRIBUTE)
    home: str = field(default="", **ATTRIBUTE)
    addresses: str = field(default="", **ATTRIBUTE)
    host: str = field(default="", **ATTRIBUTE)
    enabled: str = field(default="", **ATTRIBUTE)
    login: str = field(default="", **ATTRIBUTE)
    receives: str = field(default="", **ATTRIBUTE)
    nt_hash: str = field(default="", **ATTRIBUTE)
    groups: str = field(default="", **ATTRIBUTE)
    delegates: str = field(default="", **ATTRIBUTE)
    quota: str = field(default="", **ATTRIBUTE)
    quota_warn: str = field(default="", **ATTRIBUTE)
    quota_messages: str = field(default="", **ATTRIBUTE)
    retention: str = field(default="", **ATTRIBUTE)
    language: str = field(default="", **ATTRIBUTE)

    @property
    def entries(self) -> EntryMap:
        """The map ``map`` with the attributes that the section sets."""
        own: dict[str, Any] = {
            item.name: (name,) if item.name in ("mailbox", "addresses") else name
            for item in attrs.fields(EntryMap)
            if item.name != "filter" and (name := getattr(self, item.name, ""))
        }
        return attrs.evolve(MAPS[self.map], **own)


def _make(ldap: LdapSettings, parts: DirectoryParts) -> LdapDirectory:
    # Commands that read the settings, as health checks do twice a minute, need no client of LDAP.
    from gateway.directory.ldap import LdapDirectory
    from gateway.directory.ldap_accounts import Search
    from gateway.directory.ldap_servers import Reach

    authorities = parts.whole.path_of(ldap.ca_file) if ldap.ca_file else ""
    if authorities:
        _check_authorities(authorities)
    return LdapDirectory(
        Reach(
            uris=ldap.uris,
            start_tls=ldap.start_tls,
            ca_file=authorities,
            timeout=ldap.timeout,
            retry_after=ldap.retry_after,
        ),
        Search(
            base=ldap.base,
            scope=ldap.scope,
            filter=ldap.filter,
            recipients=ldap.recipient_filter,
            bind_dn=ldap.bind_dn,
            bind_password=ldap.bind_password,
            bind_as=ldap.bind_as,
            domains=ldap.domains,
        ),
        ldap.entries,
        parts.run,
        cache_ttl=parts.cache_ttl,
        stale_ttl=parts.stale_ttl,
        cache_size=parts.cache_size,
        now=parts.seconds,
        list_all=parts.list_all,
        before=parts.before,
        emit=parts.emit,
    )


def _check_authorities(path: str) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # which ssl.SSLError is, too
        raise ConfigError([f"ldap.ca_file: {path}: {error.strerror or error}"]) from None


def _faults(ldap: LdapSettings, whole: Whole) -> Iterator[Fault]:
    for key in ("uris", "base"):
        if not getattr(ldap, key):
            yield f"ldap.{key}", 'expected for directory.kind = "ldap"'
    if whole.value("ntlm.provider") == "winbind" and not ldap.domains:
        # Else alice of another domain, whom the domain controller accepts, would be our alice.
        yield "ldap.domains", 'expected your domains for ntlm.provider = "winbind"'
    if ldap.bind_dn and not ldap.bind_password:
        # A server accepts that as an unauthenticated bind (RFC 4513 section 5.1.2), or rejects it.
        yield "ldap.bind_password", "expected the password of ldap.bind_dn, or bind_password_file"


def _files(ldap: LdapSettings, whole: Whole) -> Mapping[str, str]:
    return {whole.path_of(ldap.ca_file): "ldap.ca_file"} if ldap.ca_file else {}


LDAP = DirectoryKind(
    settings=LdapSettings,
    section="ldap",
    make=_make,
    faults=_faults,
    files=_files,
    locks=lambda ldap: ldap.map == "activedirectory",
)
