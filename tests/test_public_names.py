"""The public names are those that docs/embedding.md lists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import FunctionType

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.interface import InterfaceClass

ROOT = Path(__file__).parent.parent
WHOLE = ("gateway.interfaces", "gateway.errors", "gateway.model", "gateway.sasl.credentials")
"""Modules in which everything is public."""


def listed() -> dict[str, list[str]]:
    """Module to names, as the document has them."""
    section = (ROOT / "docs" / "embedding.md").read_text().partition("\n## Public names\n")[2]
    rows = re.findall(r"^\| `(gateway[\w.]*)` \| (.*) \|$", section, re.M)
    return {module: re.findall(r"`(\w+)`", names) for module, names in rows}


class PublicNamesTests(SynchronousTestCase):
    def test_each_module_says_what_the_document_says(self) -> None:
        public = listed()
        self.assertIn("gateway.net.pop3_factory", public)
        for module, names in public.items():
            said = importlib.import_module(module).__all__
            self.assertEqual(sorted(said), sorted(names), module)

    def test_each_name_is_there(self) -> None:
        for module, names in listed().items():
            found = importlib.import_module(module)
            self.assertEqual([name for name in names if not hasattr(found, name)], [], module)

    def test_no_other_module_says_that_it_is_public(self) -> None:
        files = (ROOT / "gateway").rglob("*.py")
        saying = {
            ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for file in files
            if re.search(r"^__all__\b", file.read_text(), re.M)
        }
        self.assertEqual(saying, set(listed()))

    def test_seams_errors_and_values_are_public_without_exception(self) -> None:
        for name in WHOLE:
            module = importlib.import_module(name)
            own = {
                one
                for one, value in vars(module).items()
                if getattr(value, "__module__", "").startswith(name)
                and not one.startswith("_")
                and isinstance(value, type | FunctionType | InterfaceClass)
            }
            self.assertEqual(own - set(module.__all__), set())
