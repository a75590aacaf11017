"""What came of a run: rounds of figures, their medians, spreads and ratios, kept as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import cattrs

Figures = dict[str, float]

QUIET = 0.05
"""The most of the machine that other programs may use while a row is measured."""

_WORST = {"hold_up_ms", "foreign"}
"""Figures of which the worst round counts, not the median."""


class Spread(NamedTuple):
    """A figure over the rounds."""

    middle: float
    """The median; of a hold-up and of foreign load, the worst."""

    least: float
    most: float


@dataclass(frozen=True)
class Goal:
    """What a figure has to reach: as a ratio to the other server, or, else itself."""

    figure: str
    bound: float
    beside: bool = True
    at_least: bool = False
    """``bound`` is the least and not the most."""

    def met_by(self, value: float) -> bool:
        """Whether the figure or the ratio is within the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass
class Result:
    """What came of a row: the rounds of each server, or why there are none."""

    name: str
    title: str
    unit: str
    goals: tuple[Goal, ...] = ()
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)

    def spread(self, server: str, figure: str) -> Spread | None:
        """None where no round has the figure."""
        if server in self.troubles:
            return None
        rounds = self.rounds.get(server, [])
        return _spread(figure, [one[figure] for one in rounds if figure in one])

    def ratio(self, ours: str, theirs: str, figure: str) -> Spread | None:
        """One server's figure over the other's, round by round: both ran one after the other."""
        if ours in self.troubles or theirs in self.troubles:
            return None
        pairs = zip(self.rounds.get(ours, []), self.rounds.get(theirs, []), strict=False)
        values = [
            our[figure] / their[figure]
            for our, their in pairs
            if figure in our and their.get(figure)
        ]
        return _spread("ratio", values)

    def reached(self, goal: Goal, ours: str, theirs: str) -> bool | None:
        """Whether the goal is met; None where it could not be measured."""
        if goal.beside:
            found = self.ratio(ours, theirs, goal.figure)
        else:
            found = self.spread(ours, goal.figure)
        return None if found is None else goal.met_by(found.middle)

    @property
    def foreign(self) -> float:
        """The largest share of the machine that other programs used during a round."""
        figures = [one for rounds in self.rounds.values() for one in rounds]
        return max((one.get("foreign", 0.0) for one in figures), default=0.0)

    @property
    def names(self) -> list[str]:
        """All figures that a round has."""
        rounds = [one for rounds in self.rounds.values() for one in rounds]
        return sorted({name for one in rounds for name in one})


def _spread(figure: str, values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    middle = max(values) if figure in _WORST else statistics.median(values)
    return Spread(middle, min(values), max(values))


@dataclass
class Run:
    """All rows of a run, and what they were measured on."""

    when: str
    """UTC, ISO 8601."""

    commit: str
    command: list[str]
    machine: dict[str, str]
    versions: dict[str, str]
    sizes: dict[str, float]
    theirs: str
    """The server that the other one is compared with."""

    ours: str
    seconds: float = 0.0
    results: list[Result] = field(default_factory=list)
    memory: list[list[str]] = field(default_factory=list)
    """Lines of the table of memory: what, how much, of how many."""

    workers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def noisy(self) -> list[str]:
        """The rows during which the machine was not quiet."""
        return [one.name for one in self.results if one.foreign > QUIET]

    def save(self, file: Path) -> None:
        """Write everything as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(cattrs.unstructure(self), indent=1) + "\n")


def merged(runs: Sequence[Run]) -> Run:
    """The first run, with the rows of later ones in place of its own.

    Raises ``ValueError`` if they cannot be compared.
    """
    first, *later = runs
    for one in later:
        for name in ("commit", "machine", "versions", "theirs", "ours"):
            ours, theirs = getattr(first, name), getattr(one, name)
            if ours != theirs:
                raise ValueError(f"runs of the same {name} are needed, found {ours} and {theirs}")
    newest = {row.name: row for run in runs for row in run.results}
    results = [newest[row.name] for row in first.results]
    seconds = sum(run.seconds for run in runs)
    workers = next((run.workers for run in reversed(runs) if run.workers), [])
    return replace(first, results=results, seconds=seconds, workers=workers)


def read(file: Path) -> Run:
    """The run that ``save`` wrote.

    Raises ``ValueError`` for another file.
    """
    try:
        return cattrs.structure(json.loads(file.read_text()), Run)
    except (ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
        raise ValueError(f"{file}: no JSON of a run of python -m bench") from error
