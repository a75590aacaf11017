"""Usage and limits of mailboxes, for other programs: the quota API."""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import frozen
from twisted.logger import Logger

from gateway.errors import DirectoryMisconfigured
from gateway.model import Limits, Usage
from gateway.operations.mail.mailbox_list import LEVELS, choose
from gateway.operations.tools import Tools
from gateway.operations.values import Bounds
from gateway.quota.verdict import level, verdict

log = Logger()


@frozen
class MailboxUsage:
    """Usage and limits of a mailbox, in octets and messages."""

    mailbox: str
    octets: int
    messages: int
    limit_octets: int | None
    """None: no limit."""

    limit_messages: int | None
    warn_octets: int | None
    level: Literal["normal", "warn", "over"]
    accepts: bool
    """Whether a message of ``size`` octets fits."""


@frozen
class UsageList:
    """A page of usage."""

    mailboxes: tuple[MailboxUsage, ...]
    page: int


async def show_usage(
    tools: Tools, *, address: str, size: Annotated[int, Bounds(0, 10**18)] = 1
) -> MailboxUsage:
    """Show usage and limits of the mailbox of an address, and whether a message of `size` fits."""
    account = await tools.recipients.account(address)
    usage = await tools.recipients.usage(account)
    return _row(account.name, usage, tools.recipients.limits(account), size)


async def list_usage(
    tools: Tools,
    *,
    sort: Literal["octets", "messages", "mailbox"] = "octets",
    page: Annotated[int, Bounds(0, 10**8)] = 0,
    per_page: Annotated[int, Bounds(1, 1000)] = 100,
) -> UsageList:
    """List usage and limits of all mailboxes, the fullest first, or by name.

    The list, and the usage where it is sorted by that, are up to 30 seconds old, or older where it
    takes more than 3 seconds to count them. A mailbox that cannot be read is left out; the log
    says why.
    """
    chosen, _ = await choose(tools, "", sort, page, per_page)
    rows = []
    for one in chosen:
        if one.usage is None:
            log.warn("{name}: {problem}", name=one.account.mailbox, problem=one.problem)
            continue
        try:
            account = await tools.mailboxes.whole(one.account)
        except DirectoryMisconfigured as error:
            log.warn("{name}: {error}", name=one.account.mailbox, error=error)
            continue
        limits = tools.recipients.limits(account)
        rows.append(_row(one.account.mailbox, one.usage, limits, 1))
    return UsageList(tuple(rows), page)


def _row(name: str, usage: Usage, limits: Limits, size: int) -> MailboxUsage:
    return MailboxUsage(
        mailbox=name,
        octets=usage.octets,
        messages=usage.messages,
        limit_octets=limits.octets,
        limit_messages=limits.messages,
        warn_octets=limits.warn_octets,
        level=LEVELS[level(usage, limits)],
        accepts=verdict(usage, size, limits).name == "FINE",
    )
