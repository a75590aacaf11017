"""What an operator flushes is asked for anew: accounts of LDAP, lists of messages of Maildirs."""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from gateway.directory.entry_map import EntryMap, Found
from gateway.directory.ldap import LdapDirectory
from gateway.directory.ldap_accounts import Search
from gateway.directory.ldap_servers import Reach
from gateway.interfaces import ICache
from gateway.model import Account
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import run_now

BOB, CAROL = (Account(name=name, mailbox=name) for name in ("bob", "carol"))


class Entries:
    """LDAP, asked by its directory."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find(self, login: str) -> Found:
        """An entry."""
        self.asked.append(login)
        account = BOB if login in ("bob", "bob@example.org") else CAROL
        return Found(f"uid={account.name}", account, [])

    recipient = find


class LdapCacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        reach = Reach(("ldap://127.0.0.1:1",))
        self.directory = LdapDirectory(reach, Search("dc=e"), EntryMap(), run_now, cache_ttl=60)
        self.entries = Entries()
        self.directory.entries = self.entries  # type: ignore[assignment]
        self.find_all()

    def find_all(self) -> None:
        """Ask for accounts by all their names."""
        for name in ("bob", "bob@example.org", "carol"):
            self.successResultOf(self.directory.find(name))
        self.successResultOf(self.directory.recipient("bob@example.org"))

    def test_every_name_of_one_account_is_searched_again_and_no_other(self) -> None:
        verifyObject(ICache, self.directory)
        self.assertEqual(self.directory.forget(BOB), 3)
        self.assertEqual(self.directory.forget(BOB), 0)
        before = len(self.entries.asked)
        self.find_all()
        self.assertEqual(self.entries.asked[before:], ["bob", "bob@example.org", "bob@example.org"])

    def test_all_accounts_are_searched_again(self) -> None:
        self.assertEqual(self.directory.forget(None), 4)
        before = len(self.entries.asked)
        self.find_all()
        self.assertEqual(len(self.entries.asked) - before, 4)


class MaildirCacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = self.mktemp()
        for account in (BOB, CAROL):
            os.makedirs(f"{self.root}/{account.mailbox}")
        self.store: Any = MaildirStore(os.path.abspath(self.root), "{name}", run_now)
        for account in (BOB, CAROL):
            self.read(account)

    def read(self, account: Account) -> int:
        """Open a mailbox; how many messages it has."""
        maildrop, give_back = self.successResultOf(self.store.open(account, None))
        listing = self.successResultOf(maildrop.listing())
        give_back()
        return len(listing)

    def test_the_list_of_one_mailbox_or_of_all_is_dropped_and_read_again(self) -> None:
        verifyObject(ICache, self.store)
        self.assertEqual([self.store.forget(BOB), self.store.forget(BOB)], [1, 0])
        self.assertEqual(self.read(BOB), 0)
        self.assertEqual([self.store.forget(None), self.store.forget(None)], [2, 0])

    def test_an_open_session_goes_on_with_what_it_has(self) -> None:
        maildrop, give_back = self.successResultOf(self.store.open(BOB, None))
        self.store.forget(BOB)
        self.assertEqual(len(self.successResultOf(maildrop.listing())), 0)
        self.successResultOf(maildrop.finish([], []))
        give_back()

    def test_a_name_that_no_mailbox_can_have_is_cached_nowhere(self) -> None:
        self.assertEqual(self.store.forget(Account(name="x", mailbox="../x")), 0)
