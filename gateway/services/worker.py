"""Threads for work that blocks, with a queue that cannot grow without limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from gateway.errors import Overloaded

T = TypeVar("T")


class Worker:
    """A bounded pool for one purpose; ``run`` is what ``gateway.interfaces.Run`` asks for."""

    def __init__(self, reactor: Any, purpose: str, *, threads: int, queue: int) -> None:
        """``queue`` is how much work may wait beyond what the threads are doing."""
        self._reactor = reactor
        self._purpose = purpose
        self._most = threads + queue
        self._pool = ThreadPool(minthreads=0, maxthreads=threads, name=f"pop3gw-{purpose}")
        self.outstanding = 0
        """Work that was taken and has not been answered."""

    def start(self) -> None:
        """Begin; work handed in earlier waits for this."""
        self._pool.start()

    def stop(self) -> None:
        """Finish what was begun, and end the threads.  Blocks for as long as that takes."""
        self._pool.stop()

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Do ``work`` on a thread; fails with ``Overloaded`` when too much is waiting."""
        if self.outstanding >= self._most:
            return fail(Overloaded(f"{self._purpose}: {self.outstanding} pieces of work wait"))
        self.outstanding += 1

        def done(result: Any) -> Any:
            self.outstanding -= 1
            return result

        return deferToThreadPool(self._reactor, self._pool, work).addBoth(done)
