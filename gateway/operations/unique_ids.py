"""Unique-ids after a restore from a backup."""

from __future__ import annotations

from attrs import frozen

from gateway.errors import GatewayError
from gateway.interfaces import IRetentionStore
from gateway.mailboxes.owners import AllMailboxes
from gateway.operations.retention import Progress
from gateway.state.ledger import Ledger


@frozen
class MovedIds:
    """What ``move_ids`` did."""

    mailboxes: int
    by: int
    failed: dict[str, str]
    """Mailbox to reason."""


def raise_high_water(state_dir: str, by: int) -> None:
    """Move the ids on in the ledger too, for mailboxes that have lost their uidlist.

    Raises as the ledger does.
    """
    ledger = Ledger(state_dir, survives_power=True)
    try:
        ledger.raise_all(by)
    finally:
        ledger.close()


async def move_ids(
    mailboxes: AllMailboxes, store: IRetentionStore, by: int, progress: Progress
) -> MovedIds:
    """Let the unique-ids of new messages of all mailboxes begin ``by`` further on.

    Raises ``GatewayError`` where the mailboxes cannot be listed.
    """
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
