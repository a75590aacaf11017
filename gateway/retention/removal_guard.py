"""The removal guard: stops a run that would remove unexpectedly many messages."""

from __future__ import annotations

from fractions import Fraction

from attrs import field, frozen, validators


@frozen
class Guard:
    """How much a run may remove before an operator must release it."""

    share: float = field(default=0.5, validator=(validators.ge(0), validators.le(1)))
    """Largest share of all messages; 1: no limit."""

    least: int = field(default=100, validator=validators.ge(0))
    """Fewer messages than this are always removed."""


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
