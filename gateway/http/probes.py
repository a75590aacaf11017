"""``/healthz/live`` and ``/healthz/ready``, for probes of Kubernetes and load balancers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from gateway.operations.server.readiness import Check, readiness_of
from gateway.operations.tools import Tools

Probe = Callable[[Tools, bool], Coroutine[Any, Any, tuple[int, Any]]]
"""Status and JSON of an answer; the flag says whether reasons may be told."""


async def _live(_: Tools, __: bool) -> tuple[int, Any]:
    """The process answers, so nothing blocks it."""
    return 200, {"live": True}


async def _ready(tools: Tools, tell: bool) -> tuple[int, Any]:
    """This process can serve clients; the others have probes of their own."""
    found = await tools.processes.ask_here("readiness")
    said = readiness_of([Check(**one) for one in found])
    answer: dict[str, Any] = {"ready": said.ready}
    if tell:
        answer["checks"] = {
            one.name: {"state": one.state} | ({"reason": one.reason} if one.reason else {})
            for one in said.checks
        }
    return 200 if said.ready else 503, answer


PROBES: Mapping[str, Probe] = {"/healthz/live": _live, "/healthz/ready": _ready}
