"""Which messages a retention policy removes, why, and when the next one is due.

Each message has a time at which it is due.  It is removed once ``due <= now``, so
exactly at the age of the rule.  A wrong clock can only keep mail longer: a message
received or read in the future is not due, and does not count against others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import repeat, takewhile
from math import inf
from typing import NamedTuple

from attrs import field, frozen, validators

from gateway.model import StoredMessage

_LEAST_ZERO = validators.optional(validators.ge(0))


@frozen
class Policy:
    """The rules of a retention policy; None: no such rule.

    Times in seconds, 0 or more; raises ``ValueError``.  A message is removed as soon as
    one rule applies, unless the floor or the hold protects it.
    """

    unread: int | None = field(default=None, validator=_LEAST_ZERO)
    """Age from receipt at which an unread message is removed."""

    read: int | None = field(default=None, validator=_LEAST_ZERO)
    """Time after reading at which a read message is removed."""

    any: int | None = field(default=None, validator=_LEAST_ZERO)
    """Age from receipt at which any message is removed."""

    newest: int | None = field(default=None, validator=_LEAST_ZERO)
    """Most messages to keep, apart from those due by age; the oldest are removed."""

    size: int | None = field(default=None, validator=_LEAST_ZERO)
    """Most octets to keep of them; the oldest are removed."""

    floor: int | None = field(default=None, validator=_LEAST_ZERO)
    """Age from receipt below which no rule removes a message."""

    hold: bool = False
    """Remove nothing."""

    hide: int | None = field(default=None, validator=_LEAST_ZERO)
    """How long messages are hidden before they are purged; None or 0: not hidden."""


class Rule(StrEnum):
    """The rule that removes a message, by its name in the text of a policy."""

    UNREAD = "unread"
    READ = "read"
    ANY = "any"
    NEWEST = "newest"
    SIZE = "size"
    HIDE = "hide"
    """Of a message that is hidden already: it is purged."""


class Expired(NamedTuple):
    """A message that is due for removal.

    Sorted by its fields: first due first, then oldest first.
    """

    due: float
    """Since when it is due, in Unix seconds."""

    message: StoredMessage
    rule: Rule
    """The rule that is due first."""


def doomed(messages: Iterable[StoredMessage], policy: Policy, now: float) -> list[Expired]:
    """The messages that ``policy`` removes at ``now``, in order of removal.

    ``messages`` may be in any order.  Removing some of them makes no other message
    due; after the first ones of the result are removed exactly the rest is due.  So
    removal may proceed in batches.
    """
    if policy.hold:
        return []
    found, staying = [], []
    for one in dues_by_age(messages, policy):
        if one.due <= now:
            found.append(one)
        else:
            staying.append(one.message)
    found += takewhile(lambda one: one.due <= now, dues_by_room(staying, policy))
    found.sort()
    return found


def next_due(messages: Iterable[StoredMessage], policy: Policy, now: float) -> float | None:
    """The first time from ``now`` on at which a message is due; None: never.

    In Unix seconds, provided that no message arrives, goes or is read.
    """
    if policy.hold:
        return None
    # Until the first message is due by age all stay, and all of them count for
    # ``newest`` and ``size``.
    messages = list(messages)
    ages = (one.due for one in dues_by_age(messages, policy))
    rooms = (one.due for one in dues_by_room(messages, policy))
    due = min(min(ages, default=inf), next(rooms, inf))
    return None if due == inf else max(due, now)


def _limit(value: int | None) -> float:
    return inf if value is None else value


def dues_by_age(messages: Iterable[StoredMessage], policy: Policy) -> Iterator[Expired]:
    """Each message with the rule about age that is due first; infinite: never."""
    unread, read, any_age = map(_limit, (policy.unread, policy.read, policy.any))
    floor = policy.floor or 0
    for message in messages:
        received, _, _, seen = message
        due, rule = received + any_age, Rule.ANY
        if seen is None:
            own, own_rule = received + unread, Rule.UNREAD
        else:
            own, own_rule = max(seen, received) + read, Rule.READ
        if own <= due:
            due, rule = own, own_rule
        yield Expired(max(due, received + floor), message, rule)


def dues_by_room(messages: Iterable[StoredMessage], policy: Policy) -> Iterator[Expired]:
    """What ``newest`` and ``size`` remove, now or later: oldest first, so first due first."""
    if policy.newest is None and policy.size is None:
        return
    oldest_first = sorted(messages)
    floor = policy.floor or 0
    dues = zip(
        _dues_by_size(oldest_first, policy.size),
        _dues_by_number(oldest_first, policy.newest),
        oldest_first,
        strict=False,
    )
    for by_size, by_number, message in dues:
        due, rule = by_number, Rule.NEWEST
        if by_size < due:
            due, rule = by_size, Rule.SIZE
        if due == inf:
            return
        yield Expired(max(due, message.received + floor), message, rule)


def _dues_by_number(messages: list[StoredMessage], most: int | None) -> Iterator[float]:
    """For each, oldest first: when the message arrived that made ``most`` newer ones."""
    if most is not None:
        yield from (message.received for message in messages[most:])
    yield from repeat(inf)


def _dues_by_size(messages: list[StoredMessage], most: int | None) -> Iterator[float]:
    """For each, oldest first: when it and newer ones first exceeded ``most`` octets."""
    limit = _limit(most)
    octets = end = 0
    for message in messages:
        while octets <= limit and end < len(messages):
            octets += messages[end].octets
            end += 1
        yield messages[end - 1].received if octets > limit else inf
        octets -= message.octets
