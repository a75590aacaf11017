"""How much retention will remove from all mailboxes in the next 90 days."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import inf
from weakref import WeakKeyDictionary

from attrs import frozen

from gateway.interfaces import IState
from gateway.mailboxes.pieces import in_pieces
from gateway.model import DueDay, LastScan
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
    scanned = _Scanned()
    async for scans in in_pieces(tools.state.last_scans):
        scanned = await tools.run(partial(scanned.plus, scans))
    due: list[DueDay] = []
    async for piece in in_pieces(tools.state.forecasts, PIECE):
        due = await tools.run(partial(total, [due, *piece.values()]))
    days = tuple(
        ForecastDay(float(one.day * DAY), one.messages, one.octets)
        for one in from_day(int(now // DAY), due)
    )
    oldest = scanned.oldest if scanned.mailboxes else None
    _latest[tools.state] = answer = Forecast(days, scanned.mailboxes, scanned.stopped, oldest, now)
    return answer


@frozen
class _Scanned:
    """Sums of scans."""

    mailboxes: int = 0
    stopped: int = 0
    oldest: float = inf

    def plus(self, scans: Mapping[str, LastScan]) -> _Scanned:
        """With these, too."""
        return _Scanned(
            self.mailboxes + len(scans),
            self.stopped + sum(scan.stopped is not None for scan in scans.values()),
            min(self.oldest, *(scan.looked for scan in scans.values())),
        )
