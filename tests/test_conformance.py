"""The list of statements is whole, and every one has its test."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from conformance import LATER, REQUIREMENTS, marked, table

HERE = Path(__file__).parent


class ConformanceTests(SynchronousTestCase):
    def test_the_list_has_all_90_statements_and_25_points(self) -> None:
        kinds = [name.partition("-")[0] for name in REQUIREMENTS]
        self.assertEqual([kinds.count(kind) for kind in "XOP"], [35, 55, 25])
        for kind, count in {"O-C": 47, "O-V": 8, "X-C": 11, "X-V": 12, "X-E": 7}.items():
            wanted = {f"{kind}{number:04}" for number in range(1, count + 1)}
            self.assertEqual({name for name in REQUIREMENTS if name.startswith(kind)}, wanted)

    def test_every_statement_has_a_test_or_waits_for_named_work(self) -> None:
        tested = {name for name, _ in marked(HERE)}
        self.assertEqual(set(REQUIREMENTS) - tested - set(LATER), set())

    def test_no_test_claims_what_is_unknown_or_not_yet_built(self) -> None:
        wrong = [
            f"{place}: {name}"
            for name, place in marked(HERE)
            if name not in REQUIREMENTS or name in LATER
        ]
        self.assertEqual(wrong, [])

    def test_the_table_never_calls_passed_what_failed_or_did_not_run(self) -> None:
        shown = {"X-N1": {"a": "passed", "b": "failed"}, "X-N2": {"a": "passed"}}
        shown["X-E0005"] = {"a": "passed"}
        text = table(shown, shown, {"X-E0005": "comes with something else"})
        rows = {line.split(" | ")[0].lstrip("| "): line for line in text.splitlines()}
        self.assertIn("**failed**", rows["X-N1"])
        self.assertTrue(rows["X-N2"].endswith("| passed |"))
        self.assertIn("**not run**", rows["X-N3"])
        self.assertIn("not yet", rows["X-E0005"])

    def test_nor_a_statement_that_no_test_showed_over_a_cluster(self) -> None:
        text = table({name: {"a": "passed"} for name in ("X-N1", "O-C0001", "P-1")}, {"X-N1"})
        found = [line.rpartition(" | ")[2] for line in text.splitlines() if "`a`" in line]
        self.assertEqual(found, ["passed |", "**over no cluster** |", "passed |"])
