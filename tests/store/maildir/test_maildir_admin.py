"""Renaming, deleting and counting whole Maildirs, with what other programs put into them."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Any

from test_store_contract import MaildirBench
from twisted.trial.unittest import SynchronousTestCase

from disks import no_room
from gateway.errors import (
    BadMailboxName,
    GatewayError,
    MailboxExists,
    MailboxUnusable,
    MaildropBusy,
    NotSupported,
    StoreDown,
)
from gateway.model import Account, Contents, Limits, Reason, Removed, Usage
from gateway.state.memory import MemoryState
from gateway.store.maildir.folders.dotlock import flocked
from gateway.store.maildir.folders.moves import move_by_look
from gateway.store.maildir.folders.place import opened
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.removal.deletion import DEEPEST, TRIES
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import ALICE, BOB, admit, run_now

CAROL = Account(name="carol@example.org", mailbox="carol@example.org")
DESK = Reason(operator="uid 0")
MAIL = b"Subject: x\r\nMessage-ID: <1@example.org>\r\n\r\nx\r\n"


class Bench(MaildirBench):
    """Alice's Maildir, and Bob's, with a state that keeps high-water marks."""

    def __init__(self, test: SynchronousTestCase, **options: Any) -> None:
        super().__init__(test)
        self.path = Path(self.maildir)
        self.state = MemoryState()
        self.reading = MaildirOptions(
            create=False, lock_timeout=0.2, high_water=self.state.high_water
        )
        self.options = options
        self.store = self.make("{name}")

    def make(self, template: str, root: str = "") -> MaildirStore:
        """A store, as in another process."""
        return MaildirStore(
            root or self.root,
            template,
            run_now,
            reading=self.reading,
            admit=admit,
            audit=self.trail,
            **self.options,
        )

    def folder(self, name: str, *messages: str) -> Path:
        """A folder that another program has made, with messages."""
        for kind in ("tmp", "new", "cur"):
            (self.path / name / kind).mkdir(parents=True)
        for message in messages:
            (self.path / name / "cur" / message).write_bytes(MAIL)
        return self.path / name


class AdminCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench(self)
        self.path = self.bench.path
        self.target = self.path.with_name(CAROL.mailbox)

    def ask(self, what: str, *arguments: Any, store: MaildirStore | None = None) -> Any:
        return self.successResultOf(getattr(store or self.bench.store, what)(ALICE, *arguments))

    def refused(
        self,
        kind: type[GatewayError],
        what: str,
        *arguments: Any,
        store: MaildirStore | None = None,
    ) -> str:
        asked = getattr(store or self.bench.store, what)(ALICE, *arguments)
        return str(self.failureResultOf(asked, kind).value)


class RenameTests(AdminCase):
    def test_folders_flags_and_files_of_other_programs_go_along(self) -> None:
        self.bench.folder(".Sent", "1700000000.M1P1.host:2,S")
        self.bench.deliver(MAIL, "1700000001.M2P1.host:2,FS", folder="cur")
        (self.path / "subscriptions").write_text("Sent\n")
        self.ask("rename", CAROL)
        self.assertFalse(self.path.exists())
        names = sorted(str(path.relative_to(self.target)) for path in self.target.rglob("*:2,*"))
        self.assertEqual(
            names, [".Sent/cur/1700000000.M1P1.host:2,S", "cur/1700000001.M2P1.host:2,FS"]
        )
        self.assertEqual((self.target / "subscriptions").read_text(), "Sent\n")

    def test_the_high_water_mark_goes_along_and_stays_at_the_old_name(self) -> None:
        self.bench.state.high_water(str(self.path), 5000)
        self.ask("rename", CAROL)
        self.assertEqual(self.bench.state.high_water(str(self.path), 0), 5000)
        self.assertGreaterEqual(self.bench.state.high_water(str(self.target), 0), 5000)

    def test_a_path_may_be_absolute_and_have_slashes_that_it_does_not_need(self) -> None:
        root = os.path.abspath(self.mktemp())
        os.makedirs(f"{root}/mail")
        self.path.rename(f"{root}/mail/{ALICE.mailbox}")
        store = self.bench.make(f"{root}//mail/{{name}}/")
        self.ask("rename", CAROL, store=store)
        self.assertEqual(self.successResultOf(store.names()), [CAROL.mailbox])
        self.successResultOf(store.delete(CAROL, DESK))
        self.assertEqual(os.listdir(f"{root}/mail"), [])

    def test_directories_above_the_new_name_are_made(self) -> None:
        root = self.mktemp()
        store = self.bench.make("{domain}/{local}", root)
        os.makedirs(f"{root}/example.org")
        self.path.rename(f"{root}/example.org/alice")
        new = Account(name="alice@new.example", mailbox="alice@new.example")
        self.ask("rename", new, store=store)
        self.assertEqual(self.successResultOf(store.names()), ["alice@new.example"])

    def test_names_that_cannot_be_a_directory_are_refused(self) -> None:
        for name in ("", "a/b", "../x", ".hidden", "x\n", "x" * 300):
            self.refused(BadMailboxName, "rename", Account(name="x", mailbox=name))
        self.assertTrue((self.path / "cur").is_dir())

    def test_a_target_of_any_kind_is_never_replaced(self) -> None:
        self.target.mkdir()
        self.refused(MailboxExists, "rename", CAROL)
        self.target.rmdir()
        self.target.symlink_to("nowhere")
        self.refused(MailboxExists, "rename", CAROL)
        self.assertTrue((self.path / "cur").is_dir())

    def test_mailboxes_in_homes_are_not_renamed(self) -> None:
        store = self.bench.make("{home}/Maildir")
        account = Account(name="a", mailbox="a", home=os.path.abspath(self.bench.root))
        failed = self.failureResultOf(store.rename(account, CAROL), NotSupported)
        self.assertIn("in the directory", str(failed.value))

    def test_a_rename_waits_for_a_delivery_and_gives_up(self) -> None:
        with opened(str(self.path)) as place, flocked(place, timeout=1):
            self.refused(StoreDown, "rename", CAROL)
        self.ask("rename", CAROL)

    def test_a_rename_waits_for_dovecot_that_writes_the_uidlist_and_leaves_no_lock(self) -> None:
        lock = self.path / "dovecot-uidlist.lock"
        lock.write_text("4242:host")
        self.assertIn("dovecot-uidlist.lock", self.refused(StoreDown, "rename", CAROL))
        self.assertTrue((self.path / "cur").is_dir())
        lock.unlink()
        self.ask("rename", CAROL)
        self.assertEqual(list(self.target.glob("*.lock")), [])

    def test_a_lock_that_cannot_be_removed_does_not_deny_that_all_is_renamed(self) -> None:
        with no_room("unlink", "*.lock", errno.EIO):
            self.ask("rename", CAROL)
        self.assertTrue((self.target / "cur").is_dir())

    def test_who_waited_for_the_lock_of_a_renamed_mailbox_does_not_get_it(self) -> None:
        def sleep(_: float) -> None:
            os.close(self.held)
            self.path.rename(self.target)
            self.path.mkdir()

        self.held = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self.held, fcntl.LOCK_EX)
        with (
            self.assertRaises(FileNotFoundError),
            opened(str(self.path)) as place,
            flocked(place, timeout=1, sleep=sleep),
        ):
            self.fail("it has a lock that excludes nobody")

    def test_an_exclusive_session_keeps_its_mailbox_in_every_process(self) -> None:
        bench = Bench(self, exclusive=True)
        _, give_back = self.successResultOf(bench.store.open(ALICE, None))
        for store in (bench.store, bench.make("{name}")):
            for what, argument in (("rename", CAROL), ("delete", DESK)):
                self.assertIn("session", self.refused(MaildropBusy, what, argument, store=store))
        give_back()
        self.ask("rename", CAROL, store=bench.store)

    def test_on_a_file_system_without_the_right_rename_nothing_is_replaced(self) -> None:
        one, other = Path(self.mktemp()), Path(self.mktemp())
        one.mkdir()
        (other / "cur").mkdir(parents=True)
        with self.assertRaises(FileExistsError):
            move_by_look(str(one), str(other))
        (other / "cur").rmdir()
        other.rmdir()
        move_by_look(str(one), str(other))
        self.assertTrue(other.is_dir())
        self.assertFalse(one.exists())

    def test_mail_for_the_old_name_that_comes_later_is_never_lost_or_mixed(self) -> None:
        incoming = self.successResultOf(self.bench.store.receive(ALICE))
        self.successResultOf(incoming.write(MAIL))
        self.ask("rename", CAROL)
        self.failureResultOf(incoming.commit(ALICE, Limits()), GatewayError)
        self.successResultOf(incoming.close())
        self.assertEqual(self.successResultOf(self.bench.store.contents(CAROL)).total, Usage())


class DeleteTests(AdminCase):
    def lines(self) -> set[tuple[str, str]]:
        return {(line.action, line.uid) for line in self.bench.trail.lines}

    def test_mail_of_all_folders_goes_with_a_line_each(self) -> None:
        self.bench.folder(".Sent", "1700000000.M1P1.host:2,S", "1700000000.M2P1.host:2,")
        self.bench.folder(".Trash", "1700000000.M3P1.host:2,T")
        self.bench.folder("Nested/Deeper", "1700000000.M4P1.host:2,")
        self.bench.deliver(MAIL)
        told = self.ask("contents")
        self.assertEqual(told.folders, Usage(4 * len(MAIL), 4))
        self.assertEqual(self.ask("delete", DESK), told)
        self.assertFalse(self.path.exists())
        self.assertEqual(
            {line for line in self.lines() if "/" in line[1]},
            {
                ("discard", ".Sent/1700000000.M1P1.host"),
                ("discard", ".Sent/1700000000.M2P1.host"),
                ("discard", ".Trash/1700000000.M3P1.host"),
                ("discard", "Nested/Deeper/1700000000.M4P1.host"),
            },
        )
        self.assertEqual(len(self.bench.trail.lines), 5)

    def test_files_that_share_a_base_name_have_a_line_each(self) -> None:
        for name in ("a.eml:2,", "a.eml:2,S"):
            self.bench.deliver(MAIL, name, folder="cur")
        self.assertEqual(self.ask("delete", DESK).total.messages, 2)
        self.assertEqual(len(self.bench.trail.lines), 2)

    def test_links_of_a_user_lead_to_no_other_mail(self) -> None:
        self.bench.deliver(MAIL)
        outside = Path(self.mktemp())
        (outside / "cur").mkdir(parents=True)
        (outside / "cur" / "precious").write_bytes(MAIL)
        (self.path / ".Linked").symlink_to(outside)
        (self.path / "cur" / "linked").symlink_to(outside / "cur" / "precious")
        self.assertEqual(self.ask("delete", DESK).total.messages, 1)
        self.assertFalse(self.path.exists())
        self.assertEqual((outside / "cur" / "precious").read_bytes(), MAIL)

    def test_what_arrives_during_the_deletion_is_audited_too(self) -> None:
        self.bench.deliver(MAIL)
        late = ["1800000000.M1P1.host"]

        def audit(removed: Any) -> None:
            self.bench.trail(removed)
            if late:
                (self.path / "new" / late.pop()).write_bytes(MAIL)

        store = MaildirStore(
            self.bench.root, "{name}", run_now, reading=self.bench.reading, audit=audit
        )
        self.assertEqual(self.ask("delete", DESK, store=store).total.messages, 2)
        self.assertEqual(len(self.bench.trail.lines), 2)
        self.assertFalse(self.path.exists())

    def test_a_mailbox_that_mail_keeps_arriving_in_stays_and_it_is_said(self) -> None:
        self.bench.deliver(MAIL)
        count = iter(range(1000))

        def audit(removed: Any) -> None:
            self.bench.trail(removed)
            (self.path / "new" / f"18000000{next(count)}.M1P1.host").write_bytes(MAIL)

        store = MaildirStore(
            self.bench.root, "{name}", run_now, reading=self.bench.reading, audit=audit
        )
        said = self.refused(StoreDown, "delete", DESK, store=store)
        self.assertIn("mail keeps arriving", said)
        self.assertIn(f"{TRIES} messages", said)
        self.assertEqual(self.ask("delete", DESK).total.messages, 1)

    def test_a_deletion_that_fails_half_way_says_what_was_done(self) -> None:
        self.bench.folder(".Sent", "1700000000.M1P1.host:2,S")
        self.bench.deliver(MAIL)

        def audit(removed: Any) -> None:
            lines: list[Removed] = list(removed)
            if lines[0].uid.startswith(".Sent"):
                raise StoreDown("audit.log: disk broken")
            self.bench.trail(lines)

        store = MaildirStore(
            self.bench.root, "{name}", run_now, reading=self.bench.reading, audit=audit
        )
        said = self.refused(StoreDown, "delete", DESK, store=store)
        self.assertIn("disk broken; 1 messages of", said)
        self.assertIn("run it again", said)
        self.assertEqual(self.ask("contents").total.messages, 1)
        self.assertEqual(self.ask("delete", DESK).total.messages, 1)
        self.assertFalse(self.path.exists())

    def test_what_a_deletion_removed_before_it_failed_counts_no_more(self) -> None:
        self.bench.folder(".Sent", "1700000000.M1P1.host:2,S")
        self.bench.deliver(MAIL)
        self.assertEqual(self.ask("recalculate").after.messages, 2)

        def audit(removed: Any) -> None:
            lines: list[Removed] = list(removed)
            if lines[0].uid.startswith(".Sent"):
                raise StoreDown("audit.log: disk broken")

        store = MaildirStore(
            self.bench.root, "{name}", run_now, reading=self.bench.reading, audit=audit
        )
        self.refused(StoreDown, "delete", DESK, store=store)
        self.assertEqual(self.ask("usage").messages, 1)

    def test_a_delivery_that_waits_for_a_mailbox_that_goes_fails_and_may_be_retried(self) -> None:
        incoming = self.successResultOf(self.bench.store.receive(ALICE))
        self.successResultOf(incoming.write(MAIL))
        self.ask("delete", DESK)
        self.failureResultOf(incoming.commit(ALICE, Limits()), GatewayError)
        self.successResultOf(incoming.close())

    def test_directories_nested_without_end_are_refused_before_anything_goes(self) -> None:
        self.bench.deliver(MAIL)
        (self.path / "/".join(["d"] * (DEEPEST + 5))).mkdir(parents=True)
        self.assertIn("nested", self.refused(MailboxUnusable, "contents"))
        self.refused(MailboxUnusable, "delete", DESK)
        self.assertTrue((self.path / "cur").is_dir())

    def test_unique_ids_are_not_given_again_after_a_deletion(self) -> None:
        self.bench.deliver(MAIL)
        (before,) = [kept.uid for kept in self.ask("scan")]
        self.ask("delete", DESK)
        for kind in ("tmp", "new", "cur"):
            (self.path / kind).mkdir(parents=True)
        self.bench.deliver(MAIL)
        (after,) = [kept.uid for kept in self.ask("scan")]
        self.assertGreater(int(after), int(before))

    def test_what_another_program_holds_is_waited_for(self) -> None:
        self.bench.deliver(MAIL)
        taken, done = threading.Event(), threading.Event()

        def hold() -> None:
            with opened(str(self.path)) as place, flocked(place, timeout=1):
                taken.set()
                done.wait(10)

        other = threading.Thread(target=hold)
        other.start()
        taken.wait(10)
        try:
            self.refused(StoreDown, "delete", DESK)
        finally:
            done.set()
            other.join()
        self.assertEqual(self.ask("delete", DESK).total.messages, 1)

    def test_the_empty_rest_of_a_deletion_is_removed_by_the_next_one(self) -> None:
        for kind in ("tmp", "new", "cur"):
            (self.path / kind).rmdir()
        self.assertEqual(self.ask("delete", DESK), Contents())
        self.assertFalse(self.path.exists())

    def test_bob_keeps_his_mail(self) -> None:
        bob = self.path.with_name(BOB.mailbox) / "cur" / "1700000000.M1P1.host:2,"
        bob.write_bytes(MAIL)
        self.bench.deliver(MAIL)
        self.ask("delete", DESK)
        self.assertEqual(bob.read_bytes(), MAIL)

    def test_to_count_a_deleted_mailbox_makes_no_new_one(self) -> None:
        reading = MaildirOptions(create=True)
        store = MaildirStore(self.bench.root, "{name}", run_now, reading=reading)
        self.ask("delete", DESK)
        for what in ("usage", "scan", "scan_readonly", "list_hidden"):
            self.ask(what, store=store)
        self.assertFalse(self.path.exists())


class RecalculateTests(AdminCase):
    def test_a_wrong_maildirsize_is_put_right_and_its_limits_stay(self) -> None:
        self.bench.deliver(MAIL)
        (self.path / "maildirsize").write_text("5000S,7C\n999 9\n")
        change = self.ask("recalculate")
        self.assertEqual(change.before, Usage(999, 9))
        self.assertEqual(change.after, Usage(len(MAIL), 1))
        self.assertEqual((self.path / "maildirsize").read_text(), f"5000S,7C\n{len(MAIL)} 1\n")

    def test_without_a_maildirsize_nothing_was_known(self) -> None:
        self.assertIsNone(self.ask("recalculate").before)
        self.assertTrue((self.path / "maildirsize").exists())
