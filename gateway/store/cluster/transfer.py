"""Copies of whole mailboxes, from the cluster and to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.interfaces import IBody, Run
from gateway.model import CopiedMessage
from gateway.postgresql.database import Cursor, Database
from gateway.store.cluster.delivery import Incoming
from gateway.store.cluster.sql import copied
from gateway.store.cluster.sql.delivery_rows import New, is_delivered
from gateway.store.pieces import next_piece


async def take_in(
    incoming: Incoming,
    name: str,
    message: CopiedMessage,
    body: IBody,
    database: Database,
    run: Run,
) -> None:
    """Add a message that is being read: its body to S3, then its row."""
    try:
        while data := await next_piece(body):
            await incoming.write(data)
        new = await incoming.stored(1)
        work = partial(_take, name, message, new, incoming.keep)
        await run(partial(database.transact, work))
    finally:
        await incoming.close()


def _take(
    name: str,
    message: CopiedMessage,
    new: New,
    committing: Callable[[], object],
    cursor: Cursor,
    again: bool,
) -> None:
    box = copied.lock_away(cursor, name)
    if not (again and is_delivered(cursor, new)):
        copied.take(cursor, box, message, new)
        committing()
