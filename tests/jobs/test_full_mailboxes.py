"""How many mailboxes are full, for figures."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import StoreDown
from gateway.events import Event, QuotaLevelsCounted
from gateway.jobs.full_mailboxes import EVERY, FullMailboxes
from gateway.model import Level
from gateway.state.memory import MemoryLeader, MemoryState


class FullMailboxesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.state, self.told = Clock(), MemoryState(), list[Event]()
        for name, level in (("a", Level.WARN), ("b", Level.OVER), ("c", Level.OVER)):
            self.state.weigh(name, level, 0.0, 60.0)
        self.state.weigh("d", Level.NORMAL, 0.0, 60.0)

    def job(self, leader: MemoryLeader) -> FullMailboxes:
        """It, started."""
        job = FullMailboxes(self.clock, self.state, leader, self.told.append)
        job.start()
        return job

    def test_the_leader_counts_each_minute_what_the_warnings_found(self) -> None:
        job = self.job(MemoryLeader())
        self.assertEqual(self.told, [QuotaLevelsCounted(1, 2)])
        self.state.weigh("c", Level.NORMAL, 1.0, 60.0)
        self.clock.advance(EVERY)
        self.assertEqual(self.told[1:], [QuotaLevelsCounted(1, 1)])
        self.successResultOf(job.stop())
        self.assertEqual(self.told[2:], [QuotaLevelsCounted(None, None)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_else_counts(self) -> None:
        leader = MemoryLeader()
        leader.is_leader = lambda: succeed(False)  # type: ignore[method-assign]
        self.successResultOf(self.job(leader).stop())
        self.assertEqual(self.told, [QuotaLevelsCounted(None, None)])

    def test_an_outage_of_the_state_ends_nothing(self) -> None:
        self.state.warning_states = lambda _: fail(StoreDown("full"))  # type: ignore[method-assign]
        job = self.job(MemoryLeader())
        del self.state.warning_states
        self.clock.advance(EVERY)
        self.assertEqual(self.told, [QuotaLevelsCounted(1, 2)])
        self.successResultOf(job.stop())

    def test_a_fault_neither_ends_the_counts_nor_keeps_the_server_from_its_end(self) -> None:
        self.state.warning_states = lambda _: fail(KeyError())  # type: ignore[method-assign]
        job = self.job(MemoryLeader())
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        del self.state.warning_states
        self.clock.advance(EVERY)
        self.assertEqual(self.told, [QuotaLevelsCounted(1, 2)])
        self.successResultOf(job.stop())

    def test_it_ends_when_the_present_count_has(self) -> None:
        waits: Deferred[bool] = Deferred()
        leader = MemoryLeader()
        leader.is_leader = lambda: waits  # type: ignore[method-assign]
        stopped = self.job(leader).stop()
        self.assertNoResult(stopped)
        waits.callback(False)
        self.successResultOf(stopped)
