"""Retention policies as text."""

from __future__ import annotations

import re

from attrs import fields
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import RetentionMalformed
from gateway.model import UNLIMITED
from gateway.retention import text as module
from gateway.retention.rules import Policy
from gateway.retention.text import LONGEST, NOTHING, parse, text_of

DAY = 86_400

TIMES = st.none() | st.integers(0, LONGEST) | st.integers(0, 400).map(lambda days: days * DAY)
POLICIES = st.builds(
    Policy,
    unread=TIMES,
    read=TIMES,
    any=TIMES,
    newest=st.none() | st.integers(0, 999_999_999),
    size=st.none() | st.integers(0, UNLIMITED - 1),
    floor=TIMES,
    hold=st.booleans(),
    hide=TIMES,
)
PIECES = st.sampled_from([*(one.name for one in fields(Policy)), *NOTHING])
NEARLY = st.lists(
    PIECES | st.sampled_from(["60d", "7", "1.5G", ",", ",", "w", " ", "\n"]) | st.text(max_size=3)
).map(" ".join)


class ReadTests(SynchronousTestCase):
    def test_policies_are_read_as_people_write_them(self) -> None:
        for text, policy in {
            "unread 60d, read 7d": Policy(unread=60 * DAY, read=7 * DAY),
            "read 7d,unread 60d": Policy(unread=60 * DAY, read=7 * DAY),
            " Any 1Y ,\n Floor 12 h ": Policy(any=365 * DAY, floor=12 * 3600),
            "newest 1000, size 1.5 GB": Policy(newest=1000, size=3 * 2**29),
            "size 500m, hide 2w": Policy(size=500 * 2**20, hide=14 * DAY),
            "size 2T, unread 90min, read 30s": Policy(unread=5400, read=30, size=2 * 2**40),
            "hold": Policy(hold=True),
            "HOLD, any 0d": Policy(any=0, hold=True),
            "never": Policy(),
            " None ": Policy(),
        }.items():
            with self.subTest(text=text):
                self.assertEqual(parse(text), policy)

    def test_what_is_wrong_is_named_with_its_column_and_the_cure(self) -> None:
        names = "unread, read, any, newest, size, floor, hold, hide, never, none"
        units = "the units s, min, h, d, w, y"
        for text, fault in {
            "": "column 1: '': expected an item, as in 'unread 60d, read 7d'",
            "any 1d, ": "column 9: '': expected an item, as in 'unread 60d, read 7d'",
            "raed 7d": f"column 1: 'raed': expected one of {names}, as in 'unread 60d, read 7d'",
            "any 1d,  7d read": f"column 10: '7d': expected one of {names}, as in"
            " 'unread 60d, read 7d'",
            "unread 60, any 1d": f"column 8: '60': expected 60 with one of {units}, as 60d",
            "any 3 months": f"column 5: '3 months': expected 3 with one of {units}, as 3d",
            "unread 2m": f"column 8: '2m': expected 2 with one of {units}, as 2d",
            "any 1.5d": "column 5: '1.5d': expected a whole number with its unit, as 60d",
            "any １d": "column 5: '１d': expected a whole number with its unit, as 60d",
            "any 1001y": "column 5: '1001y': expected at most 1000y",
            "newest many": "column 8: 'many': expected a number of messages as 1000",
            "newest 10K": "column 8: '10K': expected a number of messages as 1000",
            "size 5Q": "column 6: '5Q': expected a size as 500M or 1.5 GB",
            "size unlimited": "column 6: 'unlimited': for a size without a limit leave this item"
            " out",
            "hold, unread": "column 7: 'unread': expected a value after it, as unread 60d",
            "any read 7d": "column 1: 'any': expected a value after it, as any 60d",
            "unread 60d read 7d": "column 12: 'read': expected a comma before it",
            "hold Read 7d": "column 6: 'Read': expected a comma before it",
            "hold on": "column 6: 'on': expected nothing, or a comma, after hold",
            "read 7d, READ 8d": "column 10: 'READ': it stands at column 1 already, keep one of"
            " them",
            "any 1d, never": "column 9: 'never': never stands alone, leave it out or all the"
            " others",
            "none,\tany 1d": "column 7: 'any': none stands alone, leave it out or all the others",
            "x" * 99: f"column 1: '{'x' * 40}': expected one of {names}, as in"
            " 'unread 60d, read 7d'",
        }.items():
            with self.subTest(text=text):
                error = self.assertRaises(RetentionMalformed, parse, text)
                self.assertEqual(str(error), fault)
                self.assertEqual(error.column, int(fault.split()[1].rstrip(":")))

    def test_the_table_in_the_documentation_is_read(self) -> None:
        rows = re.findall(r"^``(.+?)``  ", module.__doc__ or "", re.M)
        self.assertEqual(len(rows), 9)
        self.assertEqual(parse(rows.pop()), Policy())
        every = parse(", ".join(rows))
        self.assertNotIn(None, [getattr(every, row.split()[0]) for row in rows])
        self.assertTrue(every.hold)

    @given(NEARLY)
    def test_no_text_does_anything_but_parse_or_fail_at_a_place_in_it(self, text: str) -> None:
        try:
            policy = parse(text)
        except RetentionMalformed as error:
            self.assertTrue(1 <= error.column <= len(text) + 1)
        else:
            self.assertEqual(parse(text_of(policy)), policy)


class WrittenTests(SynchronousTestCase):
    def test_policies_are_written_as_people_do(self) -> None:
        for text in (
            "unread 60d, read 7d",
            "any 1y, newest 1000, size 2G, floor 12h, hold, hide 90min",
            "read 0s, size 0",
            "never",
        ):
            self.assertEqual(text_of(parse(text)), text)
        self.assertEqual(text_of(parse("NONE")), "never")

    @given(POLICIES)
    def test_what_is_written_is_read_as_the_same_policy(self, policy: Policy) -> None:
        self.assertEqual(parse(text_of(policy)), policy)
        self.assertEqual(parse(text_of(policy).upper()), policy)
