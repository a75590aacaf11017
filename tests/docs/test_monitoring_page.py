"""The Grafana board, the alert rules and docs/monitoring.md fit each other, and the figures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml
from twisted.trial.unittest import SynchronousTestCase

from gateway.cli.main import pop3gw
from gateway.observe.families import FAMILIES

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "etc/grafana/pop3gw.json"
RULES = ROOT / "etc/prometheus/pop3gw.rules.yml"
PAGE = ROOT / "docs/monitoring.md"

UNITS = {"none", "d", "ops", "s", "bytes", "Bps", "percentunit"}
"""Those of Grafana that the board uses."""


def metrics_in(expression: str) -> set[str]:
    """The families that a query names."""
    names = re.findall(r"\b(?:pop3gw|process)_\w+\b", re.sub(r'"[^"]*"', "", expression))
    return {
        name if name in FAMILIES else re.sub(r"_(bucket|sum|count)$", "", name) for name in names
    }


def panels() -> Iterator[dict[str, Any]]:
    """The panels of the board, without rows."""
    return (one for one in json.loads(BOARD.read_text())["panels"] if one["type"] != "row")


def rules() -> list[dict[str, Any]]:
    """All alert rules."""
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


class MonitoringPageTests(SynchronousTestCase):
    def test_the_board_and_the_tables_are_those_of_the_script(self) -> None:
        place = Path(tempfile.mkdtemp(prefix="pop3gw-"))
        self.addCleanup(shutil.rmtree, place)
        for name in ("scripts/panels.toml", "docs/monitoring.md"):
            (place / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, place / name)
        (place / "etc/grafana").mkdir(parents=True)
        command = [sys.executable, str(ROOT / "scripts/make-monitoring"), str(place)]
        subprocess.run(command, check=True, cwd=ROOT, timeout=60)
        for name in ("etc/grafana/pop3gw.json", "docs/monitoring.md"):
            self.assertEqual(
                (ROOT / name).read_text(), (place / name).read_text(), "run scripts/make-monitoring"
            )

    def test_the_page_has_each_metric(self) -> None:
        rows = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \|", PAGE.read_text(), re.M)
        self.assertEqual(rows, [(one.name, one.kind) for one in FAMILIES.values()])

    def test_the_page_has_each_alert_with_its_severity(self) -> None:
        rows = re.findall(r"^\| (Pop3gw\w+) \| (\w+) \|", PAGE.read_text(), re.M)
        self.assertEqual(rows, [(one["alert"], one["labels"]["severity"]) for one in rules()])

    def test_each_command_of_the_page_is_one(self) -> None:
        named = set(re.findall(r"`pop3gw ((?:[a-z-]+ ?)+)", PAGE.read_text()))
        self.assertIn("retention release", named)
        for words in named:
            found: click.Command = pop3gw
            for word in words.split():
                if isinstance(found, click.Group):
                    found = found.get_command(click.Context(found), word) or self.fail(words)
            self.assertFalse(isinstance(found, click.Group), words)

    def test_alerts_and_panels_name_only_figures_of_the_server(self) -> None:
        named = set()
        for one in panels():
            for target in one["targets"]:
                named |= metrics_in(target["expr"])
        for rule in rules():
            named |= metrics_in(rule["expr"])
            self.assertIn("summary", rule["annotations"], rule["alert"])
        self.assertEqual(named - set(FAMILIES), set())

    def test_each_figure_is_on_the_board_or_in_an_alert(self) -> None:
        queries = [target["expr"] for one in panels() for target in one["targets"]]
        queries += [rule["expr"] for rule in rules()]
        shown = set().union(*map(metrics_in, queries))
        only_for_looks = {
            *("pop3gw_login_delay_seconds_total", "pop3gw_ntlmv1_logins_total"),
            *("pop3gw_delivered_bytes_total", "pop3gw_quota_checks_failed_total"),
            *("pop3gw_retention_stops_total", "pop3gw_retention_postponed_total"),
            *("pop3gw_retention_mailboxes", "process_virtual_memory_bytes"),
            "process_start_time_seconds",
        }
        self.assertEqual(set(FAMILIES) - shown, only_for_looks)


class BoardTests(SynchronousTestCase):
    def test_it_has_the_shape_that_grafana_imports(self) -> None:
        board = json.loads(BOARD.read_text())
        self.assertEqual((board["uid"], board["schemaVersion"]), ("pop3gw", 39))
        self.assertNotIn("__inputs", board)
        names = [one["name"] for one in board["templating"]["list"]]
        self.assertEqual(names, ["datasource", "instance"])
        ids = [one["id"] for one in board["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        for one in panels():
            title = one["title"]
            self.assertIn(one["type"], ("stat", "timeseries"), title)
            self.assertEqual(one["datasource"]["uid"], "${datasource}", title)
            self.assertIn(one["fieldConfig"]["defaults"]["unit"], UNITS, title)
            self.assertGreater(len(one["description"]), 40, title)
            references = [target["refId"] for target in one["targets"]]
            self.assertEqual(sorted(set(references)), references, title)
            for target in one["targets"]:
                self.assertIn('instance=~"$instance"', target["expr"], title)
                self.assertEqual(target["datasource"]["uid"], "${datasource}", title)

    def test_no_panel_lies_on_another_one_or_beyond_the_edge(self) -> None:
        taken: dict[tuple[int, int], str] = {}
        for one in json.loads(BOARD.read_text())["panels"]:
            at = one["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24, one["title"])
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    self.assertEqual(taken.setdefault((x, y), one["title"]), one["title"])
