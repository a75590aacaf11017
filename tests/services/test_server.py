"""The end of the server, on a clock that is advanced."""

from __future__ import annotations

import signal
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from gateway.services.counts import Counts
from gateway.services.server import Server


class Reactor(MemoryReactorClock):
    """One that has threads, or seems so."""

    def callFromThread(self, work: Callable[[], None]) -> None:
        """At the next turn."""
        self.callLater(0, work)


class EndTests(SynchronousTestCase):
    def setUp(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.reactor = Reactor()
        self.left: Deferred[None] = Deferred()

    def stop(self) -> Deferred[object]:
        """A server that has been told to stop."""
        self.server = Server(
            self.reactor,
            [],
            [],
            [],
            counts=Counts(self.reactor, []),
            count_every=0,
            drain_timeout=10,
            at_end=lambda: self.left,
        )
        return self.server.stopService()

    def test_it_waits_for_what_sessions_have_left_behind(self) -> None:
        stopped = self.stop()
        self.reactor.advance(9)
        self.assertNoResult(stopped)
        self.left.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_it_waits_no_longer_than_for_everything_else(self) -> None:
        stopped = self.stop()
        self.reactor.advance(10)
        self.successResultOf(stopped)

    def test_a_second_signal_ends_the_waiting(self) -> None:
        stopped = self.stop()
        signal.raise_signal(signal.SIGTERM)
        self.reactor.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_fault_in_it_is_logged_and_ends_it_all_the_same(self) -> None:
        stopped = self.stop()
        self.left.errback(ZeroDivisionError())
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
