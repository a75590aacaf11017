"""What the state knows of very many mailboxes, read piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

T = TypeVar("T")

PIECE = 5000
"""Mailboxes in one answer, at most."""


async def in_pieces(
    ask: Callable[[str, int], Awaitable[Mapping[str, T]]],
) -> AsyncIterator[Mapping[str, T]]:
    """The pieces, in the order of names; ``ask`` takes the name before a piece, and its size."""
    after = ""
    while piece := await ask(after, PIECE):
        yield piece
        after = [*piece][-1]
