"""The list of mailboxes, with all that a server knows of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from attrs import frozen

from gateway.errors import GatewayError, RetentionMalformed
from gateway.interfaces import IRetentionStore
from gateway.mailboxes.pieces import joined
from gateway.mailboxes.survey import Counted, some_at_once
from gateway.model import Account, LastLogin, Limits, Usage
from gateway.operations.mail.mailboxes import SESSIONS_IN
from gateway.operations.mail.stored_mail import admin_store
from gateway.operations.tools import Tools
from gateway.operations.values import Bounds, Page
from gateway.quota.verdict import level


@frozen
class MailboxRow:
    """A mailbox; times in Unix seconds, sizes in octets."""

    mailbox: str
    octets: int | None
    """None: ``problem`` says why it is unknown."""

    messages: int | None
    limit_octets: int | None
    """None: no limit."""

    limit_messages: int | None
    warn_octets: int | None
    limit_octets_from: str
    """Where the limit is set: ``account``, ``domain NAME`` or ``default``; empty: nowhere."""

    limit_messages_from: str
    share: float | None
    """Usage as a part of the limit that is nearer; None: no limit."""

    level: Literal["normal", "warn", "over"] | None
    policy: str
    """The text of its retention policy; empty: none."""

    policy_from: str
    """As ``limit_octets_from``."""

    on_hold: bool
    owner: str | None
    """The account that has the mailbox in the directory; None: nobody has."""

    last_login: float | None
    """None: none is known."""

    hidden: int | None
    """Hidden messages; None: the store hides none."""

    problem: str = ""
    """Why something here is unknown."""


Order = Literal["octets", "messages", "share", "mailbox", "last_login"]


async def list_mailboxes(
    tools: Tools,
    *,
    search: str = "",
    sort: Order = "octets",
    page: Annotated[int, Bounds(0, 1_000_000)] = 0,
    per_page: Annotated[int, Bounds(1, 1000)] = 100,
) -> Page[MailboxRow]:
    """List mailboxes, the fullest first, or in another order; search for a part of the name.

    By `last_login` those come first that nobody has logged in to, or not for the longest time.
    The list, and the usage of all mailboxes where it is sorted by that, are up to 30 seconds old,
    or older where it takes more than 3 seconds to count them.
    """
    chosen, total = await choose(tools, search, sort, page, per_page)
    logins = await tools.state.find_logins([one.account.mailbox for one in chosen])

    async def row(one: Counted) -> MailboxRow:
        return await _row(tools, one, logins.get(one.account.mailbox))

    return Page(tuple(await some_at_once(row, chosen, tools.run)), page, per_page, total)


Chosen = tuple[Sequence[Counted], int]
"""The mailboxes of a page with their usage, and how many are found in all."""


async def choose(tools: Tools, search: str, sort: Order, page: int, per_page: int) -> Chosen:
    """A page of the mailboxes with ``search`` in their names; empty: of all."""
    return await _CHOICES[sort](tools, search, slice(page * per_page, (page + 1) * per_page))


def _matching(search: str) -> Callable[[str], bool]:
    wanted = search.casefold()
    return lambda name: wanted in name.casefold()


async def _by_name(tools: Tools, search: str, part: slice) -> Chosen:
    listed = await tools.survey.listed()
    matches = _matching(search)
    found = await tools.run(lambda: [one for one in listed if matches(one.mailbox)])
    return await some_at_once(tools.survey.count, found[part], tools.run), len(found)


async def _by_login(tools: Tools, search: str, part: slice) -> Chosen:
    listed = await tools.survey.listed()
    logins: Mapping[str, LastLogin] = await joined(tools.state.last_logins)
    matches = _matching(search)

    def order(account: Account) -> tuple[float, str]:
        login = logins.get(account.mailbox)
        return (0.0 if login is None else login.at, account.mailbox)

    found = await tools.run(
        lambda: sorted((one for one in listed if matches(one.mailbox)), key=order)
    )
    return await some_at_once(tools.survey.count, found[part], tools.run), len(found)


async def _by_usage(
    tools: Tools, search: str, part: slice, order: Callable[[Counted], Any]
) -> Chosen:
    counted = await tools.survey.counted()
    matches = _matching(search)

    def found() -> Chosen:
        wanted = (one for one in counted if matches(one.account.mailbox))
        inorder = sorted(wanted, key=order)
        return inorder[part], len(inorder)

    return await tools.run(found)


async def _by_octets(tools: Tools, search: str, part: slice) -> Chosen:
    return await _by_usage(tools, search, part, lambda one: -one.usage.octets if one.usage else 1)


async def _by_messages(tools: Tools, search: str, part: slice) -> Chosen:
    return await _by_usage(tools, search, part, lambda one: -one.usage.messages if one.usage else 1)


async def _by_share(tools: Tools, search: str, part: slice) -> Chosen:
    owners, limits_of = await tools.survey.owners(), tools.recipients.limits

    def order(one: Counted) -> float:
        limits = limits_of(owners.get(one.account.mailbox, one.account))
        share = None if one.usage is None else _share(one.usage, limits)
        return 1.0 if share is None else -share

    return await _by_usage(tools, search, part, order)


_CHOICES = {
    "mailbox": _by_name,
    "last_login": _by_login,
    "octets": _by_octets,
    "messages": _by_messages,
    "share": _by_share,
}


def _share(usage: Usage, limits: Limits) -> float | None:
    parts = [
        used / max(limit, 1)
        for used, limit in ((usage.octets, limits.octets), (usage.messages, limits.messages))
        if limit is not None
    ]
    return max(parts, default=None)


async def row_of(tools: Tools, account: Account) -> MailboxRow:
    """The mailbox of an account, counted now."""
    logins = await tools.state.find_logins([account.mailbox])
    return await _row(tools, await tools.survey.count(account), logins.get(account.mailbox))


async def _row(tools: Tools, one: Counted, login: LastLogin | None) -> MailboxRow:
    known, usage, problem = one.account, one.usage, one.problem
    owner: Account | None = None
    hidden = None
    try:
        owner = await tools.mailboxes.account(known.mailbox)
        hidden = await _count_hidden(tools, owner or known)
    except GatewayError as error:
        problem = problem or str(error)
    account = owner or known
    limits = tools.recipients.limits(account)
    octets_from, messages_from = _sources(tools, account)
    return MailboxRow(
        mailbox=known.mailbox,
        octets=None if usage is None else usage.octets,
        messages=None if usage is None else usage.messages,
        limit_octets=limits.octets,
        limit_messages=limits.messages,
        warn_octets=limits.warn_octets,
        limit_octets_from=octets_from,
        limit_messages_from=messages_from,
        share=None if usage is None else _share(usage, limits),
        level=None if usage is None else LEVELS[level(usage, limits)],
        policy=tools.policies.text(account),
        policy_from=tools.policies.source(account),
        on_hold=tools.policies.is_held(account),
        owner=None if owner is None else owner.name,
        last_login=None if login is None else login.at,
        hidden=hidden,
        problem=problem,
    )


LEVELS: tuple[Literal["normal", "warn", "over"], ...] = ("normal", "warn", "over")
"""By ``Level``."""


def _sources(tools: Tools, account: Account) -> tuple[str, str]:
    """Where the limits of octets and of messages are set."""
    settings = tools.settings.quota
    domain = account.mailbox.rpartition("@")[2]
    of_domain = {name.lower(): one for name, one in settings.domains.items()}.get(domain)
    said = {
        "account": (account.quota.octets, account.quota.messages),
        f"domain {domain}": (of_domain.octets or None, of_domain.messages) if of_domain else (),
        "default": (settings.octets or None, settings.messages),
    }
    octets, messages = (
        next((name for name, values in said.items() if values and values[at] is not None), "")
        for at in (0, 1)
    )
    return octets, messages


async def _count_hidden(tools: Tools, account: Account) -> int | None:
    store: IRetentionStore | None = IRetentionStore(tools.store, None)
    return None if store is None else len(await store.list_hidden(account))


@frozen
class MailboxDetails:
    """One mailbox, counted now."""

    mailbox: MailboxRow
    shown_messages: int
    shown_octets: int
    hidden_octets: int
    folder_messages: int
    """Messages in other folders, which only IMAP shows."""

    folder_octets: int
    sessions: int
    """Sessions that have it open now."""

    policy_error: str
    """What is wrong with the text of its retention policy; empty: nothing."""

    scanned: float | None
    """When retention last scanned it, in Unix seconds; None: never."""

    next_scan: float | None
    stopped: str | None
    """Why retention removes nothing there before an operator releases it."""


async def show_mailbox(tools: Tools, *, mailbox: str) -> MailboxDetails:
    """Show one mailbox: its usage, limits, retention, hidden mail, and who has it open."""
    account = await tools.mailboxes.existing(mailbox)
    counted = await tools.survey.count(account)
    logins = await tools.state.find_logins([mailbox])
    row = await _row(tools, counted, logins.get(mailbox))
    there = await admin_store(tools).contents(account)
    scan = (await tools.state.find_scans([mailbox])).get(mailbox)
    sessions = await tools.processes.ask_each(SESSIONS_IN, mailbox)
    fault = ""
    try:
        tools.policies.policy(account)
    except RetentionMalformed as error:
        fault = str(error)
    return MailboxDetails(
        mailbox=row,
        shown_messages=there.shown.messages,
        shown_octets=there.shown.octets,
        hidden_octets=there.hidden.octets,
        folder_messages=there.folders.messages,
        folder_octets=there.folders.octets,
        sessions=sum(sessions),
        policy_error=fault,
        scanned=None if scan is None else scan.looked,
        next_scan=None if scan is None else scan.due,
        stopped=None if scan is None else scan.stopped,
    )
