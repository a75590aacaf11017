"""How much retention will remove from all mailboxes in the next 90 days."""

from __future__ import annotations

from functools import partial
from weakref import WeakKeyDictionary

from attrs import frozen

from gateway.interfaces import IState
from gateway.model import DueDay
from gateway.operations.tools import Tools
from gateway.retention.forecast import DAY, from_day, total

PIECE = 500
"""Mailboxes that are read at once."""

FRESH = 300.0
"""Seconds for which a sum is used again."""


@frozen
class ForecastDay:
    """What goes on one day."""

    begins: float
    """The day's first moment in UTC, in Unix seconds."""

    messages: int
    octets: int


@frozen
class Forecast:
    """What retention will remove in the next 90 days, if nothing is read and the guard agrees."""

    days: tuple[ForecastDay, ...]
    """Today, with what is overdue, and each day after it."""

    mailboxes: int
    """How many mailboxes retention has looked at."""

    stopped: int
    """In how many of them nothing goes before an operator releases it; their mail is counted."""

    oldest: float | None
    """When the mailbox was looked at that was not for longest, in Unix seconds; None: none was."""

    summed: float
    """When these sums were made."""


_latest: WeakKeyDictionary[IState, Forecast] = WeakKeyDictionary()
"""The last answer for each state of this process."""


async def forecast(tools: Tools) -> Forecast:
    """Forecast how much will be removed on each of the next 90 days (UTC), from all mailboxes.

    As of the last scan of each mailbox: mail that arrived later is counted at its next scan,
    before any of it is due.
    """
    now, latest = tools.now(), _latest.get(tools.state)
    if latest is not None and 0 <= now - latest.summed < FRESH:
        return latest
    scans = await tools.state.last_scans()
    due: list[DueDay] = []
    after = ""
    while piece := await tools.state.forecasts(after, PIECE):
        due = await tools.run(partial(total, [due, *piece.values()]))
        after = [*piece][-1]
    days = tuple(
        ForecastDay(float(one.day * DAY), one.messages, one.octets)
        for one in from_day(int(now // DAY), due)
    )

    def found() -> Forecast:
        stopped = sum(scan.stopped is not None for scan in scans.values())
        oldest = min((scan.looked for scan in scans.values()), default=None)
        return Forecast(days, len(scans), stopped, oldest, now)

    _latest[tools.state] = answer = await tools.run(found)
    return answer
