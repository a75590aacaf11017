"""What a login asks the database, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.errors import NoSuchMailbox
from gateway.model import Account
from gateway.postgresql.database import Database, Parameters
from gateway.testing.store_contract import ALICE, BOB

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]


class Counting(Database):
    """A database that remembers what it was asked."""

    asked: list[str]

    def read(self, query: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Remember."""
        vars(self).setdefault("asked", []).append("listing" if "LATERAL" in query else query)
        return super().read(query, parameters)


class LoginTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        self.database = Counting(self.bench.engines.url)

    def sizes(self, store: Any) -> list[int]:
        """The sizes that a login lists."""
        maildrop, _ = self.successResultOf(store.open(ALICE, None))
        return list(self.successResultOf(maildrop.listing()).sizes)

    def test_the_login_to_an_unchanged_mailbox_is_one_small_question(self) -> None:
        store = self.bench.gateway(self, database=self.database)
        self.bench.deliver(b"one\r\n")
        self.assertEqual(self.sizes(store), [5])
        del self.database.asked[:]
        self.assertEqual(self.sizes(store), [5])
        (asked,) = self.database.asked
        self.assertNotEqual(asked, "listing")

    def test_a_new_message_is_fetched_alone(self) -> None:
        store = self.bench.gateway(self, database=self.database)
        self.bench.deliver(b"one\r\n")
        first, _ = self.successResultOf(store.open(ALICE, None))
        self.bench.deliver(b"three\r\n")
        second, _ = self.successResultOf(store.open(ALICE, None))
        listings = [self.successResultOf(one.listing()) for one in (first, second)]
        self.assertEqual([list(one.sizes) for one in listings], [[5], [5, 7]])
        # Nothing of the first is read again: its text is the same object.
        self.assertIs(listings[0].uids[0], listings[1].uids[0])

    def test_a_mailbox_that_lost_a_message_and_got_another_is_listed_anew(self) -> None:
        store = self.bench.gateway(self, database=self.database)
        self.bench.deliver(b"one\r\n")
        self.bench.deliver(b"three\r\n")
        self.assertEqual(self.sizes(store), [5, 7])
        self.bench.expunge_first()
        self.bench.deliver(b"\r\n")
        self.assertEqual(self.sizes(store), [7, 2])

    def test_logins_that_come_while_one_waits_share_a_question(self) -> None:
        held: list[tuple[Callable[[], Any], Deferred[Any]]] = []

        def run(work: Callable[[], Any]) -> Deferred[Any]:
            held.append((work, Deferred()))
            return held[-1][1]

        store = self.bench.gateway(self, database=self.database, run=run)
        opened = [store.open(account, None) for account in (ALICE, BOB) * 50]
        questions = 0
        while held:
            work, answer = held.pop(0)
            answer.callback(work())
            questions += 1
        for one in opened:
            self.successResultOf(one)
        asked = [one for one in self.database.asked if one != "listing"]
        # The first login alone, and all others together.
        self.assertEqual((len(asked), questions), (2, 4))

    def test_a_name_that_no_database_can_hold_is_no_mailbox(self) -> None:
        store = self.bench.maker(self)
        for name in ("a\0b", "\udc80"):
            self.failureResultOf(store.open(Account(name, name), None), NoSuchMailbox)
            self.failureResultOf(store.scan(Account(name, name)), NoSuchMailbox)
        self.assertEqual(self.successResultOf(store.names()), sorted([ALICE.mailbox, BOB.mailbox]))

    def test_two_gateways_may_create_a_mailbox_at_once(self) -> None:
        carol = Account("carol", "carol")
        stores = [self.bench.maker(self) for _ in range(2)]
        for one in [store.prepare(carol) for store in stores]:
            self.successResultOf(one)
        self.assertIn("carol", self.successResultOf(self.bench.store.names()))
