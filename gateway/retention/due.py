"""Which hidden messages are due for purging, and when to scan a mailbox next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gateway.model import StoredMessage
from gateway.retention.rules import Expired, Policy, Rule, next_due

CROWDED = 86_400.0
"""Seconds until the next scan if new mail may exceed ``newest`` or ``size``."""


def over(hidden: Iterable[StoredMessage], policy: Policy, now: float) -> list[Expired]:
    """The hidden messages to purge, in order.

    None if the policy has no ``hide``, or has ``hold``.
    """
    if policy.hide is None or policy.hold:
        return []
    dues = (Expired(one.received + policy.hide, one, Rule.HIDE) for one in hidden)
    return sorted(one for one in dues if one.due <= now)


def next_look(
    messages: Sequence[StoredMessage], hidden: Iterable[StoredMessage], policy: Policy, now: float
) -> float | None:
    """When to scan a mailbox with these messages next; None: never.

    In Unix seconds, not before ``now``.  Whatever arrives, goes or is read meanwhile,
    no rule about age is due earlier; ``newest`` and ``size`` wait a day at most.
    """
    if policy.hold:
        return None
    due = next_due(messages, policy, now)
    times = [*_yet_to_come(policy, now), *([] if due is None else [due])]
    if policy.hide is not None:
        times += [max(one.received + policy.hide, now) for one in hidden]
    return min(times, default=None)


def _yet_to_come(policy: Policy, now: float) -> Iterator[float]:
    """The earliest time at which a message may be due that arrives or is read from now on."""
    for age in (policy.unread, policy.any):
        if age is not None:
            yield now + max(age, policy.floor or 0)
    if policy.read is not None:
        yield now + policy.read
    if policy.newest is not None or policy.size is not None:
        yield now + CROWDED
