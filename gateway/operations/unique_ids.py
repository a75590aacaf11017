"""Unique-ids after a restore from a backup."""

from __future__ import annotations

from attrs import frozen

from gateway.errors import GatewayError
from gateway.interfaces import IHighWaterState, IRetentionStore
from gateway.mailboxes.owners import AllMailboxes
from gateway.operations.retention import Progress


@frozen
class MovedIds:
    """What ``move_ids`` did."""

    mailboxes: int
    by: int
    failed: dict[str, str]
    """Mailbox to reason."""


async def move_ids(
    state: IHighWaterState,
    mailboxes: AllMailboxes,
    store: IRetentionStore,
    by: int,
    progress: Progress,
) -> MovedIds:
    """Let the unique-ids of new messages of all mailboxes begin ``by`` further on.

    Also in mailboxes that have lost their uidlist.  Raises ``GatewayError``
    where the mailboxes cannot be listed, and as ``IState`` fails.
    """
    await state.raise_high_water(by)
    accounts = await mailboxes.accounts()
    failed = {}
    for number, account in enumerate(accounts):
        progress(number, len(accounts))
        try:
            await store.move_ids(account, by)
        except GatewayError as error:
            failed[account.mailbox] = str(error)
    progress(len(accounts), len(accounts))
    return MovedIds(len(accounts), by, failed)
