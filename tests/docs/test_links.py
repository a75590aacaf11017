"""Links in the manual lead somewhere, and its table of contents has every page."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")))


def prose(text: str) -> str:
    """Without fenced blocks, where a ``#`` begins a comment."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Of each heading the anchor that GitHub gives it."""
    headings = re.findall(r"^#+ (.*)$", prose(page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


class LinkTests(SynchronousTestCase):
    def test_every_relative_link_leads_to_a_file_and_a_heading_that_are_there(self) -> None:
        wrong = []
        for page in PAGES:
            for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
                if re.match(r"https?:", target):
                    continue
                name, _, anchor = target.partition("#")
                file = (page.parent / name).resolve() if name else page
                if not file.exists():
                    wrong.append(f"{page.name}: no such file: {target}")
                elif anchor and anchor not in anchors(file):
                    wrong.append(f"{page.name}: no such heading: {target}")
        self.assertEqual(wrong, [])

    def test_pages_that_code_and_samples_name_are_there(self) -> None:
        files = [*ROOT.glob("etc/**/*"), *ROOT.glob("gateway/**/*.py"), *ROOT.glob("tests/**/*.py")]
        for file in (one for one in files if one.is_file()):
            for name in re.findall(r"\bdocs/[\w-]+\.md\b", file.read_text(errors="replace")):
                self.assertTrue((ROOT / name).exists(), f"{file}: {name}")

    def test_the_table_of_contents_has_each_page_once(self) -> None:
        listed = re.findall(r"^\| \[(.+?)\]\((.+?)\) \|", (DOCS / "README.md").read_text(), re.M)
        self.assertEqual(sorted(name for name, _ in listed), sorted(target for _, target in listed))
        pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
        self.assertEqual(sorted(name for name, _ in listed), sorted(pages))
