"""Traces: the wire of a user's or an address's sessions, while they go on."""

from __future__ import annotations

import secrets
import time
from ipaddress import ip_network
from operator import attrgetter
from typing import Annotated

from attrs import frozen

from gateway.errors import BadValue, NotFound
from gateway.operations.tools import Tools
from gateway.operations.values import Bounds


@frozen
class Trace:
    """A trace that runs."""

    trace: str
    """Its id."""

    ends: float
    """When it ends by itself, in Unix seconds."""


@frozen
class TraceLine:
    """What went over the line of a session."""

    time: float
    """Unix seconds."""

    session: str
    """Its id, as in the log."""

    direction: str
    """``C``: from the client; ``S``: from the server; ``-``: a note, such as ``closed``."""

    text: str
    """Without passwords and SASL data, which are ``[blanked]``."""


@frozen
class TracePart:
    """The next lines of a trace."""

    lines: tuple[TraceLine, ...]
    after: float
    """What to give as ``after`` next time."""

    dropped: int
    """Lines that are missing since nobody read them in time."""


async def start_trace(
    tools: Tools,
    *,
    user: str = "",
    address: str = "",
    seconds: Annotated[int, Bounds(1, 3600)] = 600,
    bodies: bool = False,
) -> Trace:
    """Begin to trace the sessions of a user, or of a client's address or network.

    POP3 and LMTP, in all processes, those that are open and those to come. ``user``: a login name,
    a mailbox, or the address of a recipient. ``bodies``: also the beginning of each message. It
    ends after ``seconds``, or when nobody has read it for 30 seconds.
    """
    if bool(user) == bool(address):
        raise BadValue(["user: expected either a user or an address"])
    try:
        inside = str(ip_network(address, strict=False)) if address else ""
    except ValueError:
        raise BadValue(["address: expected an IP address or a network"]) from None
    name = secrets.token_hex(8)
    asked = {"trace": name, "user": user, "address": inside, "seconds": seconds, "bodies": bodies}
    await tools.processes.ask_each("trace start", asked)
    return Trace(name, time.time() + seconds)


async def read_trace(tools: Tools, *, trace: str, after: float = 0.0) -> TracePart:
    """The lines of a trace that are later than ``after``; earlier ones are forgotten.

    Ask again for at most 30 seconds later, or the trace ends.
    """
    answers = await tools.processes.ask_each("trace read", {"trace": trace, "after": after})
    found = [one for one in answers if one is not None]
    if not found:
        raise NotFound("no such trace runs; it may have ended")
    if len(found) < len(answers):
        # A worker that has started since, or that was not ready.
        await tools.processes.ask_each("trace start", found[0]["asked"])
    # What another process sees meanwhile comes in order, with the next part.
    upto = min(one["upto"] for one in found)
    lines = [TraceLine(*line) for one in found for line in one["lines"]]
    lines = sorted((line for line in lines if line.time <= upto), key=attrgetter("time"))
    return TracePart(tuple(lines), upto, sum(one["dropped"] for one in found))


async def stop_trace(tools: Tools, *, trace: str) -> None:
    """End a trace."""
    if not any(await tools.processes.ask_each("trace stop", {"trace": trace})):
        raise NotFound("no such trace runs; it may have ended")
