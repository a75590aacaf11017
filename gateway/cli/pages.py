"""Lists that a server answers page by page: a page with a hint, or all of them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from gateway.cli.command import Exit
from gateway.cli.server_parts import Ask, with_server
from gateway.cli.terminal import Terminal, View

if TYPE_CHECKING:
    from gateway.cli.client import Operation

LARGEST = 1000
"""Most items of a page."""


@frozen
class Paging:
    """Which page of a list is wanted."""

    page: int
    """From 1."""

    per_page: int
    everything: bool
    """All pages."""


def paged(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options for a list; the command gets them as its argument ``paging``."""

    @functools.wraps(function)
    def command(*arguments: Any, page: int, per_page: int, everything: bool, **rest: Any) -> Any:
        return function(*arguments, paging=Paging(page, per_page, everything), **rest)

    options = (
        click.option("--all", "everything", is_flag=True, help="Show all pages."),
        click.option(
            "--per-page",
            type=click.IntRange(1, LARGEST),
            default=50,
            show_default=True,
            help="Lines of a page.",
        ),
        click.option("--page", type=click.IntRange(1), default=1, help="Which page to show."),
    )
    return functools.reduce(lambda made, option: option(made), options, command)


def show_list(
    terminal: Terminal,
    config: str | None,
    paging: Paging,
    view: View[Any],
    none: str,
    operation: Operation[..., Any],
    **arguments: Any,
) -> Exit:
    """As ``show_pages``, asking the running server."""
    return with_server(
        config, lambda ask: show_pages(terminal, ask, paging, view, none, operation, **arguments)
    )


async def show_pages(
    terminal: Terminal,
    ask: Ask,
    paging: Paging,
    view: View[Any],
    none: str,
    operation: Operation[..., Any],
    **arguments: Any,
) -> Exit:
    """Print the pages that are wanted; ``none``: what to say, and to do, where there is nothing."""
    if paging.everything:
        return await every_page(terminal, ask, view, none, operation, **arguments)
    page, per_page = paging.page, paging.per_page
    found = await ask(operation, **arguments, page=page - 1, per_page=per_page)
    terminal.show(view, found.items)
    if not found.items:
        terminal.say(none if page == 1 else f"there is no page {page}; begin with --page 1")
    elif found.total is not None and found.total > len(found.items):
        pages = -(-found.total // per_page)
        more = "--page shows another, --all all of them"
        terminal.say(f"page {page:,} of {pages:,}, {found.total:,} in all: {more}")
    elif found.total is None and len(found.items) == per_page:
        terminal.say(f"there may be more: --page {page + 1}, or --all")
    return Exit.DONE


async def every_page(
    terminal: Terminal,
    ask: Ask,
    view: View[Any],
    none: str,
    operation: Operation[..., Any],
    **arguments: Any,
) -> Exit:
    """Print all items of a paged operation."""
    rows, page, seen = terminal.rows(view), 0, 0
    while True:
        found = await ask(operation, **arguments, page=page, per_page=LARGEST)
        for one in found.items:
            rows.add(one)
        page, seen = page + 1, seen + len(found.items)
        if len(found.items) < found.per_page or seen == found.total:
            break
    rows.end()
    if not seen and none:
        terminal.say(none)
    return Exit.DONE


def watched(terminal: Terminal, every: float | None, show: Callable[[], Exit]) -> Exit:
    """Show once; with ``every`` again after that many seconds, until SIGINT."""
    while True:
        if every is not None:
            terminal.clear()
        code = show()
        if every is None:
            return code
        time.sleep(every)
