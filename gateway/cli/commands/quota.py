"""``pop3gw quota``: usage and limits, as other programs ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from attrs import asdict

from gateway.cli.command import CONFIG, Exit, command
from gateway.cli.server_parts import Ask, with_server
from gateway.cli.terminal import Terminal, View
from gateway.units import parse_size, rounded_size

if TYPE_CHECKING:
    from gateway.operations.mail.quota import MailboxUsage


@command(
    "quota",
    "pop3gw quota --config /etc/pop3gw.toml bob@example.org --size 20M",
    "pop3gw quota --config /etc/pop3gw.toml --page 2",
    does="quota.show_usage quota.list_usage",
)
@CONFIG
@click.option("--size", default="1", metavar="SIZE", help="Of a message, as 20M: would it fit?")
@click.option("--page", type=click.IntRange(1), default=1, help="Which page of 100 to show.")
@click.argument("address", required=False)
def quota(
    terminal: Terminal, config: str | None, size: str, page: int, address: str | None
) -> Exit:
    """Show usage and limits of ADDRESS, and whether mail fits; without ADDRESS the fullest.

    'pop3gw mailboxes show' has more of one mailbox.
    """
    from gateway.operations.mail.quota import list_usage, show_usage

    octets = parse_size(size)

    async def work(ask: Ask) -> Exit:
        found: tuple[MailboxUsage, ...]
        if address:
            found = (await ask(show_usage, address=address, size=octets),)
        else:
            found = (await ask(list_usage, page=page - 1)).mailboxes
        terminal.show(USAGE, found)
        if not found:
            terminal.say("there is no such page" if page > 1 else "there are no mailboxes yet")
        return Exit.DONE

    return with_server(config, work)


def _limits(one: MailboxUsage) -> tuple[str, str]:
    octets = "none" if one.limit_octets is None else rounded_size(one.limit_octets)
    return octets, "none" if one.limit_messages is None else f"{one.limit_messages:,}"


USAGE: View[MailboxUsage] = View(
    ("Mailbox", "Size", "Limit", "Messages", "Most", "Level", "Takes mail"),
    lambda one: (
        one.mailbox,
        rounded_size(one.octets),
        _limits(one)[0],
        f"{one.messages:,}",
        _limits(one)[1],
        one.level,
        "yes" if one.accepts else "no",
    ),
    lambda one: (
        f"{one.mailbox}: {one.octets} octets of {_limits(one)[0]}, {one.messages} messages of"
        f" {_limits(one)[1]}, {one.level}, {'fits' if one.accepts else 'does not fit'}"
    ),
    asdict,
    numbers=("Size", "Limit", "Messages", "Most"),
)
