"""Unique-ids after a restore from a backup."""

from __future__ import annotations

from typing import Annotated

from attrs import frozen

from gateway.errors import GatewayError
from gateway.operations.mail.stored_mail import retention_store
from gateway.operations.tools import Tools
from gateway.operations.values import Bounds


@frozen
class NotMoved:
    """A mailbox that failed."""

    mailbox: str
    reason: str


@frozen
class MovedIds:
    """What ``move_ids`` did."""

    mailboxes: int
    by: int
    failed: tuple[NotMoved, ...]


async def move_ids(
    tools: Tools, *, by: Annotated[int, Bounds(1, 100_000_000)] = 1_000_000
) -> MovedIds:
    """Let the unique-ids of new messages of all mailboxes begin at least ``by`` further on.

    For use after a restore of everything from a backup: no unique-id that a client has seen
    then means another message. Mailboxes that have lost their uidlist are included.
    """
    store = retention_store(tools)
    await tools.state.raise_high_water(by)
    accounts = await tools.mailboxes.accounts()
    failed = []
    for account in accounts:
        try:
            await store.move_ids(account, by)
        except GatewayError as error:
            failed.append(NotMoved(account.mailbox, str(error)))
    return MovedIds(len(accounts), by, tuple(failed))


@frozen
class MovedMailboxIds:
    """Where the unique-ids of new messages of a mailbox begin now."""

    mailbox: str
    next_uid: int | None
    """None: the mailbox has no unique-ids yet; new ones begin above all earlier ones."""


async def move_mailbox_ids(
    tools: Tools, *, mailbox: str, by: Annotated[int, Bounds(1, 100_000_000)] = 10_000
) -> MovedMailboxIds:
    """Let the unique-ids of new messages of one mailbox begin ``by`` further on.

    After a restore of this mailbox from a backup.
    """
    account = await tools.mailboxes.existing(mailbox)
    return MovedMailboxIds(mailbox, await retention_store(tools).move_ids(account, by) or None)
