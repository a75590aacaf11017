"""Points in time that commands take: ``10m`` ago, a date, or a date and time in UTC."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

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
