"""The end of the server, on a clock that is advanced."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from gateway.app.server.service import READY, Listener, Server
from gateway.events import (
    Event,
    ListenerStarted,
    ListenerStopped,
    ServerReady,
    ServerStopped,
    ServerStopping,
)
from gateway.model import OpenSession


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
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.reactor = Reactor()
        self.started: Deferred[None] = Deferred()
        self.directory: Deferred[str] = succeed("")
        self.port = Port()
        self.events: list[Event] = []

    def ready(self) -> list[Event]:
        """The events that say so."""
        return [event for event in self.events if isinstance(event, ServerReady)]

    def start(self) -> Server:
        """A server with one listener."""
        endpoint: Any = SimpleNamespace(listen=lambda _: succeed(self.port))
        server = Server(
            self.reactor,
            [Listener("plain", endpoint, None)],
            [],
            drain_timeout=10,
            at_start=lambda: self.started,
            try_directory=lambda: self.directory,
            emit=self.events.append,
        )
        server.startService()
        return server

    def test_full_garbage_collections_which_hold_up_every_session_are_seldom(self) -> None:
        young, middle, before = gc.get_threshold()
        self.start()
        self.assertEqual(gc.get_threshold()[:2], (young, middle))
        self.assertGreaterEqual(gc.get_threshold()[2], 10 * before)
        self.assertGreater(gc.get_freeze_count(), 0)

    def test_who_comes_first_waits_until_all_is_known(self) -> None:
        self.start()
        self.assertFalse(self.port.is_read)
        self.started.callback(None)
        self.assertTrue(self.port.is_read)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nobody_waits_where_it_is_known_at_once_or_takes_too_long(self) -> None:
        self.start()
        self.reactor.advance(READY)
        self.assertTrue(self.port.is_read)
        self.started.callback(None)
        self.port = Port()
        self.start()
        self.assertTrue(self.port.is_read)

    def test_it_is_ready_when_clients_are_let_in_and_the_directory_has_answered(self) -> None:
        self.directory = Deferred()
        self.start()
        self.started.callback(None)
        self.assertEqual(self.ready(), [])
        self.directory.callback("")
        self.assertEqual(self.ready(), [ServerReady("")])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_directory_that_is_down_or_silent_keeps_it_from_nothing_for_long(self) -> None:
        self.started.callback(None)
        self.directory = succeed("ldap://one refused")
        self.start()
        self.assertEqual(self.ready(), [ServerReady("ldap://one refused")])
        self.directory = Deferred()
        self.start()
        self.reactor.advance(READY)
        self.assertEqual(self.ready()[1:], [ServerReady("no answer within 5 s")])
        self.directory.callback("")
        self.assertEqual(len(self.ready()), 2)

    def test_it_is_not_ready_once_it_stops(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        server = self.start()
        server.stopService()
        self.started.callback(None)
        server.reload()
        self.assertEqual(
            [type(event) for event in self.events],
            [ListenerStarted, ServerStopping, ListenerStopped, ServerStopped],
        )

    def test_a_fault_in_its_start_is_logged_and_lets_clients_in(self) -> None:
        self.start()
        self.started.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.port.is_read)
        self.assertEqual(self.ready(), [ServerReady("")])


class Factory:
    """Sessions of one protocol, which have begun at these times."""

    def __init__(self, protocol: str, *begun: float) -> None:
        self.shown = [OpenSession(f"{at}", protocol, "", "", "", False, at, "") for at in begun]
        self.open_count = len(begun)

    def open_sessions(self) -> Iterator[OpenSession]:
        """The oldest first."""
        return iter(self.shown)


class OpenSessionsTests(SynchronousTestCase):
    def test_the_oldest_sessions_of_all_listeners_are_told_of_and_all_are_counted(self) -> None:
        endpoint: Any = SimpleNamespace()
        factories = Factory("pop3", 2, 3, 6), Factory("lmtp", 1, 4, 5)
        listeners = [Listener("", endpoint, None, sessions=one) for one in factories]
        server = Server(Reactor(), listeners, [], drain_timeout=10)
        for asked, total, begun in (
            ({}, 6, [1, 2, 3, 4, 5, 6]),
            ({"most": 4}, 6, [1, 2, 3, 4]),
            ({"most": 2, "protocol": "lmtp", "user": "", "address": ""}, 3, [1, 4]),
        ):
            told = server.open_sessions(asked)
            self.assertEqual(
                (told["total"], [one.since for one in told["sessions"]]), (total, begun)
            )


class Site:
    """What a site does when the server stops."""

    def __init__(self) -> None:
        self.drained: Deferred[None] = Deferred()

    def drain(self, seconds: float) -> Deferred[None]:  # noqa: ARG002
        """Answer what was asked."""
        return self.drained

    def abort(self) -> None:
        """Close all connections."""
        self.drained.callback(None)


class EndTests(SynchronousTestCase):
    def setUp(self) -> None:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.reactor = Reactor()
        self.left: Deferred[None] = Deferred()

    def stop(self, *sites: Site) -> Deferred[object]:
        """A server that has been told to stop."""
        endpoint: Any = SimpleNamespace(listen=lambda _: succeed(Port()))
        self.server = Server(
            self.reactor,
            [Listener("http", endpoint, None, site=site) for site in sites[1:]],
            [],
            drain_timeout=10,
            at_end=lambda: self.left,
            control=sites[0] if sites else None,
        )
        self.server.privilegedStartService()
        return self.server.stopService()

    def test_it_waits_for_what_sessions_have_left_behind(self) -> None:
        stopped = self.stop()
        self.reactor.advance(9)
        self.assertNoResult(stopped)
        self.left.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_its_sites_answer_their_last_requests_before_anything_else_ends(self) -> None:
        sites = Site(), Site()
        stopped = self.stop(*sites)
        self.left.callback(None)
        for site in sites:
            self.assertNoResult(stopped)
            site.drained.callback(None)
        self.successResultOf(stopped)

    def test_a_second_signal_closes_its_sites_too(self) -> None:
        self.left.callback(None)
        stopped = self.stop(Site(), Site())
        signal.raise_signal(signal.SIGTERM)
        self.reactor.advance(0)
        self.successResultOf(stopped)

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
