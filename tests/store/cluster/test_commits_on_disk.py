"""Where PostgreSQL answers commits before they are on disk a gateway does not work."""

from __future__ import annotations

import poplib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from cluster_engines import PASSWORD, ROLE, Engines
from gateway.errors import StoreDown
from gateway.postgresql.database import CHECKED, Database
from gateway.postgresql.migrate import check_version
from pgbouncer import PgBouncer
from relayed_gateway import relayed_gateway

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("cluster")]

OFF = f"ALTER ROLE {ROLE} SET synchronous_commit = off"
RESET = f"ALTER ROLE {ROLE} RESET synchronous_commit"
CURE = f"ALTER ROLE {ROLE} SET synchronous_commit = on"


@pytest.fixture
def role(engines: Engines) -> Iterator[Engines]:
    """The role of gateways is as before in the end."""
    yield engines
    engines.postgresql.execute(RESET)


def end_connections(engines: Engines) -> None:
    """Those of gateways: new ones have the settings of now."""
    engines.postgresql.value(
        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
        f" WHERE usename = '{ROLE}'"
    )


def refused(database: Database) -> str:
    """With which error."""
    with pytest.raises(StoreDown) as raised:
        database.read("SELECT 1")
    return str(raised.value)


def test_the_error_names_a_cure_and_that_is_one(role: Engines) -> None:
    role.postgresql.execute(OFF)
    with closing(Database(role.url, check=check_version)) as database:
        assert "synchronous_commit is off" in refused(database)
        assert CURE in refused(database)
        role.postgresql.execute(CURE)
        assert database.read("SELECT 1") == [(1,)]


@pytest.mark.parametrize("value", ["local", "remote_write", "on", "remote_apply"])
def test_whatever_has_commits_on_disk_is_enough(role: Engines, value: str) -> None:
    role.postgresql.execute(f"ALTER ROLE {ROLE} SET synchronous_commit = {value}")
    with closing(Database(role.url, check=check_version)) as database:
        assert database.read("SHOW synchronous_commit") == [(value,)]


def test_behind_a_pooler_its_connections_to_the_server_count(role: Engines) -> None:
    pooler = PgBouncer(role.postgresql.port, ROLE, PASSWORD).run()
    try:
        with closing(Database(role.url_by(pooler.port), check=check_version)) as database:
            assert database.read("SELECT 1") == [(1,)]
            role.postgresql.execute(OFF)
            end_connections(role)
            pooler.stop()
            pooler.run()
            assert CURE in refused(database)
    finally:
        pooler.remove()


def test_a_server_that_changes_its_mind_is_noticed_on_connections_in_use(role: Engines) -> None:
    clock = Clock()
    reload = "SELECT pg_reload_conf()"
    with closing(Database(role.url, check=check_version, now=clock.seconds)) as database:
        assert database.read("SHOW synchronous_commit") == [("on",)]
        role.postgresql.execute("ALTER SYSTEM SET synchronous_commit = off")
        try:
            role.postgresql.execute(reload)
            role.until(lambda: database.read("SHOW synchronous_commit") == [("off",)])
            clock.advance(CHECKED / 2)
            assert database.read("SELECT 1") == [(1,)]
            clock.advance(CHECKED / 2 + 1)
            assert CURE in refused(database)
        finally:
            role.postgresql.execute("ALTER SYSTEM RESET synchronous_commit")
            role.postgresql.execute(reload)
        role.until(lambda: role.postgresql.value("SHOW synchronous_commit") == "on")
        assert database.read("SELECT 1") == [(1,)]


def test_the_log_has_a_line_and_mail_waits(role: Engines, tmp_path: Path) -> None:
    with relayed_gateway(role, tmp_path) as relayed:
        with closing(relayed.login()) as client:
            client.quit()
        role.postgresql.execute(OFF)
        end_connections(role)
        for _ in range(3):
            with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\]"):
                relayed.login()
            assert relayed.deliver() == 451
        (down,) = relayed.lines("backend_down")
        assert CURE in down
        role.postgresql.execute(CURE)
        with closing(relayed.login()) as client:
            client.quit()
        assert relayed.deliver() == 250
        (_,) = relayed.lines("backend_up")
