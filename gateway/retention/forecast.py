"""How many messages of a mailbox go on each of the next days."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import inf, nextafter

from gateway.model import DueDay, StoredMessage
from gateway.retention.rules import Policy, doomed, dues_by_age, dues_by_room

DAY = 86_400
"""Seconds; days are those of UTC, numbered from 1970-01-01."""

DAYS = 90
"""How far a forecast goes."""


def forecast(
    messages: Collection[StoredMessage], policy: Policy, now: float, days: int = DAYS
) -> list[DueDay]:
    """What goes on each of the next ``days`` days, today first; days without any are left out.

    What is due already goes today.  Provided that no message arrives or is read, and that the
    removal guard stops nothing: then a day has what a preview at its end would remove, if all
    that goes on earlier days is gone.
    """
    if policy.hold:
        return []
    today = int(now // DAY)
    last, left = today + days - 1, list(messages)
    found: list[DueDay] = []
    for day in range(today, last + 1):
        gone = [one.message for one in doomed(left, policy, end_of(day))]
        if gone:
            found.append(_due_day(day, gone))
            uids = {one.uid for one in gone}
            left = [one for one in left if one.uid not in uids]
        if _first_by_room(left, policy) > end_of(last):
            # Removals only defer ``newest`` and ``size``: from here on only age counts.
            return found + _by_age(left, policy, last)
    return found


def end_of(day: int) -> float:
    """The last moment of a day, in Unix seconds."""
    return nextafter((day + 1) * DAY, 0.0)


def total(forecasts: Iterable[Iterable[DueDay]]) -> list[DueDay]:
    """The sums of the forecasts of many mailboxes, by day."""
    sums: dict[int, tuple[int, int]] = {}
    for one in forecasts:
        for day, messages, octets in one:
            was = sums.get(day, (0, 0))
            sums[day] = was[0] + messages, was[1] + octets
    return [DueDay(day, *sums[day]) for day in sorted(sums)]


def from_day(today: int, due: Sequence[DueDay], days: int = DAYS) -> list[DueDay]:
    """A forecast of an earlier day as of ``today``, with a value for each of ``days`` days.

    What was due on days that are over goes today.
    """
    moved = [one._replace(day=max(one.day, today)) for one in due]
    sums = {one.day: one for one in total([moved])}
    return [sums.get(day, DueDay(day, 0, 0)) for day in range(today, today + days)]


def _first_by_room(left: Iterable[StoredMessage], policy: Policy) -> float:
    return next((one.due for one in dues_by_room(left, policy)), inf)


def _by_age(left: Iterable[StoredMessage], policy: Policy, last: int) -> list[DueDay]:
    """What age removes up to the day ``last``."""
    days: dict[int, list[StoredMessage]] = {}
    for due, message, _ in dues_by_age(left, policy):
        if due <= end_of(last):
            days.setdefault(int(due // DAY), []).append(message)
    return [_due_day(day, days[day]) for day in sorted(days)]


def _due_day(day: int, gone: Collection[StoredMessage]) -> DueDay:
    return DueDay(day, len(gone), sum(one.octets for one in gone))
