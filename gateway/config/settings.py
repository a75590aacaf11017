"""All settings with their defaults; ``etc/pop3gw.toml`` explains each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, TypeVar

import attrs
from attrs import Factory, field, frozen

from gateway.config import checks as check
from gateway.config.listeners import (
    CertificateFiles,
    LimitSettings,
    Listener,
    Pop3,
    ThrottleSettings,
    Tls,
)
from gateway.config.processes import Processes
from gateway.config.quota import Quota
from gateway.config.retention import Audit, Retention
from gateway.config.services import Http, Lmtp, Log, PolicyServiceSettings
from gateway.config.table import MECHANISMS, STORES, find_directory, find_mechanism, find_store
from gateway.kinds import DirectoryKind, MechanismKind, NoSettings, StoreKind
from gateway.pop3.profile import PROFILES, Profile

__all__ = ["DirectorySettings", "StoreSettings"]

S = TypeVar("S")


def check_directory(name: str) -> None:
    """Raise ``ValueError`` if there is no such kind of directory."""
    kind = find_directory(name)
    if kind.section == "directory" and not issubclass(kind.settings, DirectorySettings):
        raise ValueError(f"expected the settings of {name} to inherit {__name__}.DirectorySettings")


def check_store(name: str) -> None:
    """Raise ``ValueError`` if there is no such kind of store."""
    if not issubclass(find_store(name).settings, StoreSettings):
        raise ValueError(f"expected the settings of {name} to inherit {__name__}.StoreSettings")


def store_with(key: str) -> str:
    """The kind of store that knows the setting ``key``, such as ``store.path``; empty: none."""
    section, _, name = key.rpartition(".")
    known = (kind for kind in STORES if name in attrs.fields_dict(find_store(kind).settings))
    return next(known, "") if section == "store" else ""


@frozen
class DirectorySettings:
    """``[directory]``: accounts and the password cache; a directory kind adds its own settings."""

    kind: str = field(default="passwd-file", **check.checked(check_directory))
    file: str = field(default="accounts", **check.PATH)
    hosts: tuple[str, ...] = ()
    delegates: bool = False
    cache_ttl: float = field(default=60.0, **check.within(0, 86_400))
    cache_size: int = field(default=10_000, **check.COUNT)
    stale_ttl: float = field(default=0.0, **check.within(0, 7 * 86_400))
    threads: int = field(default=2, **check.within(1, 64))
    queue: int = field(default=500, **check.COUNT)

    @property
    def here(self) -> frozenset[str]:
        """``hosts`` in lower case; empty: every mailbox is on this server."""
        return frozenset(name.lower() for name in self.hosts)


@frozen
class StoreSettings:
    """``[store]``: settings of every store; a store kind adds its own."""

    kind: str = field(default="maildir", **check.checked(check_store))
    bare_cr: Literal["keep", "convert"] = "keep"
    threads: int = field(default=4, **check.within(1, 64))
    queue: int = field(default=1000, **check.COUNT)


@frozen
class Settings:
    """The whole configuration: one attribute a section."""

    state_dir: str = field(default="./var", **check.PATH)
    demo: bool = False
    processes: Processes = Factory(Processes)
    listeners: dict[str, Listener] = field(factory=dict, **check.LISTENER_NAMES)
    tls: Tls = Factory(Tls)
    pop3: Pop3 = Factory(Pop3)
    limits: LimitSettings = Factory(LimitSettings)
    directory: DirectorySettings = Factory(DirectorySettings)
    throttle: ThrottleSettings = Factory(ThrottleSettings)
    store: StoreSettings = Factory(lambda: find_store("maildir").settings())
    lmtp: Lmtp = Factory(Lmtp)
    quota: Quota = Factory(Quota)
    retention: Retention = Factory(Retention)
    policy: PolicyServiceSettings = Factory(PolicyServiceSettings)
    http: Http = Factory(Http)
    audit: Audit = Factory(Audit)
    log: Log = Factory(Log)

    def path_of(self, path: str) -> str:
        """The path, below ``state_dir`` if it is relative."""
        return os.path.join(self.state_dir, path)

    def value(self, key: str) -> object:
        """The value of a setting, such as ``ntlm.provider``; None if there is none."""
        found: object = self
        for name in key.split("."):
            found = getattr(found, name, None)
        return found

    @property
    def audit_path(self) -> str:
        """The absolute path of the audit log; empty: there is no such file."""
        is_file = self.audit.path and not self.store_kind.keeps_audit
        return self.path_of(self.audit.path) if is_file else ""

    @property
    def secret_files(self) -> dict[str, str]:
        """The files that secrets are read from: path to setting."""
        return {
            self.path_of(path): f"{key}.{name}_file"
            for key, section in sections_of(self, "")
            for name, item in attrs.fields_dict(type(section)).items()
            if check.SECRET in item.metadata and (path := getattr(section, f"{name}_file", ""))
        }

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
        """The rows of all SASL mechanisms that can be offered, by name, in the order of CAPA."""
        listed = [self.pop3.mechanisms, *(one.mechanisms for one in self.listeners.values())]
        return mechanism_kinds(name for names in listed for name in names or ())

    @property
    def login_kinds(self) -> list[DirectoryKind[Any] | MechanismKind[Any]]:
        """The rows that decide logins: the directory kind and the SASL mechanisms."""
        return [self.directory_kind, *self.mechanism_kinds.values()]

    @property
    def profile(self) -> Profile:
        """The profile ``pop3.profile`` with the items that ``[pop3]`` sets."""
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
        """``profile``, with the mechanisms of the listener if it sets any."""
        own = self.listeners[listener].mechanisms
        profile = self.profile
        return profile if own is None else attrs.evolve(profile, mechanisms=_names_of(own))

    @property
    def refuse_after(self) -> int:
        """``throttle.refuse_after``; its default is 4 if a directory locks accounts, else 0."""
        if self.throttle.refuse_after is not None:
            return self.throttle.refuse_after
        return 4 if any(kind.locks(self.of(kind)) for kind in self.login_kinds) else 0

    @property
    def http_certificates(self) -> dict[str, CertificateFiles]:
        """The absolute paths of the certificates of ``[http]``, by the section that names them."""
        own = self.http
        if not (own.certificate or own.key):
            return self.tls_certificates
        certificate, key = own.certificate or self.tls.certificate, own.key or self.tls.key
        return {"http": CertificateFiles(self.path_of(certificate), self.path_of(key))}

    def certificates_of(self, listener: str) -> dict[str, CertificateFiles]:
        """The absolute paths of a listener's certificates, by the section that names them."""
        own, section = self.listeners[listener], f"listeners.{listener}"
        if own.certificates:
            return self._several(section, own.certificates)
        if not (own.certificate or own.key):
            return self.tls_certificates
        certificate, key = own.certificate or self.tls.certificate, own.key or self.tls.key
        return {section: CertificateFiles(self.path_of(certificate), self.path_of(key))}

    @property
    def tls_certificates(self) -> dict[str, CertificateFiles]:
        """The absolute paths of the certificates of ``[tls]``, by section."""
        if self.tls.certificates:
            return self._several("tls", self.tls.certificates)
        certificate, key = self.tls.certificate, self.tls.key
        return {"tls": CertificateFiles(self.path_of(certificate), self.path_of(key))}

    def _several(
        self, section: str, certificates: Iterable[CertificateFiles]
    ) -> dict[str, CertificateFiles]:
        return {
            f"{section}.certificates.{number}": CertificateFiles(
                self.path_of(one.certificate), self.path_of(one.key)
            )
            for number, one in enumerate(certificates, 1)
        }


def sections_of(section: object, key: str) -> Iterator[tuple[str, Any]]:
    """The sections below this one, and those with names, each after its key."""
    for name in attrs.fields_dict(type(section)):  # type: ignore[arg-type]
        value = getattr(section, name)
        inner = value if isinstance(value, dict) else {"": value}
        for part, one in inner.items():
            if attrs.has(type(one)):
                found = ".".join(filter(None, (key, name, part)))
                yield found, one
                yield from sections_of(one, found)


def _names_of(mechanisms: Iterable[str]) -> tuple[str, ...]:
    return tuple(find_mechanism(name).name for name in mechanisms)


def mechanism_kinds(listed: Iterable[str]) -> dict[str, MechanismKind[Any]]:
    """The rows of the table and of the dotted names in ``listed``, by name."""
    rows = (find_mechanism(name) for name in dict.fromkeys((*MECHANISMS, *listed)))
    return {row.name: row for row in rows}


@lru_cache
def settings_class(
    store: StoreKind[Any], kinds: tuple[DirectoryKind[Any] | MechanismKind[Any], ...]
) -> type[Settings]:
    """``Settings`` with the sections of these rows as further attributes."""
    sections = {kind.section: kind.settings for kind in kinds if kind.settings is not NoSettings}
    own: dict[str, Any] = {}
    for item in attrs.fields(attrs.resolve_types(Settings)):
        own[item.name] = field(default=item.default, type=item.type, metadata=item.metadata)
        if item.name == "directory":
            own |= {name: field(factory=kind, type=kind) for name, kind in sections.items()}
    own["store"] = field(factory=store.settings, type=store.settings)
    return attrs.make_class("Settings", own, bases=(Settings,), frozen=True, slots=True)
