"""``pop3gw trace``: what goes over the wire of a user's or an address's sessions."""

from __future__ import annotations

import re
import signal
import time
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

import click

from gateway.cli.command import CONFIG, Exit, command
from gateway.cli.server_parts import Ask, with_server
from gateway.cli.terminal import Terminal
from gateway.errors import GatewayError

PAUSE = 0.5
"""Seconds between two questions."""

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Period(click.ParamType[int]):
    """``90``, ``90s``, ``10m``, ``1h``; at most an hour."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:  # noqa: ARG002
        """Seconds."""
        found = re.fullmatch(r"(\d{1,4})([smh]?)", str(value))
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 1 <= seconds <= 3600:
            self.fail(f"{value!r}: expected a time of at most one hour, such as 90s or 10m")
        return seconds


@command(
    "trace",
    "pop3gw trace bob@example.org",
    "pop3gw trace 192.0.2.7 --for 2m",
    does="traces.start_trace traces.read_trace traces.stop_trace",
)
@click.argument("who", metavar="USER|ADDRESS")
@CONFIG
@click.option(
    "--for", "seconds", type=Period(), default="10m", show_default=True, help="How long; most: 1h."
)
@click.option("--bodies", is_flag=True, help="Show the beginning of each message, too.")
def trace(terminal: Terminal, who: str, config: str | None, seconds: int, bodies: bool) -> Exit:
    """Show what goes over the wire of somebody's sessions, as it happens.

    Of a user (login name, mailbox, or address of a recipient), or of a client's
    address or network; POP3 and LMTP, open sessions and those to come. Each line
    has the time, the session's id as in the log, and C: (client) or S: (server).
    Passwords and SASL data are [blanked]. Ends after --for, or with Ctrl-C.
    """
    return with_server(config, lambda ask: show_trace(terminal, ask, who, seconds, bodies))


async def show_trace(terminal: Terminal, ask: Ask, who: str, seconds: int, bodies: bool) -> Exit:
    """Print the lines of a trace until it ends."""
    from gateway.operations.server.traces import read_trace, start_trace, stop_trace

    user, address = ("", who) if _is_address(who) else (who, "")
    started = await ask(start_trace, user=user, address=address, seconds=seconds, bodies=bodies)
    until = time.strftime("%H:%M:%S", time.localtime(started.ends))
    shown = {"trace": started.trace, "ends": started.ends}
    terminal.say(f"tracing {who} until {until}; Ctrl-C ends it", **shown)
    end, after = time.monotonic() + seconds, 0.0
    # An exception might be raised where nothing lets it through.
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    has_ended = False
    try:
        while not interrupts and time.monotonic() < end:
            part = await ask(read_trace, trace=started.trace, after=after)
            after = part.after
            if part.dropped:
                terminal.complain(f"{part.dropped} lines came too fast and are missing")
            for line in part.lines:
                _show(terminal, line)
            if not part.lines:
                time.sleep(PAUSE)
        has_ended = not interrupts
    finally:
        signal.signal(signal.SIGINT, before)
        if not has_ended:
            with suppress(GatewayError):
                await ask(stop_trace, trace=started.trace)
    return Exit.DONE


def _is_address(who: str) -> bool:
    try:
        ip_network(who, strict=False)
    except ValueError:
        return False
    return True


def _show(terminal: Terminal, line: Any) -> None:
    when = time.strftime("%H:%M:%S", time.localtime(line.time))
    text = f"{when}.{int(line.time % 1 * 1000):03} {line.session} {line.direction}: {line.text}"
    described = {"time": line.time, "session": line.session}
    terminal.say(text, **described, direction=line.direction, text=line.text)
