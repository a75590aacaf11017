"""``pytest --conformance FILE``: writes which test showed which statement, in this run."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

TABLE = tomllib.loads(Path(__file__).with_name("conformance.toml").read_text())
REQUIREMENTS: dict[str, str] = TABLE["requirement"]
LATER: dict[str, str] = TABLE["later"]

_HEAD = """\
# Conformance

Every statement of [MS-STANXPOP3] (`X-`) and [MS-STANOPOP3] (`O-`), and every point where POP3
servers are known to go wrong (`P-`), with the tests that show it. At least one test of each
statement runs over a cluster. Written by `make test` from what its run showed; edit
`tests/support/conformance.toml` and the tests instead.

| id | requirement | tests | result |
|---|---|---|---|
"""

Shown = Mapping[str, Mapping[str, str]]
"""Statement to test to outcome."""


def table(shown: Shown, in_cluster: Collection[str], later: Mapping[str, str] = LATER) -> str:
    """The document; a statement that waits for later work is never called passed.

    Nor is one that is not ``in_cluster``: shown by a test over a cluster.
    """
    return _HEAD + "".join(
        _row(name, shown.get(name, {}), name in in_cluster, later) for name in REQUIREMENTS
    )


def _row(name: str, tests: Mapping[str, str], clustered: bool, later: Mapping[str, str]) -> str:
    if name in later:
        return f"| {name} | {REQUIREMENTS[name]} | | not yet: {later[name]} |\n"
    outcomes = set(tests.values())
    if not outcomes:
        result = "**not run**"
    elif outcomes != {"passed"}:
        result = f"**{' and '.join(sorted(outcomes - {'passed'}))}**"
    elif clustered or name.startswith("P-"):
        result = "passed"
    else:
        result = "**over no cluster**"
    cells = "<br>".join(f"`{test}`" for test in sorted(tests))
    return f"| {name} | {REQUIREMENTS[name]} | {cells} | {result} |\n"


def test_name(nodeid: str) -> str:
    """A test's file and sentence, without class, parameters and xdist's group."""
    file, _, rest = nodeid.partition("::")
    sentence = re.split(r"[\[@]", rest.rpartition("::")[2])[0]
    return f"{file.removeprefix('tests/')} {sentence}"


def worst(outcomes: Iterable[str]) -> str:
    """One outcome for the parameters of one test."""
    return min(outcomes, key=["failed", "skipped", "passed"].index)


class Report:
    """Gathers outcomes; under xdist the tests' processes send them with their reports."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shown: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._in_cluster: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test ended."""
        if report.when == "call" or report.outcome != "passed":
            said = dict(report.user_properties)
            for name in said.get("conformance", ()):
                self._shown[name][test_name(report.nodeid)].append(report.outcome)
            self._in_cluster.update(said.get("in cluster", ()))

    def pytest_sessionfinish(self) -> None:
        """All tests ended."""
        shown = {
            name: {test: worst(outcomes) for test, outcomes in tests.items()}
            for name, tests in self._shown.items()
        }
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text(table(shown, self._in_cluster))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option."""
    parser.addoption("--conformance", metavar="FILE", help="write the conformance table there")


def pytest_configure(config: pytest.Config) -> None:
    """Report once, in the process that hears of all tests."""
    path = config.getoption("conformance")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Report(config.rootpath / path))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Send each test's statements along with its outcome."""
    for item in items:
        names = [name for mark in item.iter_markers("conformance") for name in mark.args]
        if names:
            item.user_properties.append(("conformance", names))
            if any("cluster" in mark.args for mark in item.iter_markers("xdist_group")):
                item.user_properties.append(("in cluster", names))


def marked(tests: Path) -> Iterator[tuple[str, str]]:
    """Statement and place of every marker in the sources, whatever part of them is run."""
    for file in sorted(tests.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.conformance"):
                for part in (part for argument in node.args for part in ast.walk(argument)):
                    if isinstance(part, ast.Constant):
                        yield str(part.value), f"{file.name}:{part.lineno}"
