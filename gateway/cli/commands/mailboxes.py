"""``pop3gw mailboxes``: which there are, how full they are, and what is done to a whole one."""

from __future__ import annotations

import sys
from typing import Any

import click
from attrs import asdict

from gateway.cli.client import LONGEST
from gateway.cli.command import CONFIG, Exit, Group, command
from gateway.cli.commands.copy import copy
from gateway.cli.pages import Paging, paged, show_list
from gateway.cli.server_parts import Ask, with_server
from gateway.cli.terminal import Terminal
from gateway.units import rounded_size


@click.group(
    "mailboxes",
    cls=Group,
    default="list",
    examples=(
        "pop3gw mailboxes list --config /etc/pop3gw.toml --sort octets",
        "pop3gw mailboxes show --config /etc/pop3gw.toml bob@example.org",
    ),
)
def mailboxes() -> None:
    """List, count, rename, copy and delete mailboxes."""


@command(
    "list",
    "pop3gw mailboxes list --config /etc/pop3gw.toml",
    "pop3gw mailboxes list --config /etc/pop3gw.toml --search example.org --sort share",
    "pop3gw mailboxes list --config /etc/pop3gw.toml --sort last_login --all --json",
    does="mailbox_list.list_mailboxes",
)
@CONFIG
@paged
@click.option("--search", default="", metavar="TEXT", help="Only names with this in them.")
@click.option(
    "--sort",
    type=click.Choice(["octets", "messages", "share", "mailbox", "last_login"]),
    default="octets",
    show_default=True,
    help="The order: the fullest first, by octets, messages, or share of the limit; by name;"
    " or who has not logged in for longest.",
)
def list_mailboxes(
    terminal: Terminal, config: str | None, paging: Paging, search: str, sort: Any
) -> Exit:
    """List mailboxes with their usage, limits and last logins, the fullest first.

    Usage may be half a minute old.
    """
    from gateway.cli.commands.mailbox_views import MAILBOXES
    from gateway.operations.mail.mailbox_list import list_mailboxes as operation

    none = (
        f"no mailbox has {search} in its name"
        if search
        else "there are no mailboxes yet: the first login or delivery makes one"
    )
    return show_list(terminal, config, paging, MAILBOXES, none, operation, search=search, sort=sort)


@command(
    "show",
    "pop3gw mailboxes show --config /etc/pop3gw.toml bob@example.org",
    does="mailbox_list.show_mailbox",
)
@CONFIG
@click.argument("mailbox")
def show(terminal: Terminal, config: str | None, mailbox: str) -> Exit:
    """Show all about MAILBOX: usage, limits and where they are set, retention, sessions."""
    from gateway.cli.commands.mailbox_views import details, details_described
    from gateway.operations.mail.mailbox_list import show_mailbox

    async def work(ask: Ask) -> Exit:
        found = await ask(show_mailbox, mailbox=mailbox)
        terminal.fields(details(found), **details_described(found))
        return Exit.DONE

    return with_server(config, work, LONGEST)


# -- changes -------------------------------------------------------------------


@command(
    "recalculate",
    "pop3gw mailboxes recalculate --config /etc/pop3gw.toml bob@example.org",
    does="mailboxes.recalculate",
)
@CONFIG
@click.argument("mailbox")
def recalculate(terminal: Terminal, config: str | None, mailbox: str) -> Exit:
    """Count all messages of MAILBOX again, for its quota."""
    from gateway.operations.mail.mailboxes import recalculate as operation

    async def work(ask: Ask) -> Exit:
        done = await ask(operation, mailbox=mailbox)
        before = (
            "unknown"
            if done.octets_before is None
            else f"{done.messages_before:,} messages, {rounded_size(done.octets_before)}"
        )
        after = f"{done.messages:,} messages, {rounded_size(done.octets)}"
        terminal.say(f"{mailbox}: {after}; before {before}", **asdict(done))
        return Exit.DONE

    return with_server(config, work, LONGEST)


@command(
    "rename",
    "pop3gw mailboxes rename --config /etc/pop3gw.toml bob@example.org rob@example.org",
    does="mailboxes.rename",
)
@CONFIG
@click.argument("mailbox")
@click.argument("target")
def rename(terminal: Terminal, config: str | None, mailbox: str, target: str) -> Exit:
    """Rename MAILBOX to TARGET, with its mail and unique-ids.

    No session may have it open. Change the account's mailbox in the directory as
    well: else its next login or delivery makes an empty mailbox of the old name.
    """
    from gateway.operations.mail.mailboxes import rename as operation

    async def work(ask: Ask) -> Exit:
        done = await ask(operation, mailbox=mailbox, target=target)
        terminal.say(f"{done.was} is now {done.mailbox}", **asdict(done))
        if done.owner is not None and not terminal.as_json:
            terminal.say(f"change it in the directory: {done.owner} still has {done.was}")
        return Exit.DONE

    return with_server(config, work, LONGEST)


@command(
    "delete",
    "pop3gw mailboxes delete --config /etc/pop3gw.toml bob@example.org --dry-run",
    "pop3gw mailboxes delete --config /etc/pop3gw.toml bob@example.org",
    "pop3gw mailboxes delete --config /etc/pop3gw.toml bob@example.org --yes",
    does="mailboxes.delete",
)
@CONFIG
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("mailbox")
def delete(terminal: Terminal, config: str | None, dry_run: bool, yes: bool, mailbox: str) -> Exit:
    """Delete MAILBOX with all its mail, after a line in the audit log for each message.

    Asks first, unless --yes is given. No session may have it open, and a mailbox
    on hold is not deleted. The account stays in the directory.
    """
    from gateway.operations.mail.mailboxes import delete as operation

    async def work(ask: Ask) -> Exit:
        found = await ask(operation, mailbox=mailbox, dry_run=True)
        what = (
            f"{mailbox}: {found.messages:,} messages, {rounded_size(found.octets)}"
            f" ({found.hidden_messages:,} hidden, {found.folder_messages:,} in other folders)"
        )
        if dry_run:
            held = "; it is on hold, so nothing can be deleted" if found.on_hold else ""
            terminal.say(f"would delete {what}{held}", **asdict(found))
            return Exit.DONE
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError(f"{what}: say --yes to delete it, there is nobody to ask")
            if not click.confirm(f"{what}. Delete all of it for good?", err=True):
                terminal.complain("nothing was deleted")
                return Exit.FAILED
        done = await ask(operation, mailbox=mailbox, confirm=mailbox)
        terminal.say(
            f"deleted {mailbox}: {done.messages:,} messages, {rounded_size(done.octets)}",
            **asdict(done),
        )
        if done.owner is not None and not terminal.as_json:
            terminal.say(
                f"the account {done.owner} is still in the directory: its next login or"
                " delivery makes an empty mailbox"
            )
        return Exit.DONE

    return with_server(config, work, LONGEST)


@command(
    "move-ids",
    "pop3gw mailboxes move-ids --config /etc/pop3gw.toml bob@example.org --by 5000",
    does="unique_ids.move_mailbox_ids",
)
@CONFIG
@click.option(
    "--by",
    type=click.IntRange(1, 100_000_000),
    metavar="IDS",
    default=10_000,
    show_default=True,
    help="More than the mailbox has given since the backup.",
)
@click.argument("mailbox")
def move_ids(terminal: Terminal, config: str | None, by: int, mailbox: str) -> Exit:
    """Give new messages of MAILBOX larger unique-ids.

    For use after a restore of this mailbox from a backup; 'pop3gw move-ids' is for
    all mailboxes.
    """
    from gateway.operations.mail.unique_ids import move_mailbox_ids

    async def work(ask: Ask) -> Exit:
        done = await ask(move_mailbox_ids, mailbox=mailbox, by=by)
        begins = "above all earlier ones" if done.next_uid is None else f"at {done.next_uid}"
        terminal.say(f"{mailbox}: new unique-ids begin {begins}", **asdict(done))
        return Exit.DONE

    return with_server(config, work)


for one in (list_mailboxes, show, recalculate, rename, copy, delete, move_ids):
    mailboxes.add_command(one)
