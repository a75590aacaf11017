"""The tables of a run, for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.figures.results import QUIET, Goal, Result, Run, Spread
from bench.work import workers

LABELS = {
    "cpu_us": "CPU per {unit}",
    "again_us": "the next one, unchanged",
    "memory_kib": "memory per {unit}",
    "rate": "{unit}s a second",
    "hold_up_ms": "others held up, longest",
    "hold_up_p99_ms": "others held up, p99",
    "noop_p99_ms": "NOOP p99",
    "p99_ms": "all p99",
    "reply_p99_ms": "replies' p99",
    "calls": "system calls per {unit}",
    "postgresql_us": "PostgreSQL's CPU per {unit}",
    "s3_us": "S3's CPU per {unit}",
}
"""Figures that have a line of their own."""

ALWAYS = ("hold_up_p99_ms", "hold_up_ms", "calls", "postgresql_us", "s3_us")
"""Told where they were measured, whether or not they have a goal."""

SPEED = ("rate", "mb_s", "p50_ms", "p99_ms", "resumed")

VERDICTS = {True: "ok", False: "MISSED", None: "-"}

Lines = list[list[str]]


def tables(run: Run) -> str:
    """Everything of a run, in columns."""
    parts = [columns(reached(run)), columns(speed(run)), *map(columns, more(run))]
    if run.memory:
        parts.append(columns([["memory of the gateway alone", "", "of"], *run.memory]))
    if run.workers:
        parts.append(columns(workers.lines(workers.read(run.workers))))
    parts.append("\n".join(notes(run)))
    return "\n\n".join(part for part in parts if part)


def reached(run: Run) -> Lines:
    """Figures with what they have to reach; the median and in brackets least and most."""
    lines = [["row", "figure", run.theirs, run.ours, "ratio", "reach", "", "foreign"]]
    for result in run.results:
        goals = {goal.figure: goal for goal in result.goals}
        wanted = [*goals, *(name for name in ALWAYS if name not in goals)]
        lines += [
            _line(run, result, name, goals.get(name)) for name in wanted if name in result.names
        ]
    return lines


def _line(run: Run, result: Result, figure: str, goal: Goal | None) -> list[str]:
    values = [result.spread(name, figure) for name in (run.theirs, run.ours)]
    ratio = result.ratio(run.ours, run.theirs, figure)
    told = ["", ""]
    if goal is not None:
        bound = f"{goal.bound:g}x" if goal.beside else value(figure, goal.bound)
        told = [
            f"{'>=' if goal.at_least else '<='} {bound}",
            VERDICTS[result.reached(goal, run.ours, run.theirs)],
        ]
    return [
        result.name,
        LABELS[figure].format(unit=result.unit),
        *(spread(figure, one) for one in values),
        spread("ratio", ratio),
        *told,
        f"{result.foreign:.0%}" + (" noisy" if result.foreign > QUIET else ""),
    ]


def speed(run: Run) -> Lines:
    """How fast each server was; not what it cost."""
    lines = [["row", "server", "rate", "MB/s", "p50", "p99", "resumed", "of each"]]
    for result in run.results:
        for server in (run.theirs, run.ours):
            if result.spread(server, "p50_ms") is not None:
                values = [result.spread(server, name) for name in SPEED]
                cells = [
                    value(name, one.middle) if one else ""
                    for name, one in zip(SPEED, values, strict=True)
                ]
                lines.append([result.name, server, *cells, result.unit])
    return lines


def more(run: Run) -> Iterable[Lines]:
    """The most frequent system calls."""
    lines = [["row", "server", "most frequent system calls of each"]]
    for result in run.results:
        for server in (run.theirs, run.ours):
            names = [name for name in result.names if name.startswith("call ")]
            found = [(name, result.spread(server, name)) for name in names]
            some = [(one.middle, name.removeprefix("call ")) for name, one in found if one]
            if some:
                told = ", ".join(f"{name} {count:.1f}" for count, name in sorted(some)[::-1])
                lines.append([result.name, server, told])
    if len(lines) > 1:
        yield lines


def notes(run: Run) -> Iterable[str]:
    """What each row does, and what went wrong."""
    for result in run.results:
        yield f"{result.name}: {result.title}"
    for result in run.results:
        yield from (f"{result.name}: {name}: {why}" for name, why in result.troubles.items())
    if run.noisy:
        yield (
            f"Other programs used more than {QUIET:.0%} of the machine during:"
            f" {', '.join(run.noisy)}. Measure these again on a quiet machine."
        )


def spread(figure: str, found: Spread | None) -> str:
    """The median, and in brackets the least and the most."""
    if found is None:
        return "-"
    middle, least, most = (value(figure, one) for one in found)
    return middle if least == most else f"{middle} ({least} - {most})"


def value(figure: str, number: float) -> str:
    """With its unit."""
    if figure.endswith("_us"):
        return f"{number:.1f} us" if number < 1000 else f"{number / 1000:.3g} ms"
    if figure.endswith("_ms"):
        return f"{number:.3g} ms"
    if figure.endswith("_kib"):
        return f"{number:,.1f} KiB"
    forms = {"ratio": "{:.3f}x", "rate": "{:,.0f} /s", "resumed": "{:.0%}"}
    return forms.get(figure, "{:,.1f}").format(number)


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Cells of lines, the widths of a column alike."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """The same as a table of a page."""
    head, *rest = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rest))
