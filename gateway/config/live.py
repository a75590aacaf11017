"""Which settings a reload takes at once, and which keep their old value until a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import attrs
from attrs import field, frozen

from gateway.config.settings import Settings

S = TypeVar("S")

Key = tuple[str, ...]
"""The names of the sections and of the setting."""

RESTART: Mapping[str, str] = {
    "state_dir": "open files and locks are in it",
    "demo": "the start makes its account",
    "processes.workers": "the start makes a socket for each worker",
    "processes.hang_timeout": "the parent watches the workers since the start",
    "listeners.*": "a listener that is added or removed: the start binds all ports",
    "listeners.*.endpoint": "the start binds all ports, some of them as root",
    "lmtp.endpoint": "the start binds all ports",
    "policy.endpoint": "the start binds all ports",
    "http.endpoint": "the start binds all ports",
    "store.kind": "open sessions and caches are in the store",
    "store.database": "state and leader are in it too",
    "store.database_password": "state and leader are behind it too",
    "store.database_password_file": "state and leader are behind it too",
    "store.timeout": "state, leader and shared limits have it too",
    "store.shared_sessions": "open sessions were counted without it, or with it",
}
"""The settings that need a restart, and why; ``*`` is any name.  All others change live."""


def needs_restart(key: Key) -> bool:
    """Whether a change of this setting waits for a restart."""
    patterns = (pattern.split(".") for pattern in RESTART)
    return any(len(names) == len(key) and all(map(_fits, names, key)) for names in patterns)


def _fits(pattern: str, name: str) -> bool:
    return pattern in ("*", name)


@frozen
class Difference:
    """What a running server makes of new settings."""

    settings: Settings
    """The new settings, with the old values of those that need a restart."""

    changed: tuple[str, ...] = ()
    """The keys that change live, in the order of the sections."""

    restart: tuple[str, ...] = ()
    """The keys that keep their old value until a restart."""


def merge(old: Settings, new: Settings) -> Difference:
    """What a server that runs with ``old`` takes of ``new``."""
    merging = _Merging()
    settings = merging.section(old, new, ())
    return Difference(settings, tuple(merging.changed), tuple(merging.restart))


@frozen
class _Merging:
    changed: list[str] = field(factory=list)
    restart: list[str] = field(factory=list)

    def section(self, old: Any, new: Any, at: Key) -> Any:
        """The new section, with the old values of what needs a restart."""
        return attrs.evolve(
            new,
            **{
                item.name: self._value(
                    getattr(old, item.name, None), getattr(new, item.name), (*at, item.name)
                )
                for item in attrs.fields(type(new))
            },
        )

    def _value(self, old: Any, new: Any, key: Key) -> Any:
        if type(old) is type(new):
            if old == new:
                return new
            if attrs.has(type(new)):
                return self.section(old, new, key)
            if isinstance(new, dict):
                return dict(self._named(old, new, key))
        elif attrs.has(type(new)):
            # Another kind of store or directory has settings of its own.
            key = (*key, "kind")
        if needs_restart(key):
            self.restart.append(".".join(key))
            return old
        self.changed.append(".".join(key))
        return new

    def _named(
        self, old: Mapping[str, Any], new: Mapping[str, Any], at: Key
    ) -> Iterator[tuple[str, Any]]:
        """Sections with names of the administrator's choice: in both, added, or removed."""
        for name in dict.fromkeys((*old, *new)):
            key = (*at, name)
            if name in old and name in new:
                yield name, self._value(old[name], new[name], key)
                continue
            waits = needs_restart(key)
            (self.restart if waits else self.changed).append(".".join(key))
            kept = old if waits else new
            if name in kept:
                yield name, kept[name]
