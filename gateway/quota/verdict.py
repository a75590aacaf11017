"""The quota verdict: whether a message fits into a mailbox."""

from __future__ import annotations

from enum import IntEnum

from gateway.model import Level, Limits, Usage


class Verdict(IntEnum):
    """Whether a mailbox has room for a message; larger values are more permanent."""

    FINE = 0

    OVER = 1
    """The mailbox is full or would exceed its limit; later it may fit."""

    LARGER_THAN_QUOTA = 2
    """The message would not fit into an empty mailbox."""


def verdict(usage: Usage, size: int, limits: Limits) -> Verdict:
    """Whether a message of ``size`` octets fits into a mailbox that holds ``usage``.

    The last message may exceed the limit by the grace; a mailbox at its limit takes
    none.  A size of 0 or less is unknown and counts as one octet, so that a full
    mailbox rejects it.
    """
    size = max(size, 1)
    most = None if limits.octets is None else limits.octets + limits.grace_octets
    if most is not None and size > most:
        return Verdict.LARGER_THAN_QUOTA
    if _is_full(usage, limits) or (most is not None and usage.octets + size > most):
        return Verdict.OVER
    return Verdict.FINE


def level(usage: Usage, limits: Limits, wanted: int = 0) -> Level:
    """The level of a mailbox; ``OVER``: it takes no message.

    Also ``OVER`` if the mailbox is above its warning level and has no room for the
    last rejected message, of ``wanted`` octets.  Below that level the message is large,
    and the mailbox is not full.
    """
    if _is_full(usage, limits):
        return Level.OVER
    warn = limits.warn_octets
    if (warn is None or usage.octets >= warn) and verdict(usage, wanted, limits) is Verdict.OVER:
        return Level.OVER
    return Level.NORMAL if warn is None or usage.octets < warn else Level.WARN


def _is_full(usage: Usage, limits: Limits) -> bool:
    """Usage with negative counts, which maildirsize may briefly have, as zero."""
    return (limits.octets is not None and max(usage.octets, 0) >= limits.octets) or (
        limits.messages is not None and max(usage.messages, 0) >= limits.messages
    )
