"""The shell commands of the manual's pages, and what they answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from servers import Gateway

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


def typed(page: str) -> Iterator[str]:
    """Each command line of a page in its order; its first line is for all of them."""
    for block in blocks(page):
        for line in block.text.splitlines():
            if line.startswith("export "):
                assert line == "export POP3GW_CONFIG=/etc/pop3gw.toml"
            elif line:
                yield line


def answer(gateway: Gateway, command: str) -> subprocess.CompletedProcess[str]:
    """What the shell prints for a line of a page."""
    programs = Path(sys.executable).parent
    places = {"POP3GW_CONFIG": str(gateway.config), "PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-ec", command],
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check_answers(gateway: Gateway, page: str, answers: Mapping[str, str]) -> None:
    """Type a page at a server; ``answers``: each of its commands, and a pattern of its output."""
    found = list(typed(page))
    assert set(found) == set(answers)
    results = [(command, answer(gateway, command)) for command in found]
    wrong = [
        (command, done)
        for command, done in results
        if done.returncode or done.stderr or not re.search(answers[command], done.stdout)
    ]
    assert wrong == []
