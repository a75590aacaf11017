"""The guard against runs that would remove too much."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.retention.removal_guard import Guard, objection

SHARES = st.integers(0, 100).map(lambda percent: percent / 100)
COUNTS = st.integers(0, 1000)


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
