"""Reading what is new gives what a whole scan gives, and costs what is new."""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import islice
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import MailboxUnusable
from gateway.interfaces import IMaildrop
from gateway.model import Account
from gateway.store.maildir.listing.additions import find_additions
from gateway.store.maildir.listing.reader import Reader
from gateway.store.maildir.listing.snapshot import MaildirOptions, Snapshot
from gateway.store.maildir.store import MaildirStore
from gateway.store.maildir.uids.uidlist import NAME, UidList
from gateway.testing.store_contract import run_now
from support.calls import calls_of, system_calls_of

LONG_AGO = 1_600_000_000


class Mailbox:
    """A Maildir in which each change has a time of its own, long ago."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.changes = 0
        self.removed: set[str] = set()
        """Base names of removed messages: a new file of such a name may be another message."""
        for folder in ("tmp", "new", "cur"):
            os.makedirs(f"{path}/{folder}")
        self.changed()

    def changed(self, folders: tuple[str, ...] = ("new", "cur")) -> None:
        self.changes += 1
        for folder in folders:
            os.utime(f"{self.path}/{folder}", (0, LONG_AGO + self.changes))

    def files(self) -> list[str]:
        return sorted(
            f"{folder}/{name}"
            for folder in ("new", "cur")
            for name in os.listdir(f"{self.path}/{folder}")
        )

    def deliver(self, name: str = "", folder: str = "new", octets: int = 1) -> None:
        name = name or f"{LONG_AGO + self.changes}.M{self.changes}P1.host,S={octets + 1}"
        path = f"{self.path}/{folder}/{name}"
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.write(b"x" * octets + b"\n")
            os.utime(path, (LONG_AGO, LONG_AGO))
        self.changed((folder,))

    def list_lines(self, *lines: str) -> None:
        """Append to the uidlist, as other programs do."""
        with open(f"{self.path}/{NAME}", "a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def next_uid(self) -> int:
        uidlist = UidList(f"{self.path}/{NAME}")
        uidlist.refresh()
        return uidlist.next_uid


def act(mailbox: Mailbox, what: str, which: int) -> None:
    """One change by another program."""
    files = mailbox.files()
    file = files[which % len(files)] if files else ""
    name, there = file.partition("/")[2], f"{mailbox.path}/{file}"
    base = name.partition(":")[0]
    match what:
        case "deliver":
            mailbox.deliver(octets=which + 1)
        case "deliver to cur":
            mailbox.deliver(f"{LONG_AGO}.C{mailbox.changes}.host:2,", "cur", which)
        case "copy":
            mailbox.deliver(f"report{which % 3}.eml")
        case "deliver, listed":
            name = f"{LONG_AGO}.L{mailbox.changes}.host"
            if os.path.exists(f"{mailbox.path}/{NAME}"):
                extra = ("", " W7", " P77", " O3")[which % 4]
                mailbox.list_lines(f"{mailbox.next_uid()}{extra} :{name}")
            mailbox.deliver(name)
        case "list only":
            late = f"{LONG_AGO}.N{which}.host"
            if os.path.exists(f"{mailbox.path}/{NAME}") and not any(late in one for one in files):
                mailbox.list_lines(f"{mailbox.next_uid()} :{late}")
        case "come late":
            mailbox.deliver(f"{LONG_AGO}.N{which}.host")
        case "mark" if file:
            os.rename(there, f"{mailbox.path}/cur/{base}:2,{'S' * (which % 2)}F")
            mailbox.changed()
        case "remove" if file:
            os.unlink(there)
            mailbox.removed.add(base)
            mailbox.changed()
        case "rewrite the list":
            uidlist = UidList(f"{mailbox.path}/{NAME}")
            uidlist.refresh()
            if uidlist.uids:
                bases = {file.partition("/")[2].partition(":")[0] for file in files}
                uidlist.move_ahead(which % 2, lambda _: bases)
        case _:
            pass


ACTS = (
    "deliver",
    "deliver, listed",
    "deliver to cur",
    "copy",
    "list only",
    "come late",
    "mark",
    "remove",
    "discard",
    "rewrite the list",
)


def discard(mailbox: Mailbox, reader: Reader, which: int) -> None:
    """A session removes a message."""
    if files := mailbox.files():
        base = files[which % len(files)].partition("/")[2].partition(":")[0]
        act(mailbox, "remove", which)
        reader.forget([base])


def shown(snapshot: Snapshot) -> list[tuple[str, int, str]]:
    listing = snapshot.listing
    return list(zip(listing.uids, listing.sizes, snapshot.files, strict=True))


class AdditionsTests(SynchronousTestCase):
    @given(
        st.lists(
            st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 7)), max_size=4), max_size=8
        )
    )
    def test_a_reading_of_what_is_new_shows_what_a_whole_scan_shows(
        self, rounds: list[list[tuple[str, int]]]
    ) -> None:
        path = tempfile.mkdtemp(dir=os.path.abspath("."))
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        mailbox = Mailbox(f"{path}/alice")
        reader, snapshot = Reader(mailbox.path, MaildirOptions(create=False)), None
        ids: dict[str, str] = {}
        for acts in [[("deliver", 1)], *rounds]:
            for what, which in acts:
                if what == "discard":
                    discard(mailbox, reader, which)
                act(mailbox, what, which)
            snapshot = reader.read(snapshot)
            whole = Reader(mailbox.path, MaildirOptions(create=False)).read(None)
            self.assertEqual(shown(snapshot), shown(whole))
            self.assertEqual(snapshot.listing.scan_lines, whole.listing.scan_lines)
            self.assertEqual(snapshot.listing.uid_lines, whole.listing.uid_lines)
            self.assertEqual(snapshot.listing.octets, whole.listing.octets)
            self.assertEqual(list(snapshot.forms), list(whole.forms))
            now = dict(zip(snapshot.bases, snapshot.listing.uids, strict=True))
            for base in (ids.keys() & now.keys()) - mailbox.removed:
                self.assertEqual(ids[base], now[base])
            ids = now
            mailbox.removed.clear()

    def _folders_listed(self, reader: Reader, before: Snapshot) -> tuple[int, Snapshot]:
        with mock.patch("os.scandir", wraps=os.scandir) as scandir:
            return (snapshot := reader.read(before)) and (scandir.call_count, snapshot)

    def test_a_new_message_costs_a_look_at_new_only(self) -> None:
        mailbox = Mailbox(f"{self.mktemp()}/alice")
        for number in range(50):
            mailbox.deliver(f"{LONG_AGO}.C{number}.host:2,S", "cur")
        reader = Reader(mailbox.path, MaildirOptions(create=False))
        first = reader.read(None)
        mailbox.deliver()
        folders, second = self._folders_listed(reader, first)
        self.assertEqual((folders, len(second.bases)), (1, 51))
        folders, third = self._folders_listed(reader, second)
        self.assertEqual(folders, 1)
        self.assertIs(third, second)

    def test_a_message_marked_as_read_costs_no_new_listing(self) -> None:
        mailbox = Mailbox(f"{self.mktemp()}/alice")
        mailbox.deliver()
        reader = Reader(mailbox.path, MaildirOptions(create=False))
        first = reader.read(None)
        act(mailbox, "mark", 0)
        folders, second = self._folders_listed(reader, first)
        self.assertEqual(folders, 2)
        self.assertIs(second, first)
        self.assertTrue(second.files[0].startswith("cur/"))

    def test_a_message_that_another_process_marks_meanwhile_is_not_missed(self) -> None:
        mailbox = Mailbox(f"{self.mktemp()}/alice")
        mailbox.deliver(f"{LONG_AGO}.C1.host:2,S", "cur")
        reader = Reader(mailbox.path, MaildirOptions(create=False))
        first = reader.read(None)
        mailbox.deliver(f"{LONG_AGO}.N1.host")

        def moved(*arguments: object, **more: bool) -> object:
            if os.listdir(f"{mailbox.path}/new"):
                act(mailbox, "mark", mailbox.files().index(f"new/{LONG_AGO}.N1.host"))
            return find_additions(*arguments, **more)  # type: ignore[arg-type]

        with mock.patch("gateway.store.maildir.listing.reader.find_additions", moved):
            second = reader.read(first)
        self.assertEqual(second.bases, [f"{LONG_AGO}.C1.host", f"{LONG_AGO}.N1.host"])

    def test_a_message_that_a_session_removed_costs_no_scan_of_the_others(self) -> None:
        mailbox = Mailbox(f"{self.mktemp()}/alice")
        for number in range(50):
            mailbox.deliver(f"{LONG_AGO}.C{number:02}.host:2,S", "cur")
        mailbox.deliver()
        reader = Reader(mailbox.path, MaildirOptions(create=False))
        first = reader.read(None)
        os.unlink(f"{mailbox.path}/{first.files[50]}")
        reader.forget(first.bases[50:])
        mailbox.deliver()
        folders, second = self._folders_listed(reader, first)
        self.assertEqual(folders, 1)
        self.assertEqual(second.bases[:50], first.bases[:50])
        self.assertEqual(second.listing.uids[:50], first.listing.uids[:50])
        self.assertGreater(int(second.listing.uids[50]), int(first.listing.uids[50]))

    def test_what_sessions_removed_before_the_last_reading_costs_nothing(self) -> None:
        mailbox = Mailbox(f"{self.mktemp()}/alice")
        bases = [f"{LONG_AGO}.C{number:03}.host" for number in range(200)]
        mailbox.list_lines(f"3 V{LONG_AGO} N1000 G{'0' * 32}")
        for uid, base in enumerate(bases, 1):
            mailbox.deliver(f"{base}:2,S", "cur")
            mailbox.list_lines(f"{uid} :{base}")
        reader = Reader(mailbox.path, MaildirOptions(create=False))
        snapshot, left = reader.read(None), iter(bases)

        def remove(count: int = 1) -> None:
            nonlocal snapshot
            gone = list(islice(left, count))
            for base in gone:
                os.unlink(f"{mailbox.path}/cur/{base}:2,S")
            mailbox.changed()
            reader.forget(gone)
            snapshot = reader.read(snapshot)

        remove(190)
        calls = calls_of(remove)
        # One that knows of none of these.
        reader = Reader(mailbox.path, MaildirOptions(create=False))
        snapshot = reader.read(None)
        self.assertLess(calls, calls_of(remove) + 190)
        self.assertEqual(snapshot.bases, bases[196:])

    def test_a_new_message_of_a_removed_ones_name_is_told_from_it_after_a_reading_failed(
        self,
    ) -> None:
        mailbox = Mailbox(f"{self.mktemp()}/alice")
        mailbox.deliver("report.eml:2,", "cur")
        reader = Reader(mailbox.path, MaildirOptions(create=False))
        first = reader.read(None)
        file, uidlist = f"{mailbox.path}/{first.files[0]}", f"{mailbox.path}/{NAME}"
        os.unlink(file)
        reader.forget(first.bases)
        os.rename(uidlist, f"{uidlist}.away")
        os.mkdir(uidlist)
        self.assertRaises(MailboxUnusable, reader.read, first)
        os.rmdir(uidlist)
        os.rename(f"{uidlist}.away", uidlist)
        name = os.path.basename(file)
        mailbox.deliver(name, "cur")
        second = reader.read(first)
        self.assertNotEqual(list(second.listing.uids), list(first.listing.uids))

    def test_a_uidlist_that_is_as_it_was_is_not_read_again(self) -> None:
        mailbox = Mailbox(f"{self.mktemp()}/alice")
        mailbox.deliver()
        reader = Reader(mailbox.path, MaildirOptions(create=False))
        first = reader.read(None)
        act(mailbox, "mark", 0)
        self.assertEqual(system_calls_of(lambda: reader.read(first))["pread"], 0)
        mailbox.list_lines(f"{mailbox.next_uid()} :{LONG_AGO}.N1.host")
        self.assertGreater(system_calls_of(lambda: reader.read(first))["pread"], 0)

    def test_after_a_session_has_marked_what_it_read_a_new_message_costs_a_look_at_new_only(
        self,
    ) -> None:
        mailbox = Mailbox(f"{self.mktemp()}/alice")
        mailbox.deliver()
        store = MaildirStore(os.path.dirname(mailbox.path), "{name}", run_now)

        def look() -> tuple[int, IMaildrop]:
            with mock.patch("os.scandir", wraps=os.scandir) as scandir:
                maildrop, _ = self.successResultOf(store.open(Account("alice", "alice"), None))
            return scandir.call_count, maildrop

        self.assertEqual(look()[0], 2)
        mailbox.deliver()
        folders, maildrop = look()
        self.assertEqual(folders, 1)
        self.successResultOf(maildrop.abandon([0, 1]))
        mailbox.changed()
        self.assertEqual(look()[0], 2)
        mailbox.deliver()
        folders, maildrop = look()
        self.assertEqual((folders, len(self.successResultOf(maildrop.listing()))), (1, 3))
