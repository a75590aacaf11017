"""Some pieces of work at once, and the others as these end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class SomeAtOnce(Generic[T]):
    """Begins pieces of work in their order, at most ``most`` at the same time."""

    def __init__(
        self,
        pieces: Iterable[T],
        begin: Callable[[T], object],
        *,
        most: int,
        may_go_on: Callable[[], bool],
        end: Callable[[], object],
    ) -> None:
        """``begin`` has ``ended`` called once, perhaps before it returns.

        ``end`` is called when nothing is under way any more: all is done, or it may not go on.
        """
        self._left = iter(pieces)
        self._begin = begin
        self._most = most
        self._may_go_on = may_go_on
        self._end = end
        self._under_way = 0
        self._is_beginning = False

    def go_on(self) -> None:
        """Begin what may be under way now."""
        if self._is_beginning:
            return
        self._is_beginning = True
        while self._under_way < self._most and self._may_go_on():
            piece = next(self._left, None)
            if piece is None:
                break
            self._under_way += 1
            self._begin(piece)
        self._is_beginning = False
        if not self._under_way:
            self._end()

    def ended(self) -> None:
        """A piece of work has ended."""
        self._under_way -= 1
        self.go_on()
