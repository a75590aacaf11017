"""When each message of a mailbox goes, and the reason as text for people."""

from __future__ import annotations

from collections.abc import Collection
from math import inf

from gateway.model import StoredMessage
from gateway.retention.rules import Expired, Policy, Rule, dues_by_age, dues_by_room
from gateway.units import size_text

_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def dues(messages: Collection[StoredMessage], policy: Policy, now: float) -> dict[str, Expired]:
    """By unique-id, the messages that have a time at which they go.

    As ``gateway.retention.rules.doomed`` at that time, provided that no message arrives,
    goes or is read before.
    """
    if policy.hold:
        return {}
    found, staying = {}, []
    for one in dues_by_age(messages, policy):
        if one.due < inf:
            found[one.message.uid] = one
        if one.due > now:
            staying.append(one.message)
    for one in dues_by_room(staying, policy):
        known = found.get(one.message.uid)
        if known is None or one.due < known.due:
            found[one.message.uid] = one
    return found


def why(one: Expired, policy: Policy) -> str:
    """The rule that removes a message, as text for people."""
    value = getattr(policy, one.rule)
    shown = duration(value)
    if one.rule is Rule.NEWEST:
        shown = str(value)
    elif one.rule is Rule.SIZE:
        shown = f"{size_text(value)} octets" if value < 1024 else size_text(value)
    text = _TEXTS[one.rule].format(shown)
    is_by_floor = policy.floor and one.due == one.message.received + policy.floor
    return f"{text}, kept for {duration(policy.floor or 0)} at least" if is_by_floor else text


_TEXTS = {
    Rule.UNREAD: "unread for {} after receipt",
    Rule.READ: "read {} before",
    Rule.ANY: "received {} before",
    Rule.NEWEST: "not among the newest messages, {} in number",
    Rule.SIZE: "not among the newest messages, {} together",
}


def why_hidden(policy: Policy) -> str:
    """Why a hidden message is purged."""
    return f"hidden for {duration(policy.hide or 0)}"


def duration(seconds: int) -> str:
    """A time in the largest unit that needs no fraction."""
    for length, unit in _UNITS:
        if seconds % length == 0 and seconds:
            count = seconds // length
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return "0 seconds"
