"""A database that ends connections, hangs, or is away."""

from __future__ import annotations

import contextlib
import socket
from functools import partial
from typing import Any

import psycopg
import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import PASSWORD, ROLE, ClusterBench, Waits
from gateway.errors import GatewayError, MailboxUnusable, StoreDown
from gateway.model import Limits
from gateway.postgresql.database import KEPT, Database
from gateway.testing.store_contract import ALICE, NO_LIMITS, read_all
from relay import Relay

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]


class OutageTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        self.postgresql = self.bench.engines.postgresql

    def relayed(self) -> tuple[Relay, Any]:
        """A relay before PostgreSQL, and a store behind it."""
        relay = Relay(self.postgresql.port)
        self.addCleanup(relay.stop)
        url = self.bench.engines.url_by(relay.port)
        return relay, self.bench.gateway(self, database=Database(url, timeout=3))

    def database(self, url: str, **more: Any) -> Database:
        """A database that is closed at the end."""
        database = Database(url, **more)
        self.addCleanup(database.close)
        return database

    def test_connections_that_the_server_has_ended_are_replaced(self) -> None:
        database = self.database(self.bench.engines.url)
        self.assertEqual(database.read("SELECT 1"), [(1,)])
        with psycopg.connect(self.postgresql.url("mail"), autocommit=True) as connection:
            ended = connection.execute(
                "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
                " WHERE usename = 'gateway'"
            ).fetchall()
        self.assertGreater(ended[0][0], 0)
        # Nothing was sent on them that might have been done.
        self.assertFalse(database.transact(lambda _, again: again))

    def test_a_statement_that_failed_may_have_been_done_unless_its_error_comes_before_a_commit(
        self,
    ) -> None:
        database = self.database(self.bench.engines.url)
        undone = ["22012", "23505", "25006", "28000", "40001", "42501", "53100", "55P03", "57014"]
        for code in [*undone, "08006", "40003", "57P01", "58030", "XX000", "YB000"]:
            told: list[str] = []
            statement = f"DO $$ BEGIN RAISE 'failed' USING ERRCODE = '{code}'; END $$"
            with contextlib.suppress(GatewayError, psycopg.Error):
                database.change(statement, (), lambda *_: None, partial(told.append, code))
            self.assertEqual(told, [] if code in undone else [code])

    def test_a_connection_that_a_firewall_has_forgotten_meanwhile_is_not_asked(self) -> None:
        relay, clock = Relay(self.postgresql.port), Clock()
        self.addCleanup(relay.stop)
        url = self.bench.engines.url_by(relay.port)
        database = self.database(url, now=clock.seconds)
        for _ in range(2):
            self.assertEqual(database.read("SELECT 1"), [(1,)])
            clock.advance(KEPT)
        self.assertEqual(relay.connections, 1)
        relay.forget()
        clock.advance(1)
        self.assertFalse(database.transact(lambda _, again: again))

    def test_connections_to_a_server_that_takes_no_writes_are_replaced(self) -> None:
        """So are those to a standby, where an address has found it before the primary."""
        reset = f"ALTER ROLE {ROLE} RESET default_transaction_read_only"
        self.bench.change(f"ALTER ROLE {ROLE} SET default_transaction_read_only = on")
        self.addCleanup(self.bench.change, reset)
        database = self.database(self.bench.engines.url, timeout=2)
        self.assertEqual(database.read("SELECT 1"), [(1,)])
        self.bench.change(reset)
        database.write("UPDATE pop3gw.mailbox SET generation = generation + 1")
        self.assertEqual(database.read("SHOW transaction_read_only"), [("off",)])

    def test_a_server_that_takes_no_writes_is_an_outage_that_names_the_cure(self) -> None:
        url = f"{self.bench.engines.url}?options=-cdefault_transaction_read_only%3Don"
        with self.assertRaisesRegex(StoreDown, "read-only.*; if it lasts, add target_session"):
            self.database(url, timeout=0.3).write("UPDATE pop3gw.mailbox SET generation = 1")

    def test_a_server_that_does_not_answer_is_given_up(self) -> None:
        database = self.database(self.bench.engines.url, timeout=0.3)
        with self.assertRaisesRegex(StoreDown, "^database: "):
            database.read("SELECT pg_sleep(60)")
        self.assertEqual(database.read("SELECT 1"), [(1,)])

    def test_nor_does_one_that_takes_connections_and_is_silent_hold_anybody(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x"
            with self.assertRaises(StoreDown):
                self.database(url, timeout=0.3).read("SELECT 1")

    def test_what_an_administrator_must_repair_has_its_cure(self) -> None:
        unmigrated = self.database(self.postgresql.url("postgres"))
        with self.assertRaisesRegex(MailboxUnusable, "run pop3gw cluster migrate"):
            unmigrated.read("SELECT version FROM pop3gw.version")

    def test_a_refused_login_is_an_outage_that_names_its_reason(self) -> None:
        url = self.bench.engines.url.replace("no-owner", "wrong")
        with self.assertRaisesRegex(StoreDown, "password authentication failed"):
            self.database(url, timeout=0.3).read("SELECT 1")

    def test_no_password_is_in_an_error(self) -> None:
        url = "postgresql://gateway:very-secret@127.0.0.1:1/mail"
        with self.assertRaises(StoreDown) as raised:
            self.database(url, timeout=0.2).read("SELECT 1")
        self.assertNotIn("very-secret", str(raised.exception))

    def test_while_the_database_is_away_open_sessions_read_on_and_nothing_is_removed(self) -> None:
        self.bench.deliver(b"one\r\n")
        relay, store = self.relayed()
        maildrop, _ = self.successResultOf(store.open(ALICE, None))
        relay.go_away()
        for retrieve in (maildrop.retrieve, maildrop.original.retrieve_header):
            body = self.successResultOf(retrieve(0))
            self.assertEqual(read_all(self, body), b"one\r\n")
        self.failureResultOf(maildrop.finish({0}, set()), StoreDown)
        self.failureResultOf(store.open(ALICE, None), StoreDown)
        self.failureResultOf(store.receive(ALICE), StoreDown)
        self.assertEqual(self.bench.contents(), [b"one\r\n"])
        relay.is_away = False
        self.successResultOf(maildrop.finish({0}, set()))
        self.assertEqual(self.bench.contents(), [])

    def test_a_delivery_in_doubt_keeps_its_body(self) -> None:
        both = (b"INSERT INTO pop3gw.message", NO_LIMITS), (b"COMMIT", Limits(messages=0))
        for count, (words, limits) in enumerate(both, 1):
            relay, store = self.relayed()
            incoming = self.successResultOf(store.receive(ALICE))
            self.successResultOf(incoming.write(b"one\r\n"))
            relay.away_after = words
            self.failureResultOf(incoming.commit(ALICE, limits), StoreDown)
            self.successResultOf(incoming.close())
            self.assertEqual(self.bench.contents(), [b"one\r\n"] * count)

    def test_of_a_delivery_that_never_reached_a_commit_no_body_is_left(self) -> None:
        relay, store = self.relayed()
        incoming = self.successResultOf(store.receive(ALICE))
        self.successResultOf(incoming.write(b"one\r\n"))
        relay.go_away()
        self.failureResultOf(incoming.commit(ALICE, NO_LIMITS), StoreDown)
        self.successResultOf(incoming.close())
        self.assertEqual(self.bench.left_over(), [])

    def test_nor_of_one_that_the_database_has_refused(self) -> None:
        self.bench.change(f"REVOKE INSERT ON pop3gw.head FROM {ROLE}")
        self.addCleanup(self.bench.change, f"GRANT INSERT ON pop3gw.head TO {ROLE}")
        incoming = self.successResultOf(self.bench.store.receive(ALICE))
        self.successResultOf(incoming.write(b"one\r\n"))
        self.failureResultOf(incoming.commit(ALICE, NO_LIMITS), MailboxUnusable)
        self.successResultOf(incoming.close())
        self.assertEqual(self.bench.left_over(), [])

    def test_a_silent_host_before_the_one_that_serves_is_passed_by(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            ports = f"{silent.getsockname()[1]},{self.postgresql.port}"
            password = f"{ROLE}:{PASSWORD}"
            url = f"postgresql://{password}@127.0.0.1,127.0.0.1/mail?port={ports}"
            database = self.database(url, timeout=0.5)
            for _ in range(2):
                self.assertEqual(database.read("SELECT 1"), [(1,)])

    def test_what_is_no_connection_string_is_refused_and_not_repeated(self) -> None:
        for text in ("postgresql://u:very-secret@[::1/db", "very-secret of nothing"):
            with self.assertRaisesRegex(ValueError, "^expected a connection string") as raised:
                Database(text)
            self.assertNotIn("secret", str(raised.exception))
