"""What all mailboxes hold, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from gateway.errors import DirectoryMisconfigured, GatewayError
from gateway.model import Account, Usage
from gateway.services.everyone import Everyone
from gateway.services.quota_http import described
from gateway.services.reception import Reception

log = Logger()

KEPT = 30.0
"""Seconds for which a count of all mailboxes is good enough for the next page."""

Row = tuple[Account, Usage]


class Survey:
    """By name only a page's mailboxes are counted; by what they hold all of them must be.

    Such a count is made once for all who ask meanwhile, and kept for ``KEPT`` seconds.
    """

    def __init__(
        self,
        reception: Reception,
        everyone: Everyone,
        now: Callable[[], float],
    ) -> None:
        """``now`` in seconds."""
        self._reception = reception
        self._everyone = everyone
        self._now = now
        self._counting = DeferredLock()
        self._counted: dict[str, list[Row]] = {}
        """By order."""
        self._until = 0.0
        self._listing = DeferredLock()
        self._listed: list[Account] = []
        self._listed_until = 0.0

    def page(self, order: str, number: int, count: int) -> Deferred[list[dict[str, Any]]]:
        """Page ``number``, from 0, of ``count`` mailboxes; fails as a directory or a store does.

        ``order`` is ``mailbox``, or ``octets`` or ``messages``, of which the most come first.
        """
        return Deferred.fromCoroutine(
            self._page(order, slice(number * count, (number + 1) * count))
        )

    async def _page(self, order: str, part: slice) -> list[dict[str, Any]]:
        if order == "mailbox":
            rows = await self._count((await self._list())[part])
        else:
            rows = (await self._all())[order][part]
        told = []
        for known, usage in rows:
            with self._left_out(known, DirectoryMisconfigured):
                account = await self._everyone.whole(known)
                told.append(described(known.mailbox, usage, self._reception.limits(account)))
        return told

    async def _list(self) -> list[Account]:
        async with self._listing:
            if self._now() >= self._listed_until:
                self._listed = await self._everyone.accounts()
                self._listed_until = self._now() + KEPT
            return self._listed

    async def _all(self) -> dict[str, list[Row]]:
        async with self._counting:
            if not self._counted or self._now() >= self._until:
                rows = await self._count(await self._everyone.accounts())
                self._counted = {
                    "octets": sorted(rows, key=lambda row: -row[1].octets),
                    "messages": sorted(rows, key=lambda row: -row[1].messages),
                }
                self._until = self._now() + KEPT
            return self._counted

    async def _count(self, accounts: Iterable[Account]) -> list[Row]:
        """One after the other, of whom and of how many soever: a loop needs no stack."""
        rows = []
        for account in accounts:
            with self._left_out(account, GatewayError):
                rows.append((account, await self._reception.usage(account)))
        return rows

    @contextmanager
    def _left_out(self, account: Account, kind: type[GatewayError]) -> Iterator[None]:
        """One of whom nobody can tell does not keep the others from being told of."""
        try:
            yield
        except kind as error:
            log.warn("{name}: {error}", name=account.mailbox, error=error)
