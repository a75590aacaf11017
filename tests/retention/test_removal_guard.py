"""The guard against runs that would remove too much."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import LastScan
from gateway.retention.removal_guard import Guard, expected_after, objection

SHARES = st.integers(0, 100).map(lambda percent: percent / 100)
COUNTS = st.integers(0, 1000)


NOW = 1_800_000_000.0
LAST = LastScan("any 1d", due=NOW - 5, looked=NOW - 50, messages=3)


class ExpectedTests(SynchronousTestCase):
    def test_what_became_due_after_the_last_scan_is_expected(self) -> None:
        self.assertEqual(expected_after(LAST, "any 1d", NOW), NOW - 50)
        stopped = LAST._replace(due=None)
        self.assertEqual(expected_after(stopped, "any 1d", NOW), NOW - 50)

    def test_nothing_is_expected_of_a_new_mailbox_and_of_a_new_policy(self) -> None:
        self.assertEqual(expected_after(None, "any 1d", NOW), inf)
        self.assertEqual(expected_after(LAST, "any 2d", NOW), inf)

    def test_nothing_is_expected_of_a_scan_that_comes_later_than_a_server_is_off(self) -> None:
        weeks, year = LAST._replace(due=NOW - 25 * 86_400), LAST._replace(due=NOW - 365 * 86_400)
        self.assertEqual(expected_after(weeks, "any 1d", NOW), NOW - 50)
        self.assertEqual(expected_after(year, "any 1d", NOW), inf)


class GuardTests(SynchronousTestCase):
    def test_more_than_the_share_stops_and_tells_the_operator_why(self) -> None:
        self.assertEqual(
            objection(Guard(share=0.25, least=10), 26, 100, "mailbox alice"),
            "26 of 100 messages of mailbox alice would go, which is more than 25%:"
            " nothing is removed until an operator confirms it",
        )
        self.assertIsNone(objection(Guard(share=0.25, least=10), 25, 100, "mailbox alice"))

    def test_fewer_than_the_least_number_never_stop(self) -> None:
        guard = Guard(share=0.0, least=10)
        self.assertIsNone(objection(guard, 9, 9, "the store"))
        self.assertIn("10 of 10", objection(guard, 10, 10, "the store") or "")

    def test_a_share_is_meant_as_it_is_written(self) -> None:
        """0.29 * 100 is less than 29 in binary."""
        self.assertIsNone(objection(Guard(share=0.29, least=0), 29, 100, "the store"))
        self.assertIn("29%", objection(Guard(share=0.29, least=0), 30, 100, "the store") or "")

    def test_shares_are_from_0_to_1_and_counts_not_below_0(self) -> None:
        for wrong in ({"share": 1.01}, {"share": -0.01}, {"least": -1}):
            with self.subTest(wrong=wrong), self.assertRaises(ValueError):
                Guard(**wrong)  # type: ignore[arg-type]

    @given(SHARES, COUNTS, COUNTS, COUNTS)
    def test_less_never_stops_where_more_does_not(
        self, share: float, least: int, doomed: int, total: int
    ) -> None:
        guard = Guard(share, least)
        if objection(guard, doomed + 1, total, "the store") is None:
            self.assertIsNone(objection(guard, doomed, total, "the store"))
        self.assertIsNone(objection(Guard(1.0, least), min(doomed, total), total, "the store"))
        self.assertIsNone(objection(guard, 0, total, "the store"))
