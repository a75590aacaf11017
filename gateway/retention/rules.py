"""Which messages a retention policy removes, why, and when the next one is due.

What goes is decided by one number for each message, the moment it is due: it
goes once ``due <= now``, so exactly at the age that a rule says, and everything
here agrees on it.  A clock that was wrong only ever keeps mail longer: what was
received or read in the future is not yet due and crowds nothing out.
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
    """When messages of a mailbox are removed; None: that rule is not there.

    Times in seconds, none of them below 0: ``ValueError``.  A message is
    removed as soon as one of the rules says so, unless the floor or the hold
    protects it.
    """

    unread: int | None = field(default=None, validator=_LEAST_ZERO)
    """The age, from receipt, at which a message that has not been read goes."""

    read: int | None = field(default=None, validator=_LEAST_ZERO)
    """The age, counted from when it was read, at which one that has been read goes."""

    any: int | None = field(default=None, validator=_LEAST_ZERO)
    """The age, from receipt, at which every message goes."""

    newest: int | None = field(default=None, validator=_LEAST_ZERO)
    """Messages to keep of those that no age removes; the oldest beyond them are due."""

    size: int | None = field(default=None, validator=_LEAST_ZERO)
    """Octets to keep of them; while there are more, the oldest is due."""

    floor: int | None = field(default=None, validator=_LEAST_ZERO)
    """The age, from receipt, below which no rule removes a message."""

    hold: bool = False
    """Nothing is removed at all."""

    hide: int | None = field(default=None, validator=_LEAST_ZERO)
    """How long what goes is hidden before it is gone for good; None or 0: not at all."""


class Rule(StrEnum):
    """What removes a message, in the word that the policy's text has for it."""

    UNREAD = "unread"
    READ = "read"
    ANY = "any"
    NEWEST = "newest"
    SIZE = "size"


class Expired(NamedTuple):
    """A message that goes.

    In the order of its fields: what was due first, then the oldest.
    """

    due: float
    """Since when, in Unix seconds."""

    message: StoredMessage
    rule: Rule
    """The one that would have removed it first."""


def doomed(messages: Iterable[StoredMessage], policy: Policy, now: float) -> list[Expired]:
    """What ``policy`` removes of a mailbox at ``now``, in order.

    The order of ``messages`` does not matter.  Removing any of them, for
    whatever reason, dooms no other; and after the first few of the result are
    removed exactly the others are still doomed, so that the work may be done
    in pieces.
    """
    if policy.hold:
        return []
    found, staying = [], []
    for one in _by_age(messages, policy):
        if one.due <= now:
            found.append(one)
        else:
            staying.append(one.message)
    found += takewhile(lambda one: one.due <= now, _by_room(staying, policy))
    found.sort()
    return found


def next_due(messages: Iterable[StoredMessage], policy: Policy, now: float) -> float | None:
    """The first moment from ``now`` on at which something is doomed; None: there is none.

    In Unix seconds, for the case that no message comes, goes or is read.
    """
    if policy.hold:
        return None
    # Before the first message is due by its age every other one stays, so
    # that all of them count for the rules about room.
    messages = list(messages)
    ages = (one.due for one in _by_age(messages, policy))
    rooms = (one.due for one in _by_room(messages, policy))
    due = min(min(ages, default=inf), next(rooms, inf))
    return None if due == inf else max(due, now)


def _limit(value: int | None) -> float:
    return inf if value is None else value


def _by_age(messages: Iterable[StoredMessage], policy: Policy) -> Iterator[Expired]:
    """Every message with the rule about its age that is due first; infinite: none ever is."""
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


def _by_room(messages: Iterable[StoredMessage], policy: Policy) -> Iterator[Expired]:
    """What the rules about room remove, if not now then later: oldest first, so also due first."""
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
    """For each, oldest first, when the message came after which ``most`` newer ones were there."""
    if most is not None:
        yield from (message.received for message in messages[most:])
    yield from repeat(inf)


def _dues_by_size(messages: list[StoredMessage], most: int | None) -> Iterator[float]:
    """For each, oldest first, when it and the newer ones became more than ``most`` octets."""
    limit = _limit(most)
    octets = end = 0
    for message in messages:
        while octets <= limit and end < len(messages):
            octets += messages[end].octets
            end += 1
        yield messages[end - 1].received if octets > limit else inf
        octets -= message.octets
