"""How many threads are of use."""

from __future__ import annotations


class Width:
    """How many may be at work just now, by what is seen of them now and then.

    One more where work waits while nobody computes, one less where a processor
    is busy; and besides each that is with a long piece of work: it waits for
    something else, or would keep all that is short from being done.
    """

    def __init__(self, least: int, most: int) -> None:
        """Never fewer than ``least``, nor more than ``most``."""
        self._least = self._width = least
        self._most = most
        self._long = 0

    @property
    def allowed(self) -> int:
        """So many."""
        return min(self._width + self._long, self._most)

    def seen(self, *, busy: bool, waiting: bool, long: int) -> None:
        """``long``: how many are with a long piece of work."""
        self._long = long
        if busy:
            self._width = max(self._width - 1, self._least)
        elif waiting:
            self._width = min(self._width + 1, self._most)

    def open(self) -> None:
        """All may be at work."""
        self._least = self._width = self._most
