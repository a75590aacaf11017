"""All mailboxes and their owners, for jobs that go through all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from typing import Protocol

from twisted.logger import Logger

from gateway.interfaces import IDirectory, IMailboxes
from gateway.model import Account

log = Logger()


class Owners(Protocol):
    """A directory that knows the owner of a mailbox."""

    def owner(self, mailbox: str) -> Awaitable[Account | None]:
        """The account; None: no owner, or another server has the mailbox."""


class AllMailboxes:
    """The mailboxes that the store lists; if it lists none, those of the directory.

    All methods fail as a directory or a store does.
    """

    def __init__(self, directory: IDirectory, store: IMailboxes, *, hosts: Collection[str]) -> None:
        """``hosts``: this server's names; empty: every mailbox is here."""
        self._directory = directory
        self._store = store
        self._hosts = hosts

    async def accounts(self) -> list[Account]:
        """One account per existing mailbox, by name; other attributes may be missing."""
        if self._store.lists_mailboxes:
            return [Account(name=name, mailbox=name) for name in sorted(await self._store.names())]
        told: list[Account] = await self._directory.accounts()
        here = [one for one in told if not one.is_elsewhere(self._hosts)]
        found: dict[str, Account] = {}
        for account in sorted(await self._store.present(here), key=lambda one: one.mailbox):
            if found.setdefault(account.mailbox, account) is not account:
                log.warn("{name}: several accounts have this mailbox", name=account.mailbox)
        return list(found.values())

    async def names(self) -> list[str]:
        """The names of all mailboxes, sorted."""
        return [account.mailbox for account in await self.accounts()]

    async def owner(self, mailbox: str) -> Account | None:
        """The owner of a mailbox; None: it has none, or another server has the mailbox."""
        account: Account | None = await self._directory.owner(mailbox)
        return None if account is None or account.is_elsewhere(self._hosts) else account

    async def find(self, mailbox: str) -> Account | None:
        """As ``owner``; if the store lists mailboxes, also for mailboxes of deleted accounts."""
        account = await self.owner(mailbox)
        if account is None and self._store.lists_mailboxes:
            account = Account(name=mailbox, mailbox=mailbox)
        return account

    async def whole(self, account: Account) -> Account:
        """One of ``accounts`` with all its attributes."""
        if not self._store.lists_mailboxes:
            return account
        return await self._directory.owner(account.mailbox) or account
