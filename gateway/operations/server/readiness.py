"""Whether the server can serve clients, and why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from attrs import frozen

from gateway.operations.tools import Tools

CheckState = Literal["ok", "warn", "fail"]
"""``warn``: clients are served, and an administrator should look; ``fail``: they are not."""

_WORST: Sequence[CheckState] = ("ok", "warn", "fail")


@frozen
class Check:
    """One of the things that a server needs."""

    name: str
    """``directory``, ``store``, ``disk``, ``state``, ``leader`` or ``stopping``."""

    state: CheckState
    reason: str = ""
    """Why it is not ``ok``."""


@frozen
class Readiness:
    """All checks together."""

    ready: bool
    """None of them failed."""

    checks: tuple[Check, ...]


def readiness_of(checks: Sequence[Check]) -> Readiness:
    """What these checks say together; of several with one name the worst counts."""
    worst: dict[str, Check] = {}
    for one in checks:
        before = worst.setdefault(one.name, one)
        if _WORST.index(one.state) > _WORST.index(before.state):
            worst[one.name] = one
    return Readiness(all(one.state != "fail" for one in worst.values()), tuple(worst.values()))


async def readiness(tools: Tools) -> Readiness:
    """Whether all processes can serve clients: directory, store, disk, state and leader.

    A process that does not answer within seconds is left out.
    """
    answers: list[list[Mapping[str, Any]]] = await tools.processes.ask_each("readiness")
    return readiness_of([Check(**one) for checks in answers for one in checks])
