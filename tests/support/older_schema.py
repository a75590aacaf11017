"""A database with the schema of an older pop3gw."""

from __future__ import annotations

import psycopg

from gateway.postgresql.migrate import steps

BEGUN = """\
CREATE SCHEMA pop3gw;
CREATE TABLE pop3gw.version (
    id      integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    version integer NOT NULL
);
INSERT INTO pop3gw.version (version) VALUES (0)"""


def make_older_schema(owner: psycopg.Connection, version: int) -> None:
    """The schema as it was at a version, in an empty database."""
    owner.execute(BEGUN.encode())
    for step in steps()[:version]:
        owner.execute(step.text.encode())
    owner.execute("UPDATE pop3gw.version SET version = %s", (version,))
