"""Mailboxes that were asked for lately, and deliveries to those that change meanwhile."""

from __future__ import annotations

import threading

import psycopg
import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ENGINES, ClusterBench, Waits
from gateway.errors import GatewayError, MaildropBusy, OverQuota, StoreDown
from gateway.model import Limits
from gateway.postgresql.database import Database
from gateway.store.cluster.boxes import MOST, Lately
from gateway.testing.store_contract import ALICE, BOB, NO_LIMITS
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
        database = Database(self.bench.engines.url_by(relay.port), timeout=3)
        store = self.bench.gateway(self, database=database)
        self.successResultOf(store.prepare(ALICE))
        self.successResultOf(store.usage(BOB))
        relay.go_away()
        for account in (ALICE, BOB):
            incoming = self.successResultOf(store.receive(account))
            self.successResultOf(incoming.close())
        self.failureResultOf(store.prepare(ALICE), StoreDown)

    def test_a_mailbox_that_is_closed_before_the_commit_takes_nothing(self) -> None:
        incoming = self.successResultOf(self.bench.store.receive(ALICE))
        self.bench.change("UPDATE pop3gw.mailbox SET away = 'elsewhere'")
        self.failureResultOf(incoming.commit(ALICE, NO_LIMITS), MaildropBusy)
        self.successResultOf(incoming.close())

    def test_one_that_lost_messages_meanwhile_takes_it(self) -> None:
        self.bench.deliver(b"one\r\n")
        incoming = self.successResultOf(self.bench.store.receive(ALICE))
        self.successResultOf(incoming.write(b"two\r\n"))
        self.bench.expunge_first()
        self.successResultOf(incoming.commit(ALICE, NO_LIMITS))
        self.successResultOf(incoming.close())
        self.assertEqual(self.bench.contents(), [b"two\r\n"])

    def test_a_delivery_that_waits_for_another_counts_what_that_has_added(self) -> None:
        # Without octets it needs no S3, and so no reactor.
        incoming = self.successResultOf(self.bench.store.receive(ALICE))
        failures: list[GatewayError] = []

        def commit() -> None:
            done = incoming.commit(ALICE, Limits(messages=1))
            done.addErrback(lambda failure: failures.append(failure.value))

        thread = threading.Thread(target=commit)
        url = self.bench.engines.postgresql.url("mail")
        with psycopg.connect(url) as other:
            other.execute("UPDATE pop3gw.mailbox SET messages = messages + 1")
            thread.start()
            ENGINES[0].until(self.is_waiting)
            other.commit()
        thread.join()
        self.assertIsInstance(failures[0], OverQuota)
        self.successResultOf(incoming.close())
        self.assertEqual(self.bench.read("SELECT count(*) FROM pop3gw.message"), [(0,)])

    def is_waiting(self) -> bool:
        """Whether a gateway waits for a lock."""
        asked = (
            "SELECT FROM pg_stat_activity WHERE usename = 'gateway' AND wait_event_type = 'Lock'"
        )
        return bool(self.bench.read(f"{asked} AND wait_event_type = 'Lock'"))
