"""Long loops that leave the reactor its turns, even if each step is answered at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from heapq import merge
from itertools import groupby
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

T = TypeVar("T")

PIECE = 100
"""Items in one turn of the reactor, at most."""


async def in_turns(items: Iterable[T], clock: IReactorTime) -> AsyncIterator[T]:
    """The items.

    A coroutine that awaits what is known already goes on at once, so without this a loop over all
    mailboxes may be a single turn of the reactor.
    """
    for number, item in enumerate(items):
        if number and number % PIECE == 0:
            await deferLater(clock, 0)
        yield item


def merged(*names: Iterable[str]) -> list[str]:
    """The names of sorted lists, sorted and each once, for a thread.

    ``sorted`` of a million would hold up all threads until it is done.
    """
    return [name for name, _ in groupby(merge(*names))]


def without(some: Sequence[str], names: Iterable[str]) -> list[str]:
    """The names that are not in ``some``, for a thread that leaves others their turns."""
    known = set[str]()
    for at in range(0, len(some), PIECE):
        known.update(some[at : at + PIECE])
    return [name for name in names if name not in known]


def drain(*held: dict[Any, Any] | list[Any]) -> None:
    """Empty them, item by item, for a thread: freeing very many at once holds up all threads."""
    for one in held:
        take = one.popitem if isinstance(one, dict) else one.pop
        while one:
            take()
