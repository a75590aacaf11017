"""The search of the audit log: newest first, in parts, over rotations and damage."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.retention import Audit as AuditSettings
from gateway.errors import BadRequest, NotSupported
from gateway.model import AuditQuery, Reason, Removed
from gateway.operations.mail.audit import AuditPage, search_audit
from gateway.state.audit import Audit
from gateway.state.audit_search import _backwards, find_lines
from memory_tools import NOW, OperationCase


class AuditCase(OperationCase):
    def setUp(self) -> None:
        super().setUp()
        self.place = Path(self.mktemp())
        self.place.mkdir()
        self.path = str(self.place / "audit.log")
        self.settings = evolve(self.settings, audit=AuditSettings(path=os.path.abspath(self.path)))

    def write(self, *uids: int, mailbox: str = "bob", keep: int = 3, **fields: Any) -> None:
        """Messages are removed, a second later each."""
        log = Audit(self.path, max_octets=3000, keep=keep, now=lambda: self.now)
        for uid in uids:
            self.now += 1
            message_id = f"<{uid}@example.org>"
            cause = Reason(**fields) if fields else Reason(rule="read 7d")
            log([Removed("discard", mailbox, str(uid), message_id, 9, NOW - 50, None, cause)])

    def search(self, **arguments: Any) -> AuditPage:
        """What a search finds."""
        found = self.ask(search_audit, **arguments)
        assert isinstance(found, AuditPage)
        return found

    def uids(self, **arguments: Any) -> list[int]:
        """The unique-ids of the messages that a search finds."""
        return [int(one.uid) for one in self.search(**arguments).items]


class SearchTests(AuditCase):
    def test_the_newest_entry_comes_first_with_all_that_is_known(self) -> None:
        self.write(1)
        self.write(2, session="s1", client="192.0.2.1")
        two, one = self.search().items
        self.assertEqual((one.uid, one.rule, one.session), ("1", "read 7d", ""))
        self.assertEqual((two.session, two.client, two.at), ("s1", "192.0.2.1", NOW + 2))
        self.assertEqual((one.octets, one.received, one.read), (9, NOW - 50, None))

    def test_older_files_are_read_too_and_none_twice(self) -> None:
        self.write(*range(40))
        self.assertTrue((self.place / "audit.log.3").exists())
        found = self.uids()
        self.assertEqual(found, list(range(39, 39 - len(found), -1)))
        self.assertGreater(len(found), 30)

    def test_entries_fit_all_that_is_asked_for(self) -> None:
        self.write(1, 2)
        self.write(3, mailbox="bobby")
        self.write(4, operator="token desk")
        self.assertEqual(self.uids(mailbox="bob"), [4, 2, 1])
        self.assertEqual(self.uids(mailbox="bob", operator="token desk"), [4])
        self.assertEqual(self.uids(message_id="2@example.org"), [2])
        self.assertEqual(self.uids(message_id="<2@example.org>"), [2])
        self.assertEqual(self.uids(since=NOW + 2, until=NOW + 4), [3, 2])
        self.assertEqual(self.uids(action="hide"), [])
        self.assertEqual(self.uids(mailbox='"; drop\n'), [])

    def test_a_cursor_goes_on_behind_the_last_entry_though_the_files_rotate(self) -> None:
        self.write(*range(20), keep=9)
        found, page = [], self.search(most=3)
        while True:
            found += [int(one.uid) for one in page.items]
            if not page.cursor:
                break
            self.write(100, keep=9)
            page = self.search(most=3, cursor=page.cursor)
        self.assertEqual(found, list(range(19, -1, -1)))

    def test_a_cursor_of_a_file_that_is_gone_has_nothing_behind_it(self) -> None:
        self.write(*range(40))
        self.assertEqual(self.search(cursor="1:500"), AuditPage((), "", 0))

    def test_a_cursor_that_is_none_is_an_error_that_says_where_they_come_from(self) -> None:
        for cursor in ("x", "1", "1:2:3", "-1:2", "1:" + "9" * 50, "../etc/passwd:0", "١:٢"):
            error = self.fault(search_audit, cursor=cursor)
            self.assertIsInstance(error, BadRequest)
            self.assertIn("answer before", str(error))

    def test_damaged_lines_are_counted_and_the_others_found(self) -> None:
        self.write(1)
        with open(self.path, "ab") as file:
            file.write(b"\xff\x00\n[]\n{}\n" + json.dumps({"time": 5}).encode() + b"\n")
            file.write(b"x" * (3 * 2**20) + b"\n\n")
        log = Audit(self.path, max_octets=10**9, keep=3, now=lambda: NOW)
        log([Removed("hide", "bob", "2", None, 9, NOW, NOW, Reason())])
        with open(self.path, "ab") as file:
            file.write(b'{"time": "half a li')
        found = self.search()
        self.assertEqual([one.uid for one in found.items], ["2", "1"])
        self.assertEqual(found.damaged, 5)

    def test_a_question_reads_a_bounded_part_and_the_cursor_leads_on(self) -> None:
        self.write(1)
        with open(self.path, "ab") as file:
            file.write(b"{}\n" * 100_000)
        found = find_lines(self.path, AuditQuery({"uid": "1"}), most=5, octets=100_000)
        self.assertEqual(found.lines, [])
        questions = 1
        while found.cursor:
            found = find_lines(
                self.path, AuditQuery({"uid": "1"}), most=5, octets=100_000, cursor=found.cursor
            )
            questions += 1
        self.assertEqual([one.uid for one in found.lines], ["1"])
        self.assertGreater(questions, 2)

    def test_entries_older_than_asked_for_are_not_read(self) -> None:
        self.write(1)
        with open(self.path, "ab") as file:
            file.write(b"{}\n" * 100)
        self.now += 7200
        self.write(2)
        self.now += 7200
        self.write(3)
        self.assertEqual(self.search(since=self.now).damaged, 0)
        self.assertEqual(self.search(since=self.now, mailbox="bob").damaged, 0)

    def test_without_a_log_the_cure_is_the_setting(self) -> None:
        self.settings = evolve(self.settings, audit=AuditSettings(path=""))
        error = self.fault(search_audit)
        self.assertIsInstance(error, NotSupported)
        self.assertIn("audit.path", str(error))

    def test_a_log_that_has_no_file_yet_is_empty(self) -> None:
        self.assertEqual(self.search(), AuditPage((), "", 0))


class BackwardsTests(AuditCase):
    """Reading lines backwards is splitting the text, wherever blocks begin."""

    @given(
        st.lists(st.integers(0, 70_000), max_size=6),
        st.sampled_from([b"", b"half a line"]),
    )
    def test_lines_and_their_places(self, sizes: list[int], rest: bytes) -> None:
        lines = [bytes([65 + n % 26]) * size for n, size in enumerate(sizes)]
        text = b"".join(line + b"\n" for line in lines) + rest
        path = self.place / "text"
        path.write_bytes(text)
        file = os.open(path, os.O_RDONLY)
        try:
            spent: list[int] = []
            found = list(_backwards(file, len(text), spent.append))
        finally:
            os.close(file)
        # An empty line at the very start of the file is nothing.
        self.assertEqual(
            [line for line, _ in found if line], [line for line in lines[::-1] if line]
        )
        for line, start in found:
            self.assertEqual(text[start : start + len(line) + 1], line + b"\n")
        self.assertEqual(sum(spent), len(text))
