"""The figures of the server, and what happened in the last hour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from gateway.operations.tools import Tools
from gateway.operations.values import Text


@frozen
class Minute:
    """What all processes counted in a minute."""

    began: float
    """Unix seconds."""

    logins: int
    failed: Mapping[str, int]
    """Failed logins by their reason, as in the figure ``pop3gw_logins_total``."""

    deliveries: int
    """Messages stored, one for each mailbox."""

    refusals: int
    """Recipients and messages that LMTP refused."""

    retrieved_octets: int
    """Octets sent by RETR and TOP."""


async def history(tools: Tools) -> tuple[Minute, ...]:
    """Logins, deliveries and refusals of the last 60 minutes, and of the one that has begun.

    The oldest comes first.  It begins anew when the server starts; a minute in which the machine
    slept is left out.  What a session retrieves counts when it ends.
    """
    rows: list[dict[str, Any]] = await tools.processes.ask_parent("history")
    return tuple(Minute(**row) for row in rows)


async def metrics(tools: Tools) -> Text:
    """All figures in the text format of Prometheus, added up over all processes.

    ``docs/monitoring.md`` has a table of them.
    """
    # A library that only this needs.
    from gateway.observe.exposition import CONTENT_TYPE, exposition

    found = await tools.processes.ask_parent("figures")
    return Text(CONTENT_TYPE, await tools.run(lambda: exposition(found)))
