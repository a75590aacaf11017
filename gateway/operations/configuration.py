"""A configuration: what is wrong with it, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
from attrs import frozen

from gateway.config.checks import SECRET
from gateway.config.load import load_with_places
from gateway.config.places import DEFAULT, Places
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.operations.changed_meanings import changed_meanings

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
    settings, places = load_with_places(path, environ)
    followed = dict(_followed(settings))
    return [
        Setting(key, *followed[key], is_default=True)
        if key in followed
        else _setting(key, value, item, places)
        for key, value, item in _walk(settings, ())
    ]


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
