"""Who may import whom, as a table; and a few rules that hold everywhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "gateway"

VALUES = {"model", "errors"}
RULES: dict[str, set[str]] = {
    "errors": set(),
    "model": {"errors"},
    "interfaces": {"model"},
    "saslprep": set(),
    "client_address": set(),
    "units": {"model"},
    "durable": set(),
    "utf8": set(),
    "outage": set(),
    "wire": VALUES,
    "pop3": {"wire", "saslprep"} | VALUES,
    "lmtp": {"wire"} | VALUES,
    "sasl": {"interfaces", "saslprep"} | VALUES,
    "directory": {"interfaces", "outage", "saslprep", "units"} | VALUES,
    "quota": VALUES,
    "retention": {"units"} | VALUES,
    "ledger": {"quota", "retention.remembered"} | VALUES,
    "high_water": {"ledger"},
    "audit": {"durable", "units"} | VALUES,
    "lease": VALUES,
    "store": {"durable", "utf8", "interfaces", "wire"} | VALUES,
    "auth": {"interfaces", "sasl", "saslprep", "client_address", "store.classic"} | VALUES,
    "services": {
        *("pop3", "lmtp", "quota", "retention", "sasl", "saslprep", "auth.login", "auth.throttle"),
        *("interfaces", "outage", "wire", "client_address", "endpoints"),
    }
    | VALUES,
    "endpoints": set(),
    "settings_checks": {
        *("endpoints", "units", "quota.notice", "retention.text", "directory.ldap_filters"),
        "errors",
    },
    "settings": {"pop3", "quota.texts", "directory.entry_map", "settings_checks"},
    "environment": {"settings", "settings_checks"},
    "contradictions": {"endpoints", "settings"},
    "config": {
        *("contradictions", "endpoints", "environment", "settings", "settings_checks", "errors"),
    },
    "certificates": {"endpoints", "settings", "services"},
    "changed_meanings": {"directory.passwd", "settings", "units"},
    "needed_files": {"settings"},
    "checked_accounts": {
        *("directory.passwd", "directory.schemes", "retention.text", "settings", "store.names"),
        *VALUES,
    },
    "passwd": {"config", "directory.schemes", "sasl.md4", "saslprep", "store.names", "utf8"}
    | VALUES,
    "demo": {"passwd"},
    "samples": set(),
    "strcred": {"auth.passwords", "auth.verified", "directory", "services"},
    "first_start": {
        *("audit", "units", "needed_files", "settings", "demo", "services.tls", "store.names")
    }
    | VALUES,
    "testing": {"interfaces", "wire"} | VALUES,
    "tap": {"assembly", "first_start", "utf8", "errors"},
}
"""What each part may import from ``gateway``, itself aside; some files may import all."""

ASSEMBLIES = ("assembly", "portal", "mailroom", "keeper", "keeping")

PURE = (
    *("errors", "model", "saslprep", "client_address", "units", "durable", "wire", "pop3"),
    *("lmtp", "quota", "retention", "settings", "config", "needed_files", "audit", "endpoints"),
    *("settings_checks", "environment", "contradictions"),
)
"""No Twisted here."""


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
            if part in (*ASSEMBLIES, "__init__"):
                continue
            for line, name in imports(file):
                if not name.startswith("gateway."):
                    continue
                wanted = name.removeprefix("gateway.")
                allowed = {part} | RULES[part]
                if not any(wanted == one or wanted.startswith(f"{one}.") for one in allowed):
                    wrong.append(f"{file.relative_to(ROOT)}:{line}: {name}")
        self.assertEqual(wrong, [])

    def test_the_pure_parts_know_no_twisted(self) -> None:
        wrong = [
            f"{file.relative_to(ROOT)}:{line}: {name}"
            for file in sources()
            if part_of(file) in PURE
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
        self.assertEqual(naming, {"tap.py", "services/clock.py"})

    def test_only_the_worker_has_threads(self) -> None:
        ways = (".deferToThread", "callInThread", ".ThreadPoolExecutor")
        naming = {
            str(file.relative_to(ROOT))
            for file in sources()
            for _, name in imports(file)
            if name.endswith(ways) or (name.startswith("threading") and name != "threading.Lock")
        }
        self.assertEqual(naming, {"gateway/services/worker.py"})

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

    def test_the_rules_in_the_document_are_the_rules_here(self) -> None:
        text = (ROOT / "docs" / "architecture.md").read_text()
        rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", text, re.M))
        written = {part: set(re.findall(r"`([\w.]+)`", cell)) for part, cell in rows.items()}
        self.assertEqual(written, RULES)
