"""The next message of a session that reads in order, fetched before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from gateway.interfaces import IBody
from gateway.store.memory_mailbox import BytesBody

LARGEST = 256 * 1024
"""Octets of a message that is fetched ahead; a larger one keeps its connection busy."""

MOST = 32 * 1024 * 1024
"""Octets that are fetched ahead in all sessions of a process."""


class Memory:
    """What all sessions may fetch ahead."""

    def __init__(self, most: int = MOST) -> None:
        """``most``: octets."""
        self._left = most

    def take(self, octets: int) -> bool:
        """Reserve memory, if there is enough."""
        if octets > min(self._left, LARGEST):
            return False
        self._left -= octets
        return True

    def give_back(self, octets: int) -> None:
        """It is not needed any more."""
        self._left += octets


class Ahead:
    """The message that a session has fetched ahead: one, or none."""

    __slots__ = ("_index", "_is_over", "_last", "_memory", "_octets", "_opened")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._last = -2
        """What the session read last."""
        self._index = -1
        self._octets = 0
        self._opened: Deferred[Any] | None = None
        """Fires with its ``IBody``, or with None."""
        self._is_over = False

    def take(self, index: int) -> Deferred[Any] | None:
        """This message, if it was fetched: an ``IBody``; None, then or later: open it.

        Any other one that was fetched is closed.
        """
        if self._opened is None or index != self._index:
            self.drop()
            return None
        self._memory.give_back(self._octets)
        opened, self._opened = self._opened, None
        return opened

    def take_whole(self, index: int) -> BytesBody | None:
        """This message, if it was fetched and all of it is here; else it stays with this."""
        opened = self._opened
        if opened is None or index != self._index or not opened.called:
            return None
        body = opened.result
        if not isinstance(body, BytesBody):
            return None
        self._memory.give_back(self._octets)
        self._opened = None
        return body

    def follow(
        self,
        index: int,
        count: int,
        size: Callable[[int], int],
        open_: Callable[[int], Deferred[IBody] | None],
    ) -> None:
        """The session reads ``index``: fetch the one after it, if it read the one before it.

        ``count``: messages; ``size``: the octets of one; ``open_``: opens one, or returns None
        for one that is at hand anyway.
        """
        in_order, self._last = index == self._last + 1, index
        following = index + 1
        # A session may end while it waits for a message, and what waits goes on here.
        if (
            self._is_over
            or not in_order
            or following >= count
            or not self._memory.take(size(following))
        ):
            return
        opened = open_(following)
        if opened is None:
            self._memory.give_back(size(following))
            return
        self._index, self._octets = following, size(following)
        # It is opened again, and that says what is wrong.
        self._opened = opened.addErrback(_nothing)

    def close(self) -> None:
        """The session is over: nothing that was fetched is read, and nothing more is fetched."""
        self._is_over = True
        self.drop()

    def drop(self) -> None:
        """What was fetched is not read."""
        if self._opened is None:
            return
        self._memory.give_back(self._octets)
        opened, self._opened = self._opened, None
        opened.addCallback(_close)


def _nothing(_: Failure) -> None:
    """It could not be opened."""


def _close(body: IBody | Failure | None) -> None:
    if isinstance(body, Failure) or body is None:
        return
    body.close()
