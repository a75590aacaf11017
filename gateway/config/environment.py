"""Environment variables as settings: they override the tables of the configuration file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, get_args, get_origin

import attrs

from gateway.config.checks import SECRET
from gateway.config.renamed import RENAMED
from gateway.config.settings import Settings, store_with
from gateway.config.structure import tables_of

_Find = Callable[[list[str]], tuple[Any, Mapping[str, Any]]]
"""Finds type and metadata of the setting at a path."""

PREFIX = "POP3GW_"
NOT_SETTINGS = frozenset({"POP3GW_CONFIG"})

_INJECTED = re.compile(
    r"POP3GW_([A-Z0-9_]+_)?("
    r"SERVICE_HOST=.*|SERVICE_PORT(_[A-Z0-9_]+)?=.*"
    r"|PORT(_\d+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*"
    r"|PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*"
    r"|NAME=/.*|ENV_.*)",
    re.S,
)
"""Variables that Kubernetes, and Docker with ``--link``, set for services named pop3gw...; they are
not settings."""


def apply(
    table: dict[str, Any],
    environ: Mapping[str, str],
    origins: dict[str, str],
    settings: type[Settings],
) -> list[str]:
    """Put the values of ``environ`` into ``table``, and the variable of each key into ``origins``.

    ``settings``: the class of the whole configuration.  Returns errors in names
    and encodings, one line each.
    """
    problems = []
    find = partial(_found, settings)
    for variable in sorted(environ, key=_in_order):
        value = environ[variable]
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        if "__" not in variable and _INJECTED.fullmatch(f"{variable}={value}"):
            continue
        parts = variable.removeprefix(PREFIX).lower().split("__")
        kind, _ = find(parts)
        if kind is None or get_origin(kind) is dict or attrs.has(kind) or tables_of(kind):
            problems.append(f"{variable}: {_no_setting(find, variable, parts)}")
            continue
        try:
            # The octets count, not the locale in which Python decoded them.
            text = os.fsencode(value).decode("utf-8")
        except UnicodeError:
            problems.append(f"{variable}: expected UTF-8")
            continue
        if fault := _put(find, table, parts, _value_of(text, kind), origins, variable):
            problems.append(f"{variable}: {fault}")
    return problems


def _in_order(variable: str) -> list[tuple[int, str]]:
    """A sort key with which 2 goes before 10."""
    return [(int(part) if _is_number(part) else 0, part) for part in variable.split("__")]


def _put(
    find: _Find,
    table: dict[str, Any],
    parts: list[str],
    value: Any,
    origins: dict[str, str],
    variable: str,
) -> str:
    """Put one value into the table; returns what is wrong with its name."""
    section: Any = table
    for depth, part in enumerate(parts[:-1]):
        if isinstance(section, list):
            number = int(part)
            if not 0 < number <= len(section) + 1:
                return f"expected number {len(section) + 1} next, since the first is 1"
            if number > len(section):
                section.append({})
            section = section[number - 1]
        else:
            # Variables are in capitals; names of listeners and domains may be in any case.
            known = (name for name in section if name.lower() == part)
            empty: Any = [] if tables_of(find(parts[: depth + 1])[0]) else {}
            section = section.setdefault(next(known, part), empty)
        if not isinstance(section, dict | list):
            return ""
    name, key = parts[-1], ".".join(parts)
    other = name.removesuffix("_file") if name.endswith("_file") else f"{name}_file"
    if SECRET in find([*parts[:-1], name.removesuffix("_file")])[1]:
        # A variable replaces both forms of a secret in the file, but not another variable.
        if ".".join([*parts[:-1], other]) not in origins:
            section.pop(other, None)
        if name.endswith("_file") and value:
            value = os.path.abspath(value)
    section[name] = value
    origins[key] = variable
    return ""


def _no_setting(find: _Find, variable: str, parts: list[str]) -> str:
    if tables_of(find(parts)[0]):
        return f"expected a number and a setting after it, as in {variable}__1__CERTIFICATE"
    if renamed := RENAMED.get(".".join(parts)):
        return f"this setting is called {PREFIX}{renamed.replace('.', '__').upper()} now"
    if other := store_with(".".join(parts)):
        return f'this is a setting of store.kind = "{other}"'
    meant = [*parts[:-1], parts[-1].removesuffix("_file")]
    if parts == meant or find(meant)[0] is None:
        return f"there is no setting {'.'.join(parts)}"
    # POP3GW_..._FILE usually means a setting that is a path itself.
    known = variable.removesuffix("_FILE")
    return f"only a secret can be read from a file; set {known} to the path or value itself"


def _found(kind: Any, parts: list[str]) -> tuple[Any, Mapping[str, Any]]:
    """Type and metadata of the setting at this path of a class; None and {} if there is none."""
    metadata: Mapping[str, Any] = {}
    for part in parts:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
            continue
        if tables_of(kind) and _is_number(part):
            kind = tables_of(kind)
            continue
        known = attrs.fields_dict(kind) if attrs.has(kind) else {}
        if part not in known:
            return None, {}
        item = attrs.fields_dict(attrs.resolve_types(kind))[part]
        kind, metadata = item.type, item.metadata
    return kind, metadata


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 5


def _value_of(text: str, kind: Any) -> Any:
    """The value: strings unchanged, lists in TOML syntax or with commas, all else as TOML."""
    kinds = {get_origin(one) or one for one in (kind, *get_args(kind))}
    if tuple in kinds:
        listed = _as_toml(text) if text.strip().startswith("[") else None
        words = (word.strip() for word in text.split(","))
        return listed if isinstance(listed, list) else [word for word in words if word]
    if kinds & {str, Literal} and not (int in kinds and text.isdecimal()):
        return text
    return _as_toml(text)


def _as_toml(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    # Text with a line end could set further keys.
    return found["value"] if len(found) == 1 else text
