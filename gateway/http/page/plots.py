"""Plots: numbers by time as the columns of an SVG, with the same numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

from attrs import frozen

WIDTH, HEIGHT = 600, 120
"""Of the picture, in its own units: the style sheet stretches it."""

_GAP = 0.25
"""The share of a column that is empty."""


@frozen
class Series:
    """One kind of number; columns of several are stacked."""

    name: str
    style: str
    """The class of its columns in the style sheet."""

    values: tuple[float, ...]


@frozen
class Block:
    """A part of a column."""

    style: str
    x: float
    y: float
    width: float
    height: float


@frozen
class Column:
    """A point of time, and its numbers."""

    label: str
    values: tuple[float, ...]
    blocks: tuple[Block, ...]


@frozen
class Plot:
    """What the template draws."""

    name: str
    """A word that is unique on its page, for ids."""

    series: tuple[Series, ...]
    columns: tuple[Column, ...]
    top: float
    """The number at the top of the axis."""

    ticks: tuple[float, ...]
    """The numbers beside the axis, from the top."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(any(one.values) for one in self.series)

    @property
    def totals(self) -> tuple[float, ...]:
        """The sum of each series."""
        return tuple(sum(one.values) for one in self.series)


def plot(name: str, labels: Sequence[str], *series: Series, step: float = 1) -> Plot:
    """Columns of one or several series; ``step``: what the top of the axis is a multiple of."""
    highest = max(
        (sum(pile) for pile in zip(*(one.values for one in series), strict=True)), default=0
    )
    top = _round_up(highest, step)
    width = WIDTH / max(len(labels), 1)
    columns = tuple(
        _column(label, number * width, width, top, number, series)
        for number, label in enumerate(labels)
    )
    return Plot(name, series, columns, top, (top, top / 2, 0))


def _column(
    label: str, x: float, width: float, top: float, number: int, series: Sequence[Series]
) -> Column:
    blocks, base = [], float(HEIGHT)
    for one in series:
        height = round(one.values[number] / top * HEIGHT, 2)
        base -= height
        if height:
            left, wide = round(x + width * _GAP / 2, 2), round(width * (1 - _GAP), 2)
            blocks.append(Block(one.style, left, round(base, 2), wide, height))
    return Column(label, tuple(one.values[number] for one in series), tuple(blocks))


def _round_up(value: float, step: float) -> float:
    """The least of 2, 4, 6, 10 and 20 times a power of ten, times ``step``, that is no less."""
    scaled = max(value / step, 2)
    power = 10 ** floor(log10(scaled))
    return float(next(one for one in (2, 4, 6, 10, 20) if one * power >= scaled) * power * step)


def bar(used: float, limit: float | None) -> int:
    """How much of a bar is filled, in percent."""
    if not limit:
        # A limit of nothing is full.
        return 0 if limit is None else 100
    return min(100, max(0, ceil(used / limit * 100)))
