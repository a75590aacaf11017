"""Who may import whom, as a table; and a few rules that hold everywhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "gateway"


def table() -> dict[str, tuple[set[str], bool]]:
    """Of each part of ``gateway``: what it may import from there, and whether it is pure."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\| (pure|) ?\|$", text, re.M)
    return {part: (set(re.findall(r"`([\w.]+)`", cell)), bool(pure)) for part, cell, pure in rows}


TABLE = table()

COMPOSING = ("app", "cli")
"""What puts the parts together may import all of them."""


def part_of(file: Path) -> str:
    """The first name below ``gateway``."""
    return file.relative_to(SOURCES).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a file imports, at whatever depth."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def sources() -> list[Path]:
    """Every file of ours."""
    return sorted(SOURCES.rglob("*.py"))


class ArchitectureTests(SynchronousTestCase):
    def test_every_part_imports_only_what_the_table_allows(self) -> None:
        wrong = []
        for file in sources():
            part = part_of(file)
            if part in (*COMPOSING, "__init__"):
                continue
            for line, name in imports(file):
                if not name.startswith("gateway."):
                    continue
                wanted = name.removeprefix("gateway.")
                allowed = {part} | TABLE[part][0]
                if not any(wanted == one or wanted.startswith(f"{one}.") for one in allowed):
                    wrong.append(f"{file.relative_to(ROOT)}:{line}: {name}")
        self.assertEqual(wrong, [])

    def test_the_pure_parts_know_no_twisted(self) -> None:
        wrong = [
            f"{file.relative_to(ROOT)}:{line}: {name}"
            for file in sources()
            if part_of(file) in TABLE and TABLE[part_of(file)][1]
            for line, name in imports(file)
            if name.split(".")[0] in ("twisted", "zope", "OpenSSL")
            and (part_of(file), name) != ("errors", "twisted.cred.error.UnauthorizedLogin")
        ]
        self.assertEqual(wrong, [])

    def test_only_two_files_name_the_reactor(self) -> None:
        naming = {
            str(file.relative_to(SOURCES))
            for file in sources()
            for _, name in imports(file)
            if name == "twisted.internet.reactor"
        }
        self.assertEqual(naming, {"app/tap.py", "net/clock.py"})

    def test_only_the_command_knows_terminals(self) -> None:
        knowing = {
            part_of(file)
            for file in sources()
            for _, name in imports(file)
            if name.split(".")[0] in ("click", "rich", "getpass", "argparse")
        }
        self.assertEqual(knowing, {"cli"})

    def test_only_the_worker_has_threads(self) -> None:
        ways = (".deferToThread", "callInThread", ".ThreadPoolExecutor")
        harmless = {"threading.Lock", "threading.get_ident"}
        naming = {
            str(file.relative_to(ROOT))
            for file in sources()
            for _, name in imports(file)
            if name.endswith(ways) or (name.startswith("threading") and name not in harmless)
        }
        self.assertEqual(naming, {"gateway/jobs/thread_pool.py"})

    def test_nothing_is_left_to_do(self) -> None:
        marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
        wrong = [str(file) for file in sources() if marks.search(file.read_text())]
        self.assertEqual(wrong, [])

    def test_every_public_function_and_class_says_what_it_means(self) -> None:
        silent = []
        for file in sources():
            tree = ast.parse(file.read_text())
            if not ast.get_docstring(tree) and file.name != "__init__.py":
                silent.append(str(file))
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    silent += self._silent(node.body, file)
            silent += self._silent(tree.body, file)
        self.assertEqual(silent, [])

    def _silent(self, body: list[ast.stmt], file: Path) -> list[str]:
        return [
            f"{file.relative_to(ROOT)}:{node.lineno}: {node.name}"
            for node in body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            # A test says in its name what it shows.
            and not node.name.startswith(("_", "test_", "setUp"))
            and not ast.get_docstring(node)
        ]

    def test_the_table_has_a_row_for_every_part(self) -> None:
        parts = {part_of(file) for file in sources()} - {*COMPOSING, "__init__"}
        self.assertEqual(set(TABLE), parts)
