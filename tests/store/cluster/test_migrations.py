"""The schema is brought up to date by any number of processes, and never by an older pop3gw."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from cluster_engines import Engines
from commands import PROGRAM
from gateway.errors import MailboxUnusable, NotSupported
from gateway.postgresql.database import Database
from gateway.postgresql.migrate import VERSION, check_version, migrate, steps
from servers import free_port

pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture
def empty(engines: Engines) -> Iterator[Database]:
    """A database without a schema."""
    engines.postgresql.make_database("empty")
    database = Database(engines.postgresql.url("empty"))
    yield database
    database.close()
    engines.postgresql.drop_database("empty")


def test_steps_are_numbered_from_one_without_gaps() -> None:
    assert [step.version for step in steps()] == list(range(1, VERSION + 1))


def test_a_second_migration_does_nothing(empty: Database) -> None:
    assert migrate(empty) == steps()
    assert migrate(empty) == []


def test_of_several_at_once_each_step_is_applied_by_one(empty: Database) -> None:
    with ThreadPoolExecutor(4) as threads:
        applied = list(threads.map(lambda _: migrate(empty), range(4)))
    assert sorted(chain.from_iterable(applied)) == steps()


def test_an_older_pop3gw_leaves_a_newer_schema_alone(empty: Database) -> None:
    migrate(empty)
    empty.transact(lambda cursor, _: cursor.execute("UPDATE pop3gw.version SET version = 999"))
    with pytest.raises(NotSupported, match="install the newer pop3gw"):
        migrate(empty)


def test_a_database_of_another_encoding_is_refused(engines: Engines) -> None:
    owner = engines.postgresql
    owner.execute("CREATE DATABASE plain ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    command = [*PROGRAM, "cluster", "migrate", "--database", owner.url("plain")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    owner.drop_database("plain")
    assert done.returncode == 1
    assert "another encoding than UTF8: make it with ENCODING 'UTF8'" in done.stderr


def test_a_database_that_is_away_is_said_in_seconds() -> None:
    url = f"postgresql://x@127.0.0.1:{free_port()}/x"
    command = [*PROGRAM, "cluster", "migrate", "--database", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Connection refused" in done.stderr


def test_a_gateway_refuses_a_schema_that_lacks_steps(engines: Engines, empty: Database) -> None:
    gateway = Database(engines.postgresql.url("empty"), check=check_version)
    with pytest.raises(MailboxUnusable) as found:
        gateway.read("SELECT 1")
    cure = "run pop3gw cluster migrate"
    assert str(found.value) == f'database: relation "pop3gw.version" does not exist; {cure}'
    migrate(empty)
    empty.write("UPDATE pop3gw.version SET version = 0")
    with pytest.raises(MailboxUnusable, match=r"this pop3gw needs .*: run pop3gw cluster migrate"):
        gateway.read("SELECT 1")
    empty.write("UPDATE pop3gw.version SET version = 999")
    assert gateway.read("SELECT 1") == [(1,)]
    gateway.close()


def test_the_role_of_gateways_cannot_change_the_schema(engines: Engines) -> None:
    database = Database(engines.url)
    with pytest.raises(MailboxUnusable, match="grant the role"):
        database.transact(lambda cursor, _: cursor.execute("CREATE TABLE pop3gw.t (i int)"))
    database.close()
    command = [*PROGRAM, "cluster", "migrate", "--database", engines.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("; connect as the owner of the schema, by --database\n")
    assert "grant" not in done.stderr
