"""The removal guard: stops a run that would remove unexpectedly many messages."""

from __future__ import annotations

from fractions import Fraction
from math import inf

from attrs import field, frozen, validators

from gateway.model import LastScan

STORE = "the store within a day"
HIDDEN_MAIL = "the hidden mail of the store within a day"
"""What the guard asks about, for texts."""

LONGEST_PAUSE = 30 * 86_400.0
"""Seconds for which a server may be off; a scan that comes later looks like a wrong clock."""


@frozen
class Guard:
    """How much a run may remove before an operator must release it."""

    share: float = field(default=0.5, validator=(validators.ge(0), validators.le(1)))
    """Largest share of all messages; 1: no limit."""

    least: int = field(default=100, validator=validators.ge(0))
    """Fewer messages than this are always removed."""


def expected_after(last: LastScan | None, policy: str, now: float) -> float:
    """Hidden messages that became due after this time are expected to go now; in Unix seconds.

    While a policy and the clock are right, each scan purges all that is due.  What was due
    before the ``last`` one and is still there has become so by a new ``policy``.
    """
    if last is None or last.policy != policy:
        return inf
    is_too_late = last.due is not None and now - last.due > LONGEST_PAUSE
    return inf if is_too_late else last.looked


def objection(guard: Guard, doomed: int, total: int, where: str) -> str | None:
    """Why the guard stops the removal of ``doomed`` of ``total`` messages; None: it does not.

    ``where``: ``mailbox alice`` or ``the store``, for the text.  The share is exact as
    written: 0.29 of 100 messages are 29.
    """
    if doomed < guard.least or doomed <= Fraction(str(guard.share)) * total:
        return None
    return (
        f"{doomed} of {total} messages of {where} would go, which is more than"
        f" {guard.share * 100:g}%: nothing is removed until an operator confirms it"
    )
