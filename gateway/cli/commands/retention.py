"""``pop3gw retention``: what retention would remove, orders to the server, hidden mail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click
from attrs import asdict, evolve

from gateway.cli.client import LONGEST
from gateway.cli.command import CONFIG, Exit, Group, command
from gateway.cli.pages import every_page
from gateway.cli.server_parts import Ask, with_or_without_server
from gateway.cli.terminal import Terminal

if TYPE_CHECKING:
    from gateway.operations.mail.retention import DueMail, Orders, StorePreview


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
    does="retention.preview retention.preview_mailbox",
)
@CONFIG
@click.argument("mailbox", required=False)
def preview(terminal: Terminal, config: str | None, mailbox: str | None) -> Exit:
    """Show what retention would remove now, and why. Nothing is removed.

    Without MAILBOX: the mailboxes that would lose mail. With MAILBOX: each of
    its messages that would go.
    """
    if mailbox is None:
        return with_or_without_server(config, lambda ask: show_preview(terminal, ask))
    return with_or_without_server(config, lambda ask: show_mailbox(terminal, ask, mailbox))


async def show_preview(terminal: Terminal, ask: Ask) -> Exit:
    """Print a preview of all mailboxes; ``PARTLY`` where a mailbox could not be read."""
    from gateway.cli.commands.retention_views import MAILBOXES
    from gateway.operations.mail.retention import StorePreview, preview, sum_of

    rows, store, after = terminal.rows(MAILBOXES), StorePreview(), ""
    while True:
        # The progress bar moves after each part: small ones first.
        most = min(max(store.mailboxes, 1), 1000)
        part = await ask(preview, after=after, most=most)
        store = sum_of(store, part)
        terminal.progress(store.mailboxes, part.total)
        for failure in part.failed:
            terminal.complain(f"{failure.mailbox}: {failure.reason}")
        for one in part.items:
            if one.would_go or one.would_purge or terminal.as_json:
                rows.add(one)
        if part.following is None:
            break
        after = part.following
    terminal.progress(part.total, part.total)
    rows.end()
    _show_sums(terminal, store)
    return Exit.PARTLY if store.failed else Exit.DONE


def _show_sums(terminal: Terminal, store: StorePreview) -> None:
    terminal.say(
        f"{store.would_go} of {store.messages} messages in {store.mailboxes} mailboxes would go",
        store=asdict(store),
    )
    if store.stops:
        terminal.say(store.stops)


async def show_mailbox(terminal: Terminal, ask: Ask, mailbox: str) -> Exit:
    """Print a preview of one mailbox, with its messages."""
    from gateway.cli.commands.retention_views import MESSAGES, PURGED, due_described, line
    from gateway.operations.mail.retention import StorePreview, preview_mailbox
    from gateway.operations.mail.stored_mail import list_hidden

    found, page = await ask(preview_mailbox, mailbox=mailbox, page=0, per_page=1000), 0
    while _is_longer(found):
        page += 1
        more = await ask(preview_mailbox, mailbox=mailbox, page=page, per_page=1000)
        found = evolve(
            found, due=(*found.due, *more.due), purged=(*found.purged, *more.purged), page=page
        )
    one = found.preview
    if not one.policy:
        # Only another question finds that there is no such mailbox.
        await ask(list_hidden, mailbox=mailbox, page=0, per_page=1)
        terminal.say(f"{mailbox}: retention has no policy for it", **due_described(found))
        return Exit.DONE
    terminal.say(line(one), **due_described(found))
    if not terminal.as_json:
        terminal.show(MESSAGES, found.due)
        terminal.show(PURGED, found.purged)
    purges = one.would_purge, one.hidden, one.overdue
    _show_sums(terminal, StorePreview(1, 0, one.messages, one.would_go, *purges, one.stops))
    return Exit.DONE


def _is_longer(found: DueMail) -> bool:
    wanted = max(found.preview.would_go, found.preview.would_purge)
    return (found.page + 1) * found.per_page < wanted


# -- forecast and schedule ---------------------------------------------------------


@command(
    "forecast",
    "pop3gw retention forecast --config /etc/pop3gw.toml",
    "pop3gw retention forecast --config /etc/pop3gw.toml --days 7",
    does="retention_forecast.forecast",
)
@CONFIG
@click.option(
    "--days", type=click.IntRange(1, 90), default=90, show_default=True, help="How many days."
)
def forecast(terminal: Terminal, config: str | None, days: int) -> Exit:
    """Show how much will go on each of the next days (UTC), from all mailboxes.

    Days without any are left out, except with --json. A server keeps these
    numbers from its last scan of each mailbox; none has to run.
    """
    return with_or_without_server(config, lambda ask: show_forecast(terminal, ask, days))


async def show_forecast(terminal: Terminal, ask: Ask, days: int) -> Exit:
    """Print a line for each day, and from when the numbers are."""
    from gateway.cli.commands.retention_views import DAYS
    from gateway.operations.mail.retention_forecast import forecast
    from gateway.units import counted, rounded_size, time_text

    found = await ask(forecast)
    shown = found.days[:days]
    terminal.show(DAYS, (one for one in shown if one.messages or terminal.as_json))
    if found.oldest is None:
        terminal.say(
            "retention has looked at no mailbox yet: is retention.enabled true, and does a"
            " server run?"
        )
        return Exit.DONE
    messages, octets = sum(one.messages for one in shown), sum(one.octets for one in shown)
    since = time_text(found.oldest)
    terminal.say(
        f"{counted(messages, 'message')}, {rounded_size(octets)} in"
        f" {counted(len(shown), 'day')} from {counted(found.mailboxes, 'mailbox', 'mailboxes')};"
        f" as of {since} or later",
        **{"from": since, "mailboxes": found.mailboxes, "waiting": found.stopped},
    )
    if found.stopped:
        cure = "see pop3gw retention list --stopped"
        stopped = counted(found.stopped, "mailbox waits", "mailboxes wait")
        terminal.say(f"{stopped} for a release: {cure}")
    return Exit.DONE


@command(
    "list",
    "pop3gw retention list --config /etc/pop3gw.toml --stopped",
    "pop3gw retention list --config /etc/pop3gw.toml --json",
    does="retention.list_scans",
)
@CONFIG
@click.option("--stopped", is_flag=True, help="Only those where the removal guard stopped a run.")
def list_scans(terminal: Terminal, config: str | None, stopped: bool) -> Exit:
    """List the mailboxes that retention knows, and when it looks at them next."""
    return with_or_without_server(config, lambda ask: show_scans(terminal, ask, stopped))


async def show_scans(terminal: Terminal, ask: Ask, stopped: bool) -> Exit:
    """Print a line for each."""
    from gateway.cli.commands.retention_views import SCANS
    from gateway.operations.mail.retention import list_scans

    none = "no run is stopped" if stopped else "retention has looked at no mailbox yet"
    return await every_page(terminal, ask, SCANS, none, list_scans, stopped=stopped)


# -- orders to the running server ---------------------------------------------


def _which(function: Callable[..., Any]) -> Callable[..., Any]:
    """One mailbox or all; one of the two is needed."""
    function = click.option("--all", "everywhere", is_flag=True, help="All of them.")(function)
    return click.argument("mailbox", required=False)(function)


@command(
    "run",
    "pop3gw retention run --config /etc/pop3gw.toml bob@example.org",
    "pop3gw retention run --config /etc/pop3gw.toml --all",
    does="retention.run",
)
@CONFIG
@_which
def run(terminal: Terminal, config: str | None, mailbox: str | None, everywhere: bool) -> Exit:
    """Have the server look at MAILBOX at once.

    With --all: at all mailboxes. The running server begins within a minute.
    """
    from gateway.operations.mail.retention import run as operation

    _check_which(mailbox, everywhere)
    return with_or_without_server(
        config, lambda ask: show_orders(terminal, ask(operation, mailbox=mailbox))
    )


@command(
    "release",
    "pop3gw retention release --config /etc/pop3gw.toml bob@example.org",
    "pop3gw retention release --config /etc/pop3gw.toml --all",
    does="retention.release",
)
@CONFIG
@_which
def release(terminal: Terminal, config: str | None, mailbox: str | None, everywhere: bool) -> Exit:
    """Release a run that the removal guard has stopped.

    All that is due in MAILBOX is removed, however much it is. With --all: in
    all mailboxes where a run is stopped.
    """
    from gateway.operations.mail.retention import release as operation

    _check_which(mailbox, everywhere)
    return with_or_without_server(
        config, lambda ask: show_orders(terminal, ask(operation, mailbox=mailbox))
    )


def _check_which(mailbox: str | None, everywhere: bool) -> None:
    if everywhere == bool(mailbox):
        raise click.UsageError("expected MAILBOX or --all")


async def show_orders(terminal: Terminal, asked: Awaitable[Orders]) -> Exit:
    """Print the orders that were given."""
    from gateway.cli.commands.retention_views import ORDERED
    from gateway.units import counted

    orders = await asked
    terminal.show(ORDERED, orders.ordered)
    given = counted(orders.mailboxes, "mailbox", "mailboxes")
    terminal.say(f"{given}; a running server begins within a minute")
    return Exit.DONE


# -- hidden mail --------------------------------------------------------------


@command(
    "hidden",
    "pop3gw retention hidden --config /etc/pop3gw.toml bob@example.org",
    "pop3gw retention hidden --config /etc/pop3gw.toml --json bob@example.org",
    does="stored_mail.list_hidden",
)
@CONFIG
@click.argument("mailbox")
def hidden(terminal: Terminal, config: str | None, mailbox: str) -> Exit:
    """List the hidden messages of MAILBOX."""
    return with_or_without_server(config, lambda ask: show_hidden(terminal, ask, mailbox))


async def show_hidden(terminal: Terminal, ask: Ask, mailbox: str) -> Exit:
    """Print the list."""
    from gateway.cli.commands.retention_views import HIDDEN
    from gateway.operations.mail.stored_mail import list_hidden

    return await every_page(terminal, ask, HIDDEN, "", list_hidden, mailbox=mailbox)


@command(
    "restore",
    "pop3gw retention restore --config /etc/pop3gw.toml bob@example.org",
    "pop3gw retention restore --config /etc/pop3gw.toml bob@example.org 17 18",
    does="stored_mail.restore",
)
@CONFIG
@click.argument("mailbox")
@click.argument("uids", nargs=-1, metavar="[UID]...")
def restore(terminal: Terminal, config: str | None, mailbox: str, uids: tuple[str, ...]) -> Exit:
    """Bring hidden messages of MAILBOX back.

    Those with these UIDs, or all. They keep their unique-ids; their age is
    counted anew.
    """
    return with_or_without_server(
        config, lambda ask: show_restored(terminal, ask, mailbox, uids), LONGEST
    )


async def show_restored(terminal: Terminal, ask: Ask, mailbox: str, uids: tuple[str, ...]) -> Exit:
    """Bring back and print how many came; ``PARTLY`` where not all did."""
    from gateway.operations.mail.stored_mail import restore

    done = await ask(restore, mailbox=mailbox, uids=uids or None)
    text = f"{done.restored} of {done.wanted} messages are back in {done.mailbox}"
    terminal.say(text, **asdict(done))
    return Exit.DONE if done.restored == done.wanted else Exit.PARTLY


for one in (preview, forecast, list_scans, run, release, hidden, restore):
    retention.add_command(one)
