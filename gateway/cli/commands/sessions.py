"""``pop3gw sessions``: who is on, and how to end sessions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import CONFIG, Exit, Group, command
from gateway.cli.pages import Paging, paged, show_list, watched
from gateway.cli.server_parts import Ask, with_server
from gateway.cli.terminal import Terminal, View, described
from gateway.units import rounded_size, rounded_time, time_text

if TYPE_CHECKING:
    from gateway.operations.users.sessions import Kicked, SessionRow


@click.group(
    "sessions",
    cls=Group,
    default="list",
    examples=(
        "pop3gw sessions list --config /etc/pop3gw.toml",
        "pop3gw sessions kick --config /etc/pop3gw.toml --user bob@example.org",
    ),
)
def sessions() -> None:
    """List and end sessions."""


@command(
    "list",
    "pop3gw sessions list --config /etc/pop3gw.toml",
    "pop3gw sessions list --config /etc/pop3gw.toml --user bob@example.org",
    "pop3gw sessions list --config /etc/pop3gw.toml --address 192.0.2.0/24 --watch 2",
    does="sessions.list_sessions",
)
@CONFIG
@paged
@click.option("--user", default="", metavar="NAME", help="Of this login name or mailbox.")
@click.option("--address", default="", metavar="ADDRESS", help="Of this client or network.")
@click.option("--protocol", type=click.Choice(["pop3", "lmtp", "policy"]), help="Of this protocol.")
@click.option(
    "--watch",
    type=click.FloatRange(0.5, 3600),
    metavar="SECONDS",
    help="Show them again every SECONDS, until Ctrl-C.",
)
def list_sessions(
    terminal: Terminal,
    config: str | None,
    paging: Paging,
    user: str,
    address: str,
    protocol: Any,
    watch: float | None,
) -> Exit:
    """List the open sessions of all processes, the oldest first."""
    from gateway.operations.users.sessions import list_sessions as operation

    def show() -> Exit:
        return show_list(
            terminal,
            config,
            paging,
            SESSIONS,
            "no such session is open",
            operation,
            user=user,
            address=address,
            protocol=protocol,
        )

    return watched(terminal, watch, show)


@command(
    "kick",
    "pop3gw sessions kick --config /etc/pop3gw.toml --user bob@example.org",
    "pop3gw sessions kick --config /etc/pop3gw.toml --address 192.0.2.7",
    does="sessions.kick_session sessions.kick_sessions",
)
@CONFIG
@click.option("--user", default="", metavar="NAME", help="All of this login name or mailbox.")
@click.option("--address", default="", metavar="ADDRESS", help="All of this client or network.")
@click.argument("session", required=False)
def kick(
    terminal: Terminal, config: str | None, user: str, address: str, session: str | None
) -> Exit:
    """End SESSION, or all sessions of a user or of a client's address.

    A removal after QUIT, or a delivery, ends first; without QUIT no message is
    removed. The client may come back: disable the account before.
    """
    from gateway.operations.users.sessions import kick_session, kick_sessions

    if bool(session) == bool(user or address):
        raise click.UsageError("expected SESSION, or --user or --address")

    async def work(ask: Ask) -> Exit:
        if session:
            done = await ask(kick_session, session=session)
        else:
            done = await ask(kick_sessions, user=user, address=address)
        terminal.show(KICKED, done.sessions)
        if not done.sessions:
            terminal.say("no such session is open: see pop3gw sessions list", kicked=0)
        return Exit.DONE

    return with_server(config, work)


for one in (list_sessions, kick):
    sessions.add_command(one)


# -- views -------------------------------------------------------------------------


def _user(one: SessionRow) -> str:
    who = one.user or "(nobody)"
    is_delegate = one.mailbox and one.mailbox.casefold() != one.user.casefold()
    return f"{who} in {one.mailbox}" if is_delegate else who


def _security(one: SessionRow) -> str:
    return one.tls or ("at proxy" if one.secure else "none")


def _cells(one: SessionRow) -> tuple[str, ...]:
    return (
        one.session,
        _user(one),
        one.address or "(socket)",
        _security(one),
        one.mechanism,
        rounded_time(time.time() - one.since),
        one.state,
        rounded_size(one.octets),
    )


def _line(one: SessionRow) -> str:
    login = f" by {one.mechanism}" if one.mechanism else ""
    return (
        f"{one.session}: {_user(one)}{login} from {one.address or 'a UNIX socket'} at"
        f" {one.listener}, {one.protocol}, TLS {_security(one)}, since {time_text(one.since)},"
        f" {one.state}, {one.octets} octets"
    )


def _described(one: SessionRow) -> dict[str, Any]:
    return described(one, "since")


SESSIONS: View[SessionRow] = View(
    ("Session", "User", "Address", "TLS", "Login", "Since", "State", "Size"),
    _cells,
    _line,
    _described,
    numbers=("Since", "Size"),
)


def _outcome(one: Kicked) -> str:
    return "ended" if one.ended else "ends after its removal or delivery"


KICKED: View[Kicked] = View(
    ("Session", "User", "Address", "Outcome"),
    lambda one: (one.session.session, _user(one.session), one.session.address, _outcome(one)),
    lambda one: (
        f"{one.session.session}: {_user(one.session)} from {one.session.address}: {_outcome(one)}"
    ),
    lambda one: _described(one.session) | {"ended": one.ended},
)
