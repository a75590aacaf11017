"""The databases of ``etc/cluster`` run: roles, access, and what its page does with them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from cluster_databases import PAGE, ClusterDatabases
from gateway.model import Account
from gateway.postgresql.database import Database
from gateway.s3.requests import Requests
from gateway.s3.signing import Signer
from gateway.s3.transport import make_connections
from gateway.store.cluster.bodies.blobs import Blobs
from gateway.store.cluster.store import ClusterStore
from gateway.testing.store_contract import NO_LIMITS, run_now
from pages import commands

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("cluster_databases")]

ALICE = Account("alice@example.org", "alice@example.org")
COUNT = "SELECT count(*) FROM pop3gw.message"
NEXT = "SELECT max(next_uid) FROM pop3gw.mailbox"
EPOCH = "SELECT pop3gw.epoch()"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
IN_STEP = "SELECT application_name, sync_state FROM pg_stat_replication WHERE state = 'streaming'"


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterDatabases]:
    """Both, with the schema."""
    made = ClusterDatabases(tmp_path_factory.mktemp("databases"))
    try:
        made.run()
        done = made.migrate()
        assert done.returncode == 0, done.stdout + done.stderr
        yield made
    finally:
        made.stop()


def result(answer: Deferred[Any]) -> Any:
    """What it has fired with."""
    return SynchronousTestCase().successResultOf(answer)


def deliver(databases: ClusterDatabases) -> None:
    """Have a gateway deliver a message, which is empty: so it has no body in S3."""
    reactor, url = MemoryReactorClock(), "http://127.0.0.1:9"
    connections = make_connections(reactor, url, connections=1, timeout=1)
    requests = Requests(reactor, connections, Signer("here", "key", "secret"), f"{url}/mail")
    database = Database(databases.conninfo("gateway"), timeout=60)
    with closing(ClusterStore(reactor, database, Blobs(requests), run_now)) as store:
        result(store.prepare(ALICE))
        incoming = result(store.receive(ALICE))
        result(incoming.commit(ALICE, NO_LIMITS))
        result(incoming.close())


def count(databases: ClusterDatabases, name: str) -> int:
    """How many messages a server has."""
    return int(databases.value(name, COUNT))


# -- roles ----------------------------------------------------------------------


def test_the_owner_has_the_schema_and_gateways_only_its_rows(databases: ClusterDatabases) -> None:
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'pop3gw'"
    assert databases.value("db1", owners) == "pop3gw"
    rights = (
        "SELECT DISTINCT string_agg(privilege_type, ' ' ORDER BY privilege_type)"
        " FROM information_schema.table_privileges WHERE grantee = 'gateway' GROUP BY table_name"
    )
    assert databases.value("db1", rights) == "DELETE INSERT SELECT UPDATE"
    with databases.connect("gateway") as connection:
        for name, value in (
            ("statement_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "30s"),
        ):
            assert connection.execute(f"SHOW {name}".encode()).fetchone() == (value,)


def test_a_table_of_a_later_migration_is_open_to_gateways(databases: ClusterDatabases) -> None:
    with databases.connect("pop3gw") as owner, databases.connect("gateway") as connection:
        owner.execute("CREATE TABLE pop3gw.later (number integer)")
        connection.execute("INSERT INTO pop3gw.later VALUES (1)")
        owner.execute("DROP TABLE pop3gw.later")


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE pop3gw.audit",
        "TRUNCATE pop3gw.audit",
        "ALTER TABLE pop3gw.message ADD COLUMN more integer",
        "DROP FUNCTION pop3gw.epoch()",
        "CREATE TABLE pop3gw.more (number integer)",
        "CREATE TABLE public.more (number integer)",
        "CREATE TEMPORARY TABLE more (number integer)",
        "CREATE SCHEMA more",
        "DROP SCHEMA pop3gw CASCADE",
        "ALTER DATABASE mail OWNER TO gateway",
        "ALTER SYSTEM SET synchronous_standby_names = ''",
        "ALTER ROLE gateway SUPERUSER",
        "CREATE ROLE more",
        "SET ROLE pop3gw",
        "SELECT pg_read_file('postgresql.auto.conf')",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
    ],
)
def test_gateways_may_not(databases: ClusterDatabases, statement: str) -> None:
    with (
        databases.connect("gateway") as connection,
        pytest.raises(InsufficientPrivilege, match=r"permission denied|must be"),
    ):
        connection.execute(statement.encode())


@pytest.mark.parametrize(
    ("role", "settings"),
    [
        ("gateway", {"dbname": "mail"}),
        ("pop3gw", {"dbname": "mail"}),
        # To ask whether the other server is a primary.
        ("standby", {"dbname": "postgres"}),
        ("standby", {"replication": "true"}),
    ],
)
def test_a_role_reaches(databases: ClusterDatabases, role: str, settings: dict[str, str]) -> None:
    databases.connect(role, **settings).close()


@pytest.mark.parametrize(
    ("role", "settings", "why"),
    [
        ("gateway", {"sslmode": "disable"}, "no encryption"),
        ("gateway", {"dbname": "postgres"}, "no pg_hba.conf entry"),
        ("gateway", {"replication": "true"}, "no pg_hba.conf entry"),
        ("gateway", {"password": "wrong"}, "password authentication failed"),
        ("gateway", {"host": "db2,db1"}, "does not match host name"),
        ("pop3gw", {"dbname": "postgres"}, "no pg_hba.conf entry"),
        ("standby", {"dbname": "mail"}, "no pg_hba.conf entry"),
        ("superuser", {"user": "postgres"}, "no pg_hba.conf entry"),
    ],
)
def test_a_role_does_not_reach(
    databases: ClusterDatabases, role: str, settings: dict[str, str], why: str
) -> None:
    with pytest.raises(psycopg.OperationalError, match=why):
        databases.connect(role, **settings)


# -- backup ---------------------------------------------------------------------


def test_the_page_leads_through_the_restore_of_a_dump_while_the_standby_is_away(
    databases: ClusterDatabases,
) -> None:
    dump, stop, restore, standby, move = commands(PAGE.name)[-5:]
    deliver(databases)
    databases.type(dump)
    kept, highest = count(databases, "db1"), int(databases.value("db1", NEXT))
    deliver(databases)
    databases.servers["db2"].stop(signal.SIGKILL)
    databases.type(stop)
    databases.type(restore)
    assert (count(databases, "db1"), int(databases.value("db1", NEXT))) == (kept, highest)
    databases.type(standby)
    databases.until("db1", IN_STEP, "db2|sync")
    databases.type(move)
    assert int(databases.value("db1", NEXT)) == highest + 3_000_000
    # Owner and rights are those of before.
    test_the_owner_has_the_schema_and_gateways_only_its_rows(databases)
    test_a_table_of_a_later_migration_is_open_to_gateways(databases)
    deliver(databases)
    databases.until("db2", COUNT, str(kept + 1))


# -- failover -------------------------------------------------------------------


def test_the_page_leads_through_the_loss_of_the_standby_and_then_of_the_primary(
    databases: ClusterDatabases,
) -> None:
    db1, db2 = databases.servers.values()
    without, again, promote, rebuild = commands(PAGE.name)[1:5]
    before, epoch = count(databases, "db1"), int(databases.value("db1", EPOCH))
    deliver(databases)
    assert databases.value("db1", IN_STEP) == "db2|sync"
    databases.until("db2", COUNT, str(before + 1))

    db2.stop(signal.SIGKILL)
    with ThreadPoolExecutor(1) as threads:
        delivery = threads.submit(deliver, databases)
        databases.until("db1", WAITING, "1")
        assert count(databases, "db1") == before + 1
        databases.type(without)
        delivery.result(60)
    databases.type("docker compose up --detach --no-deps --wait db2")
    databases.type(again)
    databases.until("db1", IN_STEP, "db2|sync")

    done = db2.execute("sh", "/etc/cluster/promote")
    assert (done.returncode, done.stderr) == (1, "db2: db1 is a primary and runs: stop it first\n")
    deliver(databases)
    databases.type(promote)
    # It waits for no standby.
    deliver(databases)
    assert count(databases, "db2") == before + 4
    assert int(databases.value("db2", EPOCH)) == epoch + 1

    db1.begin(b"db1: db2 is the primary now: remove the volume of db1")
    assert db1.ended() == 1
    databases.type(rebuild)
    databases.until("db2", IN_STEP, "db1|sync")
    deliver(databases)
    databases.until("db1", COUNT, str(before + 5))


def test_promote_changes_nothing_at_a_primary(databases: ClusterDatabases) -> None:
    name = databases.primary
    done = databases.servers[name].execute("sh", "/etc/cluster/promote")
    assert (done.returncode, done.stderr) == (1, f"{name}: it is no standby\n")
    assert databases.value(name, "SHOW synchronous_standby_names") == "FIRST 1 (db1, db2)"


def test_a_primary_without_its_data_makes_no_empty_database_beside_its_standby(
    databases: ClusterDatabases,
) -> None:
    deliver(databases)
    name = databases.env["PRIMARY"] = databases.primary
    (other,) = databases.servers.keys() - {name}
    lost, standby = databases.servers[name], databases.servers[other]
    before = count(databases, name)
    for server in (lost, standby):
        server.stop()
    lost.forget()
    # Both start at the same moment.
    lost.begin(f"{name}: without data: waiting for {other}".encode())
    standby.run()
    lost.wait_for(f"{name}: {other} is a standby and may have all mail: promote it".encode())
    assert lost.ended() == 1
    done = standby.execute("sh", "/etc/cluster/promote")
    assert done.returncode == 0, done.stderr
    lost.run()
    databases.until(name, COUNT, str(before))


def test_a_health_check_leaves_no_line_in_the_log(databases: ClusterDatabases) -> None:
    server = databases.servers[databases.primary]

    def mark() -> int:
        """Have it log a line; how long its log is then."""
        times = server.log.count("a mark")
        databases.value(server.name, "DO $$ BEGIN RAISE LOG 'a mark'; END $$")
        server.wait_for(b"a mark", times=times + 2)
        return len(server.log)

    begin = mark()
    server.until_healthy()
    assert "FATAL" not in server.log[begin : mark()]
