"""Accounts in memory: for tests and demonstrations."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from gateway.errors import BadCredentials
from gateway.interfaces import IDirectory
from gateway.model import Account


@implementer(IDirectory)
class MemoryDirectory:
    """Names with plain passwords."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = {name: text.encode("utf-8") for name, text in passwords.items()}

    def find(self, login: str) -> Deferred[Account | None]:
        """The account of that name."""
        known = login in self._passwords
        return succeed(Account(name=login, mailbox=login) if known else None)

    def verify(self, login: str, password: bytes) -> Deferred[Account]:
        """The account, if the password is right."""
        right = hmac.compare_digest(self._passwords.get(login, b""), password)
        if not (right and password):
            return fail(BadCredentials(f"no {login} with that password"))
        return succeed(Account(name=login, mailbox=login))
