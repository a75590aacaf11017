"""What only a Maildir has: names with sizes, flags, other programs, broken disks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from test_store_contract import MaildirBench
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from disks import no_room
from gateway.errors import (
    MailboxUnusable,
    MaildropBusy,
    MessageGone,
    NoSuchMailbox,
    SizeChanged,
    StoreDown,
)
from gateway.store.maildir.folders.place import Place
from gateway.store.maildir.listing.reader import Reader
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.maildrop import seen_name
from gateway.store.maildir.store import MaildirStore
from gateway.store.maildir.uids.uidlist import UidList
from gateway.testing.store_contract import ALICE, read_all, run_now


class MaildirCase(SynchronousTestCase):
    reading: dict[str, object] = {}  # noqa: RUF012

    def setUp(self) -> None:
        self.bench = MaildirBench(self, **self.reading)
        self.maildir = self.bench.maildir

    def open(self, store: MaildirStore | None = None):  # type: ignore[no-untyped-def]
        maildrop, self.give_back = self.successResultOf(
            (store or self.bench.store).open(ALICE, None)
        )
        return maildrop

    def fresh(self, **reading: object) -> MaildirStore:
        """A store as after a restart, which remembers nothing."""
        return MaildirStore(
            self.bench.root,
            "{name}",
            run_now,
            reading=MaildirOptions(**{"create": False, **reading}),  # type: ignore[arg-type]
        )

    def sizes(self, maildrop) -> list[int]:  # type: ignore[no-untyped-def]
        return list(self.successResultOf(maildrop.listing()).sizes)

    def ids(self, maildrop) -> list[str]:  # type: ignore[no-untyped-def]
        return list(self.successResultOf(maildrop.listing()).uids)

    def message(self, maildrop, index: int) -> bytes:  # type: ignore[no-untyped-def]
        return read_all(self, self.successResultOf(maildrop.retrieve(index)))

    def uidlist(self, text: str) -> None:
        with open(f"{self.maildir}/dovecot-uidlist", "w") as file:
            file.write(text)

    def list_text(self) -> str:
        with open(f"{self.maildir}/dovecot-uidlist") as file:
            return file.read()


class SizeInNameTests(MaildirCase):
    def test_a_true_w_is_used_and_a_wrong_one_is_put_right(self) -> None:
        self.bench.deliver(b"a\nb\n", "1700000001.M1P1.host,S=4,W=6")
        self.bench.deliver(b"a\nb\n", "1700000002.M2P1.host,S=4,W=60")
        self.bench.deliver(b"a\nb\n", "1700000003.M3P1.host,S=9999")
        maildrop = self.open()
        self.assertEqual(self.sizes(maildrop), [6, 6, 6])
        for index in range(3):
            self.assertEqual(self.message(maildrop, index), b"a\r\nb\r\n")
        self.assertIn(" W6 :1700000002.M2P1.host", self.list_text())
        self.assertEqual(self.sizes(self.open(self.fresh(verify_octets=0))), [6, 6, 6])

    def test_what_was_not_verified_is_put_right_once_a_large_message_is_fetched(self) -> None:
        big = b"x" * 300_000 + b"\n"
        self.bench.deliver(big, "1700000001.M1P1.host,W=300050")
        store = self.fresh(verify_octets=0)
        maildrop = self.open(store)
        self.assertEqual(self.sizes(maildrop), [300_050])
        self.assertEqual(self.message(maildrop, 0), big[:-1] + b"\r\n")
        self.assertEqual(self.sizes(self.open(store)), [300_002])

    def test_nonsense_in_a_name_is_no_size(self) -> None:
        for number, name in enumerate(("1.a,W=x", "2.a,W=-1", "3.a,W=", "4.a,S=1W=2", "5.a,XW=1")):
            self.bench.deliver(b"%d\r\n" % number, name)
        self.assertEqual(self.sizes(self.open()), [3] * 5)


class InexactTests(MaildirCase):
    reading = {"exact": False}  # noqa: RUF012

    @pytest.mark.conformance("X-N4", "X-N5")
    def test_where_so_set_sizes_are_what_files_take_and_still_numbers(self) -> None:
        self.bench.deliver(b"a\nb\n")
        self.bench.deliver(b"a\nb\n", "1700000009.M9P1.host,S=4")
        maildrop = self.open()
        self.assertEqual(self.sizes(maildrop), [4, 4])
        self.assertEqual(self.message(maildrop, 0), b"a\r\nb\r\n")


class NoNulsTests(MaildirCase):
    reading = {"no_nuls": True}  # noqa: RUF012

    @pytest.mark.conformance("P-5")
    def test_where_so_set_a_nul_is_sent_as_0x80_and_the_size_is_the_same(self) -> None:
        self.bench.deliver(b"a\0b\r\n")
        maildrop = self.open()
        self.assertEqual(self.sizes(maildrop), [5])
        self.assertEqual(self.message(maildrop, 0), b"a\x80b\r\n")


class ConvertCrTests(MaildirCase):
    reading = {"convert_cr": True}  # noqa: RUF012

    @pytest.mark.conformance("P-5", "X-C0011")
    def test_where_so_set_a_bare_cr_is_counted_as_the_crlf_that_is_sent(self) -> None:
        self.bench.deliver(b"a\rb\r\n\r")
        self.assertEqual(self.sizes(self.open()), [8])


class OtherProgramTests(MaildirCase):
    @pytest.mark.conformance("X-C0004", "P-17")
    def test_flags_and_moves_by_others_are_followed(self) -> None:
        name = self.bench.deliver(b"one\r\n")
        maildrop = self.open()
        os.rename(f"{self.maildir}/new/{name}", f"{self.maildir}/cur/{name}:2,FS")
        self.assertEqual(self.message(maildrop, 0), b"one\r\n")
        os.rename(f"{self.maildir}/cur/{name}:2,FS", f"{self.maildir}/cur/{name}:2,RS")
        self.assertEqual(self.message(maildrop, 0), b"one\r\n")
        os.rename(f"{self.maildir}/cur/{name}:2,RS", f"{self.maildir}/cur/{name}:2,")
        self.successResultOf(maildrop.finish({0}, set()))
        self.assertEqual(self.bench.files(), [])

    def test_a_rename_changes_no_id_and_no_size(self) -> None:
        name = self.bench.deliver(b"one\r\n")
        before = self.ids(self.open()), self.sizes(self.open())
        os.rename(f"{self.maildir}/new/{name}", f"{self.maildir}/cur/{name}:2,S")
        self.assertEqual((self.ids(self.open()), self.sizes(self.open())), before)

    def test_names_that_begin_with_a_dot_and_what_is_in_tmp_are_no_messages(self) -> None:
        self.bench.deliver(b"one\r\n")
        self.bench.deliver(b"half", "1700000005.M5P1.host", folder="tmp")
        self.bench.deliver(b"lock", ".nfs0001")
        os.makedirs(f"{self.maildir}/.Sent/cur")
        self.assertEqual(self.sizes(self.open()), [5])

    def test_what_is_no_regular_file_is_never_sent(self) -> None:
        os.symlink("/etc/passwd", f"{self.maildir}/new/1700000001.link")
        os.mkfifo(f"{self.maildir}/new/1700000002.fifo")
        os.mkdir(f"{self.maildir}/new/1700000003.directory")
        os.symlink("/etc/passwd", f"{self.maildir}/new/1700000005.M1P1.link,S=6,W=6")
        self.bench.deliver(b"mail\r\n", "1700000004.mail")
        maildrop = self.open()
        self.assertEqual(self.sizes(maildrop), [6])
        self.assertEqual(self.message(maildrop, 0), b"mail\r\n")
        trusting = self.open(self.fresh(verify_octets=0))
        self.assertEqual(self.sizes(trusting), [6])

    def test_a_link_that_took_a_messages_place_is_not_followed(self) -> None:
        for size in (1, 300_000):
            name = self.bench.deliver(b"x" * size, f"17000000{size}.a,W={size + 2}")
            maildrop = self.open(self.fresh(verify_octets=0))
            os.unlink(f"{self.maildir}/new/{name}")
            os.symlink("/etc/passwd", f"{self.maildir}/new/{name}")
            self.failureResultOf(maildrop.retrieve(0), MessageGone)
            os.unlink(f"{self.maildir}/new/{name}")

    @pytest.mark.conformance("P-18")
    def test_a_file_that_shrinks_while_it_is_read_is_noticed(self) -> None:
        name = self.bench.deliver(b"x" * 300_000 + b"\r\n")
        maildrop = self.open()
        body = self.successResultOf(maildrop.retrieve(0))
        self.assertTrue(body.read_now())
        os.truncate(f"{self.maildir}/new/{name}", 10)
        with self.assertRaises(SizeChanged):
            while body.read_now():
                pass
        body.close()

    def test_seen_is_added_to_the_flags_in_their_order(self) -> None:
        for file, wanted in (
            ("new/1.a", "cur/1.a:2,S"),
            ("cur/1.a:2,", "cur/1.a:2,S"),
            ("cur/1.a:2,FT", "cur/1.a:2,FST"),
            ("cur/1.a:2,RSab", "cur/1.a:2,RSab"),
            ("cur/1.a:1,x", "cur/1.a:2,S"),
        ):
            self.assertEqual(seen_name(file), wanted)


class UnmarkedTests(MaildirCase):
    reading = {"mark_read": False}  # noqa: RUF012

    def test_where_so_set_nothing_is_marked_as_read(self) -> None:
        self.bench.deliver(b"one\r\n")
        self.successResultOf(self.open().finish(set(), {0}))
        self.assertEqual(self.bench.read_count(), 0)


class MarkedTests(MaildirCase):
    def test_quit_takes_no_thread_if_all_that_was_fetched_is_marked(self) -> None:
        works: list[Callable[[], Any]] = []

        def run(work: Callable[[], Any]) -> Deferred[Any]:
            works.append(work)
            return run_now(work)

        self.bench.deliver(b"one\r\n", "1700000001.M1P1.host:2,RS", "cur")
        self.bench.deliver(b"two\r\n", "1700000002.M2P1.host:2,R", "cur")
        store = MaildirStore(self.bench.root, "{name}", run, reading=MaildirOptions(create=False))
        for fetched, threads in (([0], 0), ([0, 1], 1), ([0, 1], 0)):
            maildrop = self.open(store)
            works.clear()
            self.successResultOf(maildrop.finish([], fetched))
            self.assertEqual(len(works), threads)
        self.assertEqual(self.bench.read_count(), 2)


class UniqueIdTests(MaildirCase):
    @pytest.mark.conformance("X-C0009", "O-C0041")
    def test_carried_over_ids_come_verbatim_mixed_with_numbers(self) -> None:
        first, second, third = (self.bench.deliver(b"%d" % number) for number in range(3))
        self.uidlist(
            f"3 V7 N5\n1 P!\"#$%&'()*+,- :{first}\n2 P{'x' * 70} W9 :{second}\n3 :{third}\n"
        )
        self.assertEqual(self.ids(self.open()), ["!\"#$%&'()*+,-", "x" * 70, "3"])

    @pytest.mark.conformance("O-C0041", "X-C0009")
    def test_duplicates_from_an_import_are_made_unique_and_stay_so(self) -> None:
        first, second, third = (self.bench.deliver(b"%d" % number) for number in range(3))
        self.uidlist(f"3 V7 N5\n1 Psame :{first}\n2 Psame :{second}\n3 P2 :{third}\n")
        ids = self.ids(self.open())
        self.assertEqual(ids[0], "same")
        self.assertEqual(len(set(ids)), 3)
        self.assertEqual(self.ids(self.open(self.fresh())), ids)

    def test_a_number_that_is_given_is_larger_than_a_carried_over_id_that_is_one(self) -> None:
        first, second = (self.bench.deliver(b"%d" % number) for number in range(2))
        self.uidlist(f"3 V7 N5\n1 P6 :{first}\n2 W3 P70 :{second}\n")
        third = self.bench.deliver(b"third")
        self.assertEqual(self.ids(self.open()), ["6", "70", "71"])
        self.assertIn(f"\n71 :{third}\n", self.list_text())
        os.unlink(f"{self.maildir}/new/{first}")
        self.assertEqual(self.ids(self.open(self.fresh())), ["70", "71"])

    def test_carried_over_ids_that_no_number_can_equal_cost_none(self) -> None:
        for text in ("0000001100000001", "0x9", "09", "4294967290", "4294967295", "9" * 70):
            name = self.bench.deliver(b"one", "1700000001.a")
            self.uidlist(f"3 V7 N5\n1 P{text} :{name}\n")
            self.bench.deliver(b"two", "1700000002.b")
            self.assertEqual(self.ids(self.open(self.fresh())), [text, "5"])

    def test_ids_that_are_there_twice_already_are_logged_once_for_each_reading(self) -> None:
        names = [self.bench.deliver(b"%d" % number) for number in range(3)]
        lines = f"1 P4 :{names[0]}\n3 P3 :{names[1]}\n4 :{names[2]}\n5 P3 :other\n"
        self.bench.deliver(b"x", "other")
        self.uidlist(f"3 V7 N6\n{lines}")
        with capturedLogs() as events:
            self.assertEqual(self.ids(self.open()), ["4", "3", "4.4", "3.5"])
        (line,) = [formatEvent(event) for event in events]
        self.assertIn(f"{self.maildir}/dovecot-uidlist: 2 unique-ids", line)
        self.assertIn("'4'", line)

    def test_what_cannot_be_an_id_is_replaced_by_the_number(self) -> None:
        first, second = (self.bench.deliver(b"%d" % number) for number in range(2))
        self.uidlist(f"3 V7 N5\n1 P{'x' * 71} :{first}\n2 P :{second}\n")
        with capturedLogs() as events:
            self.assertEqual(self.ids(self.open()), ["1", "2"])
        (line,) = [formatEvent(event) for event in events]
        self.assertIn("dovecot-uidlist: 2 carried-over ids cannot be unique-ids", line)
        self.assertIn("the first is 'xxx", line)

    @pytest.mark.conformance("X-C0009", "O-C0041")
    def test_two_messages_with_one_number_get_two_ids_that_stay(self) -> None:
        names = [self.bench.deliver(b"%d" % number) for number in range(3)]
        self.uidlist("3 V7 N6\n" + "".join(f"5 :{name}\n" for name in names))
        ids = self.ids(self.open())
        self.assertEqual(ids, ["5", "6", "7"])
        self.assertEqual(self.ids(self.open(self.fresh())), ids)

    def test_a_list_that_does_not_read_everywhere_costs_no_other_message_its_id(self) -> None:
        names = [self.bench.deliver(b"%d" % number) for number in range(4)]
        bad = f"9999999999 :{names[2]}\r\nnonsense\r\n"
        self.uidlist(f"3 V7 N6\r\n4 Pmine :{names[0]}\r\n5 :{names[1]}\r\n{bad}8 :{names[3]}\r\n")
        with capturedLogs() as events:
            ids = self.ids(self.open())
        self.assertEqual(ids, ["mine", "5", "8", "9999999999"])
        (line,) = [formatEvent(event) for event in events]
        self.assertIn("dovecot-uidlist: 2 lines do not read", line)
        self.bench.deliver(b"new")
        self.assertEqual(self.ids(self.open(self.fresh())), [*ids, "10"])

    def test_a_faulty_line_of_no_message_is_logged_once_and_for_all(self) -> None:
        name = self.bench.deliver(b"one")
        self.uidlist(f"3 V7 N6\nnonsense\n5 :{name}\n")
        for lines in (1, 0):
            with capturedLogs() as events:
                self.assertEqual(self.ids(self.open(self.fresh())), ["5"])
            self.assertEqual(len(events), lines)

    def test_the_order_of_a_migrated_mailbox_is_kept(self) -> None:
        names = [self.bench.deliver(b"%d" % number) for number in range(4)]
        lines = [
            f"{at + 1} O{order} :{name}\n"
            for at, (order, name) in enumerate(zip((3, 1, 2), names, strict=False))
        ]
        self.uidlist("3 V7 N5\n" + "".join(lines))
        ids = self.ids(self.open())
        self.assertEqual(ids, ["2", "3", "1", "5"])

    def test_fields_that_nobody_here_knows_are_kept(self) -> None:
        name = self.bench.deliver(b"one\n")
        self.uidlist(f"3 V7 N5 Gabc Zfuture\n1 Qx Pq S4 :{name}\n")
        self.bench.deliver(b"two\n")
        self.open()
        text = self.list_text()
        self.assertTrue(text.startswith("3 V7 N5 Gabc Zfuture\n"))
        self.assertIn(f"1 Qx Pq S4 :{name}\n", text)

    @pytest.mark.conformance("P-20", "X-C0008", "O-C0040")
    def test_a_lost_index_gives_new_ids_and_never_one_that_was_used(self) -> None:
        name = self.bench.deliver(b"one\r\n")
        self.uidlist(f"3 V7 N500000\n499999 :{name}\n")
        before = self.ids(self.open())
        os.unlink(f"{self.maildir}/dovecot-uidlist")
        again = self.ids(self.open(self.fresh()))
        self.assertGreater(int(again[0]), int(before[0]))

    @pytest.mark.conformance("P-20", "O-C0039")
    def test_ids_are_the_same_after_a_restart_and_for_every_session(self) -> None:
        for number in range(5):
            self.bench.deliver(b"%d\r\n" % number)
        ids = self.ids(self.open())
        for _ in range(2):
            self.assertEqual(self.ids(self.open()), ids)
        self.assertEqual(self.ids(self.open(self.fresh())), ids)
        for one in ids:
            self.assertRegex(one, r"\A[.-~]{1,70}\Z")

    def test_a_list_that_is_none_stops_the_login_and_loses_nothing(self) -> None:
        self.bench.deliver(b"one\r\n")
        self.uidlist("garbage\n")
        self.failureResultOf(self.bench.store.open(ALICE, None), MailboxUnusable)
        self.assertEqual(self.list_text(), "garbage\n")


class BrokenDiskTests(MaildirCase):
    def full(
        self, number: int = errno.ENOSPC, call: str = "folders.files.os.write"
    ) -> contextlib.AbstractContextManager[object]:
        """No room for what is written."""
        error = OSError(number, os.strerror(number))
        return mock.patch(f"gateway.store.maildir.{call}", side_effect=error)

    def test_on_a_full_disk_what_has_no_id_yet_is_left_out_until_it_can_get_one(self) -> None:
        self.bench.deliver(b"one\r\n")
        first = self.ids(self.open())
        self.bench.deliver(b"two\r\n")
        for number in (errno.ENOSPC, errno.EDQUOT):
            with capturedLogs() as events, self.full(number):
                self.assertEqual(self.ids(self.open()), first)
                self.assertEqual(self.ids(self.open(self.fresh())), first)
            self.assertIn(f"{self.maildir}: 1 messages", formatEvent(events[0]))
        self.assertEqual(os.listdir(self.maildir).count("dovecot-uidlist.lock"), 0)
        ids = self.ids(self.open())
        self.assertEqual((len(ids), ids[:1]), (2, first))
        self.assertEqual(self.ids(self.open(self.fresh())), ids)
        self.assertEqual(self.bench.contents(), [b"one\r\n", b"two\r\n"])

    def test_who_is_out_of_room_can_delete_and_make_some(self) -> None:
        self.bench.deliver(b"one\r\n")
        self.open()
        self.bench.deliver(b"two\r\n")
        with self.full():
            self.successResultOf(self.open().finish({0}, set()))
        self.assertEqual(self.bench.contents(), [b"two\r\n"])

    def test_a_snapshot_of_a_full_disk_is_used_for_one_login_only(self) -> None:
        self.bench.deliver(b"one\r\n")
        # So late that every stamp is settled.
        store = MaildirStore(self.bench.root, "{name}", run_now, now_ns=lambda: 5 * 10**18)
        self.open(store)
        self.bench.deliver(b"two\r\n")
        for call in ("folders.files.os.write", "uids.uidlist.os.fsync", "folders.dotlock.os.link"):
            with self.full(call=call):
                self.assertEqual(self.sizes(self.open(store)), [5])
        self.assertEqual(self.sizes(self.open(store)), [5, 5])

    def test_a_full_disk_on_which_no_message_has_an_id_is_a_store_that_is_down(self) -> None:
        self.bench.deliver(b"one\r\n")
        with self.full():
            error = self.failureResultOf(self.bench.store.open(ALICE, None), StoreDown)
        self.assertIn(self.maildir, str(error.value))
        self.assertEqual(self.sizes(self.open()), [5])

    def test_ids_that_another_program_gave_meanwhile_are_shown_though_the_disk_is_full(
        self,
    ) -> None:
        self.bench.deliver(b"one\r\n")
        name = self.bench.deliver(b"other\r\n")
        reader = Reader(self.maildir, MaildirOptions())
        find = reader.sizer.find

        def finding(*args: Any) -> None:
            find(*args)
            self.uidlist(f"3 V7 N9\n8 :{name}\n")

        reader.sizer.find = finding  # type: ignore[method-assign]
        with self.full():
            self.assertEqual(list(reader.read(None).listing.uids), ["8"])

    def test_an_outage_makes_no_mailbox_look_missing(self) -> None:
        store = self.bench.store
        for number in (errno.EIO, errno.ESTALE, errno.EMFILE):
            with no_room("stat", "*/cur", number):
                self.failureResultOf(store.present([ALICE]), StoreDown)
                self.failureResultOf(store.names(), StoreDown)
                for ask in (store.contents, store.inspect):
                    self.failureResultOf(ask(ALICE), StoreDown)
        os.rename(self.maildir, f"{self.maildir}.away")
        self.assertEqual(self.successResultOf(store.present([ALICE])), [])
        self.failureResultOf(store.contents(ALICE), NoSuchMailbox)

    def test_an_outage_makes_no_mailbox_look_empty(self) -> None:
        self.bench.deliver(b"one\r\n")
        for number, kind in ((errno.ESTALE, StoreDown), (errno.EACCES, MailboxUnusable)):
            store = self.fresh(create=True)
            with no_room("lstat", f"*/{ALICE.mailbox}", number):
                self.failureResultOf(store.usage(ALICE), kind)
        self.assertEqual(self.successResultOf(store.usage(ALICE)).octets, 5)

    def test_an_outage_opens_no_mailbox_that_is_closed(self) -> None:
        self.successResultOf(self.bench.store.mark_away(ALICE, "copied to the cluster"))
        with no_room("lstat", "*pop3gw.closed", errno.EIO):
            self.failureResultOf(self.bench.store.prepare(ALICE), StoreDown)

    def test_permissions_are_for_the_administrator(self) -> None:
        self.bench.deliver(b"one\r\n")
        maildrop = self.open()
        refused = PermissionError(errno.EACCES, "Permission denied")
        with mock.patch("gateway.store.maildir.folders.files.os.open", side_effect=refused):
            self.failureResultOf(maildrop.retrieve(0), MailboxUnusable)

    @pytest.mark.conformance("X-V0006", "P-16")
    def test_a_message_that_cannot_be_removed_is_reported_and_the_others_are_gone(self) -> None:
        for number in range(4):
            self.bench.deliver(b"%d\r\n" % number)
        maildrop = self.open()
        unlink = os.unlink

        def failing(path: str, *, dir_fd: int | None) -> None:
            if "M2P1" in path:
                raise OSError(errno.EIO, "Input/output error", path)
            unlink(path, dir_fd=dir_fd)

        with mock.patch("gateway.store.maildir.folders.place.os.unlink", failing):
            error = self.failureResultOf(maildrop.finish({0, 1, 2}, set()), StoreDown)
        self.assertIn("M2P1", str(error.value))
        self.assertEqual(self.bench.contents(), [b"1\r\n", b"3\r\n"])

    def test_a_missing_maildir_is_made_where_so_set(self) -> None:
        store = MaildirStore(self.bench.root, "new/{name}", run_now)
        maildrop = self.open(store)
        self.assertEqual(self.sizes(maildrop), [])
        for folder in ("tmp", "new", "cur"):
            path = f"{self.bench.root}/new/{ALICE.mailbox}/{folder}"
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o700)

    def test_a_maildir_that_lost_its_new_shows_what_is_in_cur(self) -> None:
        self.bench.deliver(b"one\r\n", "1700000001.M1P1.host:2,S", folder="cur")
        ids = self.ids(self.open())
        os.rmdir(f"{self.maildir}/new")
        store = MaildirStore(self.bench.root, "{name}", run_now)
        self.assertEqual(self.ids(self.open(store)), ids)
        self.assertTrue(os.path.isdir(f"{self.maildir}/new"))

    def test_a_file_where_the_maildir_should_be_is_for_the_administrator(self) -> None:
        with open(f"{self.bench.root}/plain", "w") as file:
            file.write("x")
        store = MaildirStore(self.bench.root, "plain/{name}", run_now)
        self.failureResultOf(store.open(ALICE, None), MailboxUnusable, NoSuchMailbox)


class ExclusiveTests(MaildirCase):
    def exclusive(self) -> MaildirStore:
        reading = MaildirOptions(create=False)
        return MaildirStore(self.bench.root, "{name}", run_now, reading=reading, exclusive=True)

    def test_a_second_session_is_refused_until_the_first_gives_back(self) -> None:
        store, other_process = self.exclusive(), self.exclusive()
        self.open(store)
        give_back = self.give_back
        for one in (store, other_process):
            self.failureResultOf(one.open(ALICE, None), MaildropBusy)
        give_back()
        self.open(other_process)

    def test_a_failed_opening_leaves_no_lock(self) -> None:
        store = self.exclusive()
        os.rename(self.maildir, f"{self.maildir}.away")
        self.failureResultOf(store.open(ALICE, None), NoSuchMailbox)
        os.rename(f"{self.maildir}.away", self.maildir)
        self.open(store)

    def test_a_lock_that_no_server_gives_leaves_no_descriptor_open(self) -> None:
        store = self.exclusive()
        before = os.listdir("/proc/self/fd")
        refused = OSError(errno.ENOLCK, "No locks available")
        with mock.patch.object(fcntl, "flock", side_effect=refused):
            error = self.failureResultOf(store.open(ALICE, None), StoreDown)
        self.assertIn(f"{self.maildir}/pop3gw.lock: No locks", str(error.value))
        self.assertEqual(os.listdir("/proc/self/fd"), before)


class CachingTests(MaildirCase):
    def test_an_unchanged_mailbox_is_not_read_again(self) -> None:
        works = []

        def run(work):  # type: ignore[no-untyped-def]
            works.append(work)
            return run_now(work)

        clock = [10**18]
        store = MaildirStore(
            self.bench.root,
            "{name}",
            run,
            reading=MaildirOptions(create=False),
            now_ns=lambda: 4 * 10**18 + clock[0],
        )
        self.bench.deliver(b"one\r\n")
        self.open(store)
        self.open(store)
        self.assertEqual(len(works), 1)
        self.bench.deliver(b"two\r\n")
        self.assertEqual(self.sizes(self.open(store)), [5, 5])
        self.assertEqual(len(works), 2)

    def test_a_change_within_the_tick_of_the_file_systems_clock_is_not_missed(self) -> None:
        self.bench.deliver(b"one\r\n")
        self.open()
        status = os.stat(f"{self.maildir}/new")
        self.bench.deliver(b"two\r\n")
        os.utime(f"{self.maildir}/new", ns=(status.st_atime_ns, status.st_mtime_ns))
        self.assertEqual(self.sizes(self.open()), [5, 5])

    def test_a_login_during_a_reading_waits_and_looks_again(self) -> None:
        works = []

        def run(work):  # type: ignore[no-untyped-def]
            waiting: Deferred[object] = Deferred()
            works.append((waiting, work))
            return waiting

        store = MaildirStore(self.bench.root, "{name}", run, reading=MaildirOptions(create=False))
        self.bench.deliver(b"one\r\n")
        first = store.open(ALICE, None)
        result = works[0][1]()
        self.bench.deliver(b"two\r\n")
        second = store.open(ALICE, None)
        works[0][0].callback(result)
        self.assertEqual(len(self.successResultOf(first)[0]._snapshot.bases), 1)
        works[1][0].callback(works[1][1]())
        self.assertEqual(len(self.successResultOf(second)[0]._snapshot.bases), 2)

    def test_the_mailbox_opened_longest_ago_is_forgotten_first(self) -> None:
        store = MaildirStore(self.bench.root, "{name}", run_now, cached_messages=3)
        self.bench.deliver(b"one\r\n")
        self.bench.deliver(b"two\r\n")
        self.open(store)
        for name in ("bob", "carol"):
            os.makedirs(f"{self.bench.root}/{name}/new")
            os.makedirs(f"{self.bench.root}/{name}/cur")
            for number in range(2):
                with open(f"{self.bench.root}/{name}/new/{number}.x", "wb") as file:
                    file.write(b"x\r\n")
            account = type(ALICE)(name=name, mailbox=name)
            self.successResultOf(store.open(account, None))
        self.assertEqual([path.rpartition("/")[2] for path in store._mailboxes], ["carol"])
        self.assertEqual(self.sizes(self.open(store)), [5, 5])

    def _others(self, store: MaildirStore, count: int) -> None:
        for number in range(count):
            name = f"other{number}"
            for folder in ("new", "cur"):
                os.makedirs(f"{self.bench.root}/{name}/{folder}", exist_ok=True)
            account = type(ALICE)(name=name, mailbox=name)
            self.successResultOf(store.open(account, None))[1]()

    def test_empty_mailboxes_take_memory_too_and_are_forgotten(self) -> None:
        store = MaildirStore(self.bench.root, "{name}", run_now, cached_messages=100)
        self._others(store, 50)
        paths = [path.rpartition("/")[2] for path in store._mailboxes]
        self.assertEqual(paths, [f"other{number}" for number in range(45, 50)])


class GoneTests(MaildirCase):
    @pytest.mark.conformance("P-18", "X-C0004")
    def test_a_large_message_that_vanished_is_gone_before_anything_is_said(self) -> None:
        name = self.bench.deliver(b"x" * 300_000, "1700000001.M1P1.host,W=300002")
        maildrop = self.open(self.fresh(verify_octets=0))
        os.unlink(f"{self.maildir}/new/{name}")
        self.failureResultOf(maildrop.retrieve(0), MessageGone)


class TakenOverTests(MaildirCase):
    @pytest.mark.conformance("P-2", "P-3", "O-C0021")
    def test_a_size_that_dovecot_left_in_the_uidlist_is_checked_too(self) -> None:
        name = self.bench.deliver(b"a\nb")
        self.uidlist(f"3 V7 N5\n1 W4 :{name}\n")
        maildrop = self.open()
        self.assertEqual(self.sizes(maildrop), [6])
        self.assertEqual(len(self.message(maildrop, 0)), 6)


class ReaderTests(MaildirCase):
    """Another program acts between two steps of a reading."""

    def test_a_message_that_is_renamed_while_the_mailbox_is_read_is_listed(self) -> None:
        for number in range(3):
            self.bench.deliver(b"%d\r\n" % number)
        reader = Reader(self.maildir, MaildirOptions())
        measured = reader.sizer.measured

        def renaming(place: Place, file: str) -> object:
            for name in os.listdir(f"{self.maildir}/new"):
                os.rename(f"{self.maildir}/new/{name}", f"{self.maildir}/cur/{name}:2,")
            return measured(place, file)

        reader.sizer.measured = renaming  # type: ignore[method-assign,assignment]
        snapshot = reader.read(None)
        self.assertEqual(list(snapshot.listing.sizes), [3, 3, 3])
        self.assertEqual({file[:4] for file in snapshot.files}, {"cur/"})

    def test_a_message_that_is_removed_while_the_mailbox_is_read_is_left_out(self) -> None:
        name, _ = self.bench.deliver(b"one\r\n"), self.bench.deliver(b"two!\r\n")
        reader = Reader(self.maildir, MaildirOptions())
        measured = reader.sizer.measured

        def removing(place: Place, file: str) -> object:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.maildir}/new/{name}")
            return measured(place, file)

        reader.sizer.measured = removing  # type: ignore[method-assign,assignment]
        self.assertEqual(list(reader.read(None).listing.sizes), [6])

    def test_as_many_new_messages_as_were_removed_are_all_looked_at(self) -> None:
        first = self.bench.deliver(b"one\r\n")
        reader = Reader(self.maildir, MaildirOptions())
        before = reader.read(None)
        os.unlink(f"{self.maildir}/new/{first}")
        second = self.bench.deliver(b"other\r\n")
        with open(f"{self.maildir}/dovecot-uidlist", "a") as file:
            file.write(f"4000000000 :{second}\n")
        after = reader.read(before)
        self.assertEqual(list(after.listing.sizes), [7])
        self.assertEqual(list(after.listing.uids), ["4000000000"])


class RewriteTests(MaildirCase):
    """Another program gives ids while we measure, and then the list is to be rewritten."""

    def read_while(self, meanwhile: Callable[[], None]) -> None:
        """Read the mailbox; ``meanwhile`` happens before its new message gets an id."""
        reader = Reader(self.maildir, MaildirOptions())
        find = reader.sizer.find

        def finding(*args: Any) -> None:
            find(*args)
            meanwhile()

        reader.sizer.find = finding  # type: ignore[method-assign]
        reader.read(None)

    def append(self, text: str) -> None:
        with open(f"{self.maildir}/dovecot-uidlist", "a") as file:
            file.write(text)

    def test_an_id_that_another_program_gave_meanwhile_survives_a_rewrite(self) -> None:
        first = self.bench.deliver(b"one\r\n", "1700000001.M1P1.host,W=5")
        gone = "".join(f"{uid} :16000{uid}.gone\n" for uid in range(20, 1200))
        for due, tail in ((gone, ""), ("", "1799 :torn"), ("", "1799 W")):
            self.uidlist(f"3 V7 N3\n2 :{first}\n{due}")

            def delivering(tail: str = tail) -> None:
                name = self.bench.deliver(b"three\r\n", "1700000003.M3P1.host,W=7")
                self.append(f"1500 :{name}\n{tail}")

            name = self.bench.deliver(b"two\r\n", "1700000002.M2P1.host")
            self.read_while(delivering)
            self.assertEqual(self.ids(self.open(self.fresh())), ["2", "1500", "1501"])
            self.assertNotIn("gone", self.list_text())
            for base in (name, "1700000003.M3P1.host,W=7"):
                os.unlink(f"{self.maildir}/new/{base}")

    def test_a_line_that_is_younger_than_the_reading_survives_though_no_scan_shows_its_file(
        self,
    ) -> None:
        self.bench.deliver(b"one\r\n")
        self.uidlist("3 V7 N5\n3 :long.gone\n")
        self.read_while(lambda: self.append("8 P!old :1700000008.on.its.way\n9 :to"))
        self.assertIn("\n8 P!old :1700000008.on.its.way\n9 ", self.list_text())
        self.assertNotIn("long.gone", self.list_text())


class LinkTests(MaildirCase):
    """The user owns the Maildir and may put links there; the gateway may be root."""

    def setUp(self) -> None:
        super().setUp()
        self.bench.deliver(b"one\r\n")
        self.precious = os.path.abspath(f"{self.bench.root}/precious")
        with open(self.precious, "w") as file:
            file.write("3 V7 N5\n")

    def link(self, name: str, target: str) -> None:
        os.symlink(target, f"{self.maildir}/{name}")

    def untouched(self) -> bool:
        with open(self.precious) as file:
            return file.read() == "3 V7 N5\n" and not os.path.exists(f"{self.precious}.new")

    def test_what_stands_where_a_temporary_file_is_written_is_replaced(self) -> None:
        for target in (self.precious, f"{self.precious}.new"):
            self.link("dovecot-uidlist.lock.pop3gw", target)
            self.link("dovecot-uidlist.pop3gw", target)
            self.assertEqual(self.sizes(self.open(self.fresh())), [5])
            self.assertTrue(self.untouched())
            os.unlink(f"{self.maildir}/dovecot-uidlist")
            os.unlink(f"{self.maildir}/dovecot-uidlist.lock.pop3gw")

    def test_a_uidlist_that_is_none_but_a_link_or_a_fifo_is_for_the_administrator(self) -> None:
        self.link("dovecot-uidlist", self.precious)
        self.failureResultOf(self.fresh().open(ALICE, None), MailboxUnusable)
        self.assertTrue(self.untouched())
        os.unlink(f"{self.maildir}/dovecot-uidlist")
        os.mkfifo(f"{self.maildir}/dovecot-uidlist")
        error = self.failureResultOf(self.fresh().open(ALICE, None), MailboxUnusable)
        self.assertIn(f"{self.maildir}/dovecot-uidlist", str(error.value))

    def test_a_uidlist_that_becomes_a_link_is_not_written_through(self) -> None:
        uidlist = UidList(f"{self.maildir}/dovecot-uidlist")
        self.uidlist("3 V7 N5\n")
        uidlist.refresh()
        os.unlink(uidlist.path)
        self.link("dovecot-uidlist", self.precious)
        with self.assertRaises(OSError):
            uidlist.add(["a"], {}, now=0, there=1, keep=lambda _: ["a"])
        self.assertTrue(self.untouched())

    def test_a_link_in_place_of_the_session_lock_is_for_the_administrator(self) -> None:
        store = MaildirStore(self.bench.root, "{name}", run_now, exclusive=True)
        for target in (self.precious, f"{self.precious}.new"):
            self.link("pop3gw.lock", target)
            self.failureResultOf(store.open(ALICE, None), MailboxUnusable)
            self.assertTrue(self.untouched())
            os.unlink(f"{self.maildir}/pop3gw.lock")
        self.open(store)


class UnreadableTests(MaildirCase):
    """One message that cannot be read costs its user that message and no other."""

    def setUp(self) -> None:
        super().setUp()
        names = ("1700000001.M1P1.host", "1700000002.M2P1.host,W=99", "1700000003.M3P1.host,S=4")
        for name in names:
            self.bench.deliver(b"a\nb\n", name)

    def failing(self, number: int, *bad: str) -> contextlib.AbstractContextManager[object]:
        """Messages whose name begins with one of ``bad`` open but cannot be read."""
        read = os.read

        def reading(file: int, octets: int) -> bytes:
            name = os.path.basename(os.readlink(f"/proc/self/fd/{file}"))
            if name.startswith(bad):
                raise OSError(number, os.strerror(number))
            return read(file, octets)

        return mock.patch("gateway.store.maildir.folders.files.os.read", reading)

    def test_it_is_listed_with_a_guess_and_its_id_stays(self) -> None:
        with self.failing(errno.EIO, "1700000001", "1700000002"):
            maildrop = self.open()
            ids = self.ids(maildrop)
            self.assertEqual(self.sizes(maildrop), [4, 99, 6])
            self.failureResultOf(maildrop.retrieve(0), StoreDown)
            self.failureResultOf(maildrop.retrieve(1), StoreDown)
            self.assertEqual(self.message(maildrop, 2), b"a\r\nb\r\n")
        self.assertEqual(self.ids(self.open(self.fresh())), ids)

    def test_a_guess_is_never_written_down_and_put_right_as_soon_as_it_can_be_read(self) -> None:
        with self.failing(errno.EIO, "1700000001", "1700000002"):
            self.open()
        self.assertEqual(re.findall(r" W\d+ ", self.list_text()), [" W6 "])
        self.bench.deliver(b"new\n")
        self.assertEqual(self.sizes(self.open()), [6, 6, 6, 5])

    def test_once_it_can_be_read_it_is_sent_whole(self) -> None:
        with self.failing(errno.EIO, "1700000001"):
            maildrop = self.open()
        self.assertEqual(self.message(maildrop, 0), b"a\r\nb\r\n")

    def test_permissions_of_one_message_are_for_the_administrator(self) -> None:
        with self.failing(errno.EACCES, "1700000002"):
            maildrop = self.open()
            error = self.failureResultOf(maildrop.retrieve(1), MailboxUnusable)
        self.assertIn(f"{self.maildir}/new/1700000002.M2P1.host,W=99", str(error.value))

    def test_the_log_names_it_and_the_reason_once(self) -> None:
        with capturedLogs() as events, self.failing(errno.EIO, "1700000001", "1700000003"):
            for _ in range(3):
                self.open()
                self.bench.deliver(b"new\n")
        (line,) = [formatEvent(event) for event in events if "cannot be read" in str(event)]
        self.assertIn(f"{self.maildir}/new/1700000003.M3P1.host,S=4: Input/output error", line)
        self.assertIn("2 messages", line)

    def test_trouble_of_the_whole_process_is_no_messages_own(self) -> None:
        with self.failing(errno.ENOMEM, "1700000001"):
            self.failureResultOf(self.bench.store.open(ALICE, None), StoreDown)

    def without_status(self, number: int) -> contextlib.AbstractContextManager[object]:
        """Not even ``lstat`` of the first message tells anything."""
        lstat = os.lstat

        def failing(path: str, **where: int | None) -> os.stat_result:
            if "1700000001" in path:
                raise OSError(number, os.strerror(number))
            return lstat(path, **where)

        return mock.patch("gateway.store.maildir.listing.sizes.os.lstat", failing)

    def test_a_folder_that_may_not_be_entered_is_the_whole_mailboxs_trouble(self) -> None:
        with self.failing(errno.EACCES, "1700000001"), self.without_status(errno.EACCES):
            self.failureResultOf(self.bench.store.open(ALICE, None), MailboxUnusable)

    def test_a_message_of_which_the_disk_says_nothing_is_listed_as_empty(self) -> None:
        with self.failing(errno.EIO, "1700000001"), self.without_status(errno.EIO):
            self.assertEqual(self.sizes(self.open()), [0, 6, 6])

    def test_an_error_while_it_is_sent_names_it(self) -> None:
        maildrop = self.open()
        broken = OSError(errno.EIO, "Input/output error")
        with mock.patch("gateway.store.maildir.folders.files.os.preadv", side_effect=broken):
            body = self.successResultOf(maildrop.retrieve(0))
            error = self.assertRaises(StoreDown, body.read_now)
            body.close()
        self.assertIn(f"{self.maildir}/new/1700000001.M1P1.host: ", str(error))
