"""How many threads are of use."""

from __future__ import annotations


class Width:
    """How many may be at work just now, by what is seen of them now and then.

    One more where work waits while nobody computes, or waits for too long
    however busy a processor is; one less where it is busy; and besides each
    that is with a long piece of work: it waits for something else, or would
    keep all that is short from being done.
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

    def seen(self, *, busy: bool, waiting: bool, late: bool, long: int) -> None:
        """``late``: some has waited for too long; ``long``: so many are with a long piece."""
        self._long = long
        if late or (waiting and not busy):
            self._width = min(self._width + 1, self._most)
        elif busy:
            self._width = max(self._width - 1, self._least)

    def open(self) -> None:
        """All may be at work."""
        self._least = self._width = self._most
