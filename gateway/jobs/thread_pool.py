"""Threads for work that blocks, with a queue that cannot grow without limit.

Of Python's threads one runs at a time.  Where all that is asked for is there,
a second thread only takes the interpreter from the first and from the reactor,
at each system call, and that costs more than the work.  Where a disk or
another server lets everybody wait, threads wait side by side.  So there are as
few at work as keep a processor busy, besides those whose work takes long; and
they answer together, for the reactor to sleep meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock, get_ident
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from gateway.errors import Overloaded
from gateway.net.fair_turns import FairTurns

__all__ = ["ThreadPool"]

T = TypeVar("T")

LOOK = 0.005
"""Seconds between two looks at what is being done; no answer waits for longer."""

BUSY = 0.8
"""The share of one processor from which on another thread would be of no use."""

LATE = 0.05
"""Seconds after which work has waited for too long."""


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


class Piece(NamedTuple):
    """Work, and who waits for it since when."""

    work: Callable[[], Any]
    answer: Deferred[Any]
    since: float


class ThreadPool:
    """A bounded pool for one purpose; ``run`` is what ``gateway.interfaces.Run`` asks for."""

    def __init__(
        self,
        reactor: Any,
        purpose: str,
        *,
        threads: int,
        queue: int,
        least: int = 1,
        turns: FairTurns | None = None,
        spent: Callable[[], float] = time.process_time,
    ) -> None:
        """``queue`` is how much work may wait beyond what the threads are doing.

        So many threads as ``least`` may always be at work: all of them where
        work computes without Python's interpreter, as hashes of passwords do.
        Answers come in ``turns``, which others may share.  ``spent``: seconds
        of a processor's time that this process has taken so far.
        """
        self._reactor = reactor
        self._turns = turns or FairTurns(lambda: reactor)
        self._purpose = purpose
        self._most = threads + queue
        # At half the price of Twisted's pool, which nests a context for each piece.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"pop3gw-{purpose}")
        self._lock = Lock()
        """Of what waits and who is at work."""
        self._waiting: deque[Piece] = deque()
        self._at_work = 0
        self._begun: dict[int, float] = {}
        """When each thread that is at work began with its piece."""
        self._width = Width(least, threads)
        self._stopped = False
        self._answers: deque[tuple[Deferred[Any], Any]] = deque()
        self._telling = False
        self._spent = spent
        self._looked = self._spent_then = 0.0
        self._look_due: Any = None
        self.outstanding = 0
        """Work that was taken and has not been answered."""

    def stop(self) -> None:
        """Finish what was taken, and end the threads.  Blocks for as long as that takes."""
        self._stopped = True
        self._width.open()
        while self._set_to_work():
            pass
        self._pool.shutdown()
        if self._look_due is not None:
            self._look_due.cancel()
            self._look_due = None

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Do ``work`` on a thread; fails with ``Overloaded`` when too much waits, or at the end."""
        if self._stopped:
            return fail(Overloaded(f"{self._purpose}: no more work is taken"))
        if self.outstanding >= self._most:
            return fail(Overloaded(f"{self._purpose}: {self.outstanding} pieces of work wait"))
        self.outstanding += 1
        answer: Deferred[T] = Deferred()
        self._waiting.append(Piece(work, answer, self._reactor.seconds()))
        self._set_to_work()
        if self._look_due is None:
            self._look_later()
        return answer

    # -- on a thread ---------------------------------------------------------

    def _work(self) -> None:
        while (piece := self._next()) is not None:
            try:
                result: Any = piece.work()
            except BaseException:
                # Whatever it was, somebody waits to be told.
                result = Failure()
            self._answers.append((piece.answer, result))
        if not self._telling:
            self._telling = True
            self._reactor.callFromThread(self._tell)

    def _next(self) -> Piece | None:
        with self._lock:
            if self._waiting and (self._stopped or self._at_work <= self._width.allowed):
                self._begun[get_ident()] = self._reactor.seconds()
                return self._waiting.popleft()
            self._begun.pop(get_ident(), None)
            self._at_work -= 1
            return None

    # -- on the reactor's ----------------------------------------------------

    def _set_to_work(self) -> bool:
        """Begin with one more thread, if it is wanted and allowed."""
        with self._lock:
            if not self._waiting or self._at_work >= self._width.allowed:
                return False
            self._at_work += 1
        self._pool.submit(self._work)
        return True

    def _tell(self) -> None:
        self._telling = False
        while self._answers:
            self._turns.take(partial(self._give, *self._answers.popleft()))

    def _give(self, answer: Deferred[Any], result: Any) -> None:
        self.outstanding -= 1
        answer.callback(result)

    def _look_later(self) -> None:
        self._looked, self._spent_then = self._reactor.seconds(), self._spent()
        self._look_due = self._reactor.callLater(LOOK, self._look)

    def _look(self) -> None:
        """Have more threads at work, or fewer, and tell what was done meanwhile."""
        self._look_due = None
        now = self._reactor.seconds()
        busy = self._spent() - self._spent_then > BUSY * (now - self._looked)
        with self._lock:
            long = sum(now - begun >= LOOK for begun in self._begun.values())
            waiting = bool(self._waiting)
            late = waiting and now - self._waiting[0].since > LATE
            self._width.seen(busy=busy, waiting=waiting, late=late, long=long)
        while self._set_to_work():
            pass
        self._tell()
        if self.outstanding and self._look_due is None:
            self._look_later()
