"""The table for people and the document for machines."""

from __future__ import annotations

import datetime
import os
import platform
import ssl
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from bench.rows import Goal, Row, Sizes
from bench.work import Figures

NAMES = ("dovecot", "gateway")

_WORST = {"hold_up_ms"}
"""Figures of which the worst round counts, not the median."""


@dataclass
class Result:
    """What came of a row: each server's rounds, or why there are none."""

    row: Row
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)

    def figure(self, server: str, name: str) -> float | None:
        """The median over the rounds; of a hold-up, the longest."""
        if server in self.troubles or server not in self.rounds:
            return None
        values = [figures[name] for figures in self.rounds[server] if name in figures]
        if not values:
            return None
        return max(values) if name in _WORST else statistics.median(values)

    def ratio(self, name: str) -> float | None:
        """The gateway's figure over Dovecot's."""
        ours, theirs = self.figure("gateway", name), self.figure("dovecot", name)
        return ours / theirs if ours is not None and theirs else None

    def met(self, goal: Goal) -> bool | None:
        """None where it could not be measured."""
        reached = self.ratio(goal.figure) if goal.beside else self.figure("gateway", goal.figure)
        return None if reached is None else reached <= goal.most


def table(results: Sequence[Result]) -> str:
    """What was to be reached, then everything else."""
    reached = [["row", "figure", *NAMES, "ratio", "reach", ""]]
    for result in results:
        reached += [_goal_cells(result, goal) for goal in result.row.goals]
    speed = [["row", "server", "rate", "MB/s", "p50", "p99", "of each"]]
    for result in results:
        timed = [name for name in NAMES if result.figure(name, "rate") is not None]
        speed += [_speed_cells(result, name) for name in timed]
    parts = [columns(reached), columns(speed)]
    parts += [f"{result.row.name}: {result.row.title}" for result in results]
    for result in results:
        parts += [f"{result.row.name}: {name}: {why}" for name, why in result.troubles.items()]
    return "\n\n".join(parts[:2]) + "\n\n" + "\n".join(parts[2:])


def document(results: Sequence[Result], command: Sequence[str], sizes: Sizes) -> dict[str, Any]:
    """Everything that was measured and on what."""
    return {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "twisted": metadata.version("twisted"),
            "openssl": ssl.OPENSSL_VERSION,
        },
        "sizes": asdict(sizes),
        "rows": [_entry(result) for result in results],
    }


def _entry(result: Result) -> dict[str, Any]:
    row = result.row
    names = {name for rounds in result.rounds.values() for one in rounds for name in one}
    return {
        "name": row.name,
        "title": row.title,
        "unit": row.unit,
        "summary": {
            server: {name: result.figure(server, name) for name in sorted(names)}
            for server in result.rounds
        },
        "goals": [
            {**asdict(goal), "ratio": result.ratio(goal.figure), "met": result.met(goal)}
            for goal in row.goals
        ],
        "rounds": result.rounds,
        "troubles": result.troubles,
    }


def _goal_cells(result: Result, goal: Goal) -> list[str]:
    values = [_value(goal.figure, result.figure(name, goal.figure)) for name in NAMES]
    ratio = result.ratio(goal.figure)
    reach = f"<= {goal.most}x" if goal.beside else f"<= {_value(goal.figure, goal.most)}"
    verdict = {True: "ok", False: "MISSED", None: "-"}[result.met(goal)]
    what = _LABELS[goal.figure].format(unit=result.row.unit)
    return [
        *(result.row.name, what, *values),
        *("-" if ratio is None else f"{ratio:.3f}x", reach, verdict),
    ]


def _speed_cells(result: Result, server: str) -> list[str]:
    rate, octets, p50, p99 = (
        result.figure(server, name) for name in ("rate", "mb_s", "p50_ms", "p99_ms")
    )
    return [
        *(result.row.name, server),
        "-" if rate is None else f"{rate:,.0f} /s",
        "-" if octets is None else f"{octets:,.1f}",
        *(_value("p50_ms", p50), _value("p99_ms", p99), result.row.unit),
    ]


_LABELS = {
    "cpu_us": "CPU per {unit}",
    "memory_kib": "memory per {unit}",
    "hold_up_ms": "others held up, longest",
    "noop_p99_ms": "NOOP p99",
    "p99_ms": "all p99",
    "reply_p99_ms": "replies' p99",
}


def _value(figure: str, value: float | None) -> str:
    if value is None:
        return "-"
    if figure.endswith("_us"):
        return f"{value:.1f} us" if value < 1000 else f"{value / 1000:.3g} ms"
    if figure.endswith("_ms"):
        return f"{value:.3g} ms"
    return f"{value:.1f} KiB"


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Cells of lines, the widths of a column alike."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
