"""``maildirsize``: what Dovecot, maildrop and Courier write there, and what nobody should."""

from __future__ import annotations

import errno
import os
from contextlib import AbstractContextManager
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import Limits, Usage
from gateway.store.maildir.delivery import maildirsize
from gateway.store.maildir.delivery.maildirsize import LONGEST, SETTLED, Totals, parse
from gateway.store.maildir.folders.place import FOLDERS, open_place

NOW = 1_700_000_000.0
LIMITS = maildirsize.definition_of(Limits(octets=1000, messages=10))

numbers = st.integers(-(10**18) + 1, 10**18 - 1)


class ParseTests(SynchronousTestCase):
    def test_numbers_are_added_up_however_they_are_padded(self) -> None:
        totals = parse(b"1000S,10C\n  500   3  \n-100 -1\n+7\t+1     \n")
        assert totals is not None
        self.assertEqual((totals.definition, totals.usage), ((1000, 10), Usage(407, 3)))
        self.assertEqual(totals.lines, 3)

    def test_no_limit_may_be_written_in_several_ways(self) -> None:
        for first, wanted in ((b"", (0, 0)), (b"0S", (0, 0)), (b"5C", (0, 5)), (b"5S", (5, 0))):
            totals = parse(first + b"\n1 1\n")
            assert totals is not None
            self.assertEqual(totals.definition, wanted)

    def test_what_is_odd_is_counted_anew(self) -> None:
        good = b"1000S\n5 1\n"
        odd = [
            *(b"", b"\n", b"1000S\n", b"1000S", good[:-1], good + b"5 1", good + b"\n"),
            *(good + b"five 1\n", good + b"5\n", good + b"5 1 1\n", good + b"\0\0\0\n"),
            *(good + b"-6 -1\n", good + b"5 -2\n", good + b"1" * 30 + b" 1\n"),
            *(b"1000X\n5 1\n", b"1000S;5C\n5 1\n", b"5 1\n5 1\n", "\u0665S\n5 1\n".encode()),
            good + b"0 0\n" * ((LONGEST - len(good)) // 4 + 1),
        ]
        for data in odd:
            self.assertIsNone(parse(data), data)

    @given(st.binary(max_size=200) | st.text("0123456789SC,- \n\r\t", max_size=80).map(str.encode))
    def test_any_octets_are_totals_or_are_not(self, data: bytes) -> None:
        totals = parse(data)
        self.assertTrue(totals is None or (totals.octets >= 0 and totals.messages >= 0))

    @given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=60), st.integers(0, 60))
    def test_what_was_added_up_before_is_the_same_as_adding_up_all(
        self, lines: list[tuple[int, int]], known: int
    ) -> None:
        texts = [b"9S,9C\n", *(b"%d %d\n" % line for line in lines)]
        data = b"".join(texts)
        before = parse(b"".join(texts[:known]))
        self.assertEqual(parse(data, before=before), parse(data))
        sums = [sum(column) for column in zip(*lines, strict=True)]
        totals = parse(data)
        if totals is None:
            self.assertTrue(min(sums) < 0 or len(data) >= LONGEST)
        else:
            self.assertEqual([totals.octets, totals.messages], sums)

    def test_another_file_that_is_longer_is_not_taken_for_the_same(self) -> None:
        before = parse(b"1000S\n5 1\n")
        totals = parse(b"2000S\n6 1\n7 1\n", before=before)
        assert totals is not None
        self.assertEqual((totals.definition, totals.usage), ((2000, 0), Usage(13, 2)))


class DoubtTests(SynchronousTestCase):
    def doubtful(self, octets: int, lines: int, age: float) -> bool:
        return Totals((1000, 0), octets, 1, lines, NOW - age).is_doubtful(NOW)

    def test_full_is_doubted_where_it_was_added_up_or_is_old(self) -> None:
        self.assertFalse(self.doubtful(1001, 1, 0))
        self.assertTrue(self.doubtful(1001, 2, 0))
        self.assertTrue(self.doubtful(1001, 1, SETTLED))

    def test_nearly_full_is_doubted_when_it_is_old(self) -> None:
        self.assertFalse(self.doubtful(800, 9, 0))
        self.assertTrue(self.doubtful(800, 9, SETTLED))
        self.assertFalse(self.doubtful(700, 9, 10 * SETTLED))

    def test_without_a_limit_nothing_is_full(self) -> None:
        self.assertFalse(Totals((0, 0), 10**12, 10**9, 5, 0).is_doubtful(NOW))


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.maildir = self.mktemp()
        self.path = f"{self.maildir}/maildirsize"
        self.make_folder("")
        self.place = open_place(self.maildir, FOLDERS)
        self.addCleanup(self.place.close)

    def make_folder(self, name: str) -> None:
        for kind in ("tmp", "new", "cur"):
            os.makedirs(f"{self.maildir}/{name}/{kind}")

    def put(self, name: str, octets: int = 100) -> None:
        with open(f"{self.maildir}/{name}", "wb") as file:
            file.write(b"x" * octets)

    def write(self, content: bytes) -> None:
        with open(self.path, "wb") as file:
            file.write(content)

    def content(self) -> bytes:
        with open(self.path, "rb") as file:
            return file.read()

    def current(self, now: float = NOW) -> Usage:
        return maildirsize.current(self.place, LIMITS, now=now).usage

    def test_what_is_appended_is_known_without_reading(self) -> None:
        maildirsize.count(self.place, LIMITS, now=NOW)
        before = maildirsize.read(self.place)
        for _ in range(3):
            before = maildirsize.append(self.place, 50, 1, before)
            self.assertIsNotNone(before)
            self.assertEqual(before, maildirsize.read(self.place))
            self.assertIs(before, maildirsize.read(self.place, before))

    def test_a_line_of_another_program_is_read(self) -> None:
        maildirsize.count(self.place, LIMITS, now=NOW)
        before = maildirsize.read(self.place)
        with open(self.path, "a") as file:
            file.write("7 1\n")
        totals = maildirsize.read(self.place, before)
        assert totals is not None
        self.assertEqual(totals.usage, Usage(7, 1))
        self.assertIsNone(maildirsize.append(self.place, 50, 1, before))
        totals = maildirsize.read(self.place, before)
        assert totals is not None
        self.assertEqual(totals.usage, Usage(57, 2))

    def test_a_count_takes_all_folders_but_the_trash(self) -> None:
        for folder in (".Sent", ".Sent.2023", ".Trash"):
            self.make_folder(folder)
        self.put("new/1.a", 10)
        self.put("cur/2.a,S=20,W=21:2,ST", 1)
        self.put("cur/.hidden", 1000)
        self.put("tmp/3.a", 1000)
        self.put(".Sent/cur/4.a,S=300:2,S", 1)
        self.put(".Sent.2023/new/5.a", 4000)
        self.put(".Trash/cur/6.a:2,S", 50000)
        self.put(".file", 1000)
        os.symlink(f"{self.maildir}/.Sent", f"{self.maildir}/.Linked")
        self.assertEqual(self.current(), Usage(4330, 4))
        self.assertEqual(self.content(), b"1000S,10C\n4330 4\n")

    def test_what_is_right_is_believed_and_left_alone(self) -> None:
        self.write(b"1000S,10C\n50 1\n60 1\n")
        self.assertEqual(self.current(), Usage(110, 2))
        self.assertEqual(self.content(), b"1000S,10C\n50 1\n60 1\n")

    def test_other_limits_odd_lines_and_length_take_a_count(self) -> None:
        self.put("new/1.a", 10)
        long = b"1000S,10C\n" + b"1 0\n" * (LONGEST // 4)
        for content in (b"999S,10C\n50 1\n", b"1000S\n50 1\n", b"garbage\n", b"", long):
            self.write(content)
            self.assertEqual(self.current(), Usage(10, 1))
            self.assertEqual(self.content(), b"1000S,10C\n10 1\n")

    def test_full_is_counted_unless_that_was_just_done(self) -> None:
        self.write(b"1000S,10C\n2000 1\n")
        os.utime(self.path, (NOW, NOW))
        self.assertEqual(self.current(NOW + 60), Usage(2000, 1))
        self.assertEqual(self.current(NOW + SETTLED), Usage(0, 0))

    def test_full_is_counted_where_its_time_is_yet_to_come(self) -> None:
        self.write(b"1000S,10C\n2000 1\n")
        os.utime(self.path, (NOW + 1e8, NOW + 1e8))
        self.assertEqual(self.current(NOW), Usage(0, 0))

    def arriving(self, messages: int) -> AbstractContextManager[object]:
        """So many messages of 5 octets come, each just after ``new`` has been read."""
        really, left = os.listdir, iter(range(messages))

        def listed(directory: str) -> list[str]:
            found = really(directory)
            if directory == f"{self.maildir}/new" and (number := next(left, None)) is not None:
                self.put(f"new/{number}.late", 5)
                # A moment of its own, however coarse the file system's clock is.
                os.utime(directory, (NOW, NOW + number))
            return found

        return mock.patch.object(os, "listdir", listed)

    def test_a_mailbox_that_changes_all_the_while_is_left_without_a_file(self) -> None:
        self.put("new/1.a", 10)
        with self.arriving(100):
            self.assertEqual(self.current(), Usage(25, 4))
        self.assertEqual(len(os.listdir(f"{self.maildir}/new")), 5)
        self.assertFalse(os.path.exists(self.path))

    def test_a_change_while_it_is_counted_takes_another_count(self) -> None:
        self.put("new/1.a", 10)
        with self.arriving(1):
            self.assertEqual(self.current(), Usage(15, 2))
        self.assertEqual(self.content(), b"1000S,10C\n15 2\n")

    def test_an_appended_line_is_there_and_none_is_where_there_is_no_file(self) -> None:
        maildirsize.append(self.place, 5, 1)
        self.assertFalse(maildirsize.exists(self.place))
        self.write(b"1000S,10C\n50 1\n")
        maildirsize.append(self.place, -5, -1)
        self.assertEqual(self.content(), b"1000S,10C\n50 1\n-5 -1\n")

    def test_a_line_that_cannot_be_written_takes_the_file_away(self) -> None:
        full = mock.Mock(side_effect=OSError(errno.ENOSPC, "full"))
        for write in (full, lambda _, data: len(data) - 1):
            self.write(b"1000S,10C\n50 1\n")
            with mock.patch("gateway.store.maildir.delivery.maildirsize.os.write", write):
                maildirsize.append(self.place, 5, 1)
            self.assertFalse(maildirsize.exists(self.place))

    def test_with_no_room_for_the_file_the_count_is_right_all_the_same(self) -> None:
        self.put("new/1.a", 10)
        full = OSError(errno.ENOSPC, "full")
        with mock.patch("gateway.store.maildir.folders.files.os.write", side_effect=full):
            self.assertEqual(self.current(), Usage(10, 1))
        self.assertEqual(sorted(os.listdir(self.maildir)), ["cur", "new", "tmp"])

    def test_links_and_fifos_of_a_users_are_replaced_and_not_followed(self) -> None:
        precious = self.mktemp()
        with open(precious, "w") as file:
            file.write("1000S,10C\n7 7\n")
        self.put("new/1.a", 10)
        for plant in (lambda: os.symlink(precious, self.path), lambda: os.mkfifo(self.path)):
            plant()
            self.assertEqual(self.current(), Usage(10, 1))
            self.assertEqual(self.content(), b"1000S,10C\n10 1\n")
            os.unlink(self.path)
        os.symlink(precious, self.path)
        maildirsize.append(self.place, 5, 1)
        with open(precious) as file:
            self.assertEqual(file.read(), "1000S,10C\n7 7\n")

    def test_it_belongs_to_whom_the_maildir_belongs(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.maildir, 12345, 12346)
            self.place = open_place(self.maildir, FOLDERS)
            self.addCleanup(self.place.close)
            self.current()
            status = os.stat(self.path)
            self.assertEqual((status.st_uid, status.st_gid), (12345, 12346))
