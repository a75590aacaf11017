"""``pop3gw throttle``: who has to wait, and how to forgive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from attrs import asdict

from gateway.cli.command import CONFIG, Exit, Group, command
from gateway.cli.moments import minute_of
from gateway.cli.pages import Paging, paged, show_list
from gateway.cli.server_parts import Ask, with_server
from gateway.cli.terminal import Terminal, View, described
from gateway.units import time_text

if TYPE_CHECKING:
    from gateway.operations.users.throttle import Throttled


@click.group(
    "throttle",
    cls=Group,
    default="list",
    examples=(
        "pop3gw throttle list --config /etc/pop3gw.toml",
        "pop3gw throttle forgive --config /etc/pop3gw.toml --user bob@example.org",
    ),
)
def throttle() -> None:
    """List who waits after wrong passwords or is near a limit; forgive."""


@command(
    "list",
    "pop3gw throttle list --config /etc/pop3gw.toml",
    "pop3gw throttle list --config /etc/pop3gw.toml --kind passwords --search 192.0.2.",
    does="throttle.list_throttled",
)
@CONFIG
@paged
@click.option(
    "--kind",
    type=click.Choice(["passwords", "answers", "login-delay", "connections", "sessions"]),
    help="Only wrong passwords, wrong answers to challenges, LOGIN-DELAY, or connections or"
    " sessions near their limit.",
)
@click.option("--search", default="", metavar="TEXT", help="Users or addresses with this in them.")
def list_throttled(
    terminal: Terminal, config: str | None, paging: Paging, kind: Any, search: str
) -> Exit:
    """List who waits after wrong passwords or for LOGIN-DELAY, or is near a limit."""
    from gateway.operations.users.throttle import list_throttled as operation

    none = "nobody has to wait, and nobody is near a limit"
    return show_list(terminal, config, paging, THROTTLED, none, operation, kind=kind, search=search)


@command(
    "forgive",
    "pop3gw throttle forgive --config /etc/pop3gw.toml --user bob@example.org",
    "pop3gw throttle forgive --config /etc/pop3gw.toml --address 192.0.2.7",
    does="throttle.forgive",
)
@CONFIG
@click.option("--user", default="", metavar="NAME", help="Login name or mail address.")
@click.option("--address", default="", metavar="ADDRESS", help="IP address or network.")
def forgive(terminal: Terminal, config: str | None, user: str, address: str) -> Exit:
    """Forget the wrong passwords of a user, of an address, or of both together.

    A user's LOGIN-DELAY ends too.  In a cluster all gateways forgive within two seconds.
    """
    from gateway.operations.users.throttle import forgive as operation

    if not (user or address):
        raise click.UsageError("expected --user, --address, or both")

    async def work(ask: Ask) -> Exit:
        done = await ask(operation, user=user, address=address)
        who = " from ".join(filter(None, (user, address)))
        what = f"wrong passwords at {done.places:,} places, {done.delays:,} times of LOGIN-DELAY"
        nothing = f"nothing to forgive of {who}: see pop3gw throttle list"
        text = f"forgave {who}: {what}" if done.places or done.delays else nothing
        terminal.say(text, **asdict(done))
        return Exit.DONE

    return with_server(config, work)


for one in (list_throttled, forgive):
    throttle.add_command(one)


def _cells(one: Throttled) -> tuple[str, ...]:
    who = one.user or "(any user)", one.network or "(any address)"
    delay = "refused" if one.refused else f"{one.delay:.0f} s" if one.delay else ""
    count, waiting = f"{one.count:,}", f"{one.waiting:,}"
    return (one.kind, *who, count, delay, waiting, minute_of(one.until))


def _line(one: Throttled) -> str:
    until = "" if one.until is None else f"; forgotten {time_text(one.until)}"
    who = " ".join(filter(None, (one.user, one.network)))
    waiting = f"; {one.waiting} waiting" if one.waiting else ""
    return f"{one.kind} {who}: {one.reason}{waiting}{until}"


THROTTLED: View[Throttled] = View(
    ("Kind", "User", "Address", "Count", "Delay", "Waiting", "Forgotten"),
    _cells,
    _line,
    lambda one: described(one, "until"),
    numbers=("Count", "Delay", "Waiting"),
)
