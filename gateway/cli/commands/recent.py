"""What happened of late: failed logins, deliveries and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import CONFIG, Exit, command
from gateway.cli.commands.activity import logins
from gateway.cli.moments import cell_of, moment, time_or
from gateway.cli.pages import Paging, paged, show_list
from gateway.cli.terminal import Terminal, View, described
from gateway.units import rounded_size

if TYPE_CHECKING:
    from gateway.model import Delivery, FailedLogin


@command(
    "failed",
    "pop3gw logins failed --config /etc/pop3gw.toml --user bob@example.org",
    "pop3gw logins failed --config /etc/pop3gw.toml --address 192.0.2.7 --since 1h",
    does="recent.list_failed_logins",
)
@CONFIG
@paged
@click.option("--user", default="", metavar="NAME", help="Login name, mail address or mailbox.")
@click.option("--address", default="", metavar="ADDRESS", help="The client's, or a network.")
@moment("--since", "Only later ones")
def failed(
    terminal: Terminal,
    config: str | None,
    paging: Paging,
    user: str,
    address: str,
    since: float | None,
) -> Exit:
    """List failed logins of late with their reasons, the latest first.

    The server keeps the last 2,000 of each process in memory; the log has all.
    """
    from gateway.operations.users.recent import list_failed_logins

    return show_list(
        terminal,
        config,
        paging,
        FAILED,
        "no such login has failed of late; the log has older ones",
        list_failed_logins,
        user=user,
        address=address,
        since=since or 0.0,
    )


FAILED: View[FailedLogin] = View(
    ("Time", "User", "By", "From", "Reason"),
    lambda one: (cell_of(one.at), one.user, one.method, one.client, one.reason),
    lambda one: (
        f"{time_or(one.at)} {one.user or '(nobody)'} by {one.method} from {one.client} at"
        f" {one.listener}, session {one.session}: {one.reason}"
    ),
    lambda one: described(one, "at"),
)


# -- deliveries ----------------------------------------------------------------


@command(
    "deliveries",
    "pop3gw deliveries --config /etc/pop3gw.toml --user bob@example.org",
    "pop3gw deliveries --config /etc/pop3gw.toml --outcome not-delivered --since 1h",
    "pop3gw deliveries --config /etc/pop3gw.toml --message-id 20260131.1@example.net",
    does="recent.list_deliveries",
)
@CONFIG
@paged
@click.option("--user", default="", metavar="NAME", help="For or from this user.")
@click.option("--address", default="", metavar="ADDRESS", help="Of a recipient or the sender.")
@click.option("--message-id", default="", metavar="ID", help="Message-ID, or the id in the log.")
@click.option(
    "--outcome",
    type=click.Choice(["delivered", "not-delivered", "refused", "failed", "policy"]),
    help="What became of it; policy: Postfix was told not to take it.",
)
@moment("--since", "Only later ones")
def deliveries(
    terminal: Terminal,
    config: str | None,
    paging: Paging,
    user: str,
    address: str,
    message_id: str,
    outcome: Any,
    since: float | None,
) -> Exit:
    """List deliveries and refusals of late, the latest first.

    The server keeps the last 2,000 of each process in memory; the log has all.
    """
    from gateway.operations.users.recent import list_deliveries

    return show_list(
        terminal,
        config,
        paging,
        DELIVERIES,
        "no such mail came of late: look at Postfix's queue and at the log",
        list_deliveries,
        user=user,
        address=address,
        message_id=message_id,
        outcome=outcome or "",
        since=since or 0.0,
    )


def _for(one: Delivery) -> str:
    return one.mailbox or ", ".join(one.recipients)


DELIVERIES: View[Delivery] = View(
    ("Time", "For", "From", "Outcome", "Size", "Reason"),
    lambda one: (
        cell_of(one.at),
        _for(one),
        one.sender or "(bounce)",
        one.outcome,
        rounded_size(one.octets),
        one.reason,
    ),
    lambda one: (
        f"{time_or(one.at)} {one.outcome} for {_for(one)} from {one.sender or '(bounce)'},"
        f" {one.octets} octets, message {one.message} {one.message_id}".rstrip()
        + (f": {one.reason}" if one.reason else "")
    ),
    lambda one: described(one, "at"),
    numbers=("Size",),
)


logins.add_command(failed)
