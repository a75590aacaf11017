"""What was acknowledged happened, and once; unique-ids never come twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.errors import MailboxExists, NoSuchMailbox
from gateway.model import Account, Form, Limits, Reason
from gateway.postgresql.database import Database
from gateway.postgresql.epochs import JUMP
from gateway.state.cluster.leader import ClusterLeader
from gateway.state.cluster.state import ClusterState
from gateway.store.cluster.sql.delivery_rows import New, is_delivered
from gateway.testing.store_contract import ALICE, BOB, NO_LIMITS, read_all, run_now
from relay import Relay

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]

DESK = Reason(operator="token desk")

STATEMENT = b"INSERT INTO pop3gw.message"
"""Words of the statement that delivers a message."""


class OnceTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)

    def relayed(self) -> tuple[Relay, Any]:
        """A relay before PostgreSQL, and a store behind it."""
        relay = Relay(self.bench.engines.postgresql.port)
        self.addCleanup(relay.stop)
        url = self.bench.engines.url_by(relay.port)
        return relay, self.bench.gateway(self, database=Database(url))

    def uids(self, account: Account = ALICE) -> list[int]:
        """The unique-ids of a login."""
        maildrop, _ = self.successResultOf(self.bench.store.open(account, None))
        return [int(uid) for uid in self.successResultOf(maildrop.listing()).uids]

    def test_a_delivery_is_one_statement_and_no_transaction(self) -> None:
        relay, store = self.relayed()
        incoming = self.successResultOf(store.receive(ALICE))
        self.successResultOf(incoming.write(b"one\r\n"))
        relay.lose_answer_to = b"BEGIN"
        self.successResultOf(incoming.commit(ALICE, Limits(octets=5, messages=1)))
        self.assertEqual(relay.cuts, 0)
        self.assertEqual(self.bench.contents(), [b"one\r\n"])

    def test_a_delivery_that_was_not_answered_is_not_doubled(self) -> None:
        # A full mailbox is not the statement's to judge: a transaction is.
        for words, limits in ((STATEMENT, NO_LIMITS), (b"COMMIT", Limits(messages=0))):
            relay, store = self.relayed()
            incoming = self.successResultOf(store.receive(ALICE))
            self.successResultOf(incoming.write(b"one\r\n"))
            relay.lose_answer_to = words
            self.successResultOf(incoming.commit(ALICE, limits))
            self.assertEqual(relay.cuts, 1)
            self.successResultOf(incoming.commit(BOB, limits))
            self.assertEqual(self.bench.contents(), [b"one\r\n"])
            self.assertEqual(len(self.uids(BOB)), 1)
            for account in (ALICE, BOB):
                maildrop, _ = self.successResultOf(self.bench.other.open(account, None))
                self.successResultOf(maildrop.finish({0}, set()))

    def test_nor_one_that_reaches_the_database_after_its_repetition(self) -> None:
        relay, store = self.relayed()
        incoming = self.successResultOf(store.receive(ALICE))
        self.successResultOf(incoming.write(b"one\r\n"))
        relay.hold_back = STATEMENT
        self.successResultOf(incoming.commit(ALICE, NO_LIMITS))
        self.assertEqual(self.bench.contents(), [b"one\r\n"])
        relay.let_pass()
        self.assertEqual(self.bench.contents(), [b"one\r\n"])
        usage = self.successResultOf(self.bench.store.usage(ALICE))
        self.assertEqual((usage.octets, usage.messages), (5, 1))

    def test_nor_if_the_message_was_removed_in_between(self) -> None:
        relay, store = self.relayed()
        incoming = self.successResultOf(store.receive(ALICE))
        self.successResultOf(incoming.write(b"one\r\n"))
        relay.hold_back = STATEMENT
        self.successResultOf(incoming.commit(ALICE, NO_LIMITS))
        self.bench.expunge_first()
        relay.let_pass()
        self.assertEqual(self.bench.contents(), [])

    def test_nor_if_its_mailbox_was_renamed_before_the_repetition(self) -> None:
        relay, store = self.relayed()
        incoming = self.successResultOf(store.receive(ALICE))
        self.successResultOf(incoming.write(b"one\r\n"))
        database = store._database
        connect = database._connect

        def connect_later(deadline: float) -> Any:
            # The attempt before has lost its connection.
            self.bench.change(
                f"UPDATE pop3gw.mailbox SET name = 'carol' WHERE name = '{ALICE.mailbox}'"
            )
            return connect(deadline)

        self.patch(database, "_connect", connect_later)
        relay.lose_answer_to = STATEMENT
        self.successResultOf(incoming.commit(ALICE, NO_LIMITS))
        self.successResultOf(incoming.close())
        self.assertEqual(self.bench.left_over(), [])
        carol = self.successResultOf(self.bench.store.open(Account("carol", "carol"), None))[0]
        self.assertEqual(read_all(self, self.successResultOf(carol.retrieve(0))), b"one\r\n")

    def test_nor_if_the_message_was_removed_before_the_repetition(self) -> None:
        self.bench.deliver(b"one\r\n")
        self.bench.expunge_first()
        ((body, copy),) = self.bench.read("SELECT body, copy FROM pop3gw.gone")
        new = New(body, copy, 5, Form.CLEAN, b"")
        owner = self.bench.engines.owner
        self.assertTrue(owner.transact(lambda cursor, _: is_delivered(cursor, new)))
        other = new._replace(copy=copy + 1)
        self.assertFalse(owner.transact(lambda cursor, _: is_delivered(cursor, other)))

    def test_a_removal_that_was_not_answered_is_complete(self) -> None:
        self.bench.deliver(b"one\r\n")
        self.bench.deliver(b"two\r\n")
        relay, store = self.relayed()
        maildrop, _ = self.successResultOf(store.open(ALICE, None))
        relay.lose_answer_to = b"COMMIT"
        self.successResultOf(maildrop.finish({0}, {1}))
        self.assertEqual(relay.cuts, 1)
        self.assertEqual(self.bench.contents(), [b"two\r\n"])
        usage = self.successResultOf(self.bench.store.usage(ALICE))
        self.assertEqual((usage.octets, usage.messages), (5, 1))

    def test_a_rename_that_was_not_answered_has_happened(self) -> None:
        relay, store = self.relayed()
        carol = Account("carol", "carol")
        relay.lose_answer_to = b"COMMIT"
        self.successResultOf(store.rename(ALICE, carol))
        self.assertEqual(relay.cuts, 1)
        self.assertEqual(self.successResultOf(store.present([ALICE, carol])), [carol])
        self.failureResultOf(store.rename(ALICE, carol), NoSuchMailbox)

    def test_a_new_mailbox_of_an_old_name_continues_its_unique_ids(self) -> None:
        self.bench.deliver(b"one\r\n")
        (before,) = self.uids()
        self.successResultOf(self.bench.store.delete(ALICE, DESK))
        maker = self.bench.maker(self)
        self.successResultOf(maker.prepare(ALICE))
        self.bench.deliver(b"two\r\n")
        self.assertGreater(self.uids()[0], before)

    def test_a_name_that_a_rename_has_freed_continues_too(self) -> None:
        self.bench.deliver(b"one\r\n")
        (before,) = self.uids()
        self.successResultOf(self.bench.store.rename(ALICE, Account("carol", "carol")))
        self.successResultOf(self.bench.maker(self).prepare(ALICE))
        self.bench.deliver(b"two\r\n")
        self.assertGreater(self.uids()[0], before)

    def test_a_mailbox_that_was_set_aside_comes_back_without_an_id_of_its_successor(self) -> None:
        aside = Account("aside", "aside")
        self.bench.deliver(b"one\r\n")
        before = self.uids()
        self.successResultOf(self.bench.store.rename(ALICE, aside))
        self.successResultOf(self.bench.maker(self).prepare(ALICE))
        self.bench.deliver(b"two\r\n")
        seen = self.uids()
        self.deliver_to(aside)
        self.successResultOf(self.bench.store.delete(ALICE, DESK))
        self.successResultOf(self.bench.store.rename(aside, ALICE))
        self.deliver_to(ALICE)
        after = self.uids()
        self.assertEqual(after[:1], before)
        self.assertFalse({*after[1:]} & {*before, *seen})

    def test_a_mailbox_gets_no_name_of_which_clients_know_its_unique_ids_for_others(self) -> None:
        for _ in range(2):
            self.bench.deliver(b"one\r\n")
        self.deliver_to(BOB)
        self.successResultOf(self.bench.store.delete(ALICE, DESK))
        renamed = self.bench.store.rename(BOB, ALICE)
        failure = self.failureResultOf(renamed, MailboxExists)
        self.assertIn("choose a name that no mailbox had", str(failure.value))
        self.assertEqual(self.uids(BOB), [1])
        self.assertEqual(self.successResultOf(self.bench.store.present([ALICE, BOB])), [BOB])

    def test_nor_one_that_it_had_if_its_successor_came_as_far(self) -> None:
        aside = Account("aside", "aside")
        self.successResultOf(self.bench.store.rename(ALICE, aside))
        self.deliver_to(aside)
        (there,) = self.uids(aside)
        self.successResultOf(self.bench.maker(self).prepare(ALICE))
        self.bench.change(
            f"UPDATE pop3gw.mailbox SET next_uid = {there} WHERE name = '{ALICE.mailbox}'"
        )
        self.bench.deliver(b"two\r\n")
        self.assertEqual(self.uids(), [there])
        self.successResultOf(self.bench.store.delete(ALICE, DESK))
        self.failureResultOf(self.bench.store.rename(aside, ALICE), MailboxExists)

    def test_a_mailbox_with_newer_messages_alone_gets_any_name_and_may_come_back(self) -> None:
        self.bench.deliver(b"one\r\n")
        self.successResultOf(self.bench.store.delete(ALICE, DESK))
        for _ in range(2):
            self.deliver_to(BOB)
        maildrop, _ = self.successResultOf(self.bench.store.open(BOB, None))
        self.successResultOf(maildrop.finish({0}, set()))
        carol = Account("carol", "carol")
        for source, target in ((BOB, ALICE), (ALICE, carol), (carol, ALICE), (ALICE, BOB)):
            self.successResultOf(self.bench.store.rename(source, target))
            self.deliver_to(target)
        first, *others = self.uids(BOB)
        self.assertEqual((first, len({*others})), (2, 4))

    @contextmanager
    def epoch(self, number: int) -> Iterator[None]:
        """The database after a promotion."""
        with psycopg.connect(self.bench.engines.postgresql.url("mail")) as connection:
            ((text,),) = connection.execute(
                "SELECT pg_get_functiondef('pop3gw.epoch'::regproc)"
            ).fetchall()
            connection.execute(
                "CREATE OR REPLACE FUNCTION pop3gw.epoch() RETURNS integer LANGUAGE sql STABLE"
                f" AS 'SELECT {number} + epochs FROM pop3gw.version'".encode()
            )
            connection.commit()
            try:
                yield
            finally:
                connection.execute(text.encode())

    def test_a_promotion_that_has_lost_a_delivery_uses_no_id_again_and_no_old_listing(self) -> None:
        self.bench.deliver(b"one\r\n")
        self.bench.deliver(b"lost\r\n")
        seen = self.uids()
        # As if the second delivery had not reached the standby.
        self.bench.change("DELETE FROM pop3gw.message WHERE uid = 2")
        self.bench.change("DELETE FROM pop3gw.head WHERE uid = 2")
        self.bench.change(
            "UPDATE pop3gw.mailbox SET next_uid = 2, generation = generation - 1,"
            " octets = octets - 6, messages = messages - 1 WHERE next_uid = 3"
        )
        with self.epoch(1000):
            self.assertEqual(self.uids(), seen[:1])
            self.bench.deliver(b"next\r\n")
            first, second = self.uids()
        self.assertEqual(first, seen[0])
        self.assertGreaterEqual(second, seen[1] + JUMP - 1)

    @contextmanager
    def lost(self) -> Iterator[None]:
        """What happens to mailboxes meanwhile does not reach the standby that is promoted next."""
        tables = ("mailbox", "former_name")
        for table in tables:
            self.bench.change(f"CREATE TABLE public.kept_{table} AS TABLE pop3gw.{table}")
        try:
            yield
            for table in ("message", "head", "gone", *tables):
                self.bench.change(f"DELETE FROM pop3gw.{table}")
            for table in tables:
                self.bench.change(
                    f"INSERT INTO pop3gw.{table} OVERRIDING SYSTEM VALUE TABLE public.kept_{table}"
                )
        finally:
            for table in tables:
                self.bench.change(f"DROP TABLE public.kept_{table}")

    def test_nor_does_a_second_promotion_that_has_lost_what_came_after_the_first(self) -> None:
        # More epochs than an integer has room for, in ids.
        for first, second in ((1000, 1001), (5000, 9000)):
            with self.lost(), self.epoch(first):
                self.bench.deliver(b"lost\r\n")
                (seen,) = self.uids()
            with self.epoch(second):
                self.bench.deliver(b"next\r\n")
                self.assertGreaterEqual(self.uids()[0], seen + JUMP)
                self.bench.expunge_first()

    def test_nor_do_former_names(self) -> None:
        maker, old = self.bench.maker(self), Account("old", "old")
        self.successResultOf(maker.prepare(old))
        self.deliver_to(old)
        self.successResultOf(maker.delete(old, DESK))
        with self.lost(), self.epoch(1000):
            self.successResultOf(maker.prepare(old))
            self.deliver_to(old)
            (seen,) = self.uids(old)
            self.successResultOf(maker.delete(old, DESK))
        with self.epoch(1001):
            self.successResultOf(maker.prepare(old))
            self.deliver_to(old)
            self.assertGreaterEqual(self.uids(old)[0], seen + JUMP)

    def test_nor_does_a_mailbox_that_takes_the_name_of_one_that_was_lost(self) -> None:
        maker = self.bench.maker(self)
        new = Account("new", "new")
        with self.lost(), self.epoch(1000):
            self.successResultOf(maker.prepare(new))
            self.deliver_to(new)
            (seen,) = self.uids(new)
        with self.epoch(1001):
            self.successResultOf(self.bench.store.rename(ALICE, new))
            self.deliver_to(new)
            self.assertGreaterEqual(self.uids(new)[0], seen + JUMP)

    def test_nor_does_a_mailbox_that_is_renamed_or_deleted_first(self) -> None:
        for number, leave in enumerate((self.bench.store.rename, self.bench.store.delete)):
            old, new = (Account(f"{name}{number}", f"{name}{number}") for name in ("old", "new"))
            maker = self.bench.maker(self)
            self.successResultOf(maker.prepare(old))
            # As if its deliveries had not reached the standby.
            with self.epoch(1000 + number):
                reason = new if leave == self.bench.store.rename else DESK
                self.successResultOf(leave(old, reason))
                self.successResultOf(maker.prepare(old))
                self.deliver_to(old)
                self.assertGreaterEqual(self.uids(old)[0], JUMP)

    def test_nor_does_one_of_which_the_creation_was_lost(self) -> None:
        carol = Account("carol", "carol")
        with self.epoch(3):
            self.successResultOf(self.bench.maker(self).prepare(carol))
            self.deliver_to(carol)
            self.assertEqual(self.uids(carol), [2 * JUMP + 1])

    def deliver_to(self, account: Account) -> None:
        """One message."""
        incoming = self.successResultOf(self.bench.other.receive(account))
        self.successResultOf(incoming.write(b"one\r\n"))
        self.successResultOf(incoming.commit(account, NO_LIMITS))
        self.successResultOf(incoming.close())

    def test_ids_that_are_moved_after_a_restore_move_in_names_of_old_too(self) -> None:
        self.bench.deliver(b"one\r\n")
        self.successResultOf(self.bench.store.delete(ALICE, DESK))
        self.move_ids(5000)
        self.successResultOf(self.bench.maker(self).prepare(ALICE))
        self.deliver_to(ALICE)
        self.assertGreater(self.uids()[0], 5001)

    def test_and_in_mailboxes_that_were_empty_or_not_there_yet_when_the_dump_was_made(self) -> None:
        carol = Account("carol", "carol")
        # In another server: its timeline is lower.  And a promotion came after the dump.
        with self.epoch(4):
            self.deliver_to(BOB)
        with self.lost(), self.epoch(5):
            self.successResultOf(self.bench.maker(self).prepare(carol))
            for account in (ALICE, carol):
                self.deliver_to(account)
            seen = self.uids() + self.uids(carol)
        self.move_ids(1_000_000)
        self.successResultOf(self.bench.maker(self).prepare(carol))
        for account in (ALICE, carol):
            self.deliver_to(account)
            self.assertGreaterEqual(self.uids(account)[0], max(seen) + JUMP - 1)

    def test_and_past_promotions_before_the_dump_after_which_no_mailbox_was_written_to(
        self,
    ) -> None:
        with self.epoch(4):
            leader = ClusterLeader(self.bench.engines.owner, run_now)
            self.assertTrue(self.successResultOf(leader.is_leader()))
            self.successResultOf(leader.resign())
        with self.lost(), self.epoch(5):
            self.deliver_to(ALICE)
            (seen,) = self.uids()
        self.move_ids(1_000_000)
        self.deliver_to(ALICE)
        self.assertGreaterEqual(self.uids()[0], seen + JUMP)

    def test_nor_do_promotions_after_that_use_an_id_again(self) -> None:
        with self.epoch(4):
            self.deliver_to(BOB)
        self.move_ids(1_000_000)
        with self.lost(), self.epoch(2):
            self.deliver_to(BOB)
            *_, seen = self.uids(BOB)
        with self.epoch(3):
            self.deliver_to(BOB)
            self.assertGreater(self.uids(BOB)[-1], seen)

    def move_ids(self, by: int) -> None:
        """What ``pop3gw move-ids`` does for all mailboxes at once."""
        state = ClusterState(Database(self.bench.engines.url), run_now)
        self.addCleanup(state.close)
        self.successResultOf(state.raise_high_water(by))

    def test_ids_jump_once_in_an_epoch(self) -> None:
        self.bench.deliver(b"one\r\n")
        with self.epoch(1000):
            self.bench.deliver(b"two\r\n")
            self.bench.deliver(b"three\r\n")
            _, second, third = self.uids()
        self.assertEqual(third, second + 1)
