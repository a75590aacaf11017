"""Mailboxes that were asked for lately."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.errors import StoreDown
from gateway.postgresql.database import Database
from gateway.store.cluster.boxes import MOST, Lately
from gateway.testing.store_contract import ALICE, BOB
from relay import Relay


class LatelyTests(SynchronousTestCase):
    def test_a_value_is_known_for_its_seconds_and_not_for_twice_as_long(self) -> None:
        for passed in (0, 3, 9.5):
            clock = Clock()
            lately = Lately[int](clock.seconds, 10)
            clock.advance(passed)
            lately.keep("one", 1)
            clock.advance(10)
            self.assertEqual(lately.find("one"), 1)
            clock.advance(10)
            self.assertIsNone(lately.find("one"))

    def test_the_newer_value_counts(self) -> None:
        clock = Clock()
        lately = Lately[int](clock.seconds, 10)
        for value in (1, 2):
            lately.keep("one", value)
            clock.advance(10)
        self.assertEqual(lately.find("one"), 2)

    def test_of_many_the_oldest_are_forgotten(self) -> None:
        lately = Lately[int](Clock().seconds, 10)
        for number in range(2 * MOST + 1):
            lately.keep(str(number), number)
        self.assertIsNone(lately.find("0"))
        self.assertEqual(lately.find(str(MOST)), MOST)


@pytest.mark.usefixtures("engines")
@pytest.mark.xdist_group("cluster")
class BoxesTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)

    def test_who_was_recipient_a_moment_ago_is_not_asked_for_again(self) -> None:
        relay = Relay(self.bench.engines.postgresql.port)
        self.addCleanup(relay.stop)
        database = Database(self.bench.engines.url_by(relay.port), timeout=0.5)
        store = self.bench.gateway(self, database=database)
        self.successResultOf(store.prepare(ALICE))
        self.successResultOf(store.usage(BOB))
        relay.go_away()
        for account in (ALICE, BOB):
            incoming = self.successResultOf(store.receive(account))
            self.successResultOf(incoming.close())
        self.failureResultOf(store.prepare(ALICE), StoreDown)
