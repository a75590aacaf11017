"""All mailboxes for operators, with their usage: searched, sorted, in pages.

The list, and the usage of all mailboxes, are kept for ``remembered.KEPT`` seconds or longer
(``Remembered``), and shared by all who ask meanwhile.  What is proportional to the number of
mailboxes runs in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, FirstError, gatherResults

from gateway.errors import GatewayError
from gateway.interfaces import Run
from gateway.mailboxes.owners import AllMailboxes
from gateway.mailboxes.recipients import Recipients
from gateway.mailboxes.remembered import Remembered
from gateway.model import Account, Usage
from gateway.observe.failures import meets_all

T = TypeVar("T")
R = TypeVar("R")


@frozen
class Counted:
    """The usage of a mailbox, or why it is unknown."""

    account: Account
    usage: Usage | None
    problem: str = ""


AT_ONCE = 16
"""Mailboxes that are looked at together: threads hand over their answers in batches, and the
work of sessions waits behind few of them."""


async def some_at_once(
    work: Callable[[T], Coroutine[Any, Any, R]], items: Sequence[T], run: Run
) -> list[R]:
    """The result of ``work`` for each of many; fails as the first that fails, or as ``run``."""
    results: list[R] = []
    for start in range(0, len(items), AT_ONCE):
        if start:
            # Usage may be known: without a thread's answer all would be one turn of the reactor.
            await run(_nothing)
        asked = [Deferred.fromCoroutine(work(one)) for one in items[start : start + AT_ONCE]]
        try:
            results += await gatherResults(asked, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
    return results


def _nothing() -> None:
    pass


class Survey:
    """The mailboxes of a server."""

    def __init__(
        self,
        mailboxes: AllMailboxes,
        recipients: Recipients,
        run: Run,
        now: Callable[[], float],
    ) -> None:
        """``now`` in seconds, of any clock."""
        self._mailboxes = mailboxes
        self._recipients = recipients
        self._run = run
        self._listed = Remembered(self._list, now)
        self._counted = Remembered(self._count_all, now)
        self._owners = Remembered(self._find_owners, now)

    async def listed(self) -> Sequence[Account]:
        """One account per mailbox, by name; other attributes may be missing.

        Fails as a directory or a store does.
        """
        return await self._listed.get()

    async def counted(self) -> Sequence[Counted]:
        """The usage of all mailboxes; fails as ``listed``, and if none can be read."""
        return await self._counted.get()

    async def owners(self) -> Mapping[str, Account]:
        """The accounts of the directory, by mailbox; fails as ``listed``."""
        return await self._owners.get()

    async def count(self, account: Account) -> Counted:
        """The usage of one mailbox, now; fails if that of every other mailbox would fail too."""
        try:
            return Counted(account, await self._recipients.usage(account))
        except GatewayError as error:
            if meets_all(error):
                raise
            return Counted(account, None, str(error))

    def forget(self) -> None:
        """The mailboxes have changed: the next one who asks gets them anew."""
        for known in (self._listed, self._counted):
            known.forget()

    async def _list(self) -> Sequence[Account]:
        found = await self._mailboxes.listed()

        def accounts() -> Sequence[Account]:
            return [
                Account(name=one, mailbox=one) if isinstance(one, str) else one for one in found
            ]

        return await self._run(accounts)

    async def _count_all(self) -> Sequence[Counted]:
        return await some_at_once(self.count, await self._list(), self._run)

    async def _find_owners(self) -> Mapping[str, Account]:
        owners = await self._mailboxes.owners()
        return await self._run(lambda: {one.mailbox: one for one in owners})
