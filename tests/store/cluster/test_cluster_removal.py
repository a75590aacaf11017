"""Removal of more messages than one transaction takes."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.errors import NoSuchMailbox, StoreDown
from gateway.model import Account, Usage
from gateway.postgresql.database import Database
from gateway.store.cluster import removal
from gateway.testing.mailbox_admin_contract import DESK
from gateway.testing.store_contract import ALICE
from relay import Relay

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]


class ManyTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        self.patch(removal, "BATCH", 2)
        self.fill()

    def fill(self) -> None:
        """Five messages, and a session that lists them."""
        for number in range(5):
            self.bench.deliver(b"%d\r\n" % number)
        self.maildrop, _ = self.successResultOf(self.bench.store.open(ALICE, None))

    def test_quit_removes_all_in_several_transactions_each_with_its_lines(self) -> None:
        self.successResultOf(self.maildrop.finish({4, 0, 1, 3}, {2}))
        self.assertEqual(self.bench.contents(), [b"2\r\n"])
        self.assertEqual(sorted(one.uid for one in self.bench.trail.lines), list("1245"))
        self.assertEqual(self.bench.read_count(), 1)

    def test_after_a_failure_what_is_left_goes_with_the_next_quit(self) -> None:
        self.fail_once_in_the_second_step()
        self.failureResultOf(self.maildrop.finish({0, 1, 2, 3}, set()), StoreDown)
        self.assertEqual(self.bench.contents(), [b"2\r\n", b"3\r\n", b"4\r\n"])
        self.successResultOf(self.maildrop.finish({0, 1, 2, 3}, set()))
        self.assertEqual(self.bench.contents(), [b"4\r\n"])

    def test_a_deletion_that_failed_says_what_went_and_goes_on_with_each_line_once(self) -> None:
        self.fail_once_in_the_second_step()
        failed = self.failureResultOf(self.bench.store.delete(ALICE, DESK), StoreDown)
        self.assertEqual(failed.value.done, {"messages": 2, "octets": 6})
        self.assertEqual(len(self.bench.contents()), 3)
        told = self.successResultOf(self.bench.store.delete(ALICE, DESK))
        self.assertEqual(told.total.messages, 3)
        self.assertEqual([one.uid for one in self.bench.trail.lines], list("12345"))
        self.assertNotIn(ALICE.mailbox, self.successResultOf(self.bench.store.names()))

    def test_a_deletion_counts_each_message_once_whichever_answer_is_lost(self) -> None:
        relay = Relay(self.bench.engines.postgresql.port)
        self.addCleanup(relay.stop)
        url = self.bench.engines.url_by(relay.port)
        store = self.bench.gateway(self, database=Database(url, timeout=3))
        transact = store._database.transact
        for lost in range(4):
            steps = count()

            def transact_and_lose(work: Any) -> Any:
                # Two hidden messages, two that are shown, another one, and the mailbox.
                relay.lose_answer_to = b"COMMIT" if next(steps) == lost else b""  # noqa: B023
                return transact(work)

            self.patch(store._database, "transact", transact_and_lose)
            uids = self.successResultOf(self.maildrop.listing()).uids
            self.successResultOf(self.bench.store.hide(ALICE, uids[:2], DESK))
            told = self.successResultOf(store.delete(ALICE, DESK))
            self.assertEqual((told.shown, told.hidden), (Usage(9, 3), Usage(6, 2)))
            self.assertEqual(relay.cuts, lost + 1)
            self.bench.add(ALICE.mailbox)
            self.fill()

    def test_what_operators_ask_for_is_done_in_several_transactions_and_counted(self) -> None:
        store, trail, uids = self.bench.store, self.bench.trail, [*"54321"]
        steps = self.steps()
        for ask, action in (
            (store.hide, "hide"),
            (store.restore, "restore"),
            (store.hide, "hide"),
            (store.purge, "purge"),
        ):
            del trail.lines[:]
            steps.clear()
            self.assertEqual(self.successResultOf(ask(ALICE, [*uids, "9"], DESK)), 5)
            told = [(one.action, one.uid) for one in trail.lines]
            self.assertEqual(sorted(told), [(action, uid) for uid in sorted(uids)])
            self.assertEqual(steps, [2, 2, 1])
        self.bench.deliver(b"6\r\n")
        self.assertEqual(self.successResultOf(store.remove(ALICE, ["6"], DESK)), 1)
        self.assertEqual(self.bench.contents(), [])

    def test_one_of_them_that_failed_says_what_was_done_before(self) -> None:
        self.fail_once_in_the_second_step()
        hidden = self.bench.store.hide(ALICE, [*"12345"], DESK)
        self.assertEqual(self.failureResultOf(hidden, StoreDown).value.done, {"messages": 2})
        hidden = self.bench.store.hide(ALICE, [*"12345"], DESK)
        self.assertEqual(self.successResultOf(hidden), 3)

    def test_a_mailbox_that_is_missing_is_said_of_no_messages_too(self) -> None:
        removed = self.bench.store.remove(Account("x", "x"), [], DESK)
        self.failureResultOf(removed, NoSuchMailbox)

    def steps(self) -> list[int]:
        """How many messages each transaction has changed from now on."""
        apply = removal.Removal._apply
        steps: list[int] = []

        def count(*arguments: Any) -> None:
            steps.append(len(arguments[3]))
            apply(*arguments)

        self.patch(removal.Removal, "_apply", count)
        return steps

    def fail_once_in_the_second_step(self) -> None:
        """The second batch finds the store down."""
        apply = removal.Removal._apply
        steps: list[object] = []

        def fail_later(*arguments: object) -> None:
            steps.append(arguments)
            if len(steps) == 2:
                raise StoreDown("the disk of the audit is full")
            apply(*arguments)  # type: ignore[arg-type]

        self.patch(removal.Removal, "_apply", fail_later)
