"""What blocks when it is opened and when it is used, shared by all in the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredLock

from gateway.interfaces import Run

T = TypeVar("T")
R = TypeVar("R")

Remember = Callable[[Callable[[Any], Any]], "Deferred[Any]"]
"""Does something with what is open on a worker: ``Opened.ask`` of a ``Ledger``."""


class Opened(Generic[T]):
    """Opened when it is first wanted, and once, however many want it then."""

    def __init__(self, make: Callable[[], T], run: Run) -> None:
        """``run`` does what may block: ``make`` opens it."""
        self._make = make
        self._run = run
        self._making = DeferredLock()
        self.made: T | None = None
        """It, once it is open."""

    def ask(self, work: Callable[[T], R]) -> Deferred[R]:
        """Do ``work`` with it on a worker.

        Fails as ``make`` does, too; then the next who asks tries again to open it.
        """
        return Deferred.fromCoroutine(self._ask(work))

    async def _ask(self, work: Callable[[T], R]) -> R:
        async with self._making:
            if self.made is None:
                self.made = await self._run(self._make)
            made = self.made
        found: R = await self._run(lambda: work(made))
        return found
