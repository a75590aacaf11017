"""The one answer to whether a message may go into a mailbox, for all who ask."""

from __future__ import annotations

from enum import IntEnum

from gateway.model import Level, Limits, Usage


class Verdict(IntEnum):
    """What a mailbox has to say to one more message; the larger, the less it can be helped."""

    FINE = 0

    OVER = 1
    """It is full, or would be more than full; that may change."""

    LARGER_THAN_QUOTA = 2
    """It would not fit if the mailbox were empty."""


def verdict(usage: Usage, size: int, limits: Limits) -> Verdict:
    """Whether a message of ``size`` octets may go into a mailbox that holds ``usage``.

    The last message that is let in may go beyond the limit by the grace; a
    mailbox at its limit takes none.  What has an unknown size, 0, or less,
    counts as an octet, so that it does not get into a full mailbox.
    """
    size = max(size, 1)
    most = None if limits.octets is None else limits.octets + limits.grace_octets
    if most is not None and size > most:
        return Verdict.LARGER_THAN_QUOTA
    if _is_full(usage, limits) or (most is not None and usage.octets + size > most):
        return Verdict.OVER
    return Verdict.FINE


def level(usage: Usage, limits: Limits, wanted: int = 0) -> Level:
    """How full a mailbox is; ``OVER`` when it takes no message of any size.

    Or not the one of ``wanted`` octets that came last in vain, from where
    warnings begin: below that a message too large for the room that is left
    says more about the message than about the mailbox.
    """
    if _is_full(usage, limits):
        return Level.OVER
    warn = limits.warn_octets
    if (warn is None or usage.octets >= warn) and verdict(usage, wanted, limits) is Verdict.OVER:
        return Level.OVER
    return Level.NORMAL if warn is None or usage.octets < warn else Level.WARN


def _is_full(usage: Usage, limits: Limits) -> bool:
    """A count below zero, which a maildirsize may show for a while, counts as zero."""
    return (limits.octets is not None and max(usage.octets, 0) >= limits.octets) or (
        limits.messages is not None and max(usage.messages, 0) >= limits.messages
    )
