"""``pop3gw move-ids``: unique-ids after a restore from a backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gateway.cli.command import CONFIG, Exit, command
from gateway.cli.server_parts import settings_of, with_mailboxes
from gateway.cli.terminal import Terminal

if TYPE_CHECKING:
    from gateway.operations.retention import Retained


@command(
    "move-ids",
    "pop3gw move-ids --config /etc/pop3gw.toml",
    "pop3gw move-ids --config /etc/pop3gw.toml --by 5000",
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
    return with_mailboxes(settings_of(config), lambda retained: show_moved(terminal, retained, by))


async def show_moved(terminal: Terminal, retained: Retained, by: int) -> Exit:
    """Move the ids and print for how many mailboxes; ``PARTLY`` where one failed."""
    from gateway.operations import unique_ids

    done = await unique_ids.move_ids(
        retained.state, retained.mailboxes, retained.store, by, terminal.progress
    )
    for mailbox, reason in done.failed.items():
        terminal.complain(f"{mailbox}: {reason}")
    moved = done.mailboxes - len(done.failed)
    text = f"{moved} of {done.mailboxes} mailboxes go on {by} further"
    terminal.say(text, mailboxes=done.mailboxes, moved=moved, by=by)
    return Exit.PARTLY if done.failed else Exit.DONE
