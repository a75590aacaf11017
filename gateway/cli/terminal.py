"""Where commands print: plain lines, JSON, or tables and a progress bar on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TextIO, TypeVar

from attrs import asdict, field, frozen

from gateway.printable import printable
from gateway.units import time_text

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")


@frozen
class View(Generic[T]):
    """How values of one kind are shown."""

    columns: tuple[str, ...]
    """Headings of a table on a terminal."""

    cells: Callable[[T], Sequence[str]]
    line: Callable[[T], str]
    """Elsewhere than on a terminal."""

    described: Callable[[T], Mapping[str, Any]]
    """With ``--json``."""

    numbers: tuple[str, ...] = ()
    """Headings of the columns of numbers, which are aligned on the right."""


class Terminal:
    """Results go to ``out``, errors and the progress bar to ``err``."""

    def __init__(
        self,
        out: TextIO | None = None,
        err: TextIO | None = None,
        *,
        as_json: bool = False,
        name: str = "pop3gw",
    ) -> None:
        """``name`` begins each error.  ``as_json``: print JSON, one object a line."""
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._name = name
        self._progress: Progress | None = None
        self.as_json = as_json

    @property
    def draws_tables(self) -> bool:
        """Whether results are read on a terminal."""
        return not self.as_json and self._out.isatty()

    def say(self, text: str, /, **described: Any) -> None:
        """Print one result: ``text``, or with ``--json`` the other arguments, if there are any."""
        if not self.as_json:
            print(printable(text, keep="\n"), file=self._out, flush=True)
        elif described:
            print(json.dumps(described), file=self._out, flush=True)

    def fields(self, shown: Mapping[str, object], /, **described: Any) -> None:
        """Print one thing, a field a line; with ``--json`` the other arguments.

        A value that is a list has several lines.
        """
        width = max(map(len, shown)) + 1
        lines = []
        for name, value in shown.items():
            values = value if isinstance(value, tuple | list) else [value]
            for number, one in enumerate(values or ["(none)"]):
                heading = "" if number else f"{name}:"
                lines.append(f"{heading:<{width}} {printable(str(one))}".rstrip())
        self.say("\n".join(lines), **described)

    def write(self, text: str) -> None:
        """Print text that has its own line ends; for results that are files."""
        self._out.write(text)
        self._out.flush()

    def clear(self) -> None:
        """Empty the screen, where there is one."""
        if self.draws_tables:
            self.write("\x1b[H\x1b[2J\x1b[3J")

    def complain(self, text: str) -> None:
        """Print one error."""
        said = printable(f"{self._name}: {text}", keep="\n")
        line = json.dumps({"error": text}) if self.as_json else said
        if self._progress is None:
            print(line, file=self._err, flush=True)
        else:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def rows(self, view: View[T]) -> Rows[T]:
        """A list of results that are still being found."""
        return Rows(self, view)

    def show(self, view: View[T], values: Iterable[T]) -> None:
        """Print a list of results."""
        rows = self.rows(view)
        for value in values:
            rows.add(value)
        rows.end()

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str] = ()
    ) -> None:
        """Draw a table, without the columns that are empty in all rows."""
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        used = [at for at in range(len(columns)) if any(row[at] for row in rows)]
        for heading in (columns[at] for at in used):
            is_number = heading in numbers
            table.add_column(heading, overflow="fold", justify="right" if is_number else "left")
        for row in rows:
            # Text: names may have brackets, which are markup in a str.
            table.add_row(*(Text(printable(row[at])) for at in used))
        Console(file=self._out).print(table)

    def progress(self, done: int, total: int) -> None:
        """Draw the progress bar on a terminal; remove it when all is done."""
        if not self._err.isatty() or (self._progress is None and done >= total):
            return
        if self._progress is None:
            self._progress = _make_progress(self._err, total)
        task = self._progress.task_ids[0]
        before = int(self._progress.tasks[0].percentage)
        self._progress.update(task, completed=done)
        if done >= total:
            self._progress.stop()
            self._progress = None
        elif done == 0 or int(self._progress.tasks[0].percentage) > before:
            self._progress.refresh()


@frozen
class Rows(Generic[T]):
    """A list that is being printed: at once, or as a table at its end."""

    _terminal: Terminal
    _view: View[T]
    _cells: list[Sequence[str]] = field(factory=list)

    def add(self, value: T) -> None:
        """Print one, or keep it for the table."""
        if self._terminal.draws_tables:
            self._cells.append(self._view.cells(value))
        else:
            described = self._view.described if self._terminal.as_json else _nothing
            line = printable(self._view.line(value))
            self._terminal.say(line, **described(value))

    def end(self) -> None:
        """Draw the table, if there is one."""
        if self._cells:
            self._terminal.table(self._view.columns, self._cells, self._view.numbers)


def described(value: Any, *times: str) -> dict[str, Any]:
    """An attrs value for JSON; ``times``: the fields that are Unix seconds, shown as ISO 8601."""
    found = asdict(value)
    shown = {name: found[name] for name in times}
    return found | {
        name: None if seconds is None else time_text(seconds) for name, seconds in shown.items()
    }


def _nothing(_: Any) -> Mapping[str, Any]:
    return {}


def _make_progress(err: TextIO, total: int) -> Progress:
    """A bar that draws only when it is asked to, so that it needs no thread."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    progress = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(file=err),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    progress.add_task("", total=total)
    progress.start()
    return progress
