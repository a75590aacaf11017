"""The arithmetic of ``python -m bench``: what its tables say is what was measured."""

from __future__ import annotations

from array import array
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from bench.figures import calls, compare, page, quiet, report, results
from bench.figures.results import Goal, Result, Run, Spread
from bench.setup import processes
from bench.work.load import Tally
from bench.work.memory import slope
from bench.work.work import figures, percentile

LOAD = st.floats(0, 1000)


def result(ours: list[float], theirs: list[float], **more: float) -> Result:
    """A row with the CPU of some rounds."""
    return Result(
        "login",
        "login, STAT, QUIT",
        "session",
        (Goal("cpu_us", 0.5), Goal("rate", 1.0, at_least=True)),
        {
            "gateway": [{"cpu_us": cost, "rate": 10.0, **more} for cost in ours],
            "dovecot": [{"cpu_us": cost, "rate": 20.0} for cost in theirs],
        },
    )


def run(*found: Result) -> Run:
    """A run of some rows."""
    return Run(
        when="2024-01-01T00:00:00+00:00",
        commit="abc",
        command=["python", "-m", "bench"],
        machine={"processors": "2"},
        versions={"Dovecot": "2.3"},
        sizes={"rounds": 3},
        theirs="dovecot",
        ours="gateway",
        results=list(found),
        memory=[["idle session", "5,000 octets", "1,000"]],
    )


class FiguresTests(SynchronousTestCase):
    def test_cpu_is_told_in_microseconds_of_each_unit(self) -> None:
        tally = Tally()
        tally.seconds, tally.octets = 2.0, 4_000_000
        found = figures(tally, 0.5, 1000, array("d", [0.001, 0.003]))
        wanted = {"units": 1000, "cpu_us": 500.0, "rate": 500.0, "mb_s": 2.0}
        self.assertEqual({name: found[name] for name in wanted}, wanted)
        self.assertAlmostEqual(found["p50_ms"], 2.0)

    def test_a_percentile_of_one_value_is_that_value(self) -> None:
        self.assertEqual(percentile([7.0], 99), 7.0)

    @given(st.lists(st.floats(0, 1e6), min_size=2))
    def test_a_percentile_is_between_the_least_and_the_most(self, values: list[float]) -> None:
        found = percentile(values, 99)
        self.assertTrue(min(values) <= found * (1 + 1e-9) and found <= max(values) * (1 + 1e-9))

    def test_the_slope_of_a_line_is_found_and_noise_has_none(self) -> None:
        self.assertAlmostEqual(slope([(n, 70e6 + 3 * n) for n in range(0, 1000, 100)]), 3.0)
        self.assertAlmostEqual(slope([(0, 5), (1, 7), (2, 7), (3, 5)]), 0.0)

    def test_a_process_that_has_ended_has_no_size(self) -> None:
        self.assertEqual(processes.status(2**22 + 1, "VmRSS"), 0)


class SpreadTests(SynchronousTestCase):
    def test_a_figure_is_the_median_with_least_and_most(self) -> None:
        found = result([3.0, 1.0, 2.0], [4.0, 4.0, 4.0])
        self.assertEqual(found.spread("gateway", "cpu_us"), Spread(2.0, 1.0, 3.0))

    def test_the_worst_round_counts_for_a_hold_up(self) -> None:
        found = Result("a", "a", "a", (), {"gateway": [{"hold_up_ms": 1.0}, {"hold_up_ms": 9.0}]})
        self.assertEqual(found.spread("gateway", "hold_up_ms"), Spread(9.0, 1.0, 9.0))

    def test_a_ratio_pairs_the_rounds_that_followed_each_other(self) -> None:
        # The machine slows down: figures spread widely, their ratio does not.
        found = result([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
        self.assertEqual(found.ratio("gateway", "dovecot", "cpu_us"), Spread(0.5, 0.5, 0.5))

    def test_a_goal_is_a_ratio_or_a_value_and_a_most_or_a_least(self) -> None:
        found = result([1.0], [2.0])
        goals = (
            *found.goals,
            Goal("cpu_us", 1.0, beside=False),
            Goal("cpu_us", 0.9, beside=False),
            Goal("calls", 1.0),
        )
        reached = [found.reached(goal, "gateway", "dovecot") for goal in goals]
        self.assertEqual(reached, [True, False, True, False, None])

    def test_a_server_in_trouble_has_no_figures(self) -> None:
        found = result([1.0], [2.0])
        found.troubles["dovecot"] = "it went away"
        self.assertIsNone(found.spread("dovecot", "cpu_us"))
        self.assertIsNone(found.ratio("gateway", "dovecot", "cpu_us"))


class QuietTests(SynchronousTestCase):
    def test_busy_time_is_neither_idle_nor_waiting_nor_interrupts(self) -> None:
        stat = "cpu  100 200 300 4000 5000 60 70 80 9 9\ncpu0 1 1 1\n"
        self.assertAlmostEqual(quiet.busy(stat), 680 * processes.TICK)

    @given(LOAD, LOAD, st.floats(0.1, 100), st.integers(1, 64))
    def test_foreign_load_is_never_less_than_nothing(
        self, used: float, own: float, elapsed: float, processors: int
    ) -> None:
        self.assertGreaterEqual(quiet.share(used, own, elapsed, processors), 0.0)

    def test_foreign_load_is_a_share_of_all_processors(self) -> None:
        self.assertAlmostEqual(quiet.share(used=3.0, own=2.0, elapsed=5.0, processors=2), 0.1)

    def test_a_row_with_foreign_load_is_marked(self) -> None:
        found = run(result([1.0], [2.0], foreign=0.02), result([1.0], [2.0], foreign=0.06))
        marks = [line[-1] for line in report.reached(found)[1:]]
        self.assertEqual(marks, ["2%", "2%", "6% noisy", "6% noisy"])
        self.assertEqual(found.noisy, ["login"])


class CallsTests(SynchronousTestCase):
    TABLE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           6       100         7 futex
 40.00    0.000400           8        50           sendto
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           6       150         7 total
"""

    def test_the_table_of_strace_is_read_with_and_without_errors(self) -> None:
        self.assertEqual(calls.parse(self.TABLE), {"futex": 100, "sendto": 50})

    def test_calls_are_told_of_each_unit_the_most_frequent_by_name(self) -> None:
        found = calls.figures({f"c{n}": n for n in range(10)}, 10)
        self.assertEqual((found["calls"], found["call c9"], len(found)), (4.5, 0.9, 7))
        self.assertNotIn("call c1", found)


class ReportTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = Path(self.mktemp()) / "result.json"

    def test_what_is_kept_as_json_is_read_again(self) -> None:
        found = run(result([1.0], [2.0], calls=3.0))
        found.save(self.file)
        self.assertEqual(results.read(self.file), found)

    def test_another_file_is_refused_by_name(self) -> None:
        self.file.parent.mkdir()
        self.file.write_text("[]")
        with self.assertRaisesRegex(ValueError, "result.json: no JSON of a run"):
            results.read(self.file)

    def test_a_line_has_both_servers_their_ratio_and_the_verdict(self) -> None:
        found = report.reached(run(result([3.0, 1.0, 2.0], [4.0, 4.0, 4.0])))
        self.assertEqual(
            found[1],
            [
                *("login", "CPU per session", "4.0 us", "2.0 us (1.0 us - 3.0 us)"),
                *("0.500x (0.250x - 0.750x)", "<= 0.5x", "ok", "0%"),
            ],
        )
        self.assertEqual(found[2][4:7], ["0.500x", ">= 1x", "MISSED"])

    def test_two_runs_are_compared_by_their_ratios_to_the_other_server(self) -> None:
        # The second machine is half as fast, the gateway's cost has halved.
        table = compare.table(run(result([4.0], [4.0])), run(result([4.0], [8.0])))
        cells = table.splitlines()[1].split("  ")
        told = [cell.strip() for cell in cells if cell.strip()]
        self.assertEqual(
            told, ["login", "CPU per session", "4.0 us", "4.0 us", "1.000x", "0.500x", "1.000x"]
        )

    def test_the_page_has_machine_versions_command_and_figures(self) -> None:
        text = page.text(run(result([1.0], [2.0], calls=5.0)), [["python", "-m", "bench"]])
        for part in (
            "| processors | 2 |",
            "| Dovecot | 2.3 |",
            "python -m bench\n",
            "| login | CPU per session | 2.0 us | 1.0 us | 0.500x | <= 0.5x | ok |",
            "| idle session | 5,000 octets | 1,000 |",
            "- `login`: login, STAT, QUIT",
        ):
            self.assertIn(part, text)

    def test_the_page_keeps_what_is_above_its_mark(self) -> None:
        self.file.parent.mkdir()
        self.file.write_text(f"# Performance\n\n{page.BEGIN}\n\nold\n")
        page.write(run(result([1.0], [2.0])), page=self.file)
        self.assertTrue(self.file.read_text().startswith(f"# Performance\n\n{page.BEGIN}\n\n## "))
        self.assertNotIn("old", self.file.read_text())

    def test_rows_of_a_later_run_take_the_place_of_earlier_ones(self) -> None:
        self.file.parent.mkdir()
        self.file.write_text(page.BEGIN)
        noisy, quiet = run(result([1.0], [2.0], foreign=0.3)), run(result([1.0], [4.0]))
        quiet.command = [*quiet.command, "--only", "login"]
        page.write(noisy, quiet, page=self.file)
        text = self.file.read_text()
        self.assertIn("| 0.250x |", text)
        for command in (noisy.command, quiet.command):
            self.assertIn(f"\n{' '.join(command)}\n", text)

    def test_rows_of_another_commit_or_machine_do_not_get_to_the_page(self) -> None:
        for name, other in (("commit", "another"), ("machine", {"processors": "64"})):
            later = run(result([1.0], [2.0]))
            setattr(later, name, other)
            with self.assertRaisesRegex(ValueError, f"^runs of the same {name} are needed"):
                page.write(run(result([1.0], [2.0])), later, page=self.file)

    def test_the_page_of_the_manual_has_the_mark(self) -> None:
        self.assertEqual(page.PAGE.read_text().count(page.BEGIN), 1)

    def test_figures_of_a_busy_machine_do_not_get_to_the_page(self) -> None:
        noisy = run(result([1.0], [2.0], foreign=0.3))
        with self.assertRaisesRegex(ValueError, "not quiet during login"):
            page.write(noisy, page=self.file)

    def test_a_row_that_was_not_measured_does_not_get_to_the_page(self) -> None:
        found = result([1.0], [2.0])
        found.troubles["dovecot"] = "it went away"
        with self.assertRaisesRegex(ValueError, r"not measured: login \(dovecot\)"):
            page.write(run(found), page=self.file)
