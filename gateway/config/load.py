"""Load settings from TOML and the environment; every error names its place."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypeGuard, get_args

import attrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError

from gateway.config import environment
from gateway.config.checks import CHECK, SECRET
from gateway.config.contradictions import contradictions
from gateway.config.listeners import DEFAULT_LISTENERS, Listener
from gateway.config.places import Places
from gateway.config.quota import DomainQuota
from gateway.config.renamed import RENAMED
from gateway.config.retention import DomainRetention
from gateway.config.services import HttpToken
from gateway.config.settings import (
    Settings,
    check_directory,
    check_store,
    mechanism_kinds,
    settings_class,
    store_with,
)
from gateway.config.structure import converter_of
from gateway.config.table import DIRECTORIES, find_directory, find_mechanism, find_store
from gateway.endpoints import shown
from gateway.errors import ConfigError
from gateway.kinds import Fault

Document = Mapping[str, Any]
"""The tables of a configuration: JSON values, after the environment was applied."""

_NAMED = (DomainQuota, DomainRetention, HttpToken, Listener)
"""Sections with names of the administrator's choice."""

_NAMING = re.compile(r"__(KIND|MECHANISMS)$", re.I)
"""Variables of settings that add further sections and settings."""

_CHECK = "; check --config and POP3GW_CONFIG"
"""What to do about a configuration that cannot be read."""

_LARGEST = 2**24
"""Most octets of a configuration file, and of a file with a secret."""


def load_settings(path: str | None, environ: Mapping[str, str]) -> Settings:
    """The settings of a file, if any, and of the environment, which takes precedence.

    Raises ``ConfigError`` with one line per error.
    """
    return load_with_places(path, environ)[0]


def find_state_dir(path: str | None, environ: Mapping[str, str]) -> str:
    """The state directory of a configuration, which may have faults elsewhere.

    Raises ``ConfigError``.
    """
    path = path or environ.get("POP3GW_CONFIG") or None
    said = _table_of(_text_of(path, _CHECK) if path else "", path).get("state_dir")
    said = environ.get("POP3GW_STATE_DIR") or said or Settings().state_dir
    settings, faults = _with_state(Settings(state_dir=str(said)))
    if faults:
        raise ConfigError([f"{key}: {fault}" for key, fault in faults])
    return settings.state_dir


def load_document(path: str | None, environ: Mapping[str, str]) -> tuple[Settings, Document]:
    """As ``load_settings``, with the tables of the file after those of the environment.

    ``load_settings_of`` makes the same settings of them, in whatever directory another process
    runs.
    """
    settings, places = load_with_places(path, environ)
    return settings, {**places.table, "state_dir": settings.state_dir}


def load_settings_of(document: Document) -> Settings:
    """The settings of a document that was checked; reads the files with secrets again.

    Raises ``ConfigError``.
    """
    table = {name: _copy(section) for name, section in document.items()}
    return _settings_of(table, _kinds_of(table, {}), Places(None, "", {}, table))


def load_with_places(path: str | None, environ: Mapping[str, str]) -> tuple[Settings, Places]:
    """As ``load_settings``, with the origin of each setting."""
    path = path or environ.get("POP3GW_CONFIG") or None
    text = _text_of(path, _CHECK) if path else ""
    table = _table_of(text, path)
    origins: dict[str, str] = {}
    kinds = _kinds_of(table, environ)
    problems = environment.apply(table, environ, origins, kinds)
    if path is None:
        table.setdefault("listeners", DEFAULT_LISTENERS)
    place = Places(path, text, origins, table)
    return _settings_of(table, kinds, place, problems), place


def _settings_of(
    table: dict[str, Any], kinds: type[Settings], place: Places, problems: Iterable[str] = ()
) -> Settings:
    """The settings; raises ``ConfigError`` with what is wrong beside ``problems``."""
    problems = list(problems)
    try:
        settings: Settings = converter_of(kinds).structure(table, kinds)  # type: ignore[arg-type]
    except Exception as error:
        raise ConfigError(problems + _faults(error, "", kinds, place)) from None
    settings, faults = _with_state(settings)
    if not faults:
        settings, faults = _with_secrets(settings)
    problems += [place(key) + fault for key, fault in faults or contradictions(settings, table)]
    if problems:
        raise ConfigError(problems)
    return settings


def _kinds_of(table: dict[str, Any], environ: Mapping[str, str]) -> type[Settings]:
    """The class of the configuration, with the sections of the kinds and mechanisms it names.

    An unknown name adds nothing; it is an error of the setting that has it.
    """
    chosen = {name: _copy(table.get(name, {})) for name in ("store", "directory", "pop3")}
    chosen["listeners"] = {name: _copy(one) for name, one in _get_all(table, "listeners").items()}
    naming = {name: text for name, text in environ.items() if _NAMING.search(name)}
    environment.apply(chosen, naming, {}, Settings)
    sections = [chosen["pop3"], *_get_all(chosen, "listeners").values()]
    listed = [names for one in sections if isinstance(names := _get(one, "mechanisms"), list)]
    mechanisms = [name for names in listed for name in names if _is_found(name, find_mechanism)]
    directory, store = _get(chosen["directory"], "kind"), _get(chosen["store"], "kind")
    directories: list[str] = [*DIRECTORIES]
    if _is_found(directory, check_directory):
        directories.append(directory)
    rows = (*map(find_directory, directories), *mechanism_kinds(mechanisms).values())
    return settings_class(find_store(store if _is_found(store, check_store) else "maildir"), rows)


def _get(section: object, name: str) -> object:
    return section.get(name) if isinstance(section, dict) else None


def _get_all(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    return found if isinstance(found := table.get(name), dict) else {}


def _copy(section: Any) -> Any:
    return dict(section) if isinstance(section, dict) else section


def _is_found(name: object, find: Callable[[str], object]) -> TypeGuard[str]:
    try:
        if not isinstance(name, str):
            return False
        find(name)
    except ValueError:
        return False
    return True


def _table_of(text: str, path: str | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from None
    except (ValueError, RecursionError):
        # Python parses no number of 4,301 digits, and no list nested a thousand times.
        lines = enumerate(text.split("\n"), 1)
        line, row = next((one for one in lines if len(one[1]) > 1000), (1, ""))
        key, equals, _ = row.partition("=")
        named = f"{key.strip()[:100]}: " if equals else ""
        fault = "expected shorter numbers, and fewer brackets within each other"
        raise ConfigError([f"{path}:{line}: {named}{fault}"]) from None


def _with_state(settings: Settings) -> tuple[Settings, list[Fault]]:
    """The settings with an absolute ``state_dir``, and the errors of that."""
    try:
        here = os.getcwd()
    except OSError:
        here = "/"
    if here == "/" and not os.path.isabs(settings.state_dir):
        # systemd starts services in /: ./var/mail would be the /var/mail of the system.
        fault = 'expected an absolute path such as "/var/lib/pop3gw", since the working'
        fault = f"{fault} directory is /, found {shown(settings.state_dir)}"
        return settings, [("state_dir", fault)]
    path = os.path.normpath(os.path.join(here, settings.state_dir))
    return attrs.evolve(settings, state_dir=path), []


def _with_secrets(settings: Settings) -> tuple[Settings, list[Fault]]:
    """The settings with the secrets of ``*_file`` settings read, and the errors of that."""
    faults: list[Fault] = []
    return _filled(settings, "", settings.path_of, faults), faults


def _filled(section: Any, key: str, path_of: Callable[[str], str], faults: list[Fault]) -> Any:
    """The section with its secrets, and with those of the sections in it."""
    filled: dict[str, Any] = {}
    for item in attrs.fields(type(section)):
        value, own = getattr(section, item.name), f"{key}.{item.name}" if key else item.name
        if attrs.has(type(value)):
            filled[item.name] = _filled(value, own, path_of, faults)
        elif isinstance(value, dict):
            filled[item.name] = {
                name: _filled(one, f"{own}.{name}", path_of, faults) for name, one in value.items()
            }
        elif SECRET in item.metadata and (file := getattr(section, f"{item.name}_file", "")):
            try:
                if value:
                    raise ValueError(f"expected nothing, since {own} is set too")
                filled[item.name] = _secret_in(path_of(file))
                item.metadata.get(CHECK, str)(filled[item.name])
            except ConfigError as error:
                faults += [(f"{own}_file", problem) for problem in error.problems]
            except ValueError as error:
                faults.append((f"{own}_file", str(error).partition(", found")[0]))
    return attrs.evolve(section, **filled)


def _secret_in(path: str) -> str:
    secret = _text_of(path).removesuffix("\n").removesuffix("\r")
    if not secret:
        raise ValueError(f"expected a secret in {path}, which is empty")
    if "\0" in secret:
        raise ValueError(f"expected no NUL in {path}")
    return secret


def _text_of(path: str, cure: str = "") -> str:
    """The text of a file in UTF-8, with or without a byte order mark.  Raises ``ConfigError``."""
    try:
        with open(path, "rb") as file:
            octets = file.read(_LARGEST + 1)
        if len(octets) <= _LARGEST:
            return octets.decode("utf-8-sig").replace("\r\n", "\n")
        reason = "more than 16 MB"
    except UnicodeDecodeError:
        reason = "not UTF-8"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise ConfigError([f"{path}: cannot be read: {reason}{cure}"])


# -- errors -------------------------------------------------------------------


def _faults(error: BaseException, key: str, kind: Any, place: Places) -> list[str]:
    """One line per error that cattrs found."""
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
            place(f"{key}.{name}" if key else name) + _unknown(name, error.cl, key, place.table)
            for name in sorted(error.extra_fields)
        ]
    return [place(key) + _expectation(error, kind)]


def _unknown(name: str, kind: Any, key: str, table: Mapping[str, Any]) -> str:
    section, _, first = key.rpartition(".")
    rest = [first, name]
    value: Any = table
    for part in (*filter(None, key.split(".")), name):
        value = value.get(part) if isinstance(value, dict) else None
    if kind in _NAMED and isinstance(value, dict):
        # In TOML an unquoted dot begins a subtable.
        while nested := [part for part in value if isinstance(value[part], dict)]:
            rest.append(nested[0])
            value = value[nested[0]]
        return f'a name with a dot stands in quotes: [{section}."{".".join(rest)}"]'
    own = f"{key}.{name}" if key else name
    if renamed := RENAMED.get(own):
        return f"this setting is called {renamed} now"
    if other := store_with(own):
        return f'this is a setting of store.kind = "{other}"'
    near = get_close_matches(name[:100], [item.name for item in attrs.fields(kind)], n=1)
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
