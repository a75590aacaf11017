"""``pop3gw retention``: what retention would remove, orders to the server, hidden mail."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import click
from attrs import asdict

from gateway.cli.command import CONFIG, Exit, Group, command
from gateway.cli.retention_views import HIDDEN, MAILBOXES, MESSAGES, PURGED, described, line
from gateway.cli.server_parts import settings_of, with_mailboxes, with_state
from gateway.cli.terminal import Terminal, View

if TYPE_CHECKING:
    from gateway.interfaces import IState
    from gateway.operations.retention import Ordered, Retained, StorePreview
    from gateway.retention.preview import Preview


@click.group(
    "retention",
    cls=Group,
    examples=(
        "pop3gw retention preview --config /etc/pop3gw.toml",
        "pop3gw retention release --config /etc/pop3gw.toml bob@example.org",
    ),
)
def retention() -> None:
    """Preview, run and release retention; restore mail."""


# -- preview ------------------------------------------------------------------


@command(
    "preview",
    "pop3gw retention preview --config /etc/pop3gw.toml",
    "pop3gw retention preview --config /etc/pop3gw.toml bob@example.org",
    "pop3gw retention preview --config /etc/pop3gw.toml --json",
)
@CONFIG
@click.argument("mailbox", required=False)
def preview(terminal: Terminal, config: str | None, mailbox: str | None) -> Exit:
    """Show what retention would remove now, and why. Nothing is removed.

    Without MAILBOX: the mailboxes that would lose mail. With MAILBOX: each of
    its messages that would go.
    """
    now = time.time()
    return with_mailboxes(
        settings_of(config), lambda found: show_preview(terminal, found, mailbox, now)
    )


async def show_preview(
    terminal: Terminal, retained: Retained, mailbox: str | None, now: float
) -> Exit:
    """Print a preview; ``PARTLY`` where a mailbox could not be read."""
    from gateway.operations import retention as operations

    code = Exit.DONE
    rows = terminal.rows(MAILBOXES)
    found = operations.preview(retained, now, mailbox, terminal.progress)
    async for one in found:
        if isinstance(one, operations.NoPreview):
            terminal.complain(f"{one.mailbox}: {one.reason}")
            code = Exit.PARTLY if one.failed else code
        elif isinstance(one, operations.StorePreview):
            rows.end()
            _show_store(terminal, one)
        elif mailbox:
            _show_mailbox(terminal, one)
        elif one.gone or one.purged or terminal.as_json:
            rows.add(one)
    return code


def _show_mailbox(terminal: Terminal, one: Preview) -> None:
    terminal.say(line(one), **described(one, messages=True))
    if not terminal.as_json:
        terminal.show(MESSAGES, one.gone)
        terminal.show(PURGED, one.purged)


def _show_store(terminal: Terminal, store: StorePreview) -> None:
    terminal.say(
        f"{store.would_go} of {store.messages} messages in {store.mailboxes} mailboxes would go",
        store=asdict(store),
    )
    if store.stops:
        terminal.say(store.stops)


# -- orders to the running server ---------------------------------------------


def _which(function: Callable[..., Any]) -> Callable[..., Any]:
    """One mailbox or all; one of the two is needed."""
    function = click.option("--all", "everywhere", is_flag=True, help="All of them.")(function)
    return click.argument("mailbox", required=False)(function)


@command(
    "run",
    "pop3gw retention run --config /etc/pop3gw.toml bob@example.org",
    "pop3gw retention run --config /etc/pop3gw.toml --all",
)
@CONFIG
@_which
def run(terminal: Terminal, config: str | None, mailbox: str | None, everywhere: bool) -> None:
    """Have the server look at MAILBOX at once.

    With --all: at all mailboxes. The running server begins within a minute.
    """
    from gateway.operations.retention import run as operation

    _order(terminal, config, mailbox, everywhere, operation)


@command(
    "release",
    "pop3gw retention release --config /etc/pop3gw.toml bob@example.org",
    "pop3gw retention release --config /etc/pop3gw.toml --all",
)
@CONFIG
@_which
def release(terminal: Terminal, config: str | None, mailbox: str | None, everywhere: bool) -> None:
    """Release a run that the removal guard has stopped.

    All that is due in MAILBOX is removed, however much it is. With --all: in
    all mailboxes where a run is stopped.
    """
    from gateway.operations.retention import release as operation

    _order(terminal, config, mailbox, everywhere, operation)


def _order(
    terminal: Terminal,
    config: str | None,
    mailbox: str | None,
    everywhere: bool,
    operation: Callable[[IState, str | None, float], Coroutine[Any, Any, list[Ordered]]],
) -> None:
    if everywhere == bool(mailbox):
        raise click.UsageError("expected MAILBOX or --all")
    now = time.time()
    ordered = with_state(settings_of(config), lambda state: operation(state, mailbox, now))
    terminal.show(ORDERED, ordered)
    terminal.say(f"{len(ordered)} mailboxes; a running server begins within a minute")


def _order_line(one: Ordered) -> str:
    if one.released and one.stopped:
        return f"{one.mailbox}: {one.stopped}; released"
    return f"{one.mailbox}: ordered"


ORDERED: View[Ordered] = View(
    ("Mailbox", "Order", "Stopped by"),
    lambda one: (one.mailbox, "released" if one.released else "run", one.stopped or ""),
    _order_line,
    asdict,
)


# -- hidden mail --------------------------------------------------------------


@command(
    "hidden",
    "pop3gw retention hidden --config /etc/pop3gw.toml bob@example.org",
    "pop3gw retention hidden --config /etc/pop3gw.toml --json bob@example.org",
)
@CONFIG
@click.argument("mailbox")
def hidden(terminal: Terminal, config: str | None, mailbox: str) -> Exit:
    """List the hidden messages of MAILBOX."""
    return with_mailboxes(
        settings_of(config), lambda retained: show_hidden(terminal, retained, mailbox)
    )


async def show_hidden(terminal: Terminal, retained: Retained, mailbox: str) -> Exit:
    """Print the list."""
    from gateway.operations.retention import hidden as operation

    terminal.show(HIDDEN, await operation(retained, mailbox))
    return Exit.DONE


@command(
    "restore",
    "pop3gw retention restore --config /etc/pop3gw.toml bob@example.org",
    "pop3gw retention restore --config /etc/pop3gw.toml bob@example.org 17 18",
)
@CONFIG
@click.argument("mailbox")
@click.argument("uids", nargs=-1, metavar="[UID]...")
def restore(terminal: Terminal, config: str | None, mailbox: str, uids: tuple[str, ...]) -> Exit:
    """Bring hidden messages of MAILBOX back.

    Those with these UIDs, or all. They keep their unique-ids; their age is
    counted anew.
    """
    return with_mailboxes(
        settings_of(config), lambda retained: show_restored(terminal, retained, mailbox, uids)
    )


async def show_restored(
    terminal: Terminal, retained: Retained, mailbox: str, uids: Sequence[str]
) -> Exit:
    """Bring back and print how many came; ``PARTLY`` where not all did."""
    from gateway.operations.retention import restore as operation

    done = await operation(retained, mailbox, uids)
    text = f"{done.restored} of {done.wanted} messages are back in {done.mailbox}"
    terminal.say(text, **asdict(done))
    return Exit.DONE if done.restored == done.wanted else Exit.PARTLY


for one in (preview, run, release, hidden, restore):
    retention.add_command(one)
