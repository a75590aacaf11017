"""Reloads, one after the other."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.app.server.reload import STOPPING, Reloads
from gateway.events import Event, ReloadEnded, ReloadStarted


class ReloadsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Event] = []
        self.running: list[Deferred[ReloadEnded]] = []
        self.reloads = Reloads(self.perform, self.events.append)

    def perform(self) -> Deferred[ReloadEnded]:
        """Begin one that a test ends."""
        self.running.append(Deferred())
        return self.running[-1]

    def test_a_request_during_the_start_waits_for_it(self) -> None:
        asked = self.reloads.request()
        self.assertEqual((self.running, self.events), ([], []))
        self.reloads.start()
        self.running[0].callback(ReloadEnded(("a",)))
        self.assertEqual(self.successResultOf(asked), ReloadEnded(("a",)))
        self.assertEqual(self.events, [ReloadStarted(), ReloadEnded(("a",))])

    def test_requests_during_a_reload_share_one_more_after_it(self) -> None:
        self.reloads.start()
        first = self.reloads.request()
        later = [self.reloads.request() for _ in range(3)]
        self.assertEqual(len(self.running), 1)
        self.running[0].callback(ReloadEnded(("a",)))
        self.assertEqual(self.successResultOf(first), ReloadEnded(("a",)))
        for one in later:
            self.assertNoResult(one)
        self.running[1].callback(ReloadEnded(("b",)))
        for one in later:
            self.assertEqual(self.successResultOf(one), ReloadEnded(("b",)))
        self.assertEqual(len(self.running), 2)

    def test_who_asks_while_the_server_stops_is_told_so(self) -> None:
        self.reloads.start()
        first, second = self.reloads.request(), self.reloads.request()
        self.reloads.stop()
        self.assertEqual(self.successResultOf(second), STOPPING)
        self.assertEqual(self.successResultOf(self.reloads.request()), STOPPING)
        self.assertNoResult(first)
        self.running[0].callback(ReloadEnded())
        self.assertEqual(self.successResultOf(first), ReloadEnded())
        self.assertEqual(len(self.running), 1)
