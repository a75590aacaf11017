"""The collection of removed mail: in the leader, in steps, and again after a failure."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.errors import StoreDown
from gateway.interfaces import ICollectingStore
from gateway.jobs.collection import BATCH, EVERY, CollectionJob
from gateway.state.memory import MemoryLeader


@implementer(ICollectingStore)
class Store:
    """A store with this much to collect."""

    def __init__(self, messages: int) -> None:
        self.messages = messages
        self.steps = 0
        self.is_down = False
        self.slow: Deferred[int] | None = None

    def open(self, account: object, mind: object) -> Deferred[object]:
        """Nobody logs in."""
        raise NotImplementedError

    def collect(self, most: int) -> Deferred[int]:
        """Take some away."""
        self.steps += 1
        if self.is_down:
            return fail(StoreDown("S3 is away"))
        if self.slow is not None:
            return self.slow
        collected = min(most, self.messages)
        self.messages -= collected
        return succeed(collected)


class CollectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.seat: list[object] = []
        self.store = Store(BATCH * 2 + 1)
        self.job = CollectionJob(self.store, MemoryLeader(self.seat), self.clock)
        self.job.start()

    def test_all_that_there_is_goes_in_steps_each_minute(self) -> None:
        self.assertEqual(self.store.steps, 0)
        self.clock.advance(EVERY)
        self.assertEqual((self.store.messages, self.store.steps), (0, 4))
        self.store.messages = 7
        self.clock.advance(EVERY)
        self.assertEqual((self.store.messages, self.store.steps), (0, 6))

    def test_who_does_not_lead_collects_nothing(self) -> None:
        self.seat.append(object())
        self.clock.advance(EVERY)
        self.assertEqual(self.store.steps, 0)
        self.seat.clear()
        self.clock.advance(EVERY)
        self.assertEqual(self.store.messages, 0)

    def test_a_failure_is_logged_once_and_the_next_turn_tries_again(self) -> None:
        self.store.is_down = True
        logged: list[str] = []

        def hear(event: Any) -> None:
            logged.append(formatEvent(event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        self.clock.pump([EVERY] * 3)
        self.assertEqual(self.store.steps, 3)
        self.assertEqual(logged, ["removed mail is not collected: S3 is away"])
        self.store.is_down = False
        self.clock.advance(EVERY)
        self.assertEqual(self.store.messages, 0)

    def test_a_stop_waits_for_the_step_that_runs_and_begins_no_other(self) -> None:
        self.store.slow = Deferred()
        self.clock.advance(EVERY)
        stopped = self.job.stop()
        self.assertNoResult(stopped)
        self.store.slow.callback(BATCH)
        self.successResultOf(stopped)
        self.clock.advance(10 * EVERY)
        self.assertEqual(self.store.steps, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_stop_between_turns_ends_it_at_once(self) -> None:
        self.successResultOf(self.job.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
