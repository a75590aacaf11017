"""What has been hidden for long enough, and when a mailbox is to be looked at again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gateway.model import StoredMessage
from gateway.retention.rules import Policy, next_due

CROWDED = 86_400.0
"""Seconds until the next look where mail that is yet to come may crowd out what is there."""


def over(hidden: Iterable[StoredMessage], policy: Policy, now: float) -> list[StoredMessage]:
    """Of what is hidden that which goes for good.

    Nothing while the policy does not say for how long, nor in a mailbox on hold.
    """
    if policy.hide is None or policy.hold:
        return []
    return [one for one in hidden if one.received + policy.hide <= now]


def next_look(
    messages: Sequence[StoredMessage], hidden: Iterable[StoredMessage], policy: Policy, now: float
) -> float | None:
    """When to look again at a mailbox that holds these; None: nothing can ever be due in it.

    In Unix seconds, not before ``now``.  Whatever comes, goes or is read
    meanwhile, by age nothing is due earlier; and what goes for want of room
    waits for a day at most.
    """
    if policy.hold:
        return None
    due = next_due(messages, policy, now)
    times = [*_yet_to_come(policy, now), *([] if due is None else [due])]
    if policy.hide is not None:
        times += [max(one.received + policy.hide, now) for one in hidden]
    return min(times, default=None)


def _yet_to_come(policy: Policy, now: float) -> Iterator[float]:
    """When at the earliest a message may be due that comes, or is read, from now on."""
    for age in (policy.unread, policy.any):
        if age is not None:
            yield now + max(age, policy.floor or 0)
    if policy.read is not None:
        yield now + policy.read
    if policy.newest is not None or policy.size is not None:
        yield now + CROWDED
