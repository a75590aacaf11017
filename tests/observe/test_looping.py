"""What is done again and again, also after a fault."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.observe.looping import looping


class LoopingTests(SynchronousTestCase):
    def test_a_fault_is_logged_and_the_next_call_comes(self) -> None:
        clock, called = Clock(), list[float]()

        def call() -> Deferred[None]:
            called.append(clock.seconds())
            if len(called) == 1:
                raise ZeroDivisionError
            return fail(ZeroDivisionError())

        calls = looping(call, "the sum", clock)
        ended = calls.start(2)
        clock.pump([2, 2])
        self.assertEqual(called, [0, 2, 4])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
        calls.stop()
        self.successResultOf(ended)

    def test_a_call_that_takes_longer_holds_up_the_next_one(self) -> None:
        clock, called = Clock(), list[Deferred[None]]()

        async def call() -> None:
            called.append(Deferred())
            await called[-1]

        calls = looping(call, "the sum", clock)
        calls.start(1)
        clock.pump([1, 1])
        self.assertEqual(len(called), 1)
        called[0].callback(None)
        clock.advance(1)
        self.assertEqual(len(called), 2)
        calls.stop()
