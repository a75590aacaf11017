"""What the state knows of very many mailboxes, read piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

T = TypeVar("T")

PIECE = 5000
"""Mailboxes in one answer, at most."""


Ask = Callable[[str, int], Awaitable[Mapping[str, T]]]
"""Takes the name before a piece, and how many mailboxes it may have."""


async def in_pieces(ask: Ask[T], most: int = PIECE) -> AsyncIterator[Mapping[str, T]]:
    """The pieces, in the order of names."""
    after = ""
    while piece := await ask(after, most):
        yield piece
        after = next(reversed([*piece]))


async def joined(ask: Ask[T]) -> dict[str, T]:
    """All pieces as one, for what is sorted by it."""
    found: dict[str, T] = {}
    async for piece in in_pieces(ask):
        found |= piece
    return found
