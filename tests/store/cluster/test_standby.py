"""What is acknowledged has reached the synchronous standby, however often it was tried."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.errors import StoreDown
from gateway.model import Form, Reason
from gateway.postgresql.database import Cursor, Database
from gateway.state.cluster.state import ClusterRows
from gateway.store.cluster.bodies.keys import new_key
from gateway.store.cluster.sql import lease_rows, rows
from gateway.store.cluster.sql.delivery_rows import New
from gateway.testing.store_contract import ALICE, BOB, NO_LIMITS

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]

NAME = ALICE.mailbox
DESK = Reason(operator="token desk")

WAITING = "FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = 'gateway'"


class StandbyTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        self.postgresql = self.bench.engines.postgresql
        self.database = Database(self.bench.engines.url, timeout=2)
        self.addCleanup(self.database.close)
        self.store = self.bench.gateway(self, database=self.database)
        # Its own changes wait for nobody.
        url = f"{self.postgresql.url('mail')}?options=-csynchronous_commit%3Dlocal"
        self.operator = psycopg.connect(url, autocommit=True)
        self.addCleanup(self.operator.close)

    def lose_standby(self) -> None:
        """From now on no standby confirms a commit."""
        self.addCleanup(self.set_standby, "")
        self.set_standby("nobody")
        # The checkpointer is who makes commits wait, and it reads its settings when it likes.
        commit = "SELECT pg_logical_emit_message(true, '', '')"
        waits = False
        with ThreadPoolExecutor(1) as threads:
            while not waits:
                probe = psycopg.connect(self.bench.engines.url, autocommit=True)
                done = threads.submit(probe.execute, commit)  # type: ignore[arg-type]
                self.bench.engines.until(lambda done=done: self.end_waiting() > 0 or done.done())
                waits = done.exception(60) is not None
                probe.close()

    def set_standby(self, name: str) -> None:
        """Make it the synchronous one."""
        self.operator.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'".encode())
        self.operator.execute("SELECT pg_reload_conf()")
        asked = "SELECT current_setting('synchronous_standby_names')"
        self.bench.engines.until(lambda: self.operator.execute(asked).fetchone() == (name,))

    def end_first_attempt(self, work: Callable[[], object]) -> None:
        """``work`` commits, and its connection is ended before a standby has confirmed that."""
        # Those of the repetition before may wait still.
        self.end_waiting()
        with ThreadPoolExecutor(1) as threads:
            done: Future[object] = threads.submit(work)
            self.bench.engines.until(lambda: self.end_waiting() > 0 or done.done())
            with self.assertRaises(StoreDown):
                done.result(60)

    def end_waiting(self) -> int:
        """End the connections that wait for a standby; how many there were."""
        ended = self.operator.execute(f"SELECT pg_terminate_backend(pid, 10000) {WAITING}".encode())
        return len(ended.fetchall())

    def test_a_delivery_is_not_acknowledged_by_a_repetition_that_finds_it(self) -> None:
        box = rows.find_boxes(self.database, [NAME])[NAME]
        self.lose_standby()
        for prepared in (box, None):
            new = New(new_key(), 1, 5, Form.CLEAN, b"")
            deliver = self.store._delivery.deliver
            self.end_first_attempt(
                lambda new=new, prepared=prepared, deliver=deliver: deliver(  # type: ignore[misc]
                    NAME, prepared, NO_LIMITS, new, lambda: None
                )
            )

    def test_nor_is_a_removal(self) -> None:
        for _ in range(3):
            self.bench.deliver(b"one\r\n")
        ((mailbox,),) = self.bench.read(f"SELECT id FROM pop3gw.mailbox WHERE name = '{NAME}'")
        removal = self.store._removal
        self.lose_standby()
        for work in (
            lambda: removal.end_session(mailbox, [1], [], DESK, hide=False),
            lambda: removal.remove(NAME, ["2"], DESK),
            lambda: removal.mark(mailbox, [3]),
        ):
            self.end_first_attempt(work)

    def test_nor_is_a_single_statement_that_finds_nothing_more_to_do(self) -> None:
        holder = uuid4()
        ((mailbox,),) = self.bench.read(f"SELECT id FROM pop3gw.mailbox WHERE name = '{NAME}'")
        lease_rows.take_lease(self.database, mailbox, holder)
        self.lose_standby()
        self.end_first_attempt(lambda: lease_rows.end_lease(self.database, mailbox, holder))

    def test_nor_is_what_the_state_remembers(self) -> None:
        state = ClusterRows(self.database)
        state.begin_rename(NAME, "carol")
        self.lose_standby()
        self.end_first_attempt(lambda: state.finish_rename(NAME))

    def test_a_repetition_that_has_found_a_standby_waits_for_the_primary(self) -> None:
        standby = type(self.postgresql)(is_empty=True)
        self.addCleanup(standby.stop)
        standby.follow(self.postgresql)
        database = Database(standby.url("mail"), timeout=2)
        self.addCleanup(database.close)
        attempts: list[bool] = []

        def work(_: Cursor, again: bool) -> None:
            attempts.append(again)
            if not again:
                raise psycopg.errors.AdminShutdown
            self.fail("what a standby has may be lost")

        with self.assertRaisesRegex(StoreDown, "target_session_attrs=read-write"):
            database.transact(work)
        self.assertEqual(attempts, [False])

    def test_what_the_standby_has_confirmed_is_acknowledged(self) -> None:
        self.bench.deliver(b"one\r\n", BOB)
        attempts: list[bool] = []

        def work(_: Cursor, again: bool) -> bool:
            attempts.append(again)
            if not again:
                raise psycopg.errors.AdminShutdown
            return again

        self.assertTrue(self.database.transact(work))
        self.assertEqual(attempts, [False, True])
