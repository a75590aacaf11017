"""Retention: what it would remove now, orders to the leader."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

from attrs import frozen

from gateway.errors import ConfigError, GatewayError, NoSuchMailbox, StoreDown
from gateway.mailboxes.pieces import in_pieces
from gateway.model import LastScan, RetentionOrder
from gateway.operations.mail.stored_mail import HiddenMessage, account_of, retention_store
from gateway.operations.tools import Tools
from gateway.operations.values import Bounds, Page
from gateway.retention.preview import Preview
from gateway.retention.preview import preview as preview_of
from gateway.retention.removal_guard import HIDDEN_MAIL, STORE, Guard, expected_after, objection
from gateway.retention.rules import Expired

LONGEST = 5.0
"""Seconds after which a preview of many mailboxes answers with what it has."""


SHOWN = 1000
"""Most orders that an answer names."""

# -- previews ------------------------------------------------------------------


@frozen
class RuleCount:
    """How many messages a rule removes."""

    rule: str
    messages: int


@frozen
class MailboxPreview:
    """What retention would remove from a mailbox now."""

    mailbox: str
    policy: str = ""
    messages: int = 0
    would_go: int = 0
    would_go_octets: int = 0
    would_purge: int = 0
    """Hidden messages that would be removed for good."""

    hidden: int = 0
    """All hidden messages."""

    overdue: int = 0
    """How many of ``would_purge`` were not expected to go now: the removal guard counts these."""

    rules: tuple[RuleCount, ...] = ()
    """How many of the messages each rule removes."""

    next_look: float | None = None
    """When retention scans the mailbox next; None: never."""

    stops: str | None = None
    """Why nothing would be removed before an operator releases it; None: it would."""


@frozen
class NoPreview:
    """A mailbox of which a preview knows nothing."""

    mailbox: str
    reason: str


@frozen
class PreviewPart:
    """Some of all mailboxes, in the order of their names."""

    items: tuple[MailboxPreview, ...]
    """Those that have a policy."""

    failed: tuple[NoPreview, ...]
    """Those that could not be read."""

    mailboxes: int
    """How many were looked at, with a policy or without."""

    total: int
    """How many there are in all."""

    following: str | None
    """``after`` of the next part; None: this is the last."""

    guard: Guard
    """How much may be removed without a release: of a mailbox, and of all within a day."""


@frozen
class StorePreview:
    """All mailboxes of a preview together."""

    mailboxes: int = 0
    failed: int = 0
    messages: int = 0
    would_go: int = 0
    would_purge: int = 0
    hidden: int = 0
    overdue: int = 0
    stops: str | None = None
    """Why nothing would be removed before an operator releases it; None: it would."""


def sum_of(store: StorePreview, part: PreviewPart) -> StorePreview:
    """The sums of a preview with one more part."""
    going = store.would_go + sum(one.would_go for one in part.items)
    messages = store.messages + sum(one.messages for one in part.items)
    hidden = store.hidden + sum(one.hidden for one in part.items)
    overdue = store.overdue + sum(one.overdue for one in part.items)
    return StorePreview(
        mailboxes=store.mailboxes + part.mailboxes,
        failed=store.failed + len(part.failed),
        messages=messages,
        would_go=going,
        would_purge=store.would_purge + sum(one.would_purge for one in part.items),
        hidden=hidden,
        overdue=overdue,
        stops=objection(part.guard, going, messages, STORE)
        or objection(part.guard, overdue, hidden, HIDDEN_MAIL),
    )


@frozen
class DueMessage:
    """A message that retention would remove; times in Unix seconds."""

    uid: str
    octets: int
    received: float
    read: float | None
    """When it was read; None: unread."""

    rule: str
    due: float


@frozen
class DueMail:
    """What retention would remove from a mailbox, message by message."""

    preview: MailboxPreview
    due: tuple[DueMessage, ...]
    """In the order of removal, from ``page`` times ``per_page`` on."""

    purged: tuple[HiddenMessage, ...]
    """Hidden messages that would be removed for good, from there on as well."""

    page: int
    per_page: int


async def preview(
    tools: Tools, *, after: str = "", most: Annotated[int, Bounds(1, 1000)] = 100
) -> PreviewPart:
    """Preview what retention would remove from all mailboxes now; nothing is changed.

    Answers with up to ``most`` mailboxes with names after ``after``, and with fewer after 5
    seconds; ask again with ``following``.
    """
    names = await tools.mailboxes.names()
    start = bisect_right(names, after)
    rest = names[start : start + most + 1]
    items: list[Preview] = []
    failed: list[NoPreview] = []
    scans, began, looked = await _scans(tools, rest[:most]), tools.now(), 0
    for name in rest[:most]:
        try:
            found = await _preview(tools, name, scans)
        except GatewayError as error:
            failed.append(NoPreview(name, str(error)))
        else:
            items += [] if found is None else [found]
        looked += 1
        if not 0 <= tools.now() - began < LONGEST:
            break
    following = rest[looked - 1] if looked < len(rest) else None
    summed = await tools.run(lambda: tuple(map(_summed, items)))
    return PreviewPart(summed, tuple(failed), looked, len(names), following, tools.guard)


async def preview_mailbox(
    tools: Tools,
    *,
    mailbox: str,
    page: Annotated[int, Bounds(0, 1_000_000)] = 0,
    per_page: Annotated[int, Bounds(1, 1000)] = 100,
) -> DueMail:
    """Preview what retention would remove from one mailbox now, and why; nothing is changed.

    Nothing is counted if no policy applies, and then ``policy`` is empty.
    """
    found = await _preview(tools, mailbox, await _scans(tools, [mailbox]))
    if found is None:
        await account_of(tools, mailbox)
        return DueMail(MailboxPreview(mailbox), (), (), page, per_page)
    return await tools.run(lambda: due_mail_of(found, page, per_page))


async def _scans(tools: Tools, mailboxes: Sequence[str]) -> Mapping[str, LastScan]:
    """Those of the server, if this is one: otherwise to read the state may make its file."""
    if not tools.is_server:
        return {}
    scans: Mapping[str, LastScan] = await tools.state.find_scans(mailboxes)
    return scans


async def _preview(tools: Tools, name: str, scans: Mapping[str, LastScan]) -> Preview | None:
    account = await tools.mailboxes.owner(name)
    text = "" if account is None else tools.policies.text(account)
    if account is None or not text:
        return None
    policy, store = tools.policies.policy(account), retention_store(tools)
    kept, hidden = await store.scan_readonly(account), await store.list_hidden(account)
    now = tools.now()
    expected = expected_after(scans.get(name), text, now)
    found: Preview = await tools.run(
        lambda: preview_of(name, text, policy, kept, hidden, tools.guard, now, expected)
    )
    return found


def _summed(one: Preview) -> MailboxPreview:
    rules = sorted(Counter(str(gone.rule) for gone in one.gone).items())
    return MailboxPreview(
        mailbox=one.mailbox,
        policy=one.policy,
        messages=one.messages,
        would_go=len(one.gone),
        would_go_octets=one.octets,
        would_purge=len(one.purged),
        hidden=one.hidden,
        overdue=one.overdue,
        rules=tuple(RuleCount(*pair) for pair in rules),
        next_look=one.next_look,
        stops=one.stops,
    )


def due_mail_of(one: Preview, page: int, per_page: int) -> DueMail:
    """A page of the messages of a preview."""
    here = slice(page * per_page, (page + 1) * per_page)
    due = tuple(map(_due_message, one.gone[here]))
    purged = tuple(map(HiddenMessage.of, one.purged[here]))
    return DueMail(_summed(one), due, purged, page, per_page)


def _due_message(one: Expired) -> DueMessage:
    received, uid, octets, read = one.message
    return DueMessage(uid, octets, received, read, str(one.rule), one.due)


# -- orders to the leader --------------------------------------------------------


@frozen
class Scan:
    """What retention found in a mailbox when it looked last; times in Unix seconds."""

    mailbox: str
    policy: str
    messages: int
    """Messages that were left."""

    looked: float
    due: float | None
    """When it looks again; None: not before something changes."""

    stopped: str | None
    """Why nothing is removed before an operator releases it; None: it is."""


@frozen
class Ordered:
    """A mailbox that the leader will look at."""

    mailbox: str
    released: bool
    stopped: str | None
    """What had stopped the run there; None: nothing had."""


@frozen
class Orders:
    """Orders that were given."""

    mailboxes: int
    """How many."""

    ordered: tuple[Ordered, ...]
    """The first 1,000 of them."""


async def list_scans(
    tools: Tools,
    *,
    stopped: bool = False,
    page: Annotated[int, Bounds(0, 1_000_000)] = 0,
    per_page: Annotated[int, Bounds(1, 1000)] = 100,
) -> Page[Scan]:
    """List the mailboxes that retention knows; ``stopped``: only those that wait for a release."""
    first, last, total = page * per_page, (page + 1) * per_page, 0
    items: list[Scan] = []
    async for scans in in_pieces(tools.state.last_scans):
        wanted = await tools.run(partial(_wanted, scans, stopped))
        items += [_scan(*one) for one in wanted[max(first - total, 0) : max(last - total, 0)]]
        total += len(wanted)
    return Page(tuple(items), page, per_page, total)


def _wanted(scans: Mapping[str, LastScan], stopped: bool) -> list[tuple[str, LastScan]]:
    return [one for one in scans.items() if one[1].stopped or not stopped]


def _scan(name: str, scan: LastScan) -> Scan:
    return Scan(name, scan.policy, scan.messages, scan.looked, scan.due, scan.stopped)


async def run(tools: Tools, *, mailbox: str | None = None) -> Orders:
    """Have the leader look at ``mailbox`` within a minute; without one at all mailboxes."""
    return await _order(tools, mailbox, released=False)


async def release(tools: Tools, *, mailbox: str | None = None) -> Orders:
    """Release what the removal guard has stopped in ``mailbox``; without one in all mailboxes.

    All that is due there now is removed, however much it is, unless the policy changes before.
    """
    return await _order(tools, mailbox, released=True)


async def _order(tools: Tools, mailbox: str | None, *, released: bool) -> Orders:
    if not tools.settings.retention.enabled:
        raise ConfigError(
            ["retention.enabled: is false: set it to true, since nobody takes orders"]
        )
    wanted: list[tuple[str, LastScan]] = []
    if mailbox is None:
        async for scans in in_pieces(tools.state.last_scans):
            wanted += await tools.run(partial(_wanted, scans, released))
    else:
        wanted += (await tools.state.find_scans([mailbox])).items()
        if not wanted:
            fault = "retention has not looked there yet: check the name, or wait for its next round"
            raise NoSuchMailbox(f"{mailbox}: {fault}")
    now = tools.now()
    for given, (name, scan) in enumerate(wanted):
        try:
            order = RetentionOrder(now, now, scan.policy) if released else RetentionOrder(now)
            await tools.state.add_order(name, order)
        except GatewayError as error:
            if not given:
                raise
            raise StoreDown(
                f"{given} of {len(wanted)} mailboxes have their order, the others not: {error};"
                " run it again"
            ).after(mailboxes=given) from error
    ordered = [Ordered(name, released, scan.stopped) for name, scan in wanted[:SHOWN]]
    return Orders(len(wanted), tuple(ordered))
