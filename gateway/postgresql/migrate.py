"""The schema: numbered files of SQL, applied in order, each in a transaction.  Blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from typing import NamedTuple

from psycopg import errors

from gateway.errors import MailboxUnusable, NotSupported
from gateway.postgresql.database import Connection, Cursor, Database, said

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


def check_encoding(database: Database) -> None:
    """Raise ``NotSupported`` for a database that does not hold names as UTF-8."""
    ((is_utf8,),) = database.read("SELECT current_setting('server_encoding') = 'UTF8'")
    if not is_utf8:
        raise NotSupported(
            "the database has another encoding than UTF8: make it with ENCODING 'UTF8' TEMPLATE"
            " template0"
        )


def migrate(database: Database) -> list[Step]:
    """Bring the schema up to date; returns the steps that were missing.

    Any number of processes may call it at once: one applies a step, the others wait for it.
    Raises ``NotSupported`` if the schema is newer, and as ``Database.transact`` does.
    """
    database.transact(_begin)
    return [step for step in steps() if database.transact(partial(_apply, step))]


@contextmanager
def _as_owner() -> Iterator[None]:
    """Gateways lack privileges that the owner has: no grant is missing."""
    try:
        yield
    except errors.InsufficientPrivilege as error:
        cure = "connect as the owner of the schema, by --database"
        raise MailboxUnusable(f"{said(error)}; {cure}") from error


@_as_owner()
def _begin(cursor: Cursor, _: bool) -> None:
    try:
        with cursor.connection.transaction():
            cursor.connection.execute(_BEGIN)
    except (errors.UniqueViolation, errors.DuplicateSchema, errors.DuplicateTable):
        # IF NOT EXISTS does not wait for another transaction that creates the same.
        raise errors.SerializationFailure("another process begins the schema") from None


@_as_owner()
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


def check_version(connection: Connection) -> None:
    """Raise ``MailboxUnusable`` where a step is missing; a newer schema has all that is needed."""
    row = connection.execute("SELECT version FROM pop3gw.version").fetchone()
    version = 0 if row is None else row[0]
    if version < VERSION:
        raise MailboxUnusable(
            f"the schema of the database has version {version}, this pop3gw needs {VERSION}:"
            " run pop3gw cluster migrate"
        )
