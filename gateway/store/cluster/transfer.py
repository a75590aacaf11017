"""Copies of whole mailboxes, from the cluster and to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.interfaces import IBody, Run
from gateway.model import CopiedMessage
from gateway.postgresql.database import Cursor, Database
from gateway.store.cluster.delivery import Incoming
from gateway.store.cluster.sql import copied
from gateway.store.cluster.sql.copied import CopiedTo, lock_away
from gateway.store.cluster.sql.delivery_rows import New, is_delivered
from gateway.store.pieces import next_piece


async def take_in(
    incoming: Incoming,
    place: CopiedTo,
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
        work = partial(_take, place, message, new, incoming.keep)
        await run(partial(database.transact, work))
    finally:
        await incoming.close()


def _take(
    place: CopiedTo,
    message: CopiedMessage,
    new: New,
    committing: Callable[[], object],
    cursor: Cursor,
    again: bool,
) -> None:
    box = lock_away(cursor, place)
    if not (again and is_delivered(cursor, new)):
        copied.take(cursor, box, message, new)
        committing()
