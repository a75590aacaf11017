"""Usage of all mailboxes, in pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from gateway.errors import DirectoryMisconfigured, GatewayError
from gateway.mailboxes.owners import AllMailboxes
from gateway.mailboxes.recipients import Recipients
from gateway.model import Account, Limits, Usage
from gateway.observe.failures import meets_all
from gateway.quota.verdict import level, verdict

log = Logger()

T = TypeVar("T")

KEPT = 30.0
"""Seconds for which the usage of all mailboxes is cached for further pages."""

Row = tuple[Account, Usage]


def described(name: str, usage: Usage, limits: Limits) -> dict[str, Any]:
    """Usage and limits of one mailbox, as the API and the lists show them."""
    return {
        "mailbox": name,
        "octets": usage.octets,
        "messages": usage.messages,
        "limit_octets": limits.octets,
        "limit_messages": limits.messages,
        "warn_octets": limits.warn_octets,
        "level": level(usage, limits).name.lower(),
        "accepts": verdict(usage, 1, limits).name == "FINE",
    }


class Remembered(Generic[T]):
    """A result that concurrent callers share, cached for ``KEPT`` seconds."""

    def __init__(self, find: Callable[[], Awaitable[T]], now: Callable[[], float]) -> None:
        self._find = find
        self._now = now
        self._lock = DeferredLock()
        self._found: T | None = None
        self._until = 0.0

    async def get(self) -> T:
        """The result; fails as computing it does."""
        async with self._lock:
            if self._found is None or self._now() >= self._until:
                self._found = await self._find()
                self._until = self._now() + KEPT
            return self._found

    def forget(self) -> None:
        """Compute it anew for the next caller."""
        self._until = 0.0


class UsagePages:
    """Lists usage by name, which reads a page's mailboxes only, or by usage, which reads all.

    Concurrent callers share the reading of all mailboxes, and the list of names.
    """

    def __init__(
        self,
        recipients: Recipients,
        all_mailboxes: AllMailboxes,
        now: Callable[[], float],
    ) -> None:
        """``now`` in seconds."""
        self._recipients = recipients
        self._all_mailboxes = all_mailboxes
        self._listed = Remembered(all_mailboxes.accounts, now)
        self._counted = Remembered(self._count_all, now)

    def page(self, order: str, number: int, count: int) -> Deferred[list[dict[str, Any]]]:
        """Page ``number``, from 0, of ``count`` mailboxes; fails as a directory or a store does.

        ``order``: ``mailbox``, or ``octets`` or ``messages``, largest first.
        """
        return Deferred.fromCoroutine(
            self._page(order, slice(number * count, (number + 1) * count))
        )

    async def _page(self, order: str, part: slice) -> list[dict[str, Any]]:
        if order == "mailbox":
            rows = await self._count((await self._listed.get())[part])
        else:
            rows = (await self._counted.get())[order][part]
        told = []
        for known, usage in rows:
            with self._left_out(known, DirectoryMisconfigured):
                account = await self._all_mailboxes.whole(known)
                told.append(described(known.mailbox, usage, self._recipients.limits(account)))
        return told

    async def _count_all(self) -> dict[str, list[Row]]:
        """Rows in this order."""
        rows = await self._count(await self._all_mailboxes.accounts())
        return {
            "octets": sorted(rows, key=lambda row: -row[1].octets),
            "messages": sorted(rows, key=lambda row: -row[1].messages),
        }

    async def _count(self, accounts: Iterable[Account]) -> list[Row]:
        """Usage of the mailboxes, one after the other in a loop: recursion needs stack."""
        rows = []
        for account in accounts:
            with self._left_out(account, GatewayError):
                rows.append((account, await self._recipients.usage(account)))
        return rows

    @contextmanager
    def _left_out(self, account: Account, kind: type[GatewayError]) -> Iterator[None]:
        """The usage of a mailbox; None, and a line in the log, if it cannot be read."""
        try:
            yield
        except kind as error:
            if meets_all(error):
                raise
            log.warn("{name}: {error}", name=account.mailbox, error=error)
