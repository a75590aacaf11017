"""Files that share a base name: each is a message, with an id of its own."""

from __future__ import annotations

import os
import shutil
import time
from errno import EIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_maildir import MaildirCase
from twisted.logger import capturedLogs, formatEvent

from disks import no_room
from gateway.errors import StoreDown
from gateway.model import Reason
from gateway.store.maildir.listing.reader import Reader
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.maildrop import Maildrop
from gateway.testing.store_contract import ALICE

LETTERS = tuple(f"cur/Re: letter {number}.eml" for number in range(8))
ALIKE = (
    LETTERS,
    ("new/2026-11-28T04:21:00.eml", "new/2026-11-28T04:22:30.eml"),
    ("cur/17.M1P1.host:2,", "cur/17.M1P1.host:2,S"),
    ("new/17.M1P1.host", "cur/17.M1P1.host:2,S"),
    ("cur/17.M1P1.host:2,S", "cur/17.M1P1.host: a copy", "cur/17.M1P1.host"),
    ("cur/:2,S", "cur/:2,F", "new/:"),
    ("new/a\nb", "new/a\nc", "new/a\r", "cur/d\n:2,S"),
    ("cur/X:1,abc", "cur/X:3,S", "cur/X:"),
)


def content(file: str) -> bytes:
    """What is in a file of this name."""
    return f"{file!r}\r\n".encode()


class TwinsCase(MaildirCase):
    def put(self, *files: str) -> dict[bytes, str]:
        """Content and file of each."""
        for file in files:
            Path(self.maildir, file).write_bytes(content(file))
        return {content(file): file for file in files}

    def shown(self, *, fresh: bool = False) -> dict[bytes, str]:
        """Content and unique-id of each message."""
        maildrop = self.open(self.fresh() if fresh else None)
        ids = self.ids(maildrop)
        return {self.message(maildrop, at): uid for at, uid in enumerate(ids)}

    def files(self) -> list[str]:
        return [f"{kind}/{name}" for kind in ("new", "cur") for name in self.names(kind)]

    def names(self, kind: str) -> list[str]:
        return os.listdir(f"{self.maildir}/{kind}")


class SharedNameTests(TwinsCase):
    def test_every_file_is_a_message_with_an_id_of_its_own_that_stays(self) -> None:
        for files in ALIKE:
            self.setUp()
            wanted = self.put(*files)
            shown = self.shown()
            self.assertEqual(set(shown), set(wanted), files)
            self.assertEqual(len(set(shown.values())), len(files), files)
            self.assertEqual(self.shown(fresh=True), shown)

    def test_marking_all_as_read_loses_none(self) -> None:
        for files in ALIKE:
            self.setUp()
            wanted = self.put(*files)
            maildrop = self.open()
            self.successResultOf(maildrop.finish(set(), set(range(len(files)))))
            self.assertEqual(set(self.bench.contents()), set(wanted))
            self.assertEqual(self.bench.read_count(), len(files))

    def test_what_is_deleted_does_not_come_again_and_nothing_else_goes(self) -> None:
        for files in ALIKE:
            self.setUp()
            wanted = self.put(*files)
            before = self.shown()
            maildrop = self.open()
            gone = self.message(maildrop, 0)
            self.successResultOf(maildrop.finish({0}, set()))
            del wanted[gone]
            shown = self.shown(fresh=True)
            self.assertEqual(shown, {text: before[text] for text in wanted})

    def test_hiding_one_hides_no_other(self) -> None:
        self.put(*LETTERS)
        before = self.shown()
        store = self.fresh()
        uid = before[content(LETTERS[3])]
        self.assertEqual(self.successResultOf(store.hide(ALICE, [uid], Reason())), 1)
        del before[content(LETTERS[3])]
        self.assertEqual(self.shown(), before)
        self.assertEqual(self.successResultOf(store.restore(ALICE, [uid])), 1)
        self.assertEqual(self.shown()[content(LETTERS[3])], uid)

    def test_a_scan_sees_them_all_and_a_readonly_one_changes_nothing(self) -> None:
        wanted = self.put(*LETTERS)
        self.assertEqual(len(self.successResultOf(self.fresh().scan_readonly(ALICE))), len(wanted))
        self.assertEqual(sorted(self.files()), sorted(LETTERS))
        kept = self.successResultOf(self.fresh().scan(ALICE))
        self.assertEqual(len({one.uid for one in kept}), len(wanted))

    def test_the_log_has_one_line_for_a_mailbox_and_only_once(self) -> None:
        self.put(*LETTERS)
        with capturedLogs() as events:
            self.open()
            self.open(self.fresh())
        (line,) = [formatEvent(event) for event in events]
        self.assertIn(f"{self.maildir}: 8 files had no name of their own and were renamed", line)
        self.assertIn("Re: letter", line)

    def test_sizes_and_flags_of_the_old_name_are_in_the_new_one(self) -> None:
        self.put("cur/17.M1P1.host,S=33:2,", "cur/17.M1P1.host,S=33:2,FS")
        self.open()
        moved = [file for file in self.files() if "17.M1P1" not in file]
        self.assertEqual(len(moved), 1)
        self.assertRegex(moved[0], r",S=33(:2,FS)?\Z")


class LaterTests(TwinsCase):
    """One that comes when clients know the other."""

    def setUp(self) -> None:
        super().setUp()
        self.put("cur/17.M1P1.host:2,")
        self.first = content("cur/17.M1P1.host:2,")
        self.before = self.shown()

    @pytest.mark.conformance("X-C0008", "O-C0040")
    def test_the_one_that_clients_know_keeps_its_id_though_it_is_marked_later(self) -> None:
        self.put("cur/17.M1P1.host:2,F")
        maildrop = self.open()
        self.successResultOf(maildrop.finish(set(), {0, 1}))
        shown = self.shown()
        self.assertEqual(shown[self.first], self.before[self.first])
        self.assertEqual(len(set(shown.values())), 2)

    @pytest.mark.conformance("X-C0008", "O-C0040")
    def test_one_that_comes_during_a_session_inherits_no_id_of_what_is_deleted(self) -> None:
        for held in (False, True):
            self.setUp()
            maildrop = self.open()
            self.put("cur/17.M1P1.host:2,S")
            take = maildrop.hide if held else maildrop.finish
            self.successResultOf(take({0}, set()))
            shown = self.shown(fresh=True)
            self.assertEqual(set(shown), {content("cur/17.M1P1.host:2,S")})
            self.assertNotEqual(set(shown.values()), set(self.before.values()))

    def test_a_flag_that_would_make_two_names_one_is_not_set(self) -> None:
        maildrop = self.open()
        self.put("cur/17.M1P1.host:2,S")
        self.successResultOf(maildrop.finish(set(), {0}))
        self.assertEqual(len(self.shown()), 2)


@pytest.mark.conformance("X-C0008", "O-C0040")
class SameNameAgainTests(TwinsCase):
    def test_a_file_by_the_name_of_a_message_that_was_deleted_is_another_message(self) -> None:
        seen: set[str] = set()
        for text in (b"one\r\n", b"two, and longer\r\n", b"three\r\n"):
            Path(self.maildir, "new/letter").write_bytes(text)
            maildrop = self.open()
            (uid,) = self.ids(maildrop)
            self.assertNotIn(uid, seen)
            self.assertEqual(self.sizes(maildrop), [len(text)])
            self.assertEqual(self.message(maildrop, 0), text)
            self.assertEqual(self.ids(self.open(self.fresh())), [uid])
            self.successResultOf(maildrop.finish({0}, set()))
            seen.add(uid)

    def uid_of(self, text: bytes) -> str:
        """The unique-id of a message that is put there by the same name as others before."""
        Path(self.maildir, "new/letter").write_bytes(text)
        (uid,) = self.ids(self.open(self.fresh()))
        return uid

    def remove_all(self, maildrop: Maildrop) -> None:
        self.successResultOf(maildrop.finish({0}, set()))

    def test_it_gets_a_new_id_from_a_process_that_did_not_delete_the_first(self) -> None:
        first = self.uid_of(b"one\r\n")
        self.remove_all(self.open(self.fresh()))
        second = self.uid_of(b"two, and longer\r\n")
        self.assertGreater(int(second), int(first))

    def test_it_gets_a_new_id_after_retention_has_removed_the_first(self) -> None:
        for removed in ("remove", "hide"):
            first = self.uid_of(b"one\r\n")
            remove = getattr(self.fresh(), removed)
            self.successResultOf(remove(ALICE, [first], Reason(rule="any 1d")))
            second = self.uid_of(b"two, and longer\r\n")
            self.assertGreater(int(second), int(first), removed)
            self.remove_all(self.open(self.fresh()))

    def test_it_gets_a_new_id_though_what_removed_the_first_left_another(self) -> None:
        barred = {
            "finish": no_room("unlink", "*note", EIO),
            "hide": no_room("rename", "*note", EIO),
        }
        for removed, trouble in barred.items():
            self.setUp()
            self.put("new/letter", "new/note")
            before = self.shown()
            maildrop = self.open()
            with trouble:
                self.failureResultOf(getattr(maildrop, removed)({0, 1}, set()), StoreDown)
            self.assertEqual(self.files(), ["new/note"])
            self.put("new/letter")
            shown = self.shown(fresh=True)
            self.assertEqual(shown[content("new/note")], before[content("new/note")])
            self.assertNotIn(shown[content("new/letter")], before.values(), removed)

    def test_it_gets_a_new_id_after_another_program_has_removed_the_first(self) -> None:
        first = self.uid_of(b"one\r\n")
        for file in self.files():
            os.unlink(f"{self.maildir}/{file}")
        self.assertEqual(self.ids(self.open(self.fresh())), [])
        self.assertGreater(int(self.uid_of(b"two\r\n")), int(first))

    def test_a_message_that_another_program_has_elsewhere_for_a_moment_keeps_its_id(self) -> None:
        # As a Maildir name has it, which is given once: it comes back from a backup, say.
        name = "1700000000.M1P1.host"
        self.put(f"new/{name}")
        before = self.ids(self.open())
        os.rename(f"{self.maildir}/new/{name}", f"{self.maildir}/tmp/{name}")
        self.assertEqual(self.ids(self.open()), [])
        os.rename(f"{self.maildir}/tmp/{name}", f"{self.maildir}/cur/{name}:2,S")
        self.assertEqual(self.ids(self.open(self.fresh())), before)

    def test_one_that_comes_back_from_a_backup_has_its_id_also_in_the_process_that_deleted_it(
        self,
    ) -> None:
        name = "1700000000.M1P1.host"
        self.put(f"new/{name}", "new/1700000001.M2P1.host")
        maildrop = self.open()
        before = self.ids(maildrop)
        self.remove_all(maildrop)
        self.assertEqual(self.ids(self.open()), before[1:])
        self.put(f"new/{name}")
        self.assertEqual(self.ids(self.open()), before)
        self.assertEqual(self.ids(self.open(self.fresh())), before)

    def test_others_keep_their_ids_when_one_goes(self) -> None:
        self.put("new/letter", "new/note", "new/1700000000.M1P1.host")
        before = self.ids(self.open())
        self.remove_all(self.open(self.fresh()))
        self.assertEqual(self.ids(self.open(self.fresh())), before[1:])

    def test_a_lock_of_another_program_keeps_nobody_out_when_a_message_is_gone(self) -> None:
        self.put("new/letter", "new/note")
        (_, note) = self.ids(self.open())
        os.unlink(f"{self.maildir}/new/letter")
        Path(self.maildir, "dovecot-uidlist.lock").write_bytes(b"1:another")
        self.assertEqual(self.ids(self.open(self.fresh())), [note])

    def test_one_that_a_hold_has_kept_comes_back_as_it_was(self) -> None:
        self.put("new/letter")
        maildrop = self.open()
        before = self.ids(maildrop)
        self.successResultOf(maildrop.hide({0}, set()))
        self.successResultOf(self.bench.store.restore(ALICE, before))
        self.assertEqual(self.ids(self.open()), before)


class HardLinkTests(TwinsCase):
    """A file in the midst of a move by link, which some file systems need."""

    old, new = "new/17.M1P1.host", "cur/17.M1P1.host:2,S"

    def link(self, *files: str) -> None:
        self.put(files[0])
        for file in files[1:]:
            os.link(f"{self.maildir}/{files[0]}", f"{self.maildir}/{file}")

    def read_later(self, seconds: float) -> list[str]:
        """The files that a reading so much later leaves; it shows one message."""
        later = Reader(self.maildir, MaildirOptions(), now=lambda: time.time() + seconds)
        self.assertEqual(len(later.read(None).listing), 1)
        return sorted(self.files())

    def test_it_is_one_message_and_looked_at_again(self) -> None:
        self.link(self.old, self.new)
        self.assertEqual(len(self.ids(self.open())), 1)
        self.assertEqual(len(self.files()), 2)
        os.unlink(f"{self.maildir}/{self.old}")
        self.assertEqual(len(self.ids(self.open())), 1)

    def test_one_that_a_crash_left_with_two_names_stays_one_message(self) -> None:
        self.link(self.old, self.new)
        self.assertEqual(self.read_later(0), [self.new, self.old])
        with capturedLogs() as events:
            # A move that only slept would remove the other.
            self.assertEqual(self.read_later(60), [self.new])
        self.assertIn("had a second name", formatEvent(events[-1]))

    def test_its_id_stays_whichever_name_clients_know(self) -> None:
        for known, other in ((self.old, self.new), (self.new, self.old)):
            self.setUp()
            self.link(known)
            reader = Reader(self.maildir, MaildirOptions(), now=lambda: time.time() + 60)
            first = reader.read(None)
            os.link(f"{self.maildir}/{known}", f"{self.maildir}/{other}")
            self.put("cur/17.M1P1.host:2,F")
            second = reader.read(first)
            self.assertEqual(len(second.listing), 2)
            at = list(second.listing.uids).index(first.listing.uids[0])
            self.assertEqual(second.files[at], self.new)

    def test_while_another_program_may_be_doing_the_same_both_names_stay(self) -> None:
        self.link(self.old, self.new)
        Path(self.maildir, "dovecot-uidlist").write_text("3 V1 N2\n1 :17.M1P1.host\n")
        Path(self.maildir, "dovecot-uidlist.lock").write_bytes(b"1:dovecot")
        self.assertEqual(self.read_later(60), [self.new, self.old])
        os.unlink(f"{self.maildir}/dovecot-uidlist.lock")
        self.assertEqual(self.read_later(60), [self.new])

    def test_of_two_messages_of_one_name_both_stay_though_one_has_two_names(self) -> None:
        third = "cur/17.M1P1.host:2,F"
        self.link(self.old, self.new)
        self.put(third)
        later = Reader(self.maildir, MaildirOptions(), now=lambda: time.time() + 60)
        self.assertEqual(len(later.read(None).listing), 2)
        self.assertEqual(set(self.bench.contents()), {content(self.old), content(third)})
        self.assertEqual(len(self.files()), 2)

    def test_a_name_that_another_program_renames_at_the_last_moment_is_not_its_last(self) -> None:
        self.link(self.old, self.new)
        moved: list[str] = []

        def moves(path: str, **more: Any) -> None:
            # What an IMAP server does right before.
            if "17.M1P1" in path:
                moved.append(path)
                os.rename(f"{self.maildir}/{self.new}", f"{self.maildir}/cur/17.M1P1.host:2,F")
            unlink(path, **more)

        unlink = os.unlink
        with mock.patch.object(os, "unlink", moves):
            self.read_later(60)
        self.assertEqual(len(moved), 1)
        self.assertEqual(self.bench.contents(), [content(self.old)])


class HiddenTwinsTests(TwinsCase):
    def test_each_of_two_hidden_files_can_be_brought_back(self) -> None:
        self.put("new/17.M1P1.host")
        store = self.fresh()
        (uid,) = self.ids(self.open(store))
        self.successResultOf(store.hide(ALICE, [uid], Reason()))
        folder = Path(self.maildir, ".Expired/cur")
        (name,) = os.listdir(folder)
        shutil.copy(folder / name, folder / f"{name}S")
        self.assertEqual(len(self.successResultOf(store.list_hidden(ALICE))), 2)


names = st.text("ab:,2S\n .", min_size=1, max_size=6).filter(lambda name: name[0] != ".")


class AnyNamesTests(TwinsCase):
    @given(st.lists(st.tuples(st.sampled_from(["new", "cur"]), names), unique=True, max_size=12))
    def test_whatever_they_are_called_all_are_shown_read_and_removed(
        self, files: list[tuple[str, str]]
    ) -> None:
        self.setUp()
        wanted = self.put(*(f"{kind}/{name}" for kind, name in files))
        shown = self.shown()
        self.assertEqual(set(shown), set(wanted))
        self.assertEqual(len(set(shown.values())), len(wanted))
        all_mailboxes = set(range(len(wanted)))
        self.successResultOf(self.open().finish(set(), all_mailboxes))
        self.assertEqual(self.shown(fresh=True), shown)
        self.successResultOf(self.open().finish(all_mailboxes, set()))
        self.assertEqual(self.files(), [])
