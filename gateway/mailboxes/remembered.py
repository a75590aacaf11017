"""A result that is kept for a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Generic, TypeVar

from twisted.internet.defer import DeferredLock

T = TypeVar("T")

KEPT = 30.0
"""Seconds for which a result is kept."""


class Remembered(Generic[T]):
    """A result that concurrent callers share, cached for ``KEPT`` seconds.

    For longer if it takes long: then computing it again takes a tenth of the time at most.
    """

    def __init__(self, find: Callable[[], Awaitable[T]], now: Callable[[], float]) -> None:
        self._find = find
        self._now = now
        self._lock = DeferredLock()
        self._found: T | None = None
        self._since = self._until = 0.0

    async def get(self) -> T:
        """The result; fails as computing it does."""
        async with self._lock:
            # A clock may be set back.
            if self._found is None or not self._since <= self._now() < self._until:
                begun, self._until = self._now(), inf
                try:
                    self._found = await self._find()
                except BaseException:
                    self._until = 0.0
                    raise
                # Unless it was forgotten meanwhile.
                if self._until:
                    self._since = self._now()
                    self._until = self._since + max(KEPT, 9 * (self._since - begun))
            return self._found

    def forget(self) -> None:
        """Compute it anew for the next caller."""
        self._until = 0.0
