"""``pop3gw users``: accounts as the server sees them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from attrs import asdict

from gateway.cli.command import CONFIG, Exit, Group, command
from gateway.cli.commands.mailbox_views import with_source
from gateway.cli.moments import time_or
from gateway.cli.server_parts import Ask, with_server
from gateway.cli.terminal import Terminal
from gateway.units import rounded_size

if TYPE_CHECKING:
    from gateway.operations.users.users import UserDelegates, UserEntry


@click.group(
    "users",
    cls=Group,
    default="show",
    examples=(
        "pop3gw users show --config /etc/pop3gw.toml bob@example.org",
        "pop3gw users auth-test --config /etc/pop3gw.toml bob@example.org",
    ),
)
def users() -> None:
    """Look up users as the server does, test a login, flush caches."""


@command(
    "show",
    "pop3gw users show --config /etc/pop3gw.toml bob@example.org",
    "pop3gw users show --config /etc/pop3gw.toml bob@example.org --json",
    does="users.show_user",
)
@CONFIG
@click.argument("user")
def show(terminal: Terminal, config: str | None, user: str) -> Exit:
    """Show USER, a login name, mail address or mailbox, as the server sees it.

    Says where quota and retention policy come from, and why a login or mail would
    be refused. No password is shown, nor its hash.
    """
    from gateway.operations.users.users import show_user

    async def work(ask: Ask) -> Exit:
        found = await ask(show_user, user=user)
        terminal.fields(_entry(found), **asdict(found))
        return Exit.DONE

    return with_server(config, work)


@command(
    "delegates",
    "pop3gw users delegates --config /etc/pop3gw.toml info@example.org",
    does="users.list_delegates",
)
@CONFIG
@click.argument("user")
def delegates(terminal: Terminal, config: str | None, user: str) -> Exit:
    """Show who may open the mailbox of USER, and which mailboxes USER may open.

    Reads all accounts of the directory.
    """
    from gateway.operations.users.users import list_delegates

    async def work(ask: Ask) -> Exit:
        found = await ask(list_delegates, user=user)
        terminal.fields(_delegates(found), **asdict(found))
        return Exit.DONE

    return with_server(config, work)


@command(
    "auth-test",
    "pop3gw users auth-test --config /etc/pop3gw.toml bob@example.org",
    "pop3gw users auth-test --config /etc/pop3gw.toml bob@example.org --stdin",
    does="auth.auth_test",
)
@CONFIG
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the password from its first line.")
@click.option("--as", "acts_as", default="", metavar="MAILBOX", help="Open it as a delegate.")
@click.argument("user")
def auth_test(
    terminal: Terminal, config: str | None, from_stdin: bool, acts_as: str, user: str
) -> Exit:
    """Test the password of USER as a login does, and say which step fails.

    Asks for the password. The login throttle neither delays nor counts the test, but
    a directory that locks accounts counts a wrong password. The exit code is 1 if the
    login would fail.
    """
    from gateway.operations.users.auth import auth_test as operation

    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt(f"Password of {user}", hide_input=True, err=True)

    async def work(ask: Ask) -> Exit:
        found = await ask(operation, user=user, password=password, acts_as=acts_as)
        shown: dict[str, object] = {
            str(step.step).capitalize(): f"{'ok' if step.passed else 'FAILED'}: {step.text}"
            for step in found.steps
        }
        shown["Login"] = "works" if found.passed else "fails"
        if found.waits:
            shown["Waits"] = found.waits
        terminal.fields(shown, **asdict(found))
        return Exit.DONE if found.passed else Exit.FAILED

    return with_server(config, work)


@command(
    "flush",
    "pop3gw users flush --config /etc/pop3gw.toml bob@example.org",
    "pop3gw users flush --config /etc/pop3gw.toml --all",
    does="auth.flush_caches",
)
@CONFIG
@click.option("--all", "everybody", is_flag=True, help="Of all users.")
@click.argument("user", required=False)
def flush(terminal: Terminal, config: str | None, everybody: bool, user: str | None) -> Exit:
    """Drop what the server has cached of USER: password, account, list of messages.

    After a change in the directory or a restore of mail. Nobody is logged out.
    """
    from gateway.operations.users.auth import flush_caches

    if everybody == bool(user):
        raise click.UsageError("expected USER or --all")

    async def work(ask: Ask) -> Exit:
        done = await ask(flush_caches, user=user or None)
        terminal.say(
            f"dropped {done.passwords:,} passwords, {done.accounts:,} accounts,"
            f" {done.listings:,} lists of messages in {done.processes} processes",
            **asdict(done),
        )
        return Exit.DONE

    return with_server(config, work)


for one in (show, delegates, auth_test, flush):
    users.add_command(one)


def _entry(one: UserEntry) -> dict[str, object]:
    box = one.box
    octets = "?" if box.octets is None else rounded_size(box.octets)
    messages = "?" if box.messages is None else f"{box.messages:,}"
    share = "" if box.share is None else f", {box.share:.0%} of the limit"
    limit = "none" if box.limit_octets is None else rounded_size(box.limit_octets)
    most = "none" if box.limit_messages is None else f"{box.limit_messages:,}"
    login = time_or(box.last_login, "none known")
    here = "this server" if one.is_here else f"{one.host}, another server"
    return {
        "Account": f"{one.name}, found by its {one.found_by}",
        "Mailbox": f"{one.mailbox} on {here}",
        "Home": one.home or "none",
        "Addresses": one.addresses,
        "Delegates": one.delegates,
        "Password": ", ".join(one.hashes) or "the directory gives no hash",
        "Last login": login,
        "Usage": f"{messages} messages, {octets}{share}",
        "Limit": with_source(limit, box.limit_octets_from),
        "Most messages": with_source(most, box.limit_messages_from),
        "Retention": with_source(box.policy or "none", box.policy_from),
        "Login": one.login_refused or "works with the right password",
        "Mail": one.delivery_refused or "is taken in",
    }


def _delegates(one: UserDelegates) -> dict[str, object]:
    allowed = "yes" if one.are_allowed else "no: set directory.delegates"
    return {
        "Account": one.name,
        "Delegates work": allowed,
        "Opened by": one.of,
        "Opens": one.opens,
        "Unknown": one.unknown,
    }
