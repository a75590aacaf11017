"""Everything that can be set, with its default; ``etc/pop3gw.toml`` explains each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from string import Formatter
from typing import Any, Literal
from urllib.parse import urlsplit

import attrs
from attrs import Factory, field, frozen

from gateway.directory.entry_map import MAPS, EntryMap
from gateway.directory.ldap_filters import check_filter
from gateway.errors import RetentionMalformed
from gateway.pop3.profile import PROFILES, Profile
from gateway.pop3.texts import LANGUAGES, SETS
from gateway.quota.notice import Origin
from gateway.quota.texts import (
    BUILT_IN,
    Templates,
    check_subject,
    check_template,
    is_known,
    own_templates,
)
from gateway.retention.text import parse
from gateway.units import parse_size

Network = IPv4Network | IPv6Network

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

MECHANISMS = ("GSSAPI", "NTLM", "PLAIN", "LOGIN")
"""All there are, in the order in which CAPA lists them."""

CHECK = "check"
"""The key of a field's metadata under which ``gateway.config`` finds what checks a value."""

SECRET = "secret"
"""The same for a value that no message shows, and that may come from a file of its own."""


def _checked(check: Callable[[Any], object]) -> dict[str, Any]:
    return {"metadata": {CHECK: check}}


def _within(least: float, most: float) -> dict[str, Any]:
    def check(value: float | None) -> None:
        if value is not None and not least <= value <= most:
            raise ValueError(f"expected {least:.10g} to {most:.10g}, found {value:.10g}")

    return _checked(check)


_POSITIVE = _within(0.001, 10**9)
_COUNT = _within(1, 2**31 - 1)


def _shaped(pattern: str, expected: str) -> dict[str, Any]:
    def check(value: str | None) -> None:
        if value is not None and not re.fullmatch(pattern, value):
            raise ValueError(f"expected {expected}, found {value!r}")

    return _checked(check)


def _one_of(known: Iterable[str]) -> dict[str, Any]:
    names = tuple(known)

    def check(value: str | tuple[str, ...] | None) -> None:
        for name in (value,) if isinstance(value, str) else value or ():
            if name not in names:
                raise ValueError(f"expected {' or '.join(map(repr, names))}, found {name!r}")

    return _checked(check)


_TEXT = _shaped(r"(?!\[)[ -;=-~]{0,400}", "printable ASCII without '<' and with no leading '['")
_EXPIRE = _shaped(r"|(NEVER|\d{1,9})( USER)?", "days or NEVER, then maybe USER (RFC 2449 6.7)")
_DELAY = _shaped(r"|\d{1,9}( USER)?", "seconds, then maybe USER (RFC 2449 6.5)")


def _check_endpoint(value: str) -> None:
    port = re.match(r"tcp6?:(?:port=)?(\d+)(?::|$)", value)
    if not re.fullmatch(r"[a-z0-9]+:.+", value) or (port and int(port[1]) > 65535):
        raise ValueError(f"expected a Twisted endpoint such as tcp:110, found {value!r}")


@frozen
class Listener:
    """``[listeners.NAME]``: one place where clients connect."""

    endpoint: str = field(**_checked(_check_endpoint))
    tls: Literal["none", "stls", "implicit"] = "stls"
    tls_minimum: Literal["1.0", "1.1", "1.2", "1.3"] = "1.2"
    ciphers: str = ""
    certificate: str = ""
    key: str = ""


@frozen
class Tls:
    """``[tls]``: the certificate of all listeners that have none of their own."""

    certificate: str = "tls/cert.pem"
    key: str = "tls/key.pem"
    self_made: bool = True


@frozen
class Pop3:
    """``[pop3]``: a profile, and each of its items where it is to differ."""

    profile: Literal["exchange2010", "exchange2007", "rfc1939"] = "exchange2010"
    greeting: str = field(default="", **_TEXT)
    secure_networks: tuple[Network, ...] = LOOPBACK
    command_limit: int | None = None
    sasl_line_limit: int | None = field(default=None, **_within(1024, 2**24))
    preauth_idle_timeout: float | None = field(default=None, **_POSITIVE)
    idle_timeout: float | None = field(default=None, **_POSITIVE)
    idle_notice: bool | None = None
    exclusive: bool | None = None
    exact_sizes: bool | None = None
    refused_in_a_row: int | None = field(default=None, **_COUNT)
    user_pass: bool | None = None
    mechanisms: tuple[str, ...] | None = field(default=None, **_one_of(MECHANISMS))
    expire: str | None = field(default=None, **_EXPIRE)
    login_delay: str | None = field(default=None, **_DELAY)
    implementation: str | None = field(default=None, **_TEXT)
    texts: str | None = field(default=None, **_one_of(SETS))
    language: str | None = field(default=None, **_one_of(LANGUAGES))
    utf8_headers: Literal["send", "refuse"] | None = None


@frozen
class Limits:
    """``[limits]``: how many, and how long."""

    connections: int = field(default=10_000, **_COUNT)
    connections_per_address: int = field(default=1000, **_COUNT)
    sessions_per_user: int = field(default=16, **_COUNT)
    stall_timeout: float = field(default=300.0, **_POSITIVE)
    work_timeout: float = field(default=120.0, **_POSITIVE)
    drain_timeout: float = field(default=10.0, **_POSITIVE)


@frozen
class Directory:
    """``[directory]``: who may log in."""

    kind: Literal["passwd-file", "ldap"] = "passwd-file"
    file: str = "accounts"
    hosts: tuple[str, ...] = ()
    delegates: bool = False
    cache_ttl: float = field(default=60.0, **_within(0, 86_400))
    cache_size: int = field(default=10_000, **_COUNT)
    stale_ttl: float = field(default=0.0, **_within(0, 7 * 86_400))
    workers: int = field(default=2, **_within(1, 64))
    queue: int = field(default=500, **_COUNT)

    @property
    def here(self) -> frozenset[str]:
        """``hosts`` as they are compared; empty: every mailbox is here."""
        return frozenset(name.lower() for name in self.hosts)


@frozen
class Throttle:
    """``[throttle]``: how guesses at passwords are slowed down."""

    free: int = field(default=3, **_within(0, 1000))
    network_free: int = field(default=20, **_within(0, 100_000))
    delay: float = field(default=1.0, **_within(0, 60))
    longest: float = field(default=15.0, **_within(0, 60))
    refuse_after: int | None = field(default=None, **_within(0, 1000))
    wrong_ttl: float = field(default=60.0, **_within(0, 86_400))
    window: float = field(default=1800.0, **_POSITIVE)
    trust: float = field(default=30 * 86_400.0, **_within(0, 10**9))
    ipv4_prefix: int = field(default=32, **_within(1, 32))
    ipv6_prefix: int = field(default=64, **_within(1, 128))
    entries: int = field(default=20_000, **_COUNT)


def _check_uris(value: tuple[str, ...]) -> None:
    for uri in value:
        if not _is_server(uri):
            raise ValueError(f"expected ldap://HOST:PORT or ldaps://HOST:PORT, found {uri!r}")


def _is_server(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return False
    rest = (parts.username, parts.password, parts.path.strip("/"), parts.query, parts.fragment)
    host = re.fullmatch(r"[^\s\\]+", parts.hostname or "")
    return parts.scheme in ("ldap", "ldaps") and bool(host) and port != 0 and not any(rest)


def _filter(*places: str) -> dict[str, Any]:
    def check(value: str) -> None:
        try:
            if value:
                check_filter(value, places)
        except ValueError as error:
            wanted = " or ".join(f"{{{place}}}" for place in places)
            raise ValueError(
                f"expected a filter in parentheses with {wanted} in it, found {value!r} ({error})"
            ) from None

    return _checked(check)


@frozen
class Ldap:
    """``[ldap]``: the servers of ``directory.kind = "ldap"``, and where accounts are in them."""

    uris: tuple[str, ...] = field(default=(), **_checked(_check_uris))
    start_tls: bool = False
    ca_file: str = ""
    timeout: int = field(default=5, **_within(1, 60))
    retry_after: float = field(default=10.0, **_within(0, 3600))
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False, metadata={SECRET: True})
    base: str = ""
    scope: Literal["subtree", "one"] = "subtree"
    filter: str = field(default="", **_filter("login", "user"))
    recipient_filter: str = field(default="", **_filter("login"))
    bind_as: str = field(default="", **_shaped(r"|.*\{login\}.*", "a name with {login} in it"))
    domains: tuple[str, ...] = ()
    map: str = field(default="openldap", **_one_of(MAPS))
    mailbox: str = ""
    home: str = ""
    addresses: str = ""
    host: str = ""
    enabled: str = ""
    login: str = ""
    receives: str = ""
    nt_hash: str = ""
    groups: str = ""
    delegates: str = ""
    quota: str = ""
    quota_warn: str = ""
    quota_messages: str = ""
    retention: str = ""
    language: str = ""

    @property
    def entries(self) -> EntryMap:
        """The named map with every attribute that is set besides."""
        own: dict[str, Any] = {
            item.name: (name,) if item.name in ("mailbox", "addresses") else name
            for item in attrs.fields(EntryMap)
            if item.name != "filter" and (name := getattr(self, item.name, ""))
        }
        return attrs.evolve(MAPS[self.map], **own)


@frozen
class Ntlm:
    """``[ntlm]``: AUTH NTLM."""

    provider: Literal["off", "hashes", "winbind"] = "off"
    computer: str = ""
    domain: str = "WORKGROUP"
    dns_computer: str = ""
    dns_domain: str = ""
    mic: Literal["require", "allow"] = "require"
    channel_binding: Literal["off", "allow", "require"] = "allow"
    targets: tuple[str, ...] = ()
    max_skew: float = field(default=36 * 3600.0, **_POSITIVE)
    legacy_networks: tuple[Network, ...] = ()
    helper: tuple[str, ...] = ("ntlm_auth",)
    helpers: int = field(default=4, **_within(1, 64))
    timeout: float = field(default=10.0, **_POSITIVE)


@frozen
class Gssapi:
    """``[gssapi]``: AUTH GSSAPI, that is Kerberos."""

    keytab: str = ""
    services: tuple[str, ...] = ("pop", "POP", "pop3", "POP3")
    realms: tuple[str, ...] = ()
    login: Literal["principal", "user"] = "principal"


def _check_path(value: str) -> None:
    try:
        parts = [part for part in Formatter().parse(value) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"expected a path with {{fields}}, found {value!r} ({error})") from None
    fields = {name for _, name, _, _ in parts}
    plain = not any(form or conversion for _, _, form, conversion in parts)
    if not fields or fields - {"name", "local", "domain", "home"} or not plain:
        raise ValueError(
            f"expected a path with at least one of {{name}} {{local}} {{domain}} {{home}}"
            f" as they stand here and no other field, found {value!r}"
        )


@frozen
class Store:
    """``[store]``: where mail is and how it is read."""

    kind: Literal["maildir"] = "maildir"
    path: str = field(default="mail/{domain}/{local}", **_checked(_check_path))
    missing: Literal["create", "refuse"] = "create"
    mark_read: bool = True
    bare_cr: Literal["keep", "convert"] = "keep"
    outlook_no_nuls: bool = False
    verify_octets: int = field(default=16 * 1024 * 1024, **_within(0, 2**50))
    cached_messages: int = field(default=2_000_000, **_within(0, 2**40))
    lock_timeout: float = field(default=20.0, **_POSITIVE)
    workers: int = field(default=4, **_within(1, 64))
    queue: int = field(default=1000, **_COUNT)

    @property
    def in_homes(self) -> bool:
        """Whether only the directory knows where mailboxes are."""
        return "{home}" in self.path


def _check_size(value: str) -> None:
    if value:
        parse_size(value)


def _check_sender(value: str) -> None:
    if value:
        Origin(value)


_SIZE = _checked(_check_size)
_ADDRESS = _shaped(r"|[^\s@<>]+@[^\s@<>]+", "a mail address")
_ENDPOINT = _shaped(r"|[a-z0-9]+:.+", "a Twisted endpoint such as tcp:24 or unix:/run/lmtp")


@frozen
class Lmtp:
    """``[lmtp]``: mail that comes in."""

    endpoint: str = field(default="", **_ENDPOINT)
    tls: Literal["none", "stls"] = "none"
    allowed_networks: tuple[Network, ...] = LOOPBACK
    name: str = field(default="", **_shaped(r"[!-~]{0,255}", "a host name"))
    max_size: str = field(default="50 MB", **_SIZE)
    max_recipients: int = field(default=1000, **_within(100, 100_000))
    connections: int = field(default=100, **_COUNT)
    over_quota: Literal["defer", "bounce"] = "defer"
    elsewhere: Literal["defer", "bounce"] = "defer"
    detail: str = field(default="+", **_shaped(r".?", "one character, or none"))
    idle_timeout: float = field(default=300.0, **_POSITIVE)
    workers: int = field(default=16, **_within(1, 64))


@frozen
class DomainQuota:
    """``[quota.domains."NAME"]``: what mailboxes of a domain may hold."""

    octets: str = field(default="", **_SIZE)
    warn_octets: str = field(default="", **_SIZE)
    messages: int | None = field(default=None, **_within(0, 2**50))


@frozen
class Text:
    """``[quota.texts.LANGUAGE.KIND]``: a warning in words of your own; empty: as built in."""

    subject: str = field(default="", **_checked(check_subject))
    text: str = field(default="", **_checked(check_template))
    html: str = field(default="", **_checked(check_template))


@frozen
class Texts:
    """``[quota.texts.LANGUAGE]``: of mailboxes that are nearly full, and that are full."""

    warn: Text = Factory(Text)
    over: Text = Factory(Text)


def _own_templates(value: dict[str, Texts]) -> Templates:
    return own_templates({language: attrs.asdict(texts) for language, texts in value.items()})


@frozen
class Quota:
    """``[quota]``: what mailboxes may hold whose directory does not say so."""

    octets: str = field(default="", **_SIZE)
    warn_octets: str = field(default="", **_SIZE)
    messages: int | None = field(default=None, **_within(0, 2**50))
    warn_percent: int | None = field(default=None, **_within(1, 100))
    grace: str = field(default="0", **_SIZE)
    warn_from: str = field(default="", **_checked(_check_sender))
    warn_again: float = field(default=7 * 86_400.0, **_POSITIVE)
    warn_check: float = field(default=3600.0, **_POSITIVE)
    digest_to: str = field(default="", **_ADDRESS)
    digest_every: float = field(default=86_400.0, **_POSITIVE)
    warn_language: str = "en"
    texts: dict[str, Texts] = field(factory=dict, **_checked(_own_templates))
    domains: dict[str, DomainQuota] = Factory(dict)

    @property
    def templates(self) -> Templates:
        """``texts``, with what they leave out."""
        return _own_templates(self.texts)

    @property
    def language_fault(self) -> str:
        """What is wrong with ``warn_language``; empty: nothing is."""
        if is_known(self.warn_language, self.templates):
            return ""
        built_in = ", ".join(map(repr, BUILT_IN))
        return f"expected {built_in} or a language of quota.texts, found {self.warn_language!r}"


def _check_policy(value: str) -> None:
    try:
        if value:
            parse(value)
    except RetentionMalformed as error:
        raise ValueError(f"expected a policy as 'unread 60d, read 7d': {error}") from None


_RETENTION = _checked(_check_policy)


@frozen
class DomainRetention:
    """``[retention.domains."NAME"]``: how long mail stays in mailboxes of a domain."""

    policy: str = field(default="", **_RETENTION)


@frozen
class Retention:
    """``[retention]``: how long mail stays in mailboxes whose directory does not say so."""

    enabled: bool = False
    policy: str = field(default="", **_RETENTION)
    check_every: float = field(default=3600.0, **_POSITIVE)
    batch: int = field(default=50, **_within(1, 10_000))
    rate: float = field(default=50.0, **_POSITIVE)
    busy: int = field(default=8, **_within(0, 2**31 - 1))
    backlog_share: float = field(default=0.5, **_within(0, 1))
    backlog_least: int = field(default=100, **_within(0, 2**31 - 1))
    hidden_counts: bool = False
    domains: dict[str, DomainRetention] = Factory(dict)


@frozen
class Policy:
    """``[policy]``: Postfix's ``check_policy_service``."""

    endpoint: str = field(default="", **_ENDPOINT)
    allowed_networks: tuple[Network, ...] = LOOPBACK
    connections: int = field(default=1000, **_COUNT)
    over_quota: Literal["defer", "bounce"] = "bounce"
    unknown: Literal["dunno", "reject"] = "dunno"


@frozen
class Http:
    """``[http]``: the quota as JSON."""

    endpoint: str = field(default="", **_ENDPOINT)
    token: str = field(default="", repr=False, metadata={SECRET: True})


def _check_some_size(value: str) -> None:
    parse_size(value)


@frozen
class Audit:
    """``[audit]``: the file that has a line for every message that is removed."""

    path: str = "audit.log"
    max_size: str = field(default="100 MB", **_checked(_check_some_size))
    keep: int = field(default=10, **_within(1, 10_000))


@frozen
class Log:
    """``[log]``: what is logged besides what is wrong."""

    sessions: bool = True
    counts: float = field(default=3600.0, **_within(0, 10**9))


@frozen
class Settings:
    """Everything that can be set."""

    state: str = "./var"
    demo: bool = False
    listeners: dict[str, Listener] = Factory(dict)
    tls: Tls = Factory(Tls)
    pop3: Pop3 = Factory(Pop3)
    limits: Limits = Factory(Limits)
    directory: Directory = Factory(Directory)
    ldap: Ldap = Factory(Ldap)
    ntlm: Ntlm = Factory(Ntlm)
    gssapi: Gssapi = Factory(Gssapi)
    throttle: Throttle = Factory(Throttle)
    store: Store = Factory(Store)
    lmtp: Lmtp = Factory(Lmtp)
    quota: Quota = Factory(Quota)
    retention: Retention = Factory(Retention)
    policy: Policy = Factory(Policy)
    http: Http = Factory(Http)
    audit: Audit = Factory(Audit)
    log: Log = Factory(Log)

    def path_of(self, path: str) -> str:
        """An absolute path as it is, any other below ``state``."""
        return os.path.join(self.state, path)

    @property
    def profile(self) -> Profile:
        """The named profile with everything that is set besides."""
        overrides = {
            item.name: value
            for item in attrs.fields(Profile)
            if (value := getattr(self.pop3, item.name, None)) is not None
        }
        configured = {
            "GSSAPI": bool(self.gssapi.keytab),
            "NTLM": self.ntlm.provider != "off",
        }
        usable = tuple(name for name in MECHANISMS if configured.get(name, True))
        return attrs.evolve(PROFILES[self.pop3.profile], **({"mechanisms": usable} | overrides))

    @property
    def refuse_after(self) -> int:
        """``throttle.refuse_after``, or what Active Directory's usual lock-out makes wise."""
        if self.throttle.refuse_after is not None:
            return self.throttle.refuse_after
        locks = self.directory.kind == "ldap" and self.ldap.map == "activedirectory"
        return 4 if locks or self.ntlm.provider == "winbind" else 0

    def certificate_of(self, listener: str) -> tuple[str, str]:
        """The paths of a listener's certificate and key."""
        own = self.listeners[listener]
        return (
            self.path_of(own.certificate or self.tls.certificate),
            self.path_of(own.key or self.tls.key),
        )
