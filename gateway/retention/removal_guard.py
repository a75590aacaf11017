"""The guard that stops a run which would remove more than anybody can have meant."""

from __future__ import annotations

from fractions import Fraction

from attrs import field, frozen, validators


@frozen
class Guard:
    """How much may go at once without an operator's word."""

    share: float = field(default=0.5, validator=(validators.ge(0), validators.le(1)))
    """A run stops that would remove more than this part of all messages; 1: none does."""

    least: int = field(default=100, validator=validators.ge(0))
    """A run that would remove fewer messages than this never stops."""


def objection(guard: Guard, doomed: int, total: int, where: str) -> str | None:
    """Why ``doomed`` of ``total`` messages are not to be removed, for an operator; None: they are.

    ``where``: what holds them, as ``mailbox alice`` or ``the store``.  A share
    is meant as it is written: 0.29 of 100 messages are 29.
    """
    if doomed < guard.least or doomed <= Fraction(str(guard.share)) * total:
        return None
    return (
        f"{doomed} of {total} messages of {where} would go, which is more than"
        f" {guard.share * 100:g}%: nothing is removed until an operator confirms it"
    )
