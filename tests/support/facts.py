"""What is set in the parts of a server: facts that two servers can be compared by."""

from __future__ import annotations

import enum
import functools
import ipaddress
import types
from collections.abc import Iterator
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger

from gateway.app.parts.parts import Parts
from gateway.app.server.questions import Questions
from gateway.app.server.reload import Reloading
from gateway.config.settings import Settings
from gateway.jobs.thread_pool import ThreadPool

Fact = tuple[str, str, str]
"""Class, attribute and value of an object."""

PLAIN = (
    str,
    bytes,
    int,
    float,
    bool,
    type(None),
    enum.Enum,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)
OPAQUE = (Settings, Parts, Questions, Reloading, Logger, type, types.ModuleType, MemoryReactorClock)


def without(found: set[Fact], ignored: set[tuple[str, str]]) -> set[Fact]:
    """The facts that are not of these attributes."""
    return {fact for fact in found if fact[:2] not in ignored}


def is_plain(value: Any) -> bool:
    """Whether a value is shown, and not followed."""
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(map(is_plain, (*value, *value.values())))
    return isinstance(value, PLAIN)


def shown(value: Any) -> str:
    """A plain value, in one form."""
    return repr(sorted(map(repr, value)) if isinstance(value, set | frozenset) else value)


def facts(roots: list[Any]) -> Iterator[Fact]:
    """All facts of the objects that these lead to."""
    seen: dict[int, Any] = {}
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, OPAQUE) or is_plain(one):
            continue
        seen[id(one)] = one
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
            continue
        if isinstance(one, tuple | list | set | frozenset):
            waiting += one
            continue
        kind, values = described(one)
        for name, value in values.items():
            if is_plain(value):
                yield kind, name, shown(value)
            else:
                waiting.append(value)


def described(one: Any) -> tuple[str, dict[str, Any]]:
    """A name and the values of an object or of a function."""
    if isinstance(one, functools.partial):
        return "partial", {"func": one.func, "args": one.args, **one.keywords}
    if isinstance(one, types.MethodType):
        return one.__func__.__qualname__, {"self": one.__self__}
    if hasattr(one, "__wrapped__"):
        return "cached", {"wrapped": one.__wrapped__}
    if isinstance(one, types.FunctionType):
        cells = zip(one.__code__.co_freevars, one.__closure__ or (), strict=True)
        values = {name: cell.cell_contents for name, cell in cells if cell != types.CellType()}
        return one.__qualname__, values
    values = dict(getattr(one, "__dict__", {}))
    for kind in type(one).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            mangled = f"_{kind.__name__}{name}" if name.startswith("__") else name
            if hasattr(one, mangled) and name not in ("__weakref__", "__dict__"):
                values[name] = getattr(one, mangled)
    if isinstance(one, ThreadPool):
        # The rest is the work that it does at the moment.
        width = values["_width"]
        return "ThreadPool", {"most": values["most"], "width": (width._least, width._most)}
    followed = type(one).__module__.startswith(("gateway.", "twisted.cred.", "twisted.web."))
    return type(one).__qualname__, values if followed else {}
