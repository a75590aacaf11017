"""What happened in each of the last 60 minutes: differences between sums of figures.

The sums are those of ``totals.py``, so a minute counts all processes, and loses nothing when one
of them ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from gateway.observe.figures import Snapshot

MINUTE = 60.0
MINUTES = 60

_COUNTED: Mapping[str, str] = {
    "pop3gw_logins_total": "logins",
    "pop3gw_deliveries_total": "deliveries",
    "pop3gw_recipients_refused_total": "refusals",
    "pop3gw_deliveries_failed_total": "refusals",
    "pop3gw_retrieved_bytes_total": "retrieved_octets",
}
"""The families that a minute has, and under which name."""

Sums = Mapping[str, float]


def sums_of(snapshot: Snapshot) -> Sums:
    """What is counted, in all since the start: ``failed`` has a sum for each reason."""
    found: dict[str, float] = {}
    for (family, *labels), value in snapshot:
        name = _COUNTED.get(family)
        if name == "logins" and labels[1] != "ok":
            name = f"failed {labels[1]}"
        if name is not None:
            found[name] = found.get(name, 0) + value
    return found


class History:
    """The last 60 full minutes, and the present one; a few hundred numbers at most."""

    def __init__(self, now: float) -> None:
        """``now`` in Unix seconds."""
        self._minutes: deque[tuple[float, Sums]] = deque(maxlen=MINUTES)
        self._began = _minute(now)
        self._before: Sums = {}

    def take(self, now: float, snapshot: Snapshot) -> None:
        """Sums at this time, in Unix seconds; call it a few times a minute."""
        if _minute(now) != self._began:
            sums = sums_of(snapshot)
            self._minutes.append((self._began, _difference(sums, self._before)))
            self._began, self._before = _minute(now), sums

    def rows(self, now: float, snapshot: Snapshot) -> list[Mapping[str, Any]]:
        """A row a minute, the oldest first; the last one is the minute that has begun.

        A minute in which the machine slept has none.
        """
        self.take(now, snapshot)
        present = _difference(sums_of(snapshot), self._before)
        last = [one for one in self._minutes if 0 <= now - one[0] <= (MINUTES + 1) * MINUTE]
        return [_row(*one) for one in (*last, (self._began, present))]


def _minute(now: float) -> float:
    return now // MINUTE * MINUTE


def _difference(sums: Sums, before: Sums) -> Sums:
    more = {name: value - before.get(name, 0) for name, value in sums.items()}
    return {name: value for name, value in more.items() if value > 0}


def _row(began: float, counts: Sums) -> Mapping[str, Any]:
    row: dict[str, Any] = {name: counts.get(name, 0) for name in dict.fromkeys(_COUNTED.values())}
    failed = {name[7:]: value for name, value in counts.items() if name.startswith("failed ")}
    return {"began": began, **row, "failed": failed}
