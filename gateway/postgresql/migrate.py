"""The schema: numbered files of SQL, applied in order, each in a transaction.  Blocks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from typing import NamedTuple

from psycopg import errors
from psycopg.conninfo import make_conninfo

from gateway.errors import MailboxUnusable, NotSupported, StoreDown
from gateway.postgresql.conninfo import parsed
from gateway.postgresql.database import Connection, Cursor, Database, Work, said
from gateway.postgresql.lock_holders import LockHolders

LONGEST = 86_400.0
"""Seconds for a step, which may make an index of a large table."""

LOCK_WAIT = 1.5
"""Seconds for which a step waits for a lock: each question about its table waits behind it.

Half a second more than PostgreSQL's ``deadlock_timeout`` (1 second), after which it ends an
autovacuum that is in the way of a step; if that is longer, up to ``LONGEST_LOCK_WAIT``.
"""

LONGEST_LOCK_WAIT = 5.0
"""Seconds, too."""

PAUSE = 2.0
"""Seconds until a step tries again to get its lock; twice as long after each further attempt."""

LONGEST_PAUSE = 30.0

_FILE = re.compile(r"(\d{4})_\w+\.sql")

_BEGIN = """\
CREATE SCHEMA IF NOT EXISTS pop3gw;
CREATE TABLE IF NOT EXISTS pop3gw.version (
    id      integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    version integer NOT NULL
);
INSERT INTO pop3gw.version (version) VALUES (0) ON CONFLICT DO NOTHING;
"""


class Step(NamedTuple):
    """A step of the schema."""

    version: int
    name: str
    text: str


def steps() -> list[Step]:
    """All steps, in order."""
    folder = files("gateway.postgresql") / "migrations"
    found = [
        Step(int(match[1]), file.name, file.read_text("utf-8"))
        for file in folder.iterdir()
        if (match := _FILE.fullmatch(file.name))
    ]
    return sorted(found)


VERSION = max(step.version for step in steps())
"""The version of the schema that this pop3gw works with."""


_ALIVE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""After a minute of silence a server is lost: its answer to a step may take hours."""


def open_owner(conninfo: str, password: str = "") -> Database:
    """The database for ``migrate``.  Raises ``ValueError`` for what is no connection string."""
    given = parsed(conninfo)
    alive = {key: value for key, value in _ALIVE.items() if key not in given}
    return Database(make_conninfo(conninfo, **alive), password=password)


_WRITE = "turn default_transaction_read_only off"


def check_encoding(database: Database) -> None:
    """Raise ``NotSupported`` for a database that does not hold names as UTF-8.

    It is the first question, so its error also names the cure where the connection string asks
    for a server that takes writes, and there is none.
    """
    try:
        ((is_utf8,),) = database.read("SELECT current_setting('server_encoding') = 'UTF8'")
    except StoreDown as error:
        if "read-only" not in str(error):
            raise
        raise StoreDown(f"{error}; promote a standby, or {_WRITE}") from error
    if not is_utf8:
        raise NotSupported(
            "the database has another encoding than UTF8: make it with ENCODING 'UTF8' TEMPLATE"
            " template0"
        )


class _Locked(StoreDown):
    """Another session has a lock that a step needs."""


def migrate(
    database: Database,
    told: Callable[[str], None] = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
) -> list[Step]:
    """Bring the schema up to date; returns the steps that were missing.

    Any number of processes may call it at once: one applies a step, the others wait for it.
    A step waits for as long as others have its table locked, in short attempts, and ``told``
    hears once for whom.  Raises ``NotSupported`` if the schema is newer, ``MailboxUnusable``
    if the server takes no writes, and as ``Database.transact`` does.
    """

    def in_attempts(name: str, holders: LockHolders, work: Work[bool]) -> bool:
        seconds = PAUSE
        while True:
            try:
                return database.transact(partial(_in_turn, holders, work), within=LONGEST)
            except _Locked:
                if seconds == PAUSE:
                    named = database.transact(lambda cursor, _: holders.name(cursor))
                    told(f"{name} waits: {named}")
            # What waited behind the step goes on.
            pause(seconds)
            seconds = min(2 * seconds, LONGEST_PAUSE)

    def applied(name: str, text: str, work: Work[bool]) -> bool:
        try:
            return in_attempts(name, LockHolders(text), work)
        except StoreDown as error:
            cure = "mend that, and run pop3gw cluster migrate again"
            raise StoreDown(f"{name}: {error}; {cure}") from error

    applied("schema", _BEGIN, _begin)
    return [
        step
        for step in steps()
        if applied(f"schema {step.version}", step.text, partial(_apply, step))
    ]


@contextmanager
def _as_owner() -> Iterator[None]:
    """Gateways lack privileges that the owner has: no grant is missing."""
    try:
        yield
    except errors.InsufficientPrivilege as error:
        cure = "connect as the owner of the schema, by --database"
        raise MailboxUnusable(f"{said(error)}; {cure}") from error


@_as_owner()
def _in_turn(holders: LockHolders, work: Work[bool], cursor: Cursor, again: bool) -> bool:
    """Do some work in short attempts.  Raises ``_Locked``."""
    _check_writable(cursor)
    cursor.execute(_LIMITS, (LOCK_WAIT, LONGEST_LOCK_WAIT))
    holders.look(cursor)
    try:
        return work(cursor, again)
    except errors.LockNotAvailable as error:
        raise _Locked(said(error)) from error


# Time limits of a database or a role are for questions of gateways.
_LIMITS = """\
SELECT set_config('lock_timeout', greatest(%s, least(setting::float / 1000 + 0.5, %s)) || 's', true)
FROM pg_settings WHERE name = 'deadlock_timeout'
UNION ALL
SELECT set_config(name, '0', true)
FROM pg_settings WHERE name IN ('statement_timeout', 'transaction_timeout')"""

_WRITABLE = """\
SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
       (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only')"""


def _check_writable(cursor: Cursor) -> None:
    """Raise ``MailboxUnusable`` at a server that takes no writes; the cure depends on why."""
    ((is_standby, is_read_only, source),) = cursor.execute(_WRITABLE).fetchall()
    at = cursor.connection.info
    place = f"database {at.dbname} at {at.host}, port {at.port}"
    if is_standby:
        raise MailboxUnusable(
            f"{place}: a standby, which takes no writes; name all servers as hosts, with"
            " target_session_attrs=read-write"
        )
    if is_read_only:
        raise MailboxUnusable(f"{place}: takes no writes; {_WRITE} (it is set by: {source})")


def _begin(cursor: Cursor, _: bool) -> bool:
    try:
        with cursor.connection.transaction():
            cursor.connection.execute(_BEGIN)
    except (errors.UniqueViolation, errors.DuplicateSchema, errors.DuplicateTable):
        # IF NOT EXISTS does not wait for another transaction that creates the same.
        raise errors.SerializationFailure("another process begins the schema") from None
    return True


def _apply(step: Step, cursor: Cursor, _: bool) -> bool:
    """Apply a step; False: it was applied before."""
    # The lock on the row is that of all migrations: it ends with the transaction.
    cursor.execute("SELECT version FROM pop3gw.version FOR UPDATE")
    version = _known(cursor)
    if version >= step.version:
        return False
    # A binary cursor takes one statement at a time.
    cursor.connection.execute(step.text)
    cursor.execute("UPDATE pop3gw.version SET version = %s", (step.version,))
    return True


def _known(cursor: Cursor) -> int:
    row = cursor.fetchone()
    assert row is not None
    version: int = row[0]
    if version > VERSION:
        raise NotSupported(
            f"the schema of the database has version {version}, this pop3gw knows {VERSION}:"
            " install the newer pop3gw"
        )
    return version


_ASKED = """\
SELECT version, current_setting('synchronous_commit'), quote_ident(current_user)
FROM pop3gw.version"""


def check_version(connection: Connection) -> None:
    """Raise ``MailboxUnusable`` where a step is missing; a newer schema has all that is needed.

    Raise ``StoreDown`` where a crash loses commits that were answered: no epoch begins by it, so
    unique-ids would be given a second time.
    """
    row = connection.execute(_ASKED).fetchone()
    version, commits, role = (0, "", "") if row is None else row
    if version < VERSION:
        raise MailboxUnusable(
            f"the schema of the database has version {version}, this pop3gw needs {VERSION}:"
            " run pop3gw cluster migrate"
        )
    if commits == "off":
        raise StoreDown(
            "database: synchronous_commit is off, so a crash would lose mail that was"
            f" acknowledged: run ALTER ROLE {role} SET synchronous_commit = on"
        )
