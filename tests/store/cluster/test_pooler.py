"""Gateways behind PgBouncer, which gives each transaction another connection of the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import (
    ENGINES,
    PASSWORD,
    ROLE,
    ClusterBench,
    Engines,
    Waits,
    leaders_on,
    states_on,
)
from gateway.postgresql.database import Database
from gateway.testing.admission_contract import admission_tests
from gateway.testing.mailbox_admin_contract import mailbox_admin_tests
from gateway.testing.retention_store_contract import keeping_tests
from gateway.testing.state_contract import leader_tests, state_tests
from gateway.testing.store_contract import ALICE, delivery_tests, store_tests
from gateway.testing.transfer_contract import transfer_tests
from pgbouncer import SERVERS, PgBouncer
from shared_admission import bench_on

POOLERS: list[PgBouncer] = []
"""The one that runs."""


@pytest.fixture(scope="module")
def pooler(engines: Engines) -> Iterator[None]:
    """A pooler before the database."""
    one = PgBouncer(engines.postgresql.port, ROLE, PASSWORD).run()
    POOLERS.append(one)
    use_all_servers()
    yield
    POOLERS.remove(one)
    one.remove()


pytestmark = [pytest.mark.usefixtures("pooler"), pytest.mark.xdist_group("cluster")]


def url() -> str:
    """Where gateways find the pooler, which speaks no TLS here."""
    return ENGINES[0].url_by(POOLERS[0].port)


def pooled() -> Database:
    """The database behind the pooler."""
    return Database(url())


def use_all_servers() -> None:
    """Have the pooler make all of its connections to the server, which take turns from now on."""
    with ExitStack() as at_once:
        for _ in range(SERVERS):
            at_once.enter_context(psycopg.connect(url())).execute("SELECT 1")


class PooledBench(ClusterBench):
    """Gateways that know the pooler only."""

    def gateway(self, test: SynchronousTestCase, **more: Any) -> Any:
        """A store behind the pooler."""
        return super().gateway(test, **({"database": pooled()} | more))


state, candidate = states_on(pooled), leaders_on(pooled)


class PooledStoreTests(Waits, store_tests(PooledBench)):  # type: ignore[misc]
    pass


class PooledDeliveryTests(Waits, delivery_tests(PooledBench)):  # type: ignore[misc]
    pass


class PooledKeepingTests(Waits, keeping_tests(PooledBench)):  # type: ignore[misc]
    pass


class PooledTransferTests(Waits, transfer_tests(PooledBench)):  # type: ignore[misc]
    pass


class PooledMailboxAdminTests(Waits, mailbox_admin_tests(PooledBench)):  # type: ignore[misc]
    pass


class PooledAdmissionTests(admission_tests(bench_on(url))):  # type: ignore[misc]
    pass


class PooledStateTests(state_tests(state)):  # type: ignore[misc]
    pass


class PooledLeaderTests(leader_tests(candidate)):  # type: ignore[misc]
    pass


class PoolerTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = PooledBench(self)

    def messages(self) -> int:
        maildrop, release = self.successResultOf(self.bench.store.open(ALICE, None))
        release()
        return len(self.successResultOf(maildrop.listing()))

    def test_the_calls_of_one_gateway_use_several_connections_of_the_server(self) -> None:
        use_all_servers()
        database = pooled()
        self.addCleanup(database.close)
        backends = {database.read("SELECT pg_backend_pid()")[0][0] for _ in range(2 * SERVERS)}
        self.assertEqual(len(backends), SERVERS)

    def test_a_pooler_that_was_started_anew_is_found_again(self) -> None:
        self.bench.deliver(b"Before.\r\n")
        self.assertEqual(self.messages(), 1)
        POOLERS[0].stop()
        POOLERS[0].run()
        self.bench.deliver(b"After.\r\n")
        self.assertEqual(self.messages(), 2)

    def test_a_database_that_was_started_anew_is_found_again_behind_the_pooler(self) -> None:
        self.bench.deliver(b"Before.\r\n")
        ENGINES[0].postgresql.crash()
        ENGINES[0].postgresql.run()
        self.bench.deliver(b"After.\r\n")
        self.assertEqual(self.messages(), 2)
