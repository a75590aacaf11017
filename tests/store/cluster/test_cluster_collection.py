"""Bodies go when no message has them, and not before the longest session has ended."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.errors import MailboxUnusable, StoreDown
from gateway.store.cluster.bodies.blobs import Blobs
from gateway.store.cluster.collection import AT_ONCE, LONGEST, BodyCollection
from gateway.store.cluster.store import ClusterOptions
from gateway.testing.store_contract import ALICE, BOB, NO_LIMITS, read_all, run_now
from relay import Relay

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]

OPTIONS = ClusterOptions(create=False, longest_session=60)


class CollectionTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        self.store = self.bench.gateway(self, options=OPTIONS)

    def collect(self, most: int = 100) -> int:
        """How many were finished."""
        found: int = self.successResultOf(self.store.collect(most))
        return found

    def pass_time(self) -> None:
        """Let all sessions end."""
        self.bench.change("UPDATE pop3gw.gone SET at = at - interval '61 seconds'")

    def bodies(self) -> int:
        """How many S3 has."""
        return len(self.bench.engines.result(self.bench.blobs().list()).keys)

    def left(self) -> int:
        """How many rows wait."""
        return len(self.bench.read("SELECT FROM pop3gw.gone"))

    def remove_all(self, account: Any = ALICE) -> None:
        """A session that removes everything."""
        maildrop, _ = self.successResultOf(self.store.open(account, None))
        count = len(self.successResultOf(maildrop.listing()))
        self.successResultOf(maildrop.finish(set(range(count)), set()))

    def deliver_to_both(self) -> None:
        """One message to Alice and Bob."""
        incoming = self.successResultOf(self.store.receive(ALICE))
        self.successResultOf(incoming.write(b"one\r\n"))
        for account in (ALICE, BOB):
            self.successResultOf(incoming.commit(account, NO_LIMITS))

    def test_a_body_goes_when_no_reply_can_still_be_sending_it(self) -> None:
        self.bench.deliver(b"one\r\n")
        self.remove_all()
        self.assertEqual((self.collect(), self.bodies(), self.left()), (0, 1, 1))
        self.pass_time()
        self.assertEqual((self.collect(), self.bodies(), self.left()), (1, 0, 0))

    def test_a_body_that_another_recipient_has_stays(self) -> None:
        self.deliver_to_both()
        self.remove_all()
        self.pass_time()
        # Its row is finished: the other recipient will leave one of its own.
        self.assertEqual((self.collect(), self.bodies(), self.left()), (1, 1, 0))
        maildrop, _ = self.successResultOf(self.store.open(BOB, None))
        body = self.successResultOf(maildrop.retrieve(0))
        self.assertEqual(read_all(self, body), b"one\r\n")
        self.remove_all(BOB)
        self.pass_time()
        self.assertEqual((self.collect(), self.bodies(), self.left()), (1, 0, 0))

    def test_a_body_that_another_recipient_had_until_lately_stays_a_while(self) -> None:
        self.deliver_to_both()
        self.remove_all()
        self.pass_time()
        self.remove_all(BOB)
        self.assertEqual((self.collect(), self.bodies(), self.left()), (1, 1, 1))
        self.pass_time()
        self.assertEqual((self.collect(), self.bodies(), self.left()), (1, 0, 0))

    def test_so_does_one_of_which_the_last_loss_comes_of_age_while_others_are_collected(
        self,
    ) -> None:
        self.deliver_to_both()
        self.bench.deliver(b"two\r\n")
        self.remove_all()
        self.pass_time()
        self.remove_all(BOB)
        blobs = self.bench.blobs()
        remove = blobs.remove

        def remove_slowly(key: Any) -> Any:
            self.pass_time()
            return remove(key)

        self.patch(blobs, "remove", remove_slowly)
        self.store = self.bench.gateway(self, blobs=blobs, options=OPTIONS)
        self.assertEqual((self.collect(), self.bodies(), self.left()), (2, 1, 1))
        self.assertEqual((self.collect(), self.bodies(), self.left()), (1, 0, 0))

    def test_bodies_that_s3_does_not_remove_are_in_nobodys_way(self) -> None:
        for number in range(20):
            self.bench.deliver(b"%d\r\n" % number)
        self.remove_all()
        self.pass_time()
        blobs = self.bench.blobs()
        remove, locked = blobs.remove, self.bench.read("SELECT body FROM pop3gw.gone LIMIT 3")

        def remove_others(key: Any) -> Any:
            return fail(StoreDown("locked")) if (key,) in locked else remove(key)

        self.patch(blobs, "remove", remove_others)
        store = self.bench.gateway(self, blobs=blobs, options=OPTIONS)
        self.failureResultOf(store.collect(100), StoreDown)
        self.assertEqual((self.bodies(), self.left()), (3, 3))

    def test_nor_do_they_keep_younger_ones_from_being_found(self) -> None:
        for number in range(6):
            self.bench.deliver(b"%d\r\n" % number)
        for _ in range(6):
            self.bench.expunge_first()
        self.pass_time()
        blobs = self.bench.blobs()
        remove = blobs.remove
        locked = self.bench.read("SELECT body FROM pop3gw.gone ORDER BY at LIMIT 2")

        def remove_others(key: Any) -> Any:
            return fail(StoreDown("locked")) if (key,) in locked else remove(key)

        self.patch(blobs, "remove", remove_others)
        self.store = self.bench.gateway(self, blobs=blobs, options=OPTIONS)
        self.failureResultOf(self.store.collect(2), StoreDown)
        self.assertEqual([self.collect(2), self.collect(2)], [2, 2])
        # All were tried: those that are left are not forgotten, and are tried again.
        self.failureResultOf(self.store.collect(2), StoreDown)
        self.failureResultOf(self.store.collect(2), StoreDown)
        locked.clear()
        self.failureResultOf(self.store.collect(2), StoreDown)
        self.assertEqual((self.collect(2), self.bodies(), self.left()), (2, 0, 0))

    def test_while_s3_is_away_a_step_asks_it_for_few(self) -> None:
        for number in range(20):
            self.bench.deliver(b"%d\r\n" % number)
        self.remove_all()
        self.pass_time()
        blobs = self.bench.blobs()
        for error, most in ((StoreDown("away"), AT_ONCE), (MailboxUnusable("refused"), 20)):
            asked: list[Any] = []

            def refuse(key: Any, error: Exception = error, asked: list[Any] = asked) -> Any:
                asked.append(key)
                return fail(error)

            self.patch(blobs, "remove", refuse)
            store = self.bench.gateway(self, blobs=blobs, options=OPTIONS)
            self.failureResultOf(store.collect(100), type(error))
            self.assertEqual(len(asked), most)
        self.assertEqual(self.left(), 20)

    def test_while_s3_is_slow_a_step_ends_in_the_term_of_the_leader(self) -> None:
        for number in range(20):
            self.bench.deliver(b"%d\r\n" % number)
        self.remove_all()
        self.pass_time()
        clock = Clock()
        blobs = self.bench.blobs()
        remove = blobs.remove

        def remove_slowly(key: Any) -> Any:
            clock.advance(LONGEST / AT_ONCE)
            return remove(key)

        self.patch(blobs, "remove", remove_slowly)
        database = self.bench.engines.owner
        collection = BodyCollection(database, blobs, run_now, 60, clock.seconds)
        counts = [self.successResultOf(collection.collect(100)) for _ in range(4)]
        self.assertEqual(counts, [8, 8, 4, 0])

    def test_it_goes_on_where_it_ended(self) -> None:
        for number in range(20):
            self.bench.deliver(b"%d\r\n" % number)
        self.remove_all()
        self.pass_time()
        self.assertEqual([self.collect(8) for _ in range(4)], [8, 8, 4, 0])
        self.assertEqual((self.bodies(), self.left()), (0, 0))

    def test_without_s3_nothing_is_forgotten(self) -> None:
        for number in range(3):
            self.bench.deliver(b"%d\r\n" % number)
        self.remove_all()
        self.pass_time()
        relay = Relay(self.bench.engines.s3.port)
        self.addCleanup(relay.stop)
        relay.go_away()
        url = f"http://127.0.0.1:{relay.port}"
        blobs = Blobs(self.bench.engines.requests(self.bench.bucket, url=url))
        away = self.bench.gateway(self, blobs=blobs, options=OPTIONS)
        self.failureResultOf(away.collect(100), StoreDown)
        self.assertEqual((self.bodies(), self.left()), (3, 3))
        self.assertEqual((self.collect(), self.bodies(), self.left()), (3, 0, 0))
