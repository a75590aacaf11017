"""What commands print: tables on a terminal, lines elsewhere, and nothing that controls either."""

from __future__ import annotations

import io
import json
import re

import pytest

from gateway.cli.command import Exit
from gateway.cli.pages import Paging, show_pages
from gateway.cli.terminal import Terminal, View
from gateway.operations.values import Page
from gateway.printable import printable

ROWS = View[tuple[str, int]](
    ("Name", "Messages"),
    lambda row: (row[0], f"{row[1]:,}"),
    lambda row: f"{row[0]}: {row[1]}",
    lambda row: {"name": row[0], "messages": row[1]},
    numbers=("Messages",),
)
EVIL = "bob\x1b]0;owned\x07\x1b[2J\r\nalice"


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")


def test_numbers_are_aligned_on_the_right_and_have_separators() -> None:
    screen = Screen()
    Terminal(screen).show(ROWS, [("alice", 1_234_567), ("bob", 5)])
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert lines[2].endswith("1,234,567")
    assert lines[3].endswith("        5")
    assert len(lines[2]) == len(lines[3]) <= 80


def test_a_column_that_is_empty_in_all_rows_takes_no_room() -> None:
    screen = Screen()
    Terminal(screen).table(("Name", "State", "Size"), [("bob", "", "5"), ("ann", "", "")])
    assert screen.getvalue().splitlines()[0].split() == ["Name", "Size"]


@pytest.mark.parametrize("kind", [Screen, io.StringIO])
def test_a_name_cannot_control_the_terminal(kind: type[io.StringIO]) -> None:
    screen = kind()
    Terminal(screen).show(ROWS, [(EVIL, 1)])
    said = screen.getvalue()
    assert "\x1b" not in said
    assert "\x07" not in said
    assert r"\x1b]0;owned\x07\x1b[2J\r\nalice" in re.sub(r"\s+", "", said)


def test_an_error_and_a_result_cannot_control_the_terminal_either() -> None:
    out, err = io.StringIO(), io.StringIO()
    terminal = Terminal(out, err)
    terminal.say(EVIL)
    terminal.complain(EVIL)
    assert "\x1b" not in out.getvalue() + err.getvalue()


def test_json_is_as_it_was() -> None:
    out = io.StringIO()
    Terminal(out, as_json=True).show(ROWS, [(EVIL, 1)])
    assert json.loads(out.getvalue()) == {"name": EVIL, "messages": 1}


def test_what_is_printable_stays_as_it_is() -> None:
    for text in ("jörg@example.org", "日本", "a b", "[red]x[/red]", "one\ntwo"):
        assert printable(text, keep="\n") == text
    assert printable("a\u202eb") == r"a\u202eb"


# -- pages -----------------------------------------------------------------------


class Listed:
    """An operation with so many items."""

    def __init__(self, count: int, *, counted: bool = True) -> None:
        self.names = [(f"u{number}", number) for number in range(count)]
        self.counted = counted
        self.out = io.StringIO()

    async def ask(self, operation: object, **asked: int) -> Page[tuple[str, int]]:
        """A page of them."""
        assert operation is None
        page, per_page = asked["page"], asked["per_page"]
        items = tuple(self.names[page * per_page : (page + 1) * per_page])
        return Page(items, page, per_page, len(self.names) if self.counted else None)

    def lines(self, page: int = 1, per_page: int = 2, *, everything: bool = False) -> list[str]:
        """What a command prints."""
        work = show_pages(
            Terminal(self.out),
            self.ask,  # type: ignore[arg-type]
            Paging(page, per_page, everything),
            ROWS,
            "nobody is there: add somebody",
            None,  # type: ignore[arg-type]
        )
        with pytest.raises(StopIteration) as ended:
            work.send(None)
        assert ended.value.value == Exit.DONE
        return self.out.getvalue().splitlines()


def test_a_page_says_how_to_see_the_others() -> None:
    more = "page 2 of 3, 5 in all: --page shows another, --all all of them"
    assert Listed(5).lines(page=2) == ["u2: 2", "u3: 3", more]
    assert Listed(2).lines() == ["u0: 0", "u1: 1"]
    assert Listed(3, counted=False).lines()[-1] == "there may be more: --page 2, or --all"


def test_all_pages_are_printed_as_one_list() -> None:
    for counted in (True, False):
        listed = Listed(2500, counted=counted)
        assert listed.lines(everything=True) == [f"u{one}: {one}" for one in range(2500)]


def test_an_empty_list_says_what_to_do_and_a_page_beyond_the_end_where_to_begin() -> None:
    assert Listed(0).lines() == ["nobody is there: add somebody"]
    assert Listed(0).lines(everything=True) == ["nobody is there: add somebody"]
    assert Listed(5).lines(page=9) == ["there is no page 9; begin with --page 1"]
