"""``pop3gw mailboxes copy``: mailboxes move to another store, such as that of a cluster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from attrs import asdict

from gateway.cli.command import CONFIG, Exit, command
from gateway.cli.server_parts import settings_of, with_places
from gateway.cli.terminal import Terminal
from gateway.errors import ConfigError, GatewayError, ServedElsewhere
from gateway.units import counted, rounded_size

if TYPE_CHECKING:
    from gateway.operations.mail.copy import CopiedMailbox
    from gateway.operations.tools import Tools


@command(
    "copy",
    "pop3gw mailboxes copy --config /etc/pop3gw.toml --to /etc/cluster.toml --no-switch --all",
    "pop3gw mailboxes copy --config /etc/pop3gw.toml --to /etc/cluster.toml bob@example.org",
    "pop3gw mailboxes copy --config /etc/cluster.toml --to /etc/pop3gw.toml bob@example.org",
)
@CONFIG
@click.option(
    "--to",
    metavar="FILE",
    type=click.Path(),
    required=True,
    help="Configuration of the new place; --config is that of the old one.",
)
@click.option("--all", "is_all", is_flag=True, help="Every mailbox of the old place.")
@click.option(
    "--no-switch",
    is_flag=True,
    help="Let the old place go on serving the mailboxes. Run it again without this to switch.",
)
@click.argument("mailboxes", nargs=-1, metavar="[MAILBOX]...")
def copy(
    terminal: Terminal,
    config: str | None,
    to: str,
    is_all: bool,
    no_switch: bool,
    mailboxes: tuple[str, ...],
) -> Exit:
    """Copy each MAILBOX to another store, while it is used, and switch at the end.

    Unique-ids, order, marks, times, hidden mail, quota warnings and the last login
    are kept, and every octet is compared. Then the old place answers [IN-USE] and 451,
    and the new one serves the mailbox. Whenever it is interrupted, run it again: it
    goes on. It does not ask a server: run it as the user that both servers run as.
    """
    if is_all == bool(mailboxes):
        raise click.UsageError("name mailboxes, or say --all")
    places = [settings_of(config), settings_of(to)]
    if _same_file(config, to):
        raise ConfigError(["--to: expected another configuration than --config"])

    async def work(old: Tools, new: Tools) -> Exit:
        names = await old.mailboxes.names() if is_all else mailboxes
        return await show_copies(terminal, old, new, names, switch=not no_switch, is_all=is_all)

    return with_places(places[0], places[1], work)


def _same_file(config: str | None, to: str) -> bool:
    found = config or os.environ.get("POP3GW_CONFIG")
    return bool(found) and os.path.exists(to) and os.path.samefile(str(found), to)


async def show_copies(
    terminal: Terminal,
    old: Tools,
    new: Tools,
    names: tuple[str, ...] | list[str],
    *,
    switch: bool,
    is_all: bool,
) -> Exit:
    """Copy mailboxes, and print a line for each; ``PARTLY`` where some failed."""
    done = failed = 0
    for name in names:
        try:
            found = await _copied(terminal, old, new, name, switch=switch)
        except ServedElsewhere as error:
            if not is_all:
                raise
            terminal.say(str(error), mailbox=name, skipped=True)
        except GatewayError as error:
            if len(names) == 1:
                raise
            failed += 1
            terminal.complain(str(error) if name in str(error) else f"{name}: {error}")
        else:
            done += 1
            terminal.say(line(found), **asdict(found))
    if not failed:
        return Exit.DONE
    return Exit.PARTLY if done else Exit.FAILED


async def _copied(
    terminal: Terminal, old: Tools, new: Tools, name: str, *, switch: bool
) -> CopiedMailbox:
    """Copy one, with a progress bar for each pass."""
    from gateway.operations.mail.copy import copy_mailbox

    try:
        return await copy_mailbox(old, new, mailbox=name, switch=switch, progress=terminal.progress)
    finally:
        # It may have failed in the midst of a pass.
        terminal.progress(0, 0)


def line(one: CopiedMailbox) -> str:
    """A copied mailbox."""
    hidden = f" and {one.hidden_messages:,} hidden" if one.hidden_messages else ""
    text = f"{one.mailbox}: {counted(one.messages, 'message')}{hidden}, {rounded_size(one.octets)}"
    text += f", {one.copied:,} of them copied now, all compared"
    if one.left_out:
        text += f"; {one.left_out:,} in other folders, which only IMAP shows, are not copied"
    if one.is_switched:
        return f"{text}; the new place serves it, after {one.closed:.1f} s in which none did"
    return f"{text}; the old place serves it: run it again without --no-switch to switch"
