"""The rows of exclusive sessions: each statement is a transaction of its own."""

from __future__ import annotations

from collections.abc import Collection
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


def renew_leases(database: Database, holders: Collection[UUID]) -> None:
    """Extend the leases of sessions, as far as nobody else has them."""
    database.write(
        "UPDATE pop3gw.lease SET until = now() + %s * interval '1 second'"
        " WHERE holder = ANY(%s::uuid[])",
        (LEASE, [*holders]),
    )


def end_lease(database: Database, holder: UUID) -> None:
    """End the lease of a session."""
    database.write("DELETE FROM pop3gw.lease WHERE holder = %s", (holder,))
