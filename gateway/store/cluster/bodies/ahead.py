"""The next messages of a session that reads in order, fetched before it asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from gateway.interfaces import IBody
from gateway.store.cluster.bodies.whole import WholeBody

MOST = 32 * 1024 * 1024
"""Octets that all sessions of a process hold ahead."""

MOST_EACH = 256 * 1024
"""Octets that one session holds ahead; a larger message would keep its connection busy."""

DEEPEST = 16
"""Messages that a session holds ahead: a client reads several while a far S3 answers once."""


class Memory:
    """What all sessions hold ahead."""

    def __init__(self, has_room: Callable[[], bool], most: int = MOST) -> None:
        """``has_room``: as of ``Connections``; ``most``: octets."""
        self._has_room = has_room
        self._half = most // 2
        self.left = most
        """Octets that are not taken."""

    def is_ample(self) -> bool:
        """Whether a session may fetch more than its next message.

        Half of it is for the next ones alone: sessions that stop reading hold what they have.
        """
        return self.left > self._half and self._has_room()


class Ahead:
    """The messages that a session has fetched ahead."""

    __slots__ = ("_fetched", "_held", "_is_over", "_last", "_memory", "_next", "_read")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._last = -2
        """What the session read last."""
        self._read = 0
        """How many it read in order before that."""
        self._next = 0
        """The message after the last one that was looked at."""
        self._fetched: dict[int, tuple[int, Deferred[Any]]] = {}
        """Their octets, and what fires with an ``IBody`` or with None."""
        self._held = 0
        """Octets of them all."""
        self._is_over = False

    def take(self, index: int) -> Deferred[Any] | None:
        """This message, as an ``IBody``, if it was fetched.

        None, or a ``Deferred`` of None: it was not, or could not be; open it.
        """
        found = self._fetched.pop(index, None)
        if found is None:
            return None
        self._give_back(found[0])
        return found[1]

    def take_whole(self, index: int) -> WholeBody | None:
        """This message, if it was fetched and all of it is here; else it stays with this."""
        found = self._fetched.get(index)
        if found is None or not found[1].called:
            return None
        body = found[1].result
        if not isinstance(body, WholeBody):
            return None
        self.take(index)
        return body

    def follow(
        self, index: int, sizes: Sequence[int], open_: Callable[[int], Deferred[IBody] | None]
    ) -> None:
        """The session reads ``index``: fetch what follows, the more the longer it reads in order.

        ``sizes``: the octets of all messages; ``open_``: opens one, or returns None for one
        that is at hand anyway.
        """
        step, self._last = index - self._last, index
        if step == 1:
            self._read = min(self._read + 1, DEEPEST)
        elif step:
            self._read = 0
        if step < 0:
            self._drop_all()
        self._drop_to(index)
        # A session may end while it waits for a message, and what waits goes on here.
        if self._is_over:
            return
        begin = max(self._next, index + 1)
        for following in range(begin, min(index + 1 + self._read, len(sizes))):
            if following > index + 1 and not self._memory.is_ample():
                return
            octets = sizes[following]
            if octets > min(MOST_EACH - self._held, self._memory.left):
                return
            self._next = following + 1
            opened = open_(following)
            if opened is None:
                continue
            self._held += octets
            self._memory.left -= octets
            self._fetched[following] = octets, opened.addErrback(self._failed)

    def close(self) -> None:
        """The session is over: nothing that was fetched is read, and nothing more is fetched."""
        self._is_over = True
        self._drop_all()

    def _drop_all(self) -> None:
        self._drop_to(self._next)
        self._next = 0

    def _drop_to(self, last: int) -> None:
        # In the order of messages, as they were fetched.
        while self._fetched and (index := next(iter(self._fetched))) <= last:
            octets, opened = self._fetched.pop(index)
            self._give_back(octets)
            opened.addCallback(_close)

    def _give_back(self, octets: int) -> None:
        self._held -= octets
        self._memory.left += octets

    def _failed(self, _: Failure) -> None:
        # It is opened again when the session reads it, and that says what is wrong.
        self._read = 0


def _close(body: IBody | None) -> None:
    if body is not None:
        body.close()
