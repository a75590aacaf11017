"""A migration stops no gateway, and a server that takes no writes does not stop it for long."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from cluster_engines import Engines
from commands import PROGRAM
from gateway.errors import StoreDown
from gateway.postgresql.database import Cursor, Database
from gateway.postgresql.lock_holders import LockHolders
from gateway.postgresql.migrate import LOCK_WAIT, PAUSE, _in_turn, migrate, open_owner, steps
from older_schema import make_older_schema
from postgresql import PostgreSQL
from relay import Relay

pytestmark = pytest.mark.xdist_group("cluster")

COUNT = "SELECT count(*) FROM pop3gw.mailbox"
MAILBOX_STEP = 11
"""The latest step that changes the table ``mailbox``."""

VERSION_OF = "SELECT version FROM pop3gw.version"
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = 'older' AND wait_event_type = 'Lock'"
)


@pytest.fixture
def older(engines: Engines) -> Iterator[psycopg.Connection]:
    """Its owner, at a database with the schema before the latest step that changes ``mailbox``."""
    engines.postgresql.make_database("older")
    with engines.postgresql.connect("older") as owner:
        make_older_schema(owner, MAILBOX_STEP - 1)
        yield owner
    engines.postgresql.drop_database("older")


@pytest.fixture
def dump(engines: Engines, older: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """What pg_dump does to the tables until it ends."""
    del older
    url = engines.postgresql.url("older")
    with psycopg.connect(url, application_name="pg_dump") as connection:
        connection.execute("LOCK TABLE pop3gw.mailbox IN ACCESS SHARE MODE")
        yield connection


def said_of(dump: psycopg.Connection) -> str:
    """What an administrator reads while a step waits for a dump."""
    who = f"user pop3gw (pid {dump.info.backend_pid}, application pg_dump)"
    return f"schema {MAILBOX_STEP} waits: a session of {who} has pop3gw.mailbox locked"


@contextmanager
def begun(url: str) -> Iterator[subprocess.Popen[str]]:
    """The command, which runs."""
    command = [*PROGRAM, "cluster", "migrate", "--database", url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def error_of(url: str) -> str:
    """What the command says when it fails."""
    with begun(url) as command:
        _, text = command.communicate(timeout=60)
    assert command.returncode == 1
    return text


def test_questions_of_gateways_pass_between_the_attempts_of_a_step_that_waits_for_a_dump(
    engines: Engines, dump: psycopg.Connection
) -> None:
    url = engines.postgresql.url("older")
    # A step may take longer than a question.
    owner, gateway = Database(url, timeout=LOCK_WAIT / 2), Database(url)
    told: list[str] = []
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        assert gateway.read(COUNT) == [(0,)]
        pauses.append(seconds)
        if len(pauses) == 2:
            dump.rollback()

    assert migrate(owner, told.append, pause) == steps()[MAILBOX_STEP - 1 :]
    assert told == [said_of(dump)]
    assert pauses == [PAUSE, 2 * PAUSE]
    owner.close()
    gateway.close()


def test_ctrl_c_ends_a_migration_that_waits_and_leaves_nothing_behind(
    engines: Engines, older: psycopg.Connection, dump: psycopg.Connection
) -> None:
    gateway = Database(engines.postgresql.url("older"))
    with begun(engines.postgresql.url("older")) as command:
        assert command.stderr is not None
        assert said_of(dump) in command.stderr.readline()
        assert gateway.read(COUNT) == [(0,)]
        # While it waits in an attempt, for which others wait.
        engines.until(lambda: older.execute(WAITING).fetchone() == (1,))
        command.send_signal(signal.SIGINT)
        assert command.communicate(timeout=60) == ("", "")
    assert command.returncode == 130
    engines.until(lambda: older.execute(WAITING).fetchone() == (0,))
    assert gateway.read(VERSION_OF) == [(MAILBOX_STEP - 1,)]
    gateway.close()


def test_a_time_limit_of_the_database_for_statements_is_not_that_of_a_step(
    engines: Engines, older: psycopg.Connection, dump: psycopg.Connection
) -> None:
    # PostgreSQL has the second one since version 17.
    limits = (
        "SELECT name FROM pg_settings WHERE name IN ('statement_timeout', 'transaction_timeout')"
    )
    for (name,) in older.execute(limits).fetchall():
        older.execute(f"ALTER DATABASE older SET {name} = '1s'".encode())
    owner = Database(engines.postgresql.url("older"))
    assert migrate(owner, pause=lambda _: dump.rollback()) == steps()[MAILBOX_STEP - 1 :]
    owner.close()


def test_a_step_waits_for_longer_than_deadlock_timeout_which_ends_an_autovacuum(
    engines: Engines, older: psycopg.Connection
) -> None:
    for own, wanted in (("1s", "1500ms"), ("3s", "3500ms"), ("1h", "5s")):
        older.execute(f"ALTER DATABASE older SET deadlock_timeout = '{own}'".encode())
        with closing(Database(engines.postgresql.url("older"))) as owner:
            assert owner.transact(_limit) == wanted


def _limit(cursor: Cursor, again: bool) -> str:
    """The time limit for locks of a step."""

    def look(cursor: Cursor, _: bool) -> str:
        ((found,),) = cursor.execute("SELECT current_setting('lock_timeout')").fetchall()
        return str(found)

    return _in_turn(LockHolders(""), look, cursor, again)


def test_of_several_sessions_in_the_way_one_is_named_and_the_others_are_counted(
    engines: Engines, dump: psycopg.Connection
) -> None:
    url = engines.postgresql.url("older")
    told: list[str] = []
    owner = Database(url)
    with psycopg.connect(url) as second:
        second.execute("LOCK TABLE pop3gw.mailbox IN ACCESS SHARE MODE")

        def pause(_: float) -> None:
            dump.rollback()
            second.rollback()

        migrate(owner, told.append, pause)
    assert ", and 1 more, has pop3gw.mailbox locked" in told[0]
    owner.close()


def test_a_role_that_takes_no_writes_is_said_at_once_with_its_cure(
    engines: Engines, older: psycopg.Connection
) -> None:
    older.execute("ALTER DATABASE older SET default_transaction_read_only = on")
    text = error_of(engines.postgresql.url("older"))
    place = f"database older at 127.0.0.1, port {engines.postgresql.port}"
    cure = "turn default_transaction_read_only off (it is set by: database)"
    assert text.endswith(f"{place}: takes no writes; {cure}\n")


def test_no_server_that_takes_writes_is_said_in_seconds_with_the_cure(
    engines: Engines, older: psycopg.Connection
) -> None:
    older.execute("ALTER DATABASE older SET default_transaction_read_only = on")
    text = error_of(f"{engines.postgresql.url('older')}?target_session_attrs=read-write")
    assert f"port {engines.postgresql.port} failed: session is read-only" in text
    assert "turn default_transaction_read_only off" in text


def test_a_standby_is_said_at_once_with_the_cure(
    engines: Engines, older: psycopg.Connection
) -> None:
    del older
    standby = PostgreSQL(is_empty=True)
    try:
        standby.follow(engines.postgresql)
        text = error_of(standby.url("older"))
    finally:
        standby.stop()
    place = f"database older at 127.0.0.1, port {standby.port}"
    assert f"{place}: a standby, which takes no writes; name all servers as hosts" in text


def test_a_primary_that_is_lost_in_a_step_is_said_in_seconds(
    engines: Engines, older: psycopg.Connection
) -> None:
    relay = Relay(engines.postgresql.port)
    relay.away_after = b"UPDATE pop3gw.version"
    url = f"{engines.postgresql.url('older')}?sslmode=disable"
    owner = Database(url.replace(f":{engines.postgresql.port}/", f":{relay.port}/"), timeout=1)
    cure = "mend that, and run pop3gw cluster migrate again"
    with pytest.raises(StoreDown, match=f"^schema {MAILBOX_STEP}: database: .*; {cure}"):
        migrate(owner)
    owner.close()
    relay.stop()
    assert older.execute(VERSION_OF).fetchone() == (MAILBOX_STEP - 1,)


def test_a_server_that_is_silent_for_a_minute_counts_as_lost(engines: Engines) -> None:
    def keepalives(conninfo: str) -> list[str]:
        with_them = open_owner(conninfo)
        parameters = with_them.transact(lambda cursor, _: cursor.connection.info.get_parameters())
        with_them.close()
        names = ("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
        return [parameters[name] for name in names]

    url = engines.postgresql.url("postgres")
    assert keepalives(url) == ["30", "10", "3", "60000"]
    assert keepalives(f"{url}?keepalives_idle=5") == ["5", "10", "3", "60000"]
