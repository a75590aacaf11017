"""Points in time: that commands take, as ``10m`` ago or a date, and that they show; in UTC."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from gateway.units import time_text

_UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


class Moment(click.ParamType[float]):
    """Unix seconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The moment that a text stands for."""
        if isinstance(value, float):
            return value
        if found := re.fullmatch(r"([0-9]{1,6})(s|min|m|h|d|w)", value, re.ASCII):
            return time.time() - int(found[1]) * _UNITS[found[2]]
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"expected 2h, 7d, 2026-01-31 or 2026-01-31T12:00, found {value!r}", param, ctx
            )
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def moment(name: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option with a point in time."""
    return click.option(
        name, type=Moment(), metavar="TIME", help=f"{text}, as 2h, 7d (ago), or a date in UTC."
    )


def time_or(seconds: float | None, none: str = "") -> str:
    """A time in a line; ``none``: where there is none."""
    return none if seconds is None else time_text(seconds)


def cell_of(seconds: float | None, none: str = "") -> str:
    """The same in a cell of a table."""
    return none if seconds is None else time_text(seconds)[:19].replace("T", " ")


def minute_of(seconds: float | None, none: str = "") -> str:
    """The same without seconds."""
    return none if seconds is None else cell_of(seconds)[:16]


def day_of(seconds: float | None, none: str = "") -> str:
    """Its date."""
    return none if seconds is None else time_text(seconds)[:10]
