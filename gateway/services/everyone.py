"""All mailboxes there are, for what goes through all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from twisted.internet.defer import Deferred

from gateway.interfaces import IDirectory
from gateway.model import Account

Everyone = Callable[[], Deferred[list[Account]]]
"""Fails as a directory or a store does."""


class Names(Protocol):
    """What a store can tell."""

    def names(self) -> Deferred[list[str]]:
        """The names of its mailboxes."""


def everyone(
    directory: IDirectory, store: Names, *, in_homes: bool, hosts: Collection[str]
) -> Everyone:
    """The store's mailboxes, of which it knows the names; ``in_homes``: the directory's.

    ``hosts``: this server's names; empty: every mailbox is here.
    """

    def named(names: list[str]) -> list[Account]:
        return [Account(name=name, mailbox=name) for name in names]

    def here(accounts: list[Account]) -> list[Account]:
        return [account for account in accounts if not account.is_elsewhere(hosts)]

    if in_homes:
        return lambda: directory.accounts().addCallback(here)
    return lambda: store.names().addCallback(named)
