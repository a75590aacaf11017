"""What a look at a mailbox would remove, in words and as JSON has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from gateway.model import StoredMessage
from gateway.retention.due import next_look, over
from gateway.retention.removal_guard import Guard, objection
from gateway.retention.rules import Expired, Policy, doomed
from gateway.units import size_text, time_text


@frozen
class Forecast:
    """One mailbox at one moment."""

    mailbox: str
    policy: str
    messages: int
    gone: Sequence[Expired]
    purged: Sequence[StoredMessage]
    """What was hidden for long enough, and would go for good."""

    next_look: float | None
    """When something may be due that is left, in Unix seconds; None: never."""

    stops: str | None
    """Why nothing would go without an operator's word."""

    @property
    def octets(self) -> int:
        """Of all that would go."""
        return sum(one.message.octets for one in self.gone)


def forecast(
    mailbox: str,
    text: str,
    policy: Policy,
    kept: Sequence[StoredMessage],
    hidden: Sequence[StoredMessage],
    guard: Guard,
    now: float,
) -> Forecast:
    """What ``policy``, written ``text``, would do where ``kept`` is shown and ``hidden`` is not."""
    gone, purged = doomed(kept, policy, now), over(hidden, policy, now)
    going = {one.message.uid for one in gone}
    left = [one for one in kept if one.uid not in going]
    for_good = {one.uid for one in purged}
    still_hidden = [one for one in hidden if one.uid not in for_good]
    stops = objection(guard, len(gone), len(kept), f"mailbox {mailbox}")
    then = next_look(left, still_hidden, policy, now)
    return Forecast(mailbox, text, len(kept), gone, purged, then, stops)


def line(one: Forecast) -> str:
    """A mailbox in one line."""
    counts = Counter(gone.rule for gone in one.gone)
    why = ", ".join(f"{rule} {count}" for rule, count in sorted(counts.items()))
    going = f"{len(one.gone)} of {one.messages} messages would go"
    if one.gone:
        going += f" ({why}; {size_text(one.octets)})"
    then = "never" if one.next_look is None else time_text(one.next_look)
    if one.purged:
        going += f", {len(one.purged)} hidden ones for good"
    stops = " STOPPED until it is released" if one.stops else ""
    return f"{one.mailbox}: {going}{stops}; next look {then}; policy {one.policy}"


def message_line(one: Expired) -> str:
    """A message in one line."""
    _, (received, uid, octets, read), rule = one
    seen = "unread" if read is None else f"read {time_text(read)}"
    due, came = time_text(one.due), time_text(received)
    return f"  {uid}: {rule}, due {due}; came {came}, {seen}, {octets} octets"


def hidden_line(one: StoredMessage) -> str:
    """A hidden message in one line."""
    return f"{one.uid}: hidden {time_text(one.received)}, {one.octets} octets"


def purged_line(one: StoredMessage) -> str:
    """One that would go for good, below its mailbox's line."""
    return f"  {hidden_line(one)}"


def hidden_described(one: StoredMessage) -> dict[str, Any]:
    """The same for JSON."""
    return {"uid": one.uid, "size": one.octets, "hidden": time_text(one.received)}


def described(one: Forecast, *, messages: bool) -> dict[str, Any]:
    """For JSON; ``messages``: whether each of those that would go is named."""
    said: dict[str, Any] = {
        "mailbox": one.mailbox,
        "policy": one.policy,
        "messages": one.messages,
        "would_go": len(one.gone),
        "would_go_octets": one.octets,
        "would_purge": len(one.purged),
        "rules": dict(sorted(Counter(str(gone.rule) for gone in one.gone).items())),
        "next_look": None if one.next_look is None else time_text(one.next_look),
        "stops": one.stops,
    }
    if messages:
        said["removed"] = [
            {
                "uid": gone.message.uid,
                "size": gone.message.octets,
                "received": time_text(gone.message.received),
                "read": None if gone.message.read is None else time_text(gone.message.read),
                "rule": str(gone.rule),
                "due": time_text(gone.due),
            }
            for gone in one.gone
        ]
        said["purged"] = [hidden_described(gone) for gone in one.purged]
    return said
