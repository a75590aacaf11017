"""TOML and environment to frozen settings; whatever is wrong is said with its place."""

from __future__ import annotations

import operator
import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from ipaddress import ip_network
from typing import Any, Literal, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, override

from gateway.errors import ConfigError
from gateway.settings import (
    CHECK,
    SECRET,
    Audit,
    Directory,
    DomainQuota,
    DomainRetention,
    Gssapi,
    Http,
    Ldap,
    Limits,
    Listener,
    Lmtp,
    Log,
    Network,
    Ntlm,
    Policy,
    Pop3,
    Quota,
    Retention,
    Settings,
    Store,
    Text,
    Texts,
    Throttle,
    Tls,
)

ENVIRONMENT = "POP3GW_"
NOT_SETTINGS = frozenset({"POP3GW_CONFIG"})

_INJECTED = re.compile(
    r"POP3GW_([A-Z0-9_]+_)?("
    r"SERVICE_HOST=.*|SERVICE_PORT(_[A-Z0-9_]+)?=.*"
    r"|PORT(_\d+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*"
    r"|PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*"
    r"|NAME=/.*|ENV_.*)",
    re.S,
)
"""What Kubernetes, and Docker with ``--link``, tell everybody about services whose names begin
with pop3gw."""


def load(path: str | None, environ: Mapping[str, str]) -> Settings:
    """The settings of a file (or of none) and the environment, which wins.

    Raises ``ConfigError`` with one line for each fault there is.
    """
    path = path or environ.get("POP3GW_CONFIG")
    text = _text_of(path) if path else ""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from None
    origins: dict[str, str] = {}
    problems = _apply_environment(table, environ, origins)
    place = _Places(path, text, origins)
    try:
        settings = _CONVERTER.structure(table, Settings)
    except Exception as error:
        raise ConfigError(problems + _faults(error, "", Settings, place)) from None
    problems += [place(key) + fault for key, fault in _contradictions(settings)]
    if problems:
        raise ConfigError(problems)
    return attrs.evolve(settings, state=os.path.abspath(settings.state))


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError([f"{path}: cannot be read: {reason}"]) from None


class _Places:
    """Where a key was set, for the beginning of a fault's line."""

    def __init__(self, path: str | None, text: str, origins: Mapping[str, str]) -> None:
        self._path = path
        self._lines = text.split("\n")
        self._origins = origins

    def __call__(self, key: str) -> str:
        if key in self._origins:
            return f"{self._origins[key]}: {key}: "
        if self._path is None:
            return f"{key}: "
        number = self._line(key)
        return f"{self._path}:{number}: {key}: " if number else f"{self._path}: {key}: "

    def _line(self, key: str) -> int:
        """A line that sets the key or opens its table; 0 when there is none so plain."""
        table = ""
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[([^\]]+)\]", line):
                table = header[1].strip().replace('"', "")
                name = table
            elif item := re.match(r"\s*([A-Za-z0-9_.-]+)\s*=", line):
                name = f"{table}.{item[1]}" if table else item[1]
            else:
                continue
            if name == key:
                return number
        return 0


def _apply_environment(
    table: dict[str, Any], environ: Mapping[str, str], origins: dict[str, str]
) -> list[str]:
    problems = []
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT) or variable in NOT_SETTINGS:
            continue
        if "__" not in variable and _INJECTED.fullmatch(f"{variable}={environ[variable]}"):
            continue
        parts = variable.removeprefix(ENVIRONMENT).lower().split("__")
        value = environ[variable]
        if parts[-1].endswith("_file") and not _is_setting(parts):
            parts[-1] = parts[-1].removesuffix("_file")
            if not _is_secret(parts):
                problems.append(f"{variable}: {_no_file(variable, parts)}")
                continue
            try:
                value = _text_of(value).removesuffix("\n")
            except ConfigError as error:
                problems += [f"{variable}: {problem}" for problem in error.problems]
                continue
        if not _is_setting(parts):
            problems.append(f"{variable}: there is no setting {'.'.join(parts)}")
            continue
        section = table
        for part in parts[:-1]:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                break
        else:
            section[parts[-1]] = _value_of(value, _type_of(parts))
            origins[".".join(parts)] = variable
    return problems


def _no_file(variable: str, parts: list[str]) -> str:
    if not _is_setting(parts):
        return f"there is no setting {'.'.join(parts)}_file"
    # Most who write this mean a setting that is a path.
    meant = variable.upper().removesuffix("_FILE")
    return f"only a secret can be read from a file; set {meant} to the path or value itself"


def _type_of(parts: list[str]) -> Any:
    """The type of the setting at this path, or None."""
    return _found(parts)[0]


def _is_secret(parts: list[str]) -> bool:
    return SECRET in _found(parts)[1]


def _found(parts: list[str]) -> tuple[Any, Mapping[str, Any]]:
    """Type and metadata of the setting at this path; None and nothing where there is none."""
    kind: Any = Settings
    metadata: Mapping[str, Any] = {}
    for part in parts:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
            continue
        known = attrs.fields_dict(kind) if attrs.has(kind) else {}
        if part not in known:
            return None, {}
        item = attrs.fields_dict(attrs.resolve_types(kind))[part]
        kind, metadata = item.type, item.metadata
    return kind, metadata


def _is_setting(parts: list[str]) -> bool:
    kind = _type_of(parts)
    return kind is not None and get_origin(kind) is not dict and not attrs.has(kind)


def _value_of(text: str, kind: Any) -> Any:
    """A plain string as it is, anything else as TOML would have it."""
    if kind is str or str in get_args(kind) or _literals(kind):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


# -- faults -------------------------------------------------------------------


def _faults(error: BaseException, key: str, kind: Any, place: _Places) -> list[str]:
    """A line for everything that is wrong in what cattrs found."""
    if isinstance(error, ClassValidationError | IterableValidationError):
        lines = []
        notes, rest = error.group_exceptions()
        for inner, note in notes:
            name = str(getattr(note, "name", getattr(note, "index", "")))
            under = f"{key}.{name}" if key else name
            if isinstance(error, IterableValidationError):
                under = key if isinstance(name, int) else under
            lines += _faults(inner, under, getattr(note, "type", None), place)
        for inner in rest:
            lines += _faults(inner, key, kind, place)
        return lines
    if isinstance(error, ForbiddenExtraKeysError):
        return [
            place(f"{key}.{name}" if key else name) + _unknown(name, error.cl)
            for name in sorted(error.extra_fields)
        ]
    return [place(key) + _expectation(error, kind)]


def _unknown(name: str, kind: Any) -> str:
    near = get_close_matches(name, [item.name for item in attrs.fields(kind)], n=1)
    return "there is no such setting" + (f"; did you mean {near[0]}?" if near else "")


def _expectation(error: BaseException, kind: Any) -> str:
    if isinstance(error, ValueError) and str(error).startswith("expected"):
        return str(error)
    if isinstance(error, KeyError):
        return "expected, and missing"
    return f"expected {_words(kind)}"


def _words(kind: Any) -> str:
    choices = [repr(choice) for part in (kind, *get_args(kind)) for choice in _literals(part)]
    return f"one of {', '.join(choices)}" if choices else "a table"


def _literals(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if getattr(kind, "__origin__", None) is Literal else ()


def _contradictions(settings: Settings) -> list[tuple[str, str]]:
    """What no single setting can tell is wrong: key and fault."""
    found = []
    if not settings.listeners:
        found.append(("listeners", "expected at least one [listeners.NAME]"))
    profile, name = settings.profile, settings.pop3.profile
    least, most = profile.command_limit_range
    if not least <= profile.command_limit <= most:
        fault = f"expected {least} to {most} in profile {name}, found {profile.command_limit}"
        found.append(("pop3.command_limit", fault))
    if name == "rfc1939":
        for key in ("idle_timeout", "preauth_idle_timeout"):
            if getattr(profile, key) < 600:
                fault = f"expected at least 600 in profile {name} (RFC 1939 section 3)"
                found.append((f"pop3.{key}", fault))
    if not (profile.user_pass or profile.mechanisms):
        found.append(("pop3.mechanisms", "expected a mechanism, since user_pass is off"))
    configured = {"NTLM": settings.ntlm.provider != "off", "GSSAPI": settings.gssapi.keytab}
    found += [
        ("pop3.mechanisms", f"expected no {name}, since [{name.lower()}] is not set up")
        for name in profile.mechanisms
        if not configured.get(name, True)
    ]
    if settings.gssapi.keytab and not settings.gssapi.realms:
        found.append(("gssapi.realms", "expected the realms whose users are yours"))
    if settings.quota.digest_to and not settings.quota.warn_from:
        found.append(("quota.warn_from", "expected the address that the digest comes from"))
    if fault := settings.quota.language_fault:
        found.append(("quota.warn_language", fault))
    if settings.http.endpoint and not (
        settings.http.token or settings.http.endpoint.startswith("unix:")
    ):
        found.append(
            ("http.token", "expected a token, or a unix: endpoint to guard by permissions")
        )
    if settings.directory.kind == "ldap":
        needed = {"uris": settings.ldap.uris, "base": settings.ldap.base}
        found += [
            (f"ldap.{key}", 'expected for directory.kind = "ldap"')
            for key, value in needed.items()
            if not value
        ]
        if settings.ntlm.provider == "winbind" and not settings.ldap.domains:
            # Else another domain's alice, whom a domain controller vouches for, were ours.
            found.append(("ldap.domains", 'expected your domains for ntlm.provider = "winbind"'))
        if settings.ldap.bind_dn and not settings.ldap.bind_password:
            # A server would take that for an anonymous bind (RFC 4513 section 5.1.2), or refuse.
            found.append(("ldap.bind_password", "expected the password of ldap.bind_dn"))
        if settings.demo:
            found.append(("demo", "expected false: the demo account lives in a passwd-file"))
    return found


_PLAIN: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
}


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind in _PLAIN:
        hook = _exactly(kind)
        converter.register_structure_hook(kind, hook)
        converter.register_structure_hook_func(partial(operator.eq, kind | None), hook)
    converter.register_structure_hook_func(partial(operator.eq, Network), _network)
    for items in (str, Network):
        hook = _listed(converter, items)
        for wanted in (tuple[items, ...], tuple[items, ...] | None):  # type: ignore[valid-type]
            converter.register_structure_hook_func(partial(operator.eq, wanted), hook)
    for section in (
        *(Listener, Tls, Pop3, Limits, Directory, Ldap, Ntlm, Gssapi, Throttle, Store, Lmtp),
        *(DomainQuota, Text, Texts, Quota, DomainRetention, Retention, Policy, Http, Audit, Log),
        Settings,
    ):
        checks: dict[str, Any] = {
            item.name: override(struct_hook=_checking(converter, item.metadata))
            for item in attrs.fields(section)
            if item.metadata
        }
        made = make_dict_structure_fn(section, converter, _cattrs_forbid_extra_keys=True, **checks)
        converter.register_structure_hook(section, made)
    return converter


def _exactly(kind: Any) -> Any:
    """No conversions: ``"5"`` is no number and ``1`` is not true."""

    def structure(value: Any, _: Any) -> Any:
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ValueError(f"expected {_PLAIN[kind]}, found {_shown(value)}")
        return value

    return structure


def _network(value: Any, _: Any) -> Network:
    try:
        return ip_network(value)
    except ValueError:
        raise ValueError(f'expected a network as "10.0.0.0/8", found {_shown(value)}') from None


def _listed(converter: cattrs.Converter, kind: Any) -> Any:
    """A TOML array; without this a string would be one, of its letters."""

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError(f"expected a list, found {_shown(value)}")
        return tuple(converter.structure(entry, kind) for entry in value)

    return structure


def _checking(converter: cattrs.Converter, metadata: Mapping[str, Any]) -> Any:
    check = metadata.get(CHECK)

    def structure(value: Any, kind: Any) -> Any:
        structured = converter.structure(value, kind)
        if check is not None:
            check(structured)
        return structured

    def structure_secret(value: Any, kind: Any) -> Any:
        try:
            return structure(value, kind)
        except Exception:
            raise ValueError(f"expected {_PLAIN[kind]} (what was found is not shown)") from None

    return structure_secret if SECRET in metadata else structure


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 80 else type(value).__name__


_CONVERTER = _make_converter()
