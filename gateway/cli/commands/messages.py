"""``pop3gw messages``: the messages of a mailbox, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from attrs import asdict

from gateway.cli.client import LONGEST
from gateway.cli.command import CONFIG, Exit, Group, command
from gateway.cli.moments import day_of
from gateway.cli.pages import Paging, paged, show_list
from gateway.cli.server_parts import Ask, with_server
from gateway.cli.terminal import Terminal, View, described
from gateway.units import rounded_size, time_text

if TYPE_CHECKING:
    from gateway.operations.mail.messages import ChangedMessages, MessageRow


@click.group(
    "messages",
    cls=Group,
    default="list",
    examples=(
        "pop3gw messages list --config /etc/pop3gw.toml bob@example.org",
        "pop3gw messages hide --config /etc/pop3gw.toml bob@example.org 17",
    ),
)
def messages() -> None:
    """List, hide, restore and remove messages of a mailbox."""


# -- list and show -----------------------------------------------------------------


@command(
    "list",
    "pop3gw messages list --config /etc/pop3gw.toml bob@example.org",
    "pop3gw messages list --config /etc/pop3gw.toml bob@example.org --show hidden",
    "pop3gw messages list --config /etc/pop3gw.toml bob@example.org --sort octets --reverse",
    does="messages.list_messages",
)
@CONFIG
@paged
@click.option(
    "--show",
    type=click.Choice(["all", "shown", "hidden"]),
    default="all",
    show_default=True,
    help="Messages that POP3 shows, or hidden ones.",
)
@click.option(
    "--sort",
    type=click.Choice(["received", "octets", "due", "uid"]),
    default="received",
    show_default=True,
    help="The order.",
)
@click.option("--reverse", is_flag=True, help="The other way round: the largest first.")
@click.argument("mailbox")
def list_messages(
    terminal: Terminal,
    config: str | None,
    paging: Paging,
    show: Any,
    sort: Any,
    reverse: bool,
    mailbox: str,
) -> Exit:
    """List the messages of MAILBOX, and when retention removes each and why."""
    from gateway.operations.mail.messages import list_messages as operation

    none = f"{mailbox} has no such messages; see pop3gw mailboxes show {mailbox}"
    return show_list(
        terminal,
        config,
        paging,
        MESSAGES,
        none,
        operation,
        mailbox=mailbox,
        show=show,
        sort=sort,
        descending=reverse,
    )


@command(
    "show",
    "pop3gw messages show --config /etc/pop3gw.toml bob@example.org 17",
    does="messages.show_header",
)
@CONFIG
@click.argument("mailbox")
@click.argument("uid")
def show(terminal: Terminal, config: str | None, mailbox: str, uid: str) -> Exit:
    """Show From, Subject, Date and Message-ID of a message; never its body.

    The sender of the message wrote these, and may lie.
    """
    from gateway.operations.mail.messages import show_header

    async def work(ask: Ask) -> Exit:
        found = asdict(await ask(show_header, mailbox=mailbox, uid=uid))
        names = {"sender": "From", "subject": "Subject", "date": "Date", "message_id": "Message-ID"}
        terminal.fields({names[name]: found[name] or "(none)" for name in names}, **found)
        return Exit.DONE

    return with_server(config, work)


# -- changes -------------------------------------------------------------------


def _changing(name: str, done: str, operation: Callable[[], Any], text: str) -> Any:
    """A command that changes messages by their unique-ids."""

    def run(terminal: Terminal, config: str | None, mailbox: str, uids: tuple[str, ...]) -> Exit:
        async def work(ask: Ask) -> Exit:
            changed: ChangedMessages = await ask(operation(), mailbox=mailbox, uids=uids)
            terminal.say(
                f"{done} {changed.done} of {changed.wanted} messages in {changed.mailbox}",
                **asdict(changed),
            )
            return Exit.DONE if changed.done == changed.wanted else Exit.PARTLY

        return with_server(config, work, LONGEST)

    run.__doc__ = text
    for option in (
        click.argument("uids", nargs=-1, required=True, metavar="UID..."),
        click.argument("mailbox"),
        CONFIG,
    ):
        run = option(run)
    example = f"pop3gw messages {name} --config /etc/pop3gw.toml bob@example.org 17 18"
    return command(name, example, does=f"messages.{name}_messages")(run)


def _hide() -> Any:
    from gateway.operations.mail.messages import hide_messages

    return hide_messages


def _remove() -> Any:
    from gateway.operations.mail.messages import remove_messages

    return remove_messages


hide = _changing(
    "hide",
    "hid",
    _hide,
    """Hide messages of MAILBOX from POP3, with a line each in the audit log.

    They keep their UIDs, and 'pop3gw messages restore' brings them back. Retention
    removes hidden messages where the policy has hide.
    """,
)
remove = _changing(
    "remove",
    "removed",
    _remove,
    """Remove messages of MAILBOX for good, hidden ones too.

    The audit log has a line for each. A mailbox on hold loses none.
    """,
)


@command(
    "restore",
    "pop3gw messages restore --config /etc/pop3gw.toml bob@example.org 17",
    "pop3gw messages restore --config /etc/pop3gw.toml bob@example.org --all",
    does="stored_mail.restore",
)
@CONFIG
@click.option("--all", "everything", is_flag=True, help="All hidden messages.")
@click.argument("mailbox")
@click.argument("uids", nargs=-1, metavar="[UID]...")
def restore(
    terminal: Terminal, config: str | None, everything: bool, mailbox: str, uids: tuple[str, ...]
) -> Exit:
    """Bring hidden messages of MAILBOX back: those with these UIDs, or all.

    They keep their unique-ids; their age is counted anew. The same as
    'pop3gw retention restore'.
    """
    from gateway.cli.commands.retention import show_restored

    if everything == bool(uids):
        raise click.UsageError("expected UIDs or --all")
    return with_server(config, lambda ask: show_restored(terminal, ask, mailbox, uids), LONGEST)


for one in (list_messages, show, hide, restore, remove):
    messages.add_command(one)


# -- views -------------------------------------------------------------------------


def _state(one: MessageRow) -> str:
    return "hidden" if one.hidden is not None else "unread" if one.read is None else "read"


def _cells(one: MessageRow) -> tuple[str, ...]:
    since = one.received if one.hidden is None else one.hidden
    due = day_of(one.due, "never")
    return one.uid, rounded_size(one.octets), day_of(since), _state(one), due, one.why


def _line(one: MessageRow) -> str:
    when = [
        f"{word} {time_text(value)}"
        for word, value in (("came", one.received), ("read", one.read), ("hidden", one.hidden))
        if value is not None
    ]
    due = "never goes" if one.due is None else f"goes {time_text(one.due)}"
    return f"{one.uid}: {one.octets} octets; {', '.join(when)}; {due}: {one.why}"


def _described(one: MessageRow) -> dict[str, Any]:
    found = described(one, "received", "read", "hidden", "due")
    return {"uid": one.uid, "size": found.pop("octets"), **found}


MESSAGES: View[MessageRow] = View(
    ("Unique-id", "Size", "Since", "State", "Goes", "Why"),
    _cells,
    _line,
    _described,
    numbers=("Size",),
)
