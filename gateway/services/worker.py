"""Threads for work that blocks, with a queue that cannot grow without limit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from gateway.errors import Overloaded
from gateway.services.turns import Turns

T = TypeVar("T")


class Worker:
    """A bounded pool for one purpose; ``run`` is what ``gateway.interfaces.Run`` asks for."""

    def __init__(
        self, reactor: Any, purpose: str, *, threads: int, queue: int, turns: Turns | None = None
    ) -> None:
        """``queue`` is how much work may wait beyond what the threads are doing.

        Answers come in ``turns``, which others may share.
        """
        self._reactor = reactor
        self._turns = turns or Turns(lambda: reactor)
        self._purpose = purpose
        self._most = threads + queue
        # At half the price of Twisted's pool, which nests a context for each piece.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"pop3gw-{purpose}")
        self._answers: deque[tuple[Deferred[Any], Any]] = deque()
        self._telling = False
        self.outstanding = 0
        """Work that was taken and has not been answered."""

    def stop(self) -> None:
        """Finish what was begun, and end the threads.  Blocks for as long as that takes."""
        self._pool.shutdown()

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Do ``work`` on a thread; fails with ``Overloaded`` when too much is waiting."""
        if self.outstanding >= self._most:
            return fail(Overloaded(f"{self._purpose}: {self.outstanding} pieces of work wait"))
        self.outstanding += 1
        answer: Deferred[T] = Deferred()
        self._pool.submit(self._do, work, answer)
        return answer

    def _do(self, work: Callable[[], T], answer: Deferred[T]) -> None:
        """On a thread."""
        try:
            result: Any = work()
        except BaseException:
            result = Failure()
        # Appended first, so that whoever is telling sees it, or this one wakes him.
        self._answers.append((answer, result))
        if not self._telling:
            self._telling = True
            self._reactor.callFromThread(self._tell)

    def _tell(self) -> None:
        self._telling = False
        while self._answers:
            self._turns.take(partial(self._give, *self._answers.popleft()))

    def _give(self, answer: Deferred[Any], result: Any) -> None:
        self.outstanding -= 1
        answer.callback(result)
