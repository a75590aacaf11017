"""``dovecot-uidlist``: Dovecot's format, and ids that never change."""

from __future__ import annotations

import contextlib
import os
import string
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import MailboxUnusable
from gateway.store.maildir.uids.ids import shown_ids
from gateway.store.maildir.uids.numbering import Numbering
from gateway.store.maildir.uids.uidlines import HIGHEST, LARGEST_UID
from gateway.store.maildir.uids.uidlist import UidList

NOW = 1_790_000_000.5

EXAMPLE = (
    b"3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1 Xunknown\n"
    b"25006 :1276528487.M364837P9451.host,S=1355,W=1394:2,S\n"
    b"25017 W2481 Pold-1 O7 Gabc :1276533073.M242911P3632.host\n"
)

names = st.text(string.ascii_letters + string.digits + "._,=", min_size=1, max_size=12)


class UidListTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = self.mktemp()
        os.mkdir(directory)
        self.path = f"{directory}/dovecot-uidlist"

    def write(self, data: bytes, mode: str = "wb") -> None:
        with open(self.path, mode) as file:
            file.write(data)

    def content(self) -> bytes:
        with open(self.path, "rb") as file:
            return file.read()

    def read(self) -> UidList:
        uidlist = UidList(self.path)
        uidlist.refresh()
        return uidlist

    def add(
        self,
        uidlist: UidList,
        new: list[str],
        fields: dict[str, str] | None = None,
        *,
        now: float = NOW,
        keep: Collection[str] = (),
    ) -> None:
        uidlist.add(new, fields or {}, now=now, there=len(keep), keep=lambda _: keep)

    def test_dovecots_own_file_is_read_with_all_its_fields(self) -> None:
        self.write(EXAMPLE)
        uidlist = self.read()
        first, second = uidlist.uids
        self.assertEqual(first, "1276528487.M364837P9451.host,S=1355,W=1394")
        self.assertEqual(list(uidlist.uids.values()), [25006, 25017])
        self.assertEqual((uidlist.uidvalidity, uidlist.next_uid), (1275660208, 25022))
        self.assertEqual(uidlist.field(second, "P"), "old-1")
        self.assertEqual(uidlist.field(second, "W"), "2481")
        self.assertIsNone(uidlist.field(first, "P"))

    def test_a_version_1_file_is_read_and_rewritten_as_version_3(self) -> None:
        self.write(b"1 1275660208 8\n3 a.b\n7 c.d\n")
        uidlist = self.read()
        self.assertEqual(uidlist.uids, {"a.b": 3, "c.d": 7})
        self.add(uidlist, ["e.f"], keep=["a.b", "c.d", "e.f"])
        self.assertEqual(self.content(), b"3 V1275660208 N9\n3 :a.b\n7 :c.d\n8 :e.f\n")

    def test_a_file_that_grew_is_read_from_where_it_was_left(self) -> None:
        self.write(EXAMPLE)
        uidlist = self.read()
        self.write(b"25022 :new.one\n", "ab")
        uidlist.refresh()
        self.assertEqual(uidlist.uids["new.one"], 25022)
        self.assertEqual(uidlist.next_uid, 25023)

    def test_a_file_that_was_replaced_is_read_again(self) -> None:
        self.write(EXAMPLE)
        uidlist = self.read()
        os.unlink(self.path)
        self.write(b"3 V5 N9\n8 :other.one\n")
        uidlist.refresh()
        self.assertEqual(uidlist.uids, {"other.one": 8})
        self.assertEqual(uidlist.uidvalidity, 5)

    def test_of_two_lines_for_one_file_the_later_wins(self) -> None:
        self.write(b"3 V5 N9\n7 Pa :one\n8 :one\n")
        uidlist = self.read()
        self.assertEqual((uidlist.uids, uidlist.fields), ({"one": 8}, {}))

    def test_a_line_without_its_end_is_not_there(self) -> None:
        self.write(b"3 V5 N9\n7 :one\n8 :tw")
        uidlist = self.read()
        self.assertEqual(uidlist.uids, {"one": 7})
        self.assertTrue(uidlist.torn)

    def test_after_a_torn_line_the_file_is_rewritten_whole(self) -> None:
        self.write(b"3 V5 N9 Gx\n7 Pq :one\n8 :tw")
        uidlist = self.read()
        self.add(uidlist, ["two"], keep=["one", "two"])
        self.assertEqual(self.content(), b"3 V5 N10 Gx\n7 Pq :one\n9 :two\n")

    def test_new_ids_are_appended_and_the_rest_is_left_alone(self) -> None:
        self.write(EXAMPLE)
        uidlist = self.read()
        self.add(uidlist, ["x", "y"], {"x": "W3"})
        self.assertEqual(self.content(), EXAMPLE + b"25022 W3 :x\n25023 :y\n")

    def test_a_header_that_is_none_stops_everything(self) -> None:
        for header in (b"hello\n", b"2 V1 N2\n", b"3 V1\n", b"3 Vx N2\n", b"\n", b"1 5\n"):
            self.write(header)
            error = self.assertRaises(MailboxUnusable, self.read)
            self.assertIn("line 1", str(error))

    @pytest.mark.conformance("X-C0008", "P-20")
    def test_a_lost_list_starts_beyond_every_id_that_was_ever_shown(self) -> None:
        uidlist = self.read()
        self.add(uidlist, ["a"], keep=["a"])
        os.unlink(self.path)
        again = self.read()
        self.add(again, ["b"], now=NOW + 60, keep=["b"])
        self.assertGreater(again.uids["b"], uidlist.uids["a"])

    def test_a_removed_messages_id_is_not_given_again_after_a_rewrite(self) -> None:
        uidlist = self.read()
        self.add(uidlist, [f"m{n}" for n in range(1500)], keep=["m0"])
        last = uidlist.next_uid - 1
        self.add(uidlist, ["n"], keep=["m0", "n"])
        self.assertEqual(list(self.read().uids), ["m0", "n"])
        self.assertEqual(self.read().uids["n"], last + 1)

    def test_ids_that_run_out_are_refused_and_nothing_is_written(self) -> None:
        self.write(b"3 V5 N%d\n" % HIGHEST)
        with self.assertRaises(MailboxUnusable) as raised:
            self.add(self.read(), ["a", "b"], keep=["a", "b"])
        self.assertIn("move the file away", str(raised.exception))
        self.assertEqual(self.content(), b"3 V5 N%d\n" % HIGHEST)

    def test_a_rewritten_list_keeps_its_mode(self) -> None:
        self.write(b"3 V5 N9\n7 :on")
        os.chmod(self.path, 0o640)
        self.add(self.read(), ["a"], keep=["a"])
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640)

    def test_lines_that_end_as_on_windows_say_what_they_say(self) -> None:
        self.write(EXAMPLE.replace(b"\n", b"\r\n"))
        uidlist = self.read()
        plain = UidList(self.path)
        self.write(EXAMPLE)
        plain.refresh()
        self.assertEqual((uidlist.uids, uidlist.fields), (plain.uids, plain.fields))
        self.assertEqual((uidlist.next_uid, uidlist.faults), (plain.next_uid, []))

    def test_what_an_editor_begins_a_file_with_is_left_out(self) -> None:
        self.write(b"\xef\xbb\xbf3 V5 N9\r\n7 Pmine :a\r\n")
        uidlist = self.read()
        self.assertEqual((uidlist.uids, uidlist.field("a", "P")), ({"a": 7}, "mine"))
        self.add(uidlist, ["b"], keep=["a", "b"])
        self.assertEqual(self.content(), b"3 V5 N9\n7 Pmine :a\n9 :b\n".replace(b"N9", b"N10"))

    def test_numbers_that_no_mailbox_gets_to_give_way_and_are_shown_as_before(self) -> None:
        for number in (b"4294967295", b"%d" % LARGEST_UID, b"9" * 30):
            self.write(b"3 V5 N9\n7 :a\n" + number + b" W3 :b\n8 :c\n")
            uidlist = self.read()
            self.assertEqual(uidlist.uids, {"a": 7, "c": 8})
            self.add(uidlist, ["b"], keep=["a", "b", "c"])
            line = b"9 P" + number + b" W3 :b\n"
            self.assertEqual(self.content(), b"3 V5 N10\n7 :a\n8 :c\n" + line)
            again = self.read()
            self.assertEqual(shown_ids(again, ["b"]), [number.decode()])

    def test_a_next_number_that_no_mailbox_gets_to_is_found_anew(self) -> None:
        for number in (LARGEST_UID, LARGEST_UID + 1, 10**4400):
            text = "9" * 4400 if number > 2**40 else str(number)
            self.write(f"3 V5 N{text}\n7 :a\n".encode())
            uidlist = self.read()
            self.add(uidlist, ["b"], keep=["a", "b"])
            self.assertEqual(self.read().uids, {"a": 7, "b": int(NOW)})

    def test_numbers_of_any_length_in_any_place_are_no_crash(self) -> None:
        long = "1" * 5000
        for text in (f"3 V{long} N2\n", f"1 {long} 2\n", f"3 V5 N{long}\n", f"1 5 {long}\n"):
            self.write(f"{text}{long} O{long} P{long} W{long} :a\n1 O{long} W{long} :b\n".encode())
            uidlist = UidList(self.path)
            with contextlib.suppress(MailboxUnusable):
                uidlist.refresh()
                self.add(uidlist, ["a"], keep=["a", "b"])
                shown_ids(self.read(), ["a"])

    def test_of_two_messages_with_one_number_the_later_gets_its_own_and_keeps_the_rest(
        self,
    ) -> None:
        self.write(b"3 V5 N9\n5 :a\n5 Pold W7 :b\n6 :c\n5 :d\n")
        uidlist = self.read()
        self.assertEqual(uidlist.uids, {"a": 5, "c": 6})
        self.add(uidlist, ["b", "d"], {"b": "W8"}, keep=["a", "b", "c", "d"])
        self.assertEqual(self.content(), b"3 V5 N11\n5 :a\n6 :c\n9 Pold W8 :b\n10 :d\n")

    def test_the_log_says_which_lines_do_not_read_and_the_list_is_written_without_them(
        self,
    ) -> None:
        for writer in (UidList, Numbering):
            self.write(b"3 V5 N9\n5 :a\nhello\n0 :b\n7 \n:c\n")
            uidlist = writer(self.path)
            uidlist.refresh()
            with capturedLogs() as events:
                if isinstance(uidlist, Numbering):
                    uidlist.number(["x"], now=NOW, keep=lambda _: {"a"})
                else:
                    self.add(uidlist, ["x"], keep=["a"])
            (line,) = [formatEvent(event) for event in events]
            self.assertIn(
                "4 lines do not read and are left out, the first is line 3: 'hello'", line
            )
            self.assertEqual(self.content(), b"3 V5 N10\n5 :a\n9 :x\n")
            with open(f"{self.path}.damaged", "rb") as file:
                self.assertEqual(file.read(), b"3 V5 N9\n5 :a\nhello\n0 :b\n7 \n:c\n")

    @pytest.mark.conformance("X-C0008", "X-C0009", "O-C0041")
    def test_of_two_messages_with_one_carried_id_the_later_never_comes_by_it(self) -> None:
        self.write(b"3 V5 N9\n5 Px :a\n6 Px :b\n7 P5.x :c\n8 Px.6 :d\n")
        uidlist = self.read()
        both = shown_ids(uidlist, ["a", "b", "c", "d"])
        self.assertEqual(len(set(both)), 4)
        self.assertEqual(shown_ids(uidlist, ["b", "c", "d"]), both[1:])
        self.write(b"10 :to", "ab")
        self.add(self.read(), ["e"], keep=["b", "c", "d"])
        self.assertEqual(shown_ids(self.read(), ["b", "c", "d"]), both[1:])

    def test_a_list_in_any_order_is_read_at_once(self) -> None:
        count = 50_000
        lines = "".join(f"{count - number} :m{number}\n" for number in range(count))
        self.write(f"3 V5 N9\n{lines}".encode())
        self.assertEqual(len(self.read().uids), count)

    @given(st.lists(st.tuples(st.integers(0, 9), names), max_size=12))
    def test_no_two_messages_ever_have_one_number(self, lines: list[tuple[int, str]]) -> None:
        self.write(b"3 V5 N9\n" + "".join(f"{uid} :{name}\n" for uid, name in lines).encode())
        uids = list(self.read().uids.values())
        self.assertEqual(len(set(uids)), len(uids))

    @given(st.lists(names, unique=True, max_size=20), st.data())
    def test_what_is_added_is_read_back_whatever_was_read_before(
        self, bases: list[str], data: st.DataObject
    ) -> None:
        if os.path.exists(self.path):
            os.unlink(self.path)
        writer, reader = self.read(), self.read()
        rest = bases
        while rest:
            count = data.draw(st.integers(1, len(rest)))
            self.add(writer, rest[:count], keep=bases)
            rest = rest[count:]
            if data.draw(st.booleans()):
                reader.refresh()
        reader.refresh()
        self.assertEqual(list(reader.uids.items()), list(writer.uids.items()))
        self.assertEqual(list(self.read().uids), bases)

    def test_a_batch_of_any_length_that_is_delivered_leaves_all_other_lines(self) -> None:
        before = "".join(f"{uid} :old{uid}\n" for uid in range(1, 2001))
        for start in ("", "3 V5 N2001\n", f"3 V5 N2001\n{before}"):
            for count in (1, 1001, 3000):
                self.write(start.encode())
                numbers = Numbering(self.path)
                for batch in range(2):
                    new = [f"new{batch}.{number}" for number in range(count)]
                    numbers.number(new, now=NOW, keep=lambda listed: listed)
                    numbers.refresh()
                self.assertTrue(self.content().startswith(start.encode()))
                self.assertEqual(len(self.read().uids), start.count(":") + 2 * count)

    @given(st.binary(max_size=300))
    def test_no_file_crashes_the_reader(self, data: bytes) -> None:
        self.write(b"3 V5 N9\n" + data)
        self.assertTrue(all(uid >= 0 for uid in self.read().uids.values()))

    def test_a_replaced_list_is_known_though_the_file_system_gives_its_inode_again(self) -> None:
        self.write(b"3 V1 N4\n1 :a\n2 :b\n3 :c\n")
        uidlist = self.read()
        with open(self.path, "r+b") as file:  # the same inode, another content
            file.truncate()
            file.write(b"3 V1 N6\n2 :b\n3 :c\n4 :d\n5 :e\n")
        uidlist.refresh()
        self.assertEqual(uidlist.uids, {"b": 2, "c": 3, "d": 4, "e": 5})
