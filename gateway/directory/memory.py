"""Accounts in memory: for tests and demonstrations."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from gateway.errors import BadCredentials, LoginDisabled, UnknownLogin, WrongPassword
from gateway.interfaces import IDirectory
from gateway.model import Account

__all__ = ["LoginIsMailbox", "MemoryDirectory"]


@implementer(IDirectory)
class MemoryDirectory:
    """Names with plain passwords."""

    def __init__(
        self, passwords: Mapping[str, str], accounts: Mapping[str, Account] | None = None
    ) -> None:
        """``accounts``: accounts that need more than a name; other names are their mailboxes."""
        self._passwords = {name: text.encode("utf-8") for name, text in passwords.items()}
        self._accounts = {name: Account(name=name, mailbox=name) for name in passwords}
        self._accounts.update(accounts or {})

    def find(self, login: str) -> Deferred[Account | None]:
        """The account of that name."""
        return succeed(self._accounts.get(login))

    def recipient(self, address: str) -> Deferred[Account | None]:
        """The account with this address or name."""
        for account in self._accounts.values():
            if address == account.name or address in account.addresses:
                return succeed(account)
        return succeed(None)

    def owner(self, mailbox: str) -> Deferred[Account | None]:
        """The account that owns the mailbox."""
        owners = (one for one in self._accounts.values() if one.mailbox == mailbox)
        return succeed(next(owners, None))

    def accounts(self) -> Deferred[list[Account]]:
        """All accounts."""
        return succeed(list(self._accounts.values()))

    def verify(self, login: str, password: bytes) -> Deferred[Account]:
        """The account, if the password is right."""
        account = self._accounts.get(login)
        right = hmac.compare_digest(self._passwords.get(login, b""), password)
        if account is None:
            return fail(UnknownLogin(f"{login} is not in the directory"))
        if not (right and password):
            return fail(WrongPassword(f"wrong password for {login}"))
        if not account.may_log_in:
            return fail(LoginDisabled(f"{login} may not log in"))
        return succeed(account)


@implementer(IDirectory)
class LoginIsMailbox:
    """Every name is an account with a mailbox of that name: for checkers of other packages."""

    def find(self, login: str) -> Deferred[Account | None]:
        """The account of that name."""
        addresses = (login,) if "@" in login else ()
        return succeed(Account(name=login, mailbox=login, addresses=addresses))

    def recipient(self, address: str) -> Deferred[Account | None]:
        """The account of that name."""
        return self.find(address)

    def owner(self, mailbox: str) -> Deferred[Account | None]:
        """The account of that name."""
        return self.find(mailbox)

    def accounts(self) -> Deferred[list[Account]]:
        """Accounts cannot be listed."""
        return succeed([])

    def verify(self, login: str, password: bytes) -> Deferred[Account]:  # noqa: ARG002
        """Fails: another checker verifies passwords."""
        return fail(BadCredentials(f"no password of {login} is known here"))
