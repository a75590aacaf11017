"""Messages of a mailbox: list them, see a header, hide and remove some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Annotated, Any, Literal

from attrs import frozen

from gateway.errors import GatewayError, RetentionMalformed
from gateway.model import Account, Reason, StoredMessage
from gateway.operations.mail.stored_mail import admin_store, gone, held, named, retention_store
from gateway.operations.tools import Tools
from gateway.operations.values import Bounds, Page, page_of
from gateway.retention.reasons import dues, why, why_hidden
from gateway.retention.rules import Policy
from gateway.wire.header_fields import header_fields


@frozen
class MessageRow:
    """A message of a mailbox; times in Unix seconds."""

    uid: str
    octets: int
    received: float | None
    """None for a hidden message: its age counts from when it was hidden."""

    read: float | None
    """When it was read; None: unread."""

    hidden: float | None
    """When it was hidden; None: POP3 shows it."""

    due: float | None
    """When retention removes it, if no message arrives, goes or is read before; None: never."""

    why: str
    """A sentence for people: the rule that removes it then, or why none does."""


Order = Literal["received", "octets", "due", "uid"]


async def list_messages(
    tools: Tools,
    *,
    mailbox: str,
    show: Literal["all", "shown", "hidden"] = "all",
    sort: Order = "received",
    descending: bool = False,
    page: Annotated[int, Bounds(0, 1_000_000)] = 0,
    per_page: Annotated[int, Bounds(1, 1000)] = 100,
) -> Page[MessageRow]:
    """List the messages of a mailbox, with when retention removes each and why.

    Messages that no client has listed yet get their unique-ids. Those without the time that they
    are sorted by come last.
    """
    account = await tools.mailboxes.existing(mailbox)
    store = retention_store(tools)
    kept = await store.scan(account) if show != "hidden" else []
    hidden = await store.list_hidden(account) if show != "shown" else []

    def found() -> Page[MessageRow]:
        rows = _rows(tools, account, kept, hidden)
        rows.sort(key=_ORDERS[sort], reverse=descending)
        if sort in ("received", "due"):
            rows.sort(key=lambda row: getattr(row, sort) is None)
        return page_of(rows, page, per_page)

    return await tools.run(found)


_ORDERS: dict[Order, Callable[[MessageRow], Any]] = {
    "received": lambda row: (row.received or row.hidden or 0.0, row.uid),
    "octets": lambda row: (row.octets, row.uid),
    "due": lambda row: (inf if row.due is None else row.due, row.uid),
    # Numbers as numbers: "9" before "10".
    "uid": lambda row: (len(row.uid) if row.uid.isdecimal() else 99, row.uid),
}


def _rows(
    tools: Tools, account: Account, kept: Sequence[StoredMessage], hidden: Sequence[StoredMessage]
) -> list[MessageRow]:
    policy, never = _policy(tools, account)
    found = dues(kept, policy, tools.now())
    rows = []
    for uid_row in kept:
        received, uid, octets, read = uid_row
        one = found.get(uid)
        due, text = (None, never) if one is None else (one.due, why(one, policy))
        rows.append(MessageRow(uid, octets, received, read, None, due, text))
    for since, uid, octets, read in hidden:
        is_due = policy.hide is not None and not policy.hold
        due = since + (policy.hide or 0) if is_due else None
        text = why_hidden(policy) if is_due else never
        rows.append(MessageRow(uid, octets, None, read, since, due, text))
    return rows


def _policy(tools: Tools, account: Account) -> tuple[Policy, str]:
    """The policy that runs, and why a message without a due time stays."""
    if not tools.settings.retention.enabled:
        return Policy(), "retention is off: [retention] enabled"
    try:
        policy = tools.policies.policy(account)
    except RetentionMalformed as error:
        return Policy(), f"the retention policy has an error, so all mail stays: {error}"
    if policy.hold:
        return policy, "the mailbox is on hold: nothing is removed"
    if not tools.policies.text(account):
        return policy, "the mailbox has no retention policy"
    return policy, f"no rule of its policy applies: {tools.policies.text(account)}"


@frozen
class MessageHeader:
    """What the header of a message says of itself: untrusted text, one line each."""

    mailbox: str
    uid: str
    sender: str | None
    """The field From; None: the header has none."""

    subject: str | None
    date: str | None
    message_id: str | None


async def show_header(tools: Tools, *, mailbox: str, uid: str) -> MessageHeader:
    """Show From, Subject, Date and Message-ID of a message, shown or hidden; never its body."""
    account = await tools.mailboxes.existing(mailbox)
    head = await admin_store(tools).header(account, uid)

    def decoded() -> MessageHeader:
        fields = header_fields(head, _SHOWN)
        return MessageHeader(mailbox, uid, *map(fields.get, _SHOWN))

    return await tools.run(decoded)


_SHOWN = ("From", "Subject", "Date", "Message-ID")


@frozen
class ChangedMessages:
    """What became of the messages that an operator named."""

    mailbox: str
    wanted: int
    done: int
    """Fewer than ``wanted``: the others were not there any more."""


Uids = tuple[str, ...]


async def hide_messages(tools: Tools, *, mailbox: str, uids: Uids) -> ChangedMessages:
    """Hide messages from POP3, also on hold; they can be restored, and keep their unique-ids.

    Sessions that have the mailbox open find them gone at RETR, and end well.
    """
    account = await tools.mailboxes.existing(mailbox)
    wanted = named(uids)
    cause = Reason(operator=tools.operator)
    done = await retention_store(tools).hide(account, wanted, cause)
    return _changed(mailbox, wanted, done)


async def remove_messages(tools: Tools, *, mailbox: str, uids: Uids) -> ChangedMessages:
    """Remove messages for good, shown or hidden, each after its line in the audit log.

    Refused on hold. Sessions that have the mailbox open find them gone at RETR, and end well.
    """
    account = await tools.mailboxes.existing(mailbox)
    wanted = named(uids)
    if tools.policies.is_held(account):
        raise held(mailbox)
    store, cause = retention_store(tools), Reason(operator=tools.operator)
    done = await store.remove(account, wanted, cause)
    if done < len(wanted):
        try:
            # Shown and hidden messages have different unique-ids.
            hidden = {one.uid for one in await store.list_hidden(account)}
            done += await store.purge(account, [uid for uid in wanted if uid in hidden], cause)
        except GatewayError as error:
            error.after(messages=done)
            raise
    return _changed(mailbox, wanted, done)


def _changed(mailbox: str, wanted: Sequence[str], done: int) -> ChangedMessages:
    if not done:
        raise gone(mailbox, wanted)
    return ChangedMessages(mailbox, len(wanted), done)
