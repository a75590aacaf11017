"""A configuration: what is wrong with it, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
from attrs import evolve, frozen

from gateway.config.checks import SECRET
from gateway.config.load import load_with_places
from gateway.config.places import DEFAULT, Places
from gateway.config.settings import Settings
from gateway.endpoints import shown
from gateway.errors import ConfigError, NotFound
from gateway.operations.server.changed_meanings import changed_meanings
from gateway.operations.tools import Tools

Key = tuple[str, ...]
"""The names of the sections and of the setting."""


@frozen
class Checked:
    """What a check of a configuration found."""

    faults: list[str]
    """One line each: place, what was expected, cure.  Empty: a server starts with it."""

    remarks: list[str]
    """What has another meaning than it once had; no faults."""


def check(
    path: str | None, environ: Mapping[str, str], faults_of: Callable[[Settings], list[str]]
) -> Checked:
    """Check the configuration of a file (None: of none) and of the environment.

    ``faults_of`` builds what a start builds and returns what fails.
    """
    try:
        settings, _ = load_with_places(path, environ)
    except ConfigError as error:
        return Checked(error.problems, [])
    return Checked(ConfigError(faults_of(settings)).problems, changed_meanings(settings))


@frozen
class Setting:
    """One setting as a server has it."""

    key: Key
    value: Any
    """None: it is not set, or it is hidden."""

    origin: str
    """``FILE:LINE``, an environment variable, ``default``, or the setting that it follows."""

    hidden: bool = False
    """It is set, and a secret."""

    is_default: bool = False


def show(path: str | None, environ: Mapping[str, str]) -> list[Setting]:
    """All settings with their origins, in the order of ``etc/pop3gw.toml``'s sections.

    Raises ``ConfigError``.
    """
    return _shown(*load_with_places(path, environ))


def _shown(settings: Settings, places: Places) -> list[Setting]:
    followed = dict(_followed(settings))
    return [
        Setting(key, *followed[key], is_default=True)
        if key in followed
        else _setting(key, value, item, places)
        for key, value, item in _walk(settings, ())
    ]


@frozen
class SettingRow:
    """A setting that is in force."""

    name: str
    """With its sections, such as ``limits.connections``."""

    key: tuple[str, ...]
    """The sections and the setting one by one: the name of a section may have dots."""

    value: Any
    """A string, a number, true or false, a list, or an object; null: it is not set, or hidden."""

    hidden: bool
    """It is set, and a secret."""

    origin: str
    """``FILE:LINE``, an environment variable, ``default``, or the setting or profile that it
    follows; empty: the file or the environment has another value by now."""

    is_default: bool


@frozen
class Configuration:
    """The settings in force."""

    settings: tuple[SettingRow, ...]
    changed: tuple[str, ...] = ()
    """The settings that the file or the environment has changed since: a reload takes them, or a
    restart."""

    faults: tuple[str, ...] = ()
    """Why the configuration as it is now cannot be read, one line each: no origin is known."""


def settings_in_force(
    running: Settings, path: str | None, environ: Mapping[str, str]
) -> Configuration:
    """The settings of a running server, with the origins that file and environment show now.

    Blocks: it reads the file.
    """
    try:
        new, places = load_with_places(path, environ)
    except ConfigError as error:
        nowhere = Places(None, "", {}, {})
        rows = [evolve(_row(one), origin="") for one in _shown(running, nowhere)]
        return Configuration(tuple(rows), faults=tuple(error.problems))
    values = {key: value for key, value, _ in _walk(new, ())}
    old = {key: value for key, value, _ in _walk(running, ())}
    rows = []
    for one in _shown(running, places):
        is_same = one.key in values and values[one.key] == old[one.key]
        rows.append(_row(one) if is_same else evolve(_row(one), origin=""))
    known = dict.fromkeys((*old, *values))
    changed = [
        key for key in known if not (key in old and key in values and old[key] == values[key])
    ]
    return Configuration(tuple(rows), tuple(map(".".join, changed)))


def _row(one: Setting) -> SettingRow:
    value = _plain(one.value)
    return SettingRow(".".join(one.key), one.key, value, one.hidden, one.origin, one.is_default)


def _plain(value: Any) -> Any:
    """A value in the terms of JSON."""
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    return value if value is None or isinstance(value, str | int | float) else str(value)


async def show_configuration(tools: Tools, *, name: str = "") -> Configuration:
    """Show the settings in force, each with its origin; secrets are hidden.

    ``name``: only this setting, or those of this section, such as ``limits``.
    """
    said = await tools.processes.ask_parent("configuration")
    rows = tuple(SettingRow(**one | {"key": tuple(one["key"])}) for one in said["settings"])
    if name:
        rows = tuple(one for one in rows if f"{one.name}.".startswith(f"{name}."))
        if not rows:
            raise NotFound(f"there is no setting or section {shown(name)}")
    changed = tuple(one for one in said["changed"] if not name or f"{one}.".startswith(f"{name}."))
    return Configuration(rows, changed, tuple(said["faults"]))


def _setting(key: Key, value: Any, item: attrs.Attribute[Any], places: Places) -> Setting:
    # Kinds from outside the package may have secrets of their own.
    secret = SECRET in item.metadata or item.repr is False
    # A secret may stand in a file of its own.
    keys = [key, (*key[:-1], f"{key[-1]}_file")] if secret else [key]
    origins = [places.origin(one) for one in keys]
    origin = next((one for one in origins if one != DEFAULT), DEFAULT)
    hidden = secret and bool(value)
    is_default = value == item.default or origin == DEFAULT
    return Setting(key, None if hidden else value, origin, hidden, is_default)


def _walk(section: Any, at: Key) -> Iterator[tuple[Key, Any, attrs.Attribute[Any]]]:
    """Key, value and field of each setting."""
    for item in attrs.fields(type(section)):
        key, value = (*at, item.name), getattr(section, item.name)
        if isinstance(value, dict) and all(attrs.has(type(one)) for one in value.values()):
            for name, inner in value.items():
                yield from _walk(inner, (*key, name))
        elif attrs.has(type(value)):
            yield from _walk(value, key)
        elif isinstance(value, tuple) and value and all(attrs.has(type(one)) for one in value):
            for number, inner in enumerate(value, 1):
                yield from _walk(inner, (*key, str(number)))
        else:
            yield key, value, item


def _followed(settings: Settings) -> Iterator[tuple[Key, tuple[Any, str]]]:
    """Settings that are not set and follow others: key, value, origin."""
    profile = settings.profile
    for item in attrs.fields(type(profile)):
        if getattr(settings.pop3, item.name, "") is None:
            value = getattr(profile, item.name)
            yield ("pop3", item.name), (value, f"profile {settings.pop3.profile}")
    for name, listener in settings.listeners.items():
        at = ("listeners", name)
        if listener.mechanisms is None:
            mechanisms = settings.profile_of(name).mechanisms
            yield (*at, "mechanisms"), (mechanisms, "pop3.mechanisms")
        for key in ("certificate", "key"):
            if listener.tls == "none" or getattr(listener, key) or listener.certificates:
                continue
            if settings.tls.certificates:
                yield (*at, key), ("", "tls.certificates")
            else:
                yield (*at, key), (getattr(settings.tls, key), f"tls.{key}")
    if settings.throttle.refuse_after is None:
        yield ("throttle", "refuse_after"), (settings.refuse_after, DEFAULT)
