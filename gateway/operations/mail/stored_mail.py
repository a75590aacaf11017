"""Hidden mail, and what operations on stored mail have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from attrs import frozen

from gateway.errors import BadValue, MessageGone, NoSuchMailbox, NotSupported, OnHold
from gateway.interfaces import IMailboxAdmin, IMailboxes, IRetentionStore
from gateway.model import Account, Reason, StoredMessage
from gateway.operations.tools import Tools
from gateway.operations.values import Bounds, Page, page_of


@frozen
class HiddenMessage:
    """A message that POP3 does not show any more."""

    uid: str
    octets: int
    hidden: float
    """When it was hidden, in Unix seconds."""

    @classmethod
    def of(cls, message: StoredMessage) -> Self:
        """The same of a store's answer."""
        return cls(message.uid, message.octets, message.received)


@frozen
class Restored:
    """How many hidden messages came back."""

    mailbox: str
    wanted: int
    restored: int


async def list_hidden(
    tools: Tools,
    *,
    mailbox: str,
    page: Annotated[int, Bounds(0, 1_000_000)] = 0,
    per_page: Annotated[int, Bounds(1, 1000)] = 100,
) -> Page[HiddenMessage]:
    """List the hidden messages of a mailbox, the first hidden first."""
    account = await tools.mailboxes.existing(mailbox)
    hidden = await retention_store(tools).list_hidden(account)

    def found() -> Page[HiddenMessage]:
        return page_of([HiddenMessage.of(one) for one in sorted(hidden)], page, per_page)

    return await tools.run(found)


async def restore(tools: Tools, *, mailbox: str, uids: tuple[str, ...] | None = None) -> Restored:
    """Bring back the hidden messages with these unique-ids; if ``uids`` is left out, all.

    They keep their unique-ids; their age is counted anew.
    """
    account, store = await tools.mailboxes.existing(mailbox), retention_store(tools)
    cause = Reason(operator=tools.operator)
    if uids is None:
        wanted = [one.uid for one in await store.list_hidden(account)]
        return Restored(mailbox, len(wanted), await store.restore(account, wanted, cause))
    wanted = named(uids)
    restored = await store.restore(account, wanted, cause)
    if not restored:
        raise gone(mailbox, wanted)
    return Restored(mailbox, len(wanted), restored)


def named(uids: Sequence[str]) -> list[str]:
    """Each unique-id once; raises ``BadValue`` if there is none."""
    if not uids:
        raise BadValue(["uids: expected the unique-ids of one message or more"])
    return list(dict.fromkeys(uids))


def gone(mailbox: str, wanted: Sequence[str]) -> MessageGone:
    """The error where a mailbox has none of the messages that an operator named."""
    return MessageGone(
        f"{mailbox!r} has no message with the unique-id {wanted[0][:70]!r}"
        + (f" or one of {len(wanted) - 1} others" if len(wanted) > 1 else "")
        + ": list its messages again"
    )


async def account_of(tools: Tools, mailbox: str) -> Account:
    """The owner of a mailbox, or an account that has only its name; raises ``NoSuchMailbox``."""
    account = await tools.mailboxes.find(mailbox)
    if account is None:
        fault = "no account here has it, and only the directory knows its home: check the name"
        raise NoSuchMailbox(f"{mailbox}: {fault}")
    return account


def held(mailbox: str) -> OnHold:
    """The error for a removal from a mailbox on hold."""
    return OnHold(
        f"{mailbox!r} is on hold: nothing of it may be removed. Take hold out of its retention"
        " policy first, in the directory or in [retention]; a policy with an error counts as hold"
    )


def admin_store(tools: Tools) -> IMailboxAdmin:
    """The store, if an operator can look after its mailboxes; raises ``NotSupported``."""
    store: IMailboxAdmin | None = IMailboxAdmin(tools.store, None)
    if store is None:
        raise NotSupported(
            "the store cannot rename, delete or count mailboxes: store.kind must be one that can"
        )
    return store


def mailbox_store(tools: Tools) -> IMailboxes:
    """The store, if it knows which mailboxes exist; raises ``NotSupported``."""
    store: IMailboxes | None = IMailboxes(tools.store, None)
    if store is None:
        raise NotSupported("the store knows no mailboxes: store.kind must be one that does")
    return store


def retention_store(tools: Tools) -> IRetentionStore:
    """The store, if it can hide and remove mail; raises ``NotSupported``."""
    store: IRetentionStore | None = IRetentionStore(tools.store, None)
    if store is None:
        raise NotSupported("the store has no retention: store.kind must be one that has")
    return store
