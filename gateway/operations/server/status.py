"""The server: its version, processes, listeners and sessions."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from attrs import frozen

from gateway.operations.tools import Tools


@frozen
class ProcessRow:
    """A process of the server."""

    pid: int
    role: Literal["server", "parent", "worker"]
    since: float
    """When it began, in Unix seconds."""

    sessions: int
    """That are open in it."""


@frozen
class ListenerRow:
    """A place where clients connect."""

    name: str
    address: str
    tls: str
    """``none``, ``stls`` or ``implicit``."""


@frozen
class OpenSessions:
    """How many sessions of a protocol are open."""

    protocol: str
    sessions: int


@frozen
class Status:
    """A server that runs."""

    version: str
    since: float
    """When it began, in Unix seconds."""

    uptime: float
    """Seconds since then."""

    processes: tuple[ProcessRow, ...]
    """Those that answer in time; a worker that hangs is missing."""

    workers: int
    """How many worker processes there should be; 0: one process does all."""

    listeners: tuple[ListenerRow, ...]
    sessions: tuple[OpenSessions, ...]


async def show_status(tools: Tools) -> Status:
    """Show the version, the processes, the listeners, and how many sessions are open."""
    server = await tools.processes.ask_parent("server")
    answers = await tools.processes.ask_each("process")
    workers = server["workers"]
    counts = Counter[str]()
    listeners: dict[str, ListenerRow] = {}
    processes = [ProcessRow(server["pid"], "parent", server["since"], 0)] if workers else []
    for one in sorted(answers, key=lambda answer: (answer["since"], answer["pid"])):
        counts.update(one["sessions"])
        listeners |= {found["name"]: ListenerRow(**found) for found in one["listeners"]}
        role: Literal["server", "worker"] = "worker" if workers else "server"
        processes.append(ProcessRow(one["pid"], role, one["since"], sum(one["sessions"].values())))
    return Status(
        version=server["version"],
        since=server["since"],
        uptime=tools.now() - server["since"],
        processes=tuple(processes),
        workers=workers,
        listeners=tuple(listeners.values()),
        sessions=tuple(OpenSessions(*pair) for pair in sorted(counts.items())),
    )
