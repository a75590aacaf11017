"""Sums over processes, and the minutes of the last hour."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.observe.figures import Snapshot
from gateway.observe.history import MINUTES, History
from gateway.observe.totals import Totals

LOGINS = ["pop3gw_logins_total", "PASS", "ok"]
WRONG = ["pop3gw_logins_total", "PLAIN", "wrong_credentials"]
OPEN = ["pop3gw_connections", "pop3"]
UP = ["pop3gw_backend_up", "winbind"]
LAG = ["pop3gw_event_loop_lag_seconds"]


def read(snapshot: Snapshot, key: list[str]) -> Any:
    """The value of one figure."""
    return next((value for found, value in snapshot if found == key), None)


class TotalsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.totals = Totals()
        for name in ("one", "two"):
            self.totals.begin(name)

    def test_processes_are_added_up_as_their_families_say(self) -> None:
        lag = [1.0, *[0.0] * 8, 0.5]
        self.totals.take("one", [[LOGINS, 3], [OPEN, 2], [UP, 0], [LAG, lag]])
        self.totals.take("two", [[LOGINS, 4], [OPEN, 5], [UP, 1], [LAG, lag]])
        found = self.totals.snapshot([[LOGINS, 1]])
        self.assertEqual([read(found, key) for key in (LOGINS, OPEN, UP)], [8, 7, 0])
        self.assertEqual(read(found, LAG), [2.0, *[0.0] * 8, 1.0])

    def test_what_a_process_counted_stays_when_it_ends_and_its_gauges_go(self) -> None:
        self.totals.take("one", [[LOGINS, 3], [OPEN, 2], [LAG, [1.0] * 10]])
        self.totals.end("one")
        self.totals.begin("three")
        self.totals.take("three", [[LOGINS, 1], [OPEN, 1]])
        found = self.totals.snapshot([])
        self.assertEqual([read(found, key) for key in (LOGINS, OPEN)], [4, 1])
        self.assertEqual(read(found, LAG), [1.0] * 10)

    def test_an_answer_that_comes_after_the_end_counts_no_more(self) -> None:
        self.totals.take("one", [[LOGINS, 3]])
        self.totals.end("one")
        self.totals.take("one", [[LOGINS, 5]])
        self.assertEqual(read(self.totals.snapshot([]), LOGINS), 3)

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("take"), st.integers(0, 2), st.integers(0, 9)),
                st.tuples(st.just("end"), st.integers(0, 2), st.just(0)),
            )
        )
    )
    def test_a_counter_never_goes_down(self, steps: list[tuple[str, int, int]]) -> None:
        totals = Totals()
        born, counted = dict.fromkeys(range(3), 0), dict.fromkeys(range(3), 0)
        for worker in born:
            totals.begin((worker, 0))
        before = 0
        for what, worker, more in steps:
            process = worker, born[worker]
            if what == "take":
                counted[worker] += more
                totals.take(process, [[LOGINS, counted[worker]]])
            else:
                totals.end(process)
                born[worker] += 1
                counted[worker] = 0
                totals.begin((worker, born[worker]))
            now = read(totals.snapshot([]), LOGINS) or 0
            self.assertGreaterEqual(now, before)
            before = now
        self.assertEqual(before, sum(more for _, _, more in steps))


class HistoryTests(SynchronousTestCase):
    def test_a_minute_has_what_was_counted_in_it(self) -> None:
        history = History(600.0)
        history.take(610, [[LOGINS, 1]])
        history.take(659, [[LOGINS, 4]])
        history.take(660, [[LOGINS, 5], [WRONG, 1]])
        rows = history.rows(700, [[LOGINS, 5], [WRONG, 3]])
        self.assertEqual([row["began"] for row in rows], [600, 660])
        self.assertEqual([row["logins"] for row in rows], [5, 0])
        self.assertEqual(
            [row["failed"] for row in rows], [{"wrong_credentials": 1}, {"wrong_credentials": 2}]
        )
        self.assertEqual(rows[1]["deliveries"], 0)

    def test_it_keeps_an_hour_and_no_more(self) -> None:
        history = History(0.0)
        for minute in range(1, 500):
            history.take(minute * 60.0, [[LOGINS, minute]])
        rows = history.rows(499 * 60.0, [[LOGINS, 499]])
        self.assertEqual(len(rows), MINUTES + 1)
        self.assertEqual({row["logins"] for row in rows[:-1]}, {1})

    def test_minutes_of_a_sleep_have_no_row_and_old_ones_go(self) -> None:
        history = History(0.0)
        history.take(60, [[LOGINS, 1]])
        rows = history.rows(7200, [[LOGINS, 3]])
        self.assertEqual([row["began"] for row in rows], [7200])

    def test_a_clock_that_is_set_back_loses_no_count(self) -> None:
        history = History(6000.0)
        history.take(600, [[LOGINS, 2]])
        rows = history.rows(660, [[LOGINS, 5]])
        self.assertEqual(sum(row["logins"] for row in rows), 3)
        self.assertEqual([row["began"] for row in rows], [600, 660])
