"""Lists that only a thread may go through: they may be as long as there are mailboxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred

T = TypeVar("T")


class Threads:
    """A ``Run`` that works at once, and knows whether work is being done."""

    working = False

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Do it."""
        was, self.working = self.working, True
        try:
            return maybeDeferred(work)
        finally:
            self.working = was

    def long(self, items: list[T]) -> list[T]:
        """A list that fails when the reactor's thread goes through it."""
        return _Long(self, items)


class _Long(list[Any]):
    def __init__(self, threads: Threads, items: list[Any]) -> None:
        super().__init__(items)
        self._threads = threads

    def __iter__(self) -> Iterator[Any]:
        assert self._threads.working, "the reactor's thread goes through all of a long list"
        return super().__iter__()
