"""What all mailboxes hold, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from gateway.errors import GatewayError
from gateway.interfaces import IDirectory
from gateway.model import Account, Usage
from gateway.services.everyone import Everyone
from gateway.services.quota_http import described
from gateway.services.reception import Reception

log = Logger()

KEPT = 30.0
"""Seconds for which a count of all mailboxes is good enough for the next page."""

Row = tuple[str, Usage]


class Survey:
    """By name only a page's mailboxes are counted; by what they hold all of them must be.

    Such a count is made once for all who ask meanwhile, and kept for ``KEPT`` seconds.
    """

    def __init__(
        self,
        reception: Reception,
        directory: IDirectory,
        everyone: Everyone,
        now: Callable[[], float],
    ) -> None:
        """``now`` in seconds."""
        self._reception = reception
        self._directory = directory
        self._everyone = everyone
        self._now = now
        self._counting = DeferredLock()
        self._counted: dict[str, list[Row]] = {}
        """By order."""
        self._until = 0.0

    def page(self, order: str, number: int, count: int) -> Deferred[list[dict[str, Any]]]:
        """Page ``number``, from 0, of ``count`` mailboxes; fails as a directory or a store does.

        ``order`` is ``mailbox``, or ``octets`` or ``messages``, of which the most come first.
        """
        return Deferred.fromCoroutine(
            self._page(order, slice(number * count, (number + 1) * count))
        )

    async def _page(self, order: str, part: slice) -> list[dict[str, Any]]:
        if order == "mailbox":
            accounts = sorted(await self._everyone(), key=lambda account: account.mailbox)
            rows = await self._count(accounts[part])
        else:
            rows = (await self._all())[order][part]
        told = []
        for name, usage in rows:
            account = await self._directory.owner(name) or Account(name=name, mailbox=name)
            told.append(described(name, usage, self._reception.limits(account)))
        return told

    async def _all(self) -> dict[str, list[Row]]:
        async with self._counting:
            if not self._counted or self._now() >= self._until:
                rows = await self._count(await self._everyone())
                self._counted = {
                    "octets": sorted(rows, key=lambda row: (-row[1].octets, row[0])),
                    "messages": sorted(rows, key=lambda row: (-row[1].messages, row[0])),
                }
                self._until = self._now() + KEPT
            return self._counted

    async def _count(self, accounts: Iterable[Account]) -> list[Row]:
        """One after the other, of whom and of how many soever: a loop needs no stack."""
        rows = []
        for account in accounts:
            name = account.mailbox
            try:
                rows.append((name, await self._reception.usage(account)))
            except GatewayError as error:
                # One that cannot be counted does not keep the others from being told of.
                log.warn("{name}: {error}", name=name, error=error)
        return rows
