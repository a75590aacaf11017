"""All mailboxes and their owners, for jobs that go through all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Sequence
from typing import Protocol

from twisted.logger import Logger

from gateway.errors import HomedElsewhere, NoSuchMailbox
from gateway.interfaces import IDirectory, IMailboxes, Run
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

    def __init__(
        self, directory: IDirectory, store: IMailboxes, run: Run, *, hosts: Collection[str]
    ) -> None:
        """``run`` does what takes time by the number of mailboxes.

        ``hosts``: this server's names; empty: every mailbox is here.
        """
        self._directory = directory
        self._store = store
        self._run = run
        self._hosts = hosts

    async def accounts(self) -> list[Account]:
        """One account per existing mailbox, by name; other attributes may be missing."""
        if self._store.lists_mailboxes:
            names = await self._store.names()
            return await self._run(lambda: [Account(name=name, mailbox=name) for name in names])
        present = await self._store.present(await self.owners())
        return await self._run(lambda: _each_once(present))

    async def names(self) -> list[str]:
        """The names of all mailboxes, sorted."""
        if self._store.lists_mailboxes:
            return await self._store.names()
        accounts = await self.accounts()
        return await self._run(lambda: [account.mailbox for account in accounts])

    async def listed(self) -> list[str] | list[Account]:
        """As ``accounts``: where the store lists mailboxes their names, which cost less."""
        return await self._store.names() if self._store.lists_mailboxes else await self.accounts()

    async def owners(self) -> list[Account]:
        """All accounts of the directory with a mailbox here, by one request."""
        told: list[Account] = await self._directory.accounts()
        return await self._run(lambda: [one for one in told if not one.is_elsewhere(self._hosts)])

    async def existing(self, mailbox: str) -> Account:
        """The owner of a mailbox, or an account that has only its name; creates none.

        Fails as ``find``; raises ``NoSuchMailbox`` also if only its owner exists.
        """
        account = await self.find(mailbox)
        if account is None:
            fault = "no account here has it, and only the directory knows its home: check the name"
            raise NoSuchMailbox(f"there is no mailbox {mailbox!r}: {fault}")
        if not await self._store.present([account]):
            raise NoSuchMailbox(f"there is no mailbox {mailbox!r}: check the name")
        return account

    async def account(self, mailbox: str) -> Account | None:
        """The account that has the mailbox, here or at another server; None: nobody has."""
        account: Account | None = await self._directory.owner(mailbox)
        return account

    async def owner(self, mailbox: str) -> Account | None:
        """The owner of a mailbox; None: it has none, or another server has the mailbox."""
        account = await self.account(mailbox)
        return None if account is None or account.is_elsewhere(self._hosts) else account

    async def find(self, mailbox: str) -> Account | None:
        """The account that mail of this name belongs to, with its policy; None: none can be here.

        If the store lists mailboxes, also of those of deleted accounts, and of those that another
        server has now and that were left here.  Otherwise raises ``HomedElsewhere`` for the latter.
        """
        account = await self.account(mailbox)
        if self._store.lists_mailboxes:
            return account or Account(name=mailbox, mailbox=mailbox)
        if account is not None and account.is_elsewhere(self._hosts):
            raise HomedElsewhere(f"the mailbox of {account.name} is on {account.host}")
        return account

    async def whole(self, account: Account) -> Account:
        """One of ``accounts`` with all its attributes."""
        if not self._store.lists_mailboxes:
            return account
        return await self.account(account.mailbox) or account


def _each_once(accounts: Sequence[Account]) -> list[Account]:
    """One account per mailbox, by name."""
    found: dict[str, Account] = {}
    for account in sorted(accounts, key=lambda one: one.mailbox):
        if found.setdefault(account.mailbox, account) is not account:
            log.warn("{name}: several accounts have this mailbox", name=account.mailbox)
    return list(found.values())
