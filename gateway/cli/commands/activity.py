"""What is kept: the last login to each mailbox, and the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import CONFIG, Exit, Group, command
from gateway.cli.moments import cell_of, moment, time_or
from gateway.cli.pages import Paging, paged, show_list
from gateway.cli.server_parts import Ask, with_server
from gateway.cli.terminal import Terminal, View, described
from gateway.units import rounded_size

if TYPE_CHECKING:
    from gateway.model import AuditEntry
    from gateway.operations.users.logins import MailboxLogin

# -- logins --------------------------------------------------------------------


@click.group(
    "logins",
    cls=Group,
    default="list",
    examples=(
        "pop3gw logins failed --config /etc/pop3gw.toml --user bob@example.org",
        "pop3gw logins list --config /etc/pop3gw.toml --unused-days 90",
    ),
)
def logins() -> None:
    """List the last login to each mailbox, and failed logins of late."""


@command(
    "list",
    "pop3gw logins list --config /etc/pop3gw.toml --unused-days 90",
    "pop3gw logins list --config /etc/pop3gw.toml --search bob --json",
    does="logins.list_logins",
)
@CONFIG
@paged
@click.option(
    "--unused-days",
    type=click.IntRange(0, 36_500),
    default=0,
    metavar="DAYS",
    help="Only mailboxes without a login in that time.",
)
@click.option("--search", default="", metavar="TEXT", help="Only names with this in them.")
@click.option(
    "--sort",
    type=click.Choice(["oldest", "newest", "mailbox"]),
    default="oldest",
    show_default=True,
    help="The order.",
)
def list_logins(
    terminal: Terminal,
    config: str | None,
    paging: Paging,
    unused_days: int,
    search: str,
    sort: Any,
) -> Exit:
    """List the last login to each mailbox, those without any first."""
    from gateway.operations.users.logins import list_logins as operation

    return show_list(
        terminal,
        config,
        paging,
        LOGINS,
        "no such mailbox",
        operation,
        unused_days=unused_days,
        search=search,
        sort=sort,
    )


def _login_text(one: MailboxLogin) -> str:
    since = f" since {time_or(one.known_since)}" if one.known_since is not None else ""
    return f"none{since}" if one.at is None else time_or(one.at)


LOGINS: View[MailboxLogin] = View(
    ("Mailbox", "Last login", "By", "From"),
    lambda one: (one.mailbox, cell_of(one.at, "none known"), one.method, one.network),
    lambda one: (
        f"{one.mailbox}: {_login_text(one)}"
        + (f" by {one.method} from a {one.network} address" if one.method else "")
    ),
    lambda one: described(one, "at", "known_since"),
)


logins.add_command(list_logins)


# -- the audit log -------------------------------------------------------------


@command(
    "audit",
    "pop3gw audit --config /etc/pop3gw.toml --mailbox bob@example.org --since 7d",
    "pop3gw audit --config /etc/pop3gw.toml --message-id 20260131.1@example.net",
    "pop3gw audit --config /etc/pop3gw.toml --action restore --all --json",
    does="audit.search_audit",
)
@CONFIG
@click.option("--mailbox", default="", metavar="NAME", help="Of this mailbox.")
@click.option("--message-id", default="", metavar="ID", help="With this Message-ID.")
@click.option("--operator", default="", metavar="NAME", help="By this operator, as 'uid 0'.")
@click.option("--session", default="", metavar="ID", help="By this POP3 session.")
@click.option(
    "--action",
    type=click.Choice(["discard", "hide", "purge", "restore"]),
    help="What was done.",
)
@moment("--since", "Only later entries")
@moment("--until", "Only earlier entries")
@click.option(
    "--most", type=click.IntRange(1, 1000), default=50, show_default=True, help="Entries at most."
)
@click.option("--all", "everything", is_flag=True, help="All entries.")
def audit(
    terminal: Terminal,
    config: str | None,
    since: float | None,
    most: int,
    everything: bool,
    action: Any,
    **wanted: Any,
) -> Exit:
    """Search the audit log: what was removed, hidden and restored, by whom, when.

    The newest entries come first. Older files of the log are searched too; in a
    cluster, the entries of all gateways.
    """
    from gateway.operations.mail.audit import search_audit

    async def work(ask: Ask) -> Exit:
        rows, cursor, found, damaged = terminal.rows(AUDIT), "", 0, 0
        while True:
            part = await ask(
                search_audit,
                action=action or "",
                **wanted,
                since=since or 0.0,
                cursor=cursor,
                most=most,
            )
            for one in part.items[: None if everything else most - found]:
                rows.add(one)
                found += 1
            damaged, cursor = damaged + part.damaged, part.cursor
            if not cursor or (found >= most and not everything):
                break
        rows.end()
        if not found:
            terminal.say("the audit log has no such entry")
        elif cursor:
            terminal.say("there may be more: --most shows more of them, --all all")
        if damaged:
            terminal.complain(f"{damaged} lines of the audit log could not be read")
        return Exit.PARTLY if damaged else Exit.DONE

    return with_server(config, work)


def _by(one: AuditEntry) -> str:
    session = f"session {one.session} from {one.client}" if one.session else ""
    rule = f"rule {one.rule}" if one.rule else ""
    return one.operator or session or rule


AUDIT: View[AuditEntry] = View(
    ("Time", "Action", "Mailbox", "UID", "Size", "By"),
    lambda one: (
        cell_of(one.at),
        one.action,
        one.mailbox,
        one.uid,
        rounded_size(one.octets),
        _by(one),
    ),
    lambda one: (
        f"{time_or(one.at)} {one.action} {one.mailbox} {one.uid}, {one.octets} octets,"
        f" Message-ID {one.message_id or '(none)'}, by {_by(one)}"
    ),
    lambda one: described(one, "at", "received", "read"),
    numbers=("Size",),
)
