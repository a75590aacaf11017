"""The shell commands of the manual's pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]*) -->\n)?^```sh\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block of commands."""

    text: str
    reason: str
    """Why no test runs it; empty: one does."""


def blocks(page: str) -> list[Block]:
    """All of a page, in their order."""
    found = _BLOCK.finditer((DOCS / page).read_text())
    return [Block(one["text"], one["reason"] or "") for one in found]


def commands(page: str) -> list[str]:
    """The blocks that tests run."""
    return [one.text for one in blocks(page) if not one.reason]
