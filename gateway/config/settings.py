"""Everything that can be set, with its default; ``etc/pop3gw.toml`` explains each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_network
from typing import Any, Literal, TypeVar

import attrs
from attrs import Factory, field, frozen

from gateway.config import checks as check
from gateway.config.table import MECHANISMS, find_directory, find_mechanism, find_store
from gateway.kinds import DirectoryKind, MechanismKind, NoSettings, StoreKind
from gateway.networks import Network
from gateway.pop3.profile import PROFILES, Profile
from gateway.pop3.texts import LANGUAGES, SETS
from gateway.quota.texts import (
    BUILT_IN,
    Templates,
    check_subject,
    check_template,
    is_known,
    own_templates,
)

__all__ = ["DirectorySettings", "StoreSettings"]

S = TypeVar("S")

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def _check_mechanisms(value: tuple[str, ...] | None) -> None:
    for name in value or ():
        find_mechanism(name)


def check_directory(name: str) -> None:
    """Raise ``ValueError`` if there is no such kind of directory."""
    kind = find_directory(name)
    if kind.section == "directory" and not issubclass(kind.settings, DirectorySettings):
        raise ValueError(f"expected the settings of {name} to inherit {__name__}.DirectorySettings")


def check_store(name: str) -> None:
    """Raise ``ValueError`` if there is no such kind of store."""
    if not issubclass(find_store(name).settings, StoreSettings):
        raise ValueError(f"expected the settings of {name} to inherit {__name__}.StoreSettings")


_MECHANISM_NAMES = check.checked(_check_mechanisms)


@frozen
class Listener:
    """``[listeners.NAME]``: one place where clients connect."""

    endpoint: str = field(**check.ENDPOINT)
    tls: Literal["none", "stls", "implicit"] = "stls"
    tls_minimum: Literal["1.0", "1.1", "1.2", "1.3"] = "1.2"
    ciphers: str = ""
    certificate: str = ""
    key: str = ""
    mechanisms: tuple[str, ...] | None = field(default=None, **_MECHANISM_NAMES)


DEFAULT_LISTENERS = {
    "pop3": {"endpoint": "tcp:1110:interface=127.0.0.1:backlog=1024", "tls": "stls"},
    "pop3s": {"endpoint": "tcp:1995:interface=127.0.0.1:backlog=1024", "tls": "implicit"},
}
"""Where no file and no variable names any."""


@frozen
class Tls:
    """``[tls]``: the certificate of all listeners that have none of their own."""

    certificate: str = field(default="tls/cert.pem", **check.PATH)
    key: str = field(default="tls/key.pem", **check.PATH)
    self_signed: bool = True
    names: tuple[str, ...] = ()
    expiry_warning: float = field(default=14.0, **check.within(0, 10**6))


@frozen
class Pop3:
    """``[pop3]``: a profile, and each of its items where it is to differ."""

    profile: Literal["exchange2010", "exchange2007", "rfc1939"] = "exchange2010"
    greeting: str = field(default="", **check.TEXT)
    secure_networks: tuple[Network, ...] = LOOPBACK
    command_limit: int | None = None
    sasl_line_limit: int | None = field(default=None, **check.within(1024, 2**24))
    preauth_idle_timeout: float | None = field(default=None, **check.POSITIVE)
    idle_timeout: float | None = field(default=None, **check.POSITIVE)
    idle_notice: bool | None = None
    exclusive: bool | None = None
    exact_sizes: bool | None = None
    refused_in_a_row: int | None = field(default=None, **check.COUNT)
    user_pass: bool | None = None
    mechanisms: tuple[str, ...] | None = field(default=None, **_MECHANISM_NAMES)
    expire: str | None = field(default=None, **check.EXPIRE)
    login_delay: str | None = field(default=None, **check.DELAY)
    implementation: str | None = field(default=None, **check.TEXT)
    texts: str | None = field(default=None, **check.one_of(SETS))
    language: str | None = field(default=None, **check.one_of(LANGUAGES))
    utf8_headers: Literal["send", "refuse"] | None = None


@frozen
class LimitSettings:
    """``[limits]``: how many, and how long."""

    connections: int = field(default=10_000, **check.COUNT)
    connections_per_address: int = field(default=1000, **check.COUNT)
    sessions_per_user: int = field(default=16, **check.COUNT)
    stall_timeout: float = field(default=300.0, **check.POSITIVE)
    work_timeout: float = field(default=120.0, **check.POSITIVE)
    drain_timeout: float = field(default=10.0, **check.POSITIVE)


@frozen
class DirectorySettings:
    """``[directory]``: who may log in; ``kind`` decides what else there is."""

    kind: str = field(default="passwd-file", **check.checked(check_directory))
    file: str = field(default="accounts", **check.PATH)
    hosts: tuple[str, ...] = ()
    delegates: bool = False
    cache_ttl: float = field(default=60.0, **check.within(0, 86_400))
    cache_size: int = field(default=10_000, **check.COUNT)
    stale_ttl: float = field(default=0.0, **check.within(0, 7 * 86_400))
    workers: int = field(default=2, **check.within(1, 64))
    queue: int = field(default=500, **check.COUNT)

    @property
    def here(self) -> frozenset[str]:
        """``hosts`` as they are compared; empty: every mailbox is here."""
        return frozenset(name.lower() for name in self.hosts)


@frozen
class Throttle:
    """``[throttle]``: how guesses at passwords are slowed down."""

    free: int = field(default=3, **check.within(0, 1000))
    network_free: int = field(default=20, **check.within(0, 100_000))
    delay: float = field(default=1.0, **check.within(0, 60))
    longest: float = field(default=15.0, **check.within(0, 60))
    refuse_after: int | None = field(default=None, **check.within(0, 1000))
    wrong_ttl: float = field(default=60.0, **check.within(0, 86_400))
    window: float = field(default=1800.0, **check.POSITIVE)
    trust: float = field(default=30 * 86_400.0, **check.within(0, 10**9))
    ipv4_prefix: int = field(default=32, **check.within(1, 32))
    ipv6_prefix: int = field(default=64, **check.within(1, 128))
    entries: int = field(default=20_000, **check.COUNT)


@frozen
class StoreSettings:
    """``[store]``: what every store has; ``kind`` decides what else there is."""

    kind: str = field(default="maildir", **check.checked(check_store))
    bare_cr: Literal["keep", "convert"] = "keep"
    workers: int = field(default=4, **check.within(1, 64))
    queue: int = field(default=1000, **check.COUNT)


@frozen
class Lmtp:
    """``[lmtp]``: mail that comes in."""

    endpoint: str = field(default="", **check.NO_OR_ENDPOINT)
    tls: Literal["none", "stls"] = "none"
    allowed_networks: tuple[Network, ...] = LOOPBACK
    name: str = field(default="", **check.NAME)
    max_size: str = field(default="50 MB", **check.SOME_SIZE)
    max_recipients: int = field(default=1000, **check.within(100, 100_000))
    connections: int = field(default=100, **check.COUNT)
    over_quota: Literal["defer", "bounce"] = "defer"
    elsewhere: Literal["defer", "bounce"] = "defer"
    recipient_delimiter: str = field(default="+", **check.shaped(r".?", "one character, or none"))
    idle_timeout: float = field(default=300.0, **check.POSITIVE)
    workers: int = field(default=16, **check.within(1, 64))


@frozen
class DomainQuota:
    """``[quota.domains."NAME"]``: what mailboxes of a domain may hold."""

    octets: str = field(default="", **check.SIZE)
    warn_octets: str = field(default="", **check.SIZE)
    messages: int | None = field(default=None, **check.within(0, 2**50))


@frozen
class Text:
    """``[quota.texts.LANGUAGE.KIND]``: your own text of a warning; empty: the built-in text."""

    subject: str = field(default="", **check.checked(check_subject))
    text: str = field(default="", **check.checked(check_template))
    html: str = field(default="", **check.checked(check_template))


@frozen
class Texts:
    """``[quota.texts.LANGUAGE]``: of mailboxes that are nearly full, and that are full."""

    warn: Text = Factory(Text)
    over: Text = Factory(Text)


def _own_templates(value: dict[str, Texts]) -> Templates:
    check.languages(value)
    return own_templates({language: attrs.asdict(texts) for language, texts in value.items()})


@frozen
class Quota:
    """``[quota]``: limits of mailboxes without a limit in the directory, and warnings."""

    octets: str = field(default="", **check.SIZE)
    warn_octets: str = field(default="", **check.SIZE)
    messages: int | None = field(default=None, **check.within(0, 2**50))
    warn_percent: int | None = field(default=None, **check.within(1, 100))
    grace: str = field(default="0", **check.SOME_SIZE)
    warn_from: str = field(default="", **check.SENDER)
    warn_again: float = field(default=7 * 86_400.0, **check.POSITIVE)
    warn_check: float = field(default=3600.0, **check.POSITIVE)
    digest_to: str = field(default="", **check.ADDRESS)
    digest_every: float = field(default=86_400.0, **check.POSITIVE)
    warn_language: str = "en"
    texts: dict[str, Texts] = field(factory=dict, **check.checked(_own_templates))
    domains: dict[str, DomainQuota] = field(factory=dict, **check.DOMAINS)

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


@frozen
class DomainRetention:
    """``[retention.domains."NAME"]``: how long mail stays in mailboxes of a domain."""

    policy: str = field(default="", **check.POLICY)


@frozen
class Retention:
    """``[retention]``: policy of mailboxes without one in the directory, and the job's pace."""

    enabled: bool = False
    policy: str = field(default="", **check.POLICY)
    check_every: float = field(default=3600.0, **check.POSITIVE)
    batch: int = field(default=50, **check.within(1, 10_000))
    rate: float = field(default=50.0, **check.POSITIVE)
    pause_above_queue: int = field(default=8, **check.within(0, 2**31 - 1))
    max_removal_share: float = field(default=0.5, **check.within(0, 1))
    max_removal_least: int = field(default=100, **check.within(0, 2**31 - 1))
    hidden_counts: bool = False
    domains: dict[str, DomainRetention] = field(factory=dict, **check.DOMAINS)


@frozen
class PolicyServiceSettings:
    """``[policy]``: Postfix's ``check_policy_service``."""

    endpoint: str = field(default="", **check.NO_OR_ENDPOINT)
    allowed_networks: tuple[Network, ...] = LOOPBACK
    connections: int = field(default=1000, **check.COUNT)
    over_quota: Literal["defer", "bounce"] = "bounce"
    unknown: Literal["dunno", "reject"] = "dunno"


@frozen
class Http:
    """``[http]``: the quota as JSON."""

    endpoint: str = field(default="", **check.NO_OR_ENDPOINT)
    token: str = field(
        default="", repr=False, metadata={check.SECRET: True, **check.TOKEN["metadata"]}
    )
    token_file: str = ""


@frozen
class Audit:
    """``[audit]``: the file that has a line for every message that is removed."""

    path: str = "audit.log"
    max_size: str = field(default="100 MB", **check.SOME_SIZE)
    keep: int = field(default=10, **check.within(1, 10_000))


@frozen
class Log:
    """``[log]``: what is logged besides what is wrong."""

    sessions: bool = True
    counts: float = field(default=3600.0, **check.within(0, 10**9))


@frozen
class Settings:
    """Everything that can be set."""

    state_dir: str = field(default="./var", **check.PATH)
    demo: bool = False
    listeners: dict[str, Listener] = field(factory=dict, **check.LISTENER_NAMES)
    tls: Tls = Factory(Tls)
    pop3: Pop3 = Factory(Pop3)
    limits: LimitSettings = Factory(LimitSettings)
    directory: DirectorySettings = Factory(DirectorySettings)
    throttle: Throttle = Factory(Throttle)
    store: StoreSettings = Factory(lambda: find_store("maildir").settings())
    lmtp: Lmtp = Factory(Lmtp)
    quota: Quota = Factory(Quota)
    retention: Retention = Factory(Retention)
    policy: PolicyServiceSettings = Factory(PolicyServiceSettings)
    http: Http = Factory(Http)
    audit: Audit = Factory(Audit)
    log: Log = Factory(Log)

    def path_of(self, path: str) -> str:
        """An absolute path as it is, any other below ``state``."""
        return os.path.join(self.state_dir, path)

    def value(self, key: str) -> object:
        """The value of a setting, such as ``ntlm.provider``; None if there is none."""
        found: object = self
        for name in key.split("."):
            found = getattr(found, name, None)
        return found

    def of(self, kind: DirectoryKind[S] | MechanismKind[S]) -> S:
        """The settings of a directory kind or a SASL mechanism."""
        found = getattr(self, kind.section, None)
        return found if isinstance(found, kind.settings) else kind.settings()

    @property
    def store_kind(self) -> StoreKind[Any]:
        """The row of ``store.kind``."""
        return find_store(self.store.kind)

    @property
    def directory_kind(self) -> DirectoryKind[Any]:
        """The row of ``directory.kind``."""
        return find_directory(self.directory.kind)

    @property
    def mechanism_kinds(self) -> Mapping[str, MechanismKind[Any]]:
        """By name the rows of all SASL mechanisms that could be offered, in CAPA's order."""
        listed = [self.pop3.mechanisms, *(one.mechanisms for one in self.listeners.values())]
        return mechanism_kinds(name for names in listed for name in names or ())

    @property
    def login_kinds(self) -> list[DirectoryKind[Any] | MechanismKind[Any]]:
        """All that logins may be decided by."""
        return [self.directory_kind, *self.mechanism_kinds.values()]

    @property
    def profile(self) -> Profile:
        """The named profile with everything that is set besides."""
        overrides = {
            item.name: value
            for item in attrs.fields(Profile)
            if (value := getattr(self.pop3, item.name, None)) is not None
        }
        kinds = self.mechanism_kinds
        cleartext = frozenset(name for name, kind in kinds.items() if kind.cleartext)
        usable = tuple(name for name, kind in kinds.items() if kind.is_set_up(self.of(kind)))
        if self.pop3.mechanisms is not None:
            usable = _names_of(self.pop3.mechanisms)
        more = {"mechanisms": usable, "cleartext": cleartext}
        return attrs.evolve(PROFILES[self.pop3.profile], **(overrides | more))

    def profile_of(self, listener: str) -> Profile:
        """The same with the mechanisms of one listener, where it has its own."""
        own = self.listeners[listener].mechanisms
        profile = self.profile
        return profile if own is None else attrs.evolve(profile, mechanisms=_names_of(own))

    @property
    def refuse_after(self) -> int:
        """``throttle.refuse_after``, or what Active Directory's usual lock-out makes wise."""
        if self.throttle.refuse_after is not None:
            return self.throttle.refuse_after
        return 4 if any(kind.locks(self.of(kind)) for kind in self.login_kinds) else 0

    def certificate_of(self, listener: str) -> tuple[str, str]:
        """The paths of a listener's certificate and key."""
        own = self.listeners[listener]
        return (
            self.path_of(own.certificate or self.tls.certificate),
            self.path_of(own.key or self.tls.key),
        )


def _names_of(mechanisms: Iterable[str]) -> tuple[str, ...]:
    return tuple(find_mechanism(name).name for name in mechanisms)


def mechanism_kinds(listed: Iterable[str]) -> dict[str, MechanismKind[Any]]:
    """By name the rows of the table, and those of dotted names that are listed."""
    rows = (find_mechanism(name) for name in dict.fromkeys((*MECHANISMS, *listed)))
    return {row.name: row for row in rows}


@lru_cache
def settings_class(
    store: StoreKind[Any], kinds: tuple[DirectoryKind[Any] | MechanismKind[Any], ...]
) -> type[Settings]:
    """``Settings`` with the sections of these rows."""
    sections = {kind.section: kind.settings for kind in kinds if kind.settings is not NoSettings}
    own: dict[str, Any] = {}
    for item in attrs.fields(attrs.resolve_types(Settings)):
        own[item.name] = field(default=item.default, type=item.type, metadata=item.metadata)
        if item.name == "directory":
            own |= {name: field(factory=kind, type=kind) for name, kind in sections.items()}
    own["store"] = field(factory=store.settings, type=store.settings)
    return attrs.make_class("Settings", own, bases=(Settings,), frozen=True, slots=True)
