"""What becomes of questions to the database while no thread is free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import Overloaded
from gateway.store.cluster.in_time import in_time


class InTimeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.queue: list[Callable[[], Any]] = []
        self.run_in_time = in_time(self.put, 10.0, self.clock.seconds)

    def put(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Until a thread is free."""
        answer: Deferred[Any] = Deferred()
        self.queue.append(lambda: answer.callback(None))
        return answer.addCallback(lambda _: work())

    def test_what_gets_a_thread_in_time_is_done(self) -> None:
        answer = self.run_in_time(lambda: 1)
        self.clock.advance(10)
        self.queue.pop()()
        self.assertEqual(self.successResultOf(answer), 1)

    def test_what_waited_longer_is_not_begun(self) -> None:
        done: list[int] = []
        answer = self.run_in_time(lambda: done.append(1))
        self.clock.advance(10.1)
        self.queue.pop()()
        self.failureResultOf(answer, Overloaded)
        self.assertEqual(done, [])
