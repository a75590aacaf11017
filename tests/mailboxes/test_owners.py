"""Which mailboxes there are, and whose."""

from __future__ import annotations

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from gateway.directory.memory import MemoryDirectory
from gateway.errors import HomedElsewhere
from gateway.mailboxes.owners import AllMailboxes
from gateway.model import Account
from gateway.store.memory import MemoryStore
from long_lists import Threads

ALICE = Account(name="alice", mailbox="m-1", home="/home/alice")
ACCOUNTS = (
    ALICE,
    Account(name="bob", mailbox="m-2", home="/home/bob"),
    Account(name="carol", mailbox="m-3", home="/home/carol", host="other"),
    # His mailbox has been named twice.
    Account(name="dave", mailbox="m-1", home="/home/dave"),
)


class EveryoneTests(SynchronousTestCase):
    def all_mailboxes(self, *, lists: bool) -> AllMailboxes:
        directory = MemoryDirectory({}, {one.name: one for one in ACCOUNTS})
        store = MemoryStore()
        store.lists_mailboxes = lists
        for name in ("m-1", "m-3", "m-9"):
            store.add(name)
        return AllMailboxes(directory, store, maybeDeferred, hosts={"here"})

    def told(self, all_mailboxes: AllMailboxes) -> list[Account]:
        return self.successResultOf(Deferred.fromCoroutine(all_mailboxes.accounts()))

    def test_a_store_knows_the_names_of_its_mailboxes(self) -> None:
        all_mailboxes = self.all_mailboxes(lists=True)
        self.assertEqual([one.mailbox for one in self.told(all_mailboxes)], ["m-1", "m-3", "m-9"])

    def test_in_homes_they_are_the_directorys_that_are_here_and_there_once(self) -> None:
        self.assertEqual(self.told(self.all_mailboxes(lists=False)), [ALICE])

    def test_nobody_here_owns_what_another_server_has(self) -> None:
        all_mailboxes = self.all_mailboxes(lists=True)
        for mailbox, name in {"m-2": "bob", "m-3": None, "m-9": None}.items():
            owner = self.successResultOf(Deferred.fromCoroutine(all_mailboxes.owner(mailbox)))
            self.assertEqual(owner and owner.name, name)

    def test_what_another_server_has_is_not_taken_for_nobodys(self) -> None:
        listing, homes = (self.all_mailboxes(lists=lists) for lists in (True, False))
        left_here = self.successResultOf(Deferred.fromCoroutine(listing.existing("m-3")))
        self.assertEqual((left_here.name, left_here.host), ("carol", "other"))
        nobodys = self.successResultOf(Deferred.fromCoroutine(listing.existing("m-9")))
        self.assertEqual(nobodys, Account(name="m-9", mailbox="m-9"))
        for find in (homes.find, homes.existing):
            asked = Deferred.fromCoroutine(find("m-3"))
            said = str(self.failureResultOf(asked, HomedElsewhere).value)
            self.assertIn("the mailbox of carol is on other", said)

    def test_a_listed_owner_has_all_attributes_of_the_account(self) -> None:
        for lists in (True, False):
            all_mailboxes = self.all_mailboxes(lists=lists)
            nobody = Account(name="m-9", mailbox="m-9")
            for account in (self.told(all_mailboxes)[0], nobody):
                whole = self.successResultOf(Deferred.fromCoroutine(all_mailboxes.whole(account)))
                known = account is not nobody
                self.assertEqual((whole.mailbox, whole.home is not None), (account.mailbox, known))


class LongListsTests(SynchronousTestCase):
    """With 100,000 mailboxes each list of them took every session 0.3 s."""

    def found(self, *, lists: bool) -> None:
        threads, directory, store = Threads(), MemoryDirectory({}), MemoryStore()
        store.lists_mailboxes = lists
        found = [Account(name=f"u{number}", mailbox=f"u{number}") for number in range(3)]
        names = [one.name for one in found]
        directory.accounts = lambda: succeed(threads.long(found))  # type: ignore[method-assign]
        store.names = lambda: succeed(threads.long(names))  # type: ignore[method-assign]
        store.present = lambda some: succeed(threads.long(list.copy(some)))  # type: ignore[method-assign,arg-type]
        mailboxes = AllMailboxes(directory, store, threads.run, hosts={"here"})
        asked = (
            (mailboxes.names(), names),
            (mailboxes.accounts(), found),
            (mailboxes.owners(), found),
        )
        for answer, wanted in asked:
            said = self.successResultOf(Deferred.fromCoroutine(answer))
            self.assertEqual(list.copy(said), wanted)

    def test_only_threads_go_through_all_mailboxes_or_accounts(self) -> None:
        self.found(lists=True)
        self.found(lists=False)
