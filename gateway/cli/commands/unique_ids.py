"""``pop3gw move-ids``: unique-ids after a restore from a backup."""

from __future__ import annotations

import click

from gateway.cli.client import LONGEST
from gateway.cli.command import CONFIG, Exit, command
from gateway.cli.server_parts import Ask, with_or_without_server
from gateway.cli.terminal import Terminal


@command(
    "move-ids",
    "pop3gw move-ids --config /etc/pop3gw.toml",
    "pop3gw move-ids --config /etc/pop3gw.toml --by 5000",
    does="unique_ids.move_ids",
)
@CONFIG
@click.option(
    "--by",
    type=click.IntRange(1, 100_000_000),
    metavar="IDS",
    default=1_000_000,
    show_default=True,
    help="More than any mailbox has given since the backup.",
)
def move_ids(terminal: Terminal, config: str | None, by: int) -> Exit:
    """Give new messages of all mailboxes larger unique-ids.

    For use after a restore of everything from a backup, while the server is
    stopped: no unique-id that a client has seen then means another message.
    """
    return with_or_without_server(config, lambda ask: show_moved(terminal, ask, by), LONGEST)


async def show_moved(terminal: Terminal, ask: Ask, by: int) -> Exit:
    """Move the ids and print for how many mailboxes; ``PARTLY`` where one failed."""
    from gateway.operations.mail.unique_ids import move_ids

    done = await ask(move_ids, by=by)
    for one in done.failed:
        terminal.complain(f"{one.mailbox}: {one.reason}")
    moved = done.mailboxes - len(done.failed)
    text = f"{moved} of {done.mailboxes} mailboxes go on at least {by:,} further"
    terminal.say(text, mailboxes=done.mailboxes, moved=moved, by=by)
    return Exit.PARTLY if done.failed else Exit.DONE
