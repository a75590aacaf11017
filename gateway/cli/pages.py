"""Lists that a server answers page by page: one page with a hint, or all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.cli.command import Exit
from gateway.cli.terminal import Terminal, View

if TYPE_CHECKING:
    from gateway.cli.server_parts import Ask, Operation

LARGEST = 1000
"""Most items of a page."""


async def every_page(
    terminal: Terminal,
    ask: Ask,
    view: View[Any],
    none: str,
    operation: Operation[..., Any],
    **arguments: Any,
) -> Exit:
    """Print all items of a paged operation; ``none``: what to say where there are none."""
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


async def one_page(
    terminal: Terminal,
    ask: Ask,
    view: View[Any],
    none: str,
    operation: Operation[..., Any],
    *,
    page: int,
    per_page: int,
    **arguments: Any,
) -> Exit:
    """Print one page, and below it how to see the others; pages count from 1."""
    found = await ask(operation, **arguments, page=page - 1, per_page=per_page)
    terminal.show(view, found.items)
    if not found.items:
        terminal.say(none if page == 1 else f"there is no page {page}")
    elif found.total is not None and found.total > len(found.items):
        pages = -(-found.total // per_page)
        more = "--page N shows another, --all all of them"
        terminal.say(f"page {page} of {pages:,}, {found.total:,} in all; {more}")
    elif found.total is None and len(found.items) == per_page:
        terminal.say(f"there may be more: --page {page + 1}")
    return Exit.DONE
