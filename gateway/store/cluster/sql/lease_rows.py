"""The rows of exclusive sessions: each statement is a transaction of its own."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from gateway.postgresql.database import Database

LEASE = 60.0
"""Seconds for which a lease that is not renewed lasts, by the database's clock."""


def take_lease(database: Database, mailbox: int, holder: UUID) -> bool:
    """Give a session a mailbox alone; False: another has it, and its lease is as it was."""
    rows = database.read(
        "INSERT INTO pop3gw.lease (mailbox, holder, until)"
        " VALUES (%s, %s, now() + %s * interval '1 second') ON CONFLICT (mailbox)"
        " DO UPDATE SET holder = excluded.holder, until = excluded.until"
        " WHERE lease.until < now() OR lease.holder = excluded.holder RETURNING true",
        (mailbox, holder, LEASE),
    )
    return bool(rows)


def renew_leases(database: Database, held: Mapping[UUID, int]) -> None:
    """Extend the leases of sessions, by holder, as far as nobody else has their mailboxes."""
    database.write(
        "UPDATE pop3gw.lease SET until = now() + %s * interval '1 second'"
        " WHERE mailbox = ANY(%s::bigint[]) AND holder = ANY(%s::uuid[])",
        (LEASE, [*held.values()], [*held]),
    )


def end_lease(database: Database, mailbox: int, holder: UUID) -> None:
    """End the lease of a session."""
    database.write("DELETE FROM pop3gw.lease WHERE mailbox = %s AND holder = %s", (mailbox, holder))
