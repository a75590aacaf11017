"""Messages of our own, put into mailboxes."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.interfaces import IDelivery
from gateway.model import Account, Limits

log = Logger()


async def post(store: IDelivery, account: Account, message: bytes) -> None:
    """Into the account's mailbox, however full it is; raises as a store fails."""
    incoming = await store.receive(account)
    try:
        await incoming.write(message)
        await incoming.commit(account, Limits())
    finally:
        await incoming.close().addErrback(_not_closed)


def _not_closed(failure: Failure) -> None:
    """What is left open is no reason to send it twice."""
    log.failure("a message that was sent", failure)
