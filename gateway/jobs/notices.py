"""Delivery of the server's own messages."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.interfaces import IDelivery
from gateway.model import Account, Limits

log = Logger()


async def post(store: IDelivery, account: Account, message: bytes) -> None:
    """Deliver a message into the account's mailbox, even a full one; raises the store's errors."""
    incoming = await store.receive(account)
    try:
        await incoming.write(message)
        await incoming.commit(account, Limits())
    finally:
        await incoming.close().addErrback(_not_closed)


def _not_closed(failure: Failure) -> None:
    """The message is delivered: a failed close is only logged."""
    log.failure("closing a delivered message failed", failure)
