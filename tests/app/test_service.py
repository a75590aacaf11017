"""The end of the server, on a clock that is advanced."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from gateway.app.service import READY, Listener, Server


class Reactor(MemoryReactorClock):
    """One that has threads, or seems so."""

    def callFromThread(self, work: Callable[[], None]) -> None:
        """At the next turn."""
        self.callLater(0, work)


class Port:
    """A port that listens, and is read from or not."""

    is_read = True

    def doRead(self) -> None:
        """Nobody comes."""

    def stopReading(self) -> None:
        """Who comes waits."""
        self.is_read = False

    def startReading(self) -> None:
        """Who waits is let in."""
        self.is_read = True

    def getHost(self) -> str:
        """Where it is."""
        return "here"

    def stopListening(self) -> None:
        """Nobody can come any more."""


class StartTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        self.addCleanup(gc.unfreeze)
        self.reactor = Reactor()
        self.ready: Deferred[None] = Deferred()
        self.port = Port()

    def start(self) -> Server:
        """A server with one listener."""
        endpoint: Any = SimpleNamespace(listen=lambda _: succeed(self.port))
        server = Server(
            self.reactor,
            [Listener("plain", endpoint, None)],
            [],
            [],
            drain_timeout=10,
            at_start=lambda: self.ready,
        )
        server.startService()
        return server

    def test_who_comes_first_waits_until_all_is_known(self) -> None:
        self.start()
        self.assertFalse(self.port.is_read)
        self.ready.callback(None)
        self.assertTrue(self.port.is_read)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nobody_waits_where_it_is_known_at_once_or_takes_too_long(self) -> None:
        self.start()
        self.reactor.advance(READY)
        self.assertTrue(self.port.is_read)
        self.ready.callback(None)
        self.port = Port()
        self.start()
        self.assertTrue(self.port.is_read)


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
