"""Threads for work that blocks, with a queue that cannot grow without limit.

Python runs one thread at a time.  While everything is in the page cache, a second
thread only competes with the first and with the reactor for the interpreter lock at
each system call, which costs more than the work.  While a disk or another server is
slow, threads wait side by side.  So the pool runs only as many threads as keep a
processor busy, plus those with long work; they deliver answers together, so that the
reactor sleeps meanwhile.

An idle thread waits at a lock of its own.  Those of ``concurrent.futures`` wait at one
queue, and each piece of work wakes a second one, which finds nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Lock, Thread, get_ident
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import Overloaded
from gateway.net.fair_turns import FairTurns

__all__ = ["ThreadPool"]

log = Logger()

T = TypeVar("T")

LOOK = 0.005
"""Seconds between two adjustments of the pool; no answer waits longer."""

BUSY = 0.8
"""Share of one processor above which another thread is of no use."""

LATE = 0.05
"""Seconds after which waiting work is late."""


class Width:
    """How many threads may work, adjusted periodically.

    One more if work waits while the processor is idle, or is late; one less if the
    processor is busy.  Threads with long work do not count: they wait for something
    else, or would delay all short work.
    """

    def __init__(self, least: int, most: int) -> None:
        """At least ``least``, at most ``most`` threads."""
        self._least = self._width = least
        self._most = most
        self._long = 0

    @property
    def allowed(self) -> int:
        """The number of threads that may work."""
        return min(self._width + self._long, self._most)

    def seen(self, *, busy: bool, waiting: bool, late: bool, long: int) -> None:
        """``late``: some work is late; ``long``: threads with long work."""
        self._long = long
        if late or (waiting and not busy):
            self._width = min(self._width + 1, self._most)
        elif busy:
            self._width = max(self._width - 1, self._least)

    def configure(self, least: int, most: int) -> None:
        """Other bounds from now on."""
        self._least, self._most = least, most
        self._width = min(max(self._width, least), most)

    def open(self) -> None:
        """Let all threads work."""
        self._least = self._width = self._most


class Piece(NamedTuple):
    """Work, its Deferred, and since when it waits."""

    work: Callable[[], Any]
    answer: Deferred[Any]
    since: float


class ThreadPool:
    """A bounded pool for one purpose; ``run`` is a ``gateway.interfaces.Run``."""

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
        make_thread: Callable[..., Thread] = Thread,
    ) -> None:
        """``queue``: how much work may wait for a thread.

        ``least`` threads may always work: all of them for work that releases the
        interpreter lock, such as password hashes.  Answers come in ``turns``, which may
        be shared.  ``spent``: seconds of CPU time of this process so far; ``make_thread``
        takes what ``Thread`` does.
        """
        self._reactor = reactor
        self._turns = turns or FairTurns(lambda: reactor)
        self.purpose = purpose
        self.most = threads + queue
        """Outstanding work at which no more is taken."""
        self._make_thread = make_thread
        self._is_short_of_threads = False
        self._members: list[Thread] = []
        self._lock = Lock()
        """Guards the queue, and which threads work."""
        self._waiting: deque[Piece] = deque()
        self._idle: list[Lock] = []
        """The locks of idle threads; releasing one sets its thread to work."""
        self._at_work = 0
        self._coming = 0
        """Threads at work that were set to it, and have not yet looked for work."""
        self._begun: dict[int, float] = {}
        """When each working thread began its current work."""
        self._width = Width(least, threads)
        self._stopped = False
        self._answers: deque[tuple[Deferred[Any], Any]] = deque()
        self._telling = False
        self._spent = spent
        self._looked = self._spent_then = 0.0
        self._look_due: Any = None
        self.outstanding = 0
        """Work without an answer yet."""
        self.rejected = 0
        """Work that was not taken, since the queue was full."""

    def stop(self) -> None:
        """Finish all work, and end the threads.  Blocks until then."""
        self._stopped = True
        self._width.open()
        while self._set_to_work():
            pass
        with self._lock:
            idle, self._idle = self._idle, []
            self._at_work += len(idle)
            self._coming += len(idle)
        for one in idle:
            one.release()
        for member in self._members:
            member.join()
        if self._look_due is not None:
            self._look_due.cancel()
            self._look_due = None

    def configure(self, *, threads: int, queue: int, least: int = 1) -> None:
        """Other numbers from now on, as in the constructor."""
        self.most = threads + queue
        with self._lock:
            self._width.configure(least, threads)
        while self._set_to_work():
            pass

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Do ``work`` in a thread; fails with ``Overloaded`` if the queue is full or closed."""
        if self._stopped:
            return fail(Overloaded(f"{self.purpose}: no more work is taken"))
        if self.outstanding >= self.most:
            self.rejected += 1
            return fail(Overloaded(f"{self.purpose}: {self.outstanding} pieces of work wait"))
        self.outstanding += 1
        answer: Deferred[T] = Deferred()
        self._waiting.append(Piece(work, answer, self._reactor.seconds()))
        self._set_to_work()
        if self._look_due is None:
            self._look_later()
        return answer

    # -- on a thread ---------------------------------------------------------

    def _work(self, idle: Lock) -> None:
        """Work, and wait at ``idle`` while there is none."""
        while True:
            piece = self._next(idle, comes=True)
            while piece is not None:
                try:
                    result: Any = piece.work()
                except BaseException:
                    # Whatever it raised, its Deferred must fire.
                    result = Failure()
                self._answers.append((piece.answer, result))
                # An idle thread keeps nothing of what it did.
                del piece, result
                piece = self._next(idle)
            if self._answers and not self._telling:
                self._telling = True
                self._reactor.callFromThread(self._tell)
            with self._lock:
                # One that was set to work meanwhile looks for it once more.
                if self._stopped and idle in self._idle:
                    self._idle.remove(idle)
                    return
            idle.acquire()

    def _next(self, idle: Lock, *, comes: bool = False) -> Piece | None:
        with self._lock:
            self._coming -= comes
            if self._waiting and (self._stopped or self._at_work <= self._width.allowed):
                self._begun[get_ident()] = self._reactor.seconds()
                return self._waiting.popleft()
            self._begun.pop(get_ident(), None)
            self._at_work -= 1
            self._idle.append(idle)
            return None

    # -- on the reactor's ----------------------------------------------------

    def _set_to_work(self) -> bool:
        """Set one more thread to work, if needed and allowed."""
        with self._lock:
            # A thread needs the interpreter lock, which this one has, before it takes work.
            if not self._is_waiting() or self._at_work >= self._width.allowed:
                return False
            self._at_work += 1
            self._coming += 1
            idle = self._idle.pop() if self._idle else None
        if idle is None:
            return self._add_thread()
        # The one that worked last: what it needs is still in the processor's caches.
        idle.release()
        return True

    def _add_thread(self) -> bool:
        idle = Lock()
        idle.acquire()
        name = f"pop3gw-{self.purpose}_{len(self._members)}"
        # A daemon: a process that ends without ``stop`` does not wait for idle threads.
        member = self._make_thread(target=self._work, args=(idle,), name=name, daemon=True)
        try:
            member.start()
        except RuntimeError as error:
            # The system allows no more.  The next look tries it again.
            with self._lock:
                self._at_work -= 1
                self._coming -= 1
            if not self._is_short_of_threads:
                log.warn("{purpose}: {error}", purpose=self.purpose, error=error)
            self._is_short_of_threads = True
            return False
        self._is_short_of_threads = False
        self._members.append(member)
        return True

    def _is_waiting(self) -> bool:
        """Whether there is more work than threads that come for it."""
        return len(self._waiting) > self._coming

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
        """Adjust the number of threads, and deliver answers."""
        self._look_due = None
        now = self._reactor.seconds()
        busy = self._spent() - self._spent_then > BUSY * (now - self._looked)
        with self._lock:
            long = sum(now - begun >= LOOK for begun in self._begun.values())
            late = bool(self._waiting) and now - self._waiting[0].since > LATE
            self._width.seen(busy=busy, waiting=self._is_waiting(), late=late, long=long)
        while self._set_to_work():
            pass
        self._tell()
        if self.outstanding and self._look_due is None:
            self._look_later()
