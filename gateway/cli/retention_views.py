"""How previews and hidden messages are shown: lines, cells of a table, JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from gateway.cli.terminal import View
from gateway.model import StoredMessage
from gateway.retention.preview import Preview
from gateway.retention.rules import Expired
from gateway.units import size_text, time_text


def line(one: Preview) -> str:
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
    """A hidden message that would be removed for good, below the line of its mailbox."""
    return f"  {hidden_line(one)}"


def hidden_described(one: StoredMessage) -> dict[str, Any]:
    """A hidden message for JSON."""
    return {"uid": one.uid, "size": one.octets, "hidden": time_text(one.received)}


def described(one: Preview, *, messages: bool) -> dict[str, Any]:
    """A mailbox for JSON; ``messages``: with each message that would go."""
    found: dict[str, Any] = {
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
        found["removed"] = [
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
        found["purged"] = [hidden_described(gone) for gone in one.purged]
    return found


def _mailbox_cells(one: Preview) -> tuple[str, ...]:
    then = "never" if one.next_look is None else time_text(one.next_look)
    counts = str(len(one.gone)), str(one.messages), size_text(one.octets), str(len(one.purged))
    return (one.mailbox, *counts, "yes" if one.stops else "", then, one.policy)


def _message_cells(one: Expired) -> tuple[str, ...]:
    message = one.message
    read = "" if message.read is None else time_text(message.read)
    times = time_text(one.due), time_text(message.received), read
    return (message.uid, str(one.rule), *times, size_text(message.octets))


def _hidden_cells(one: StoredMessage) -> tuple[str, ...]:
    return one.uid, time_text(one.received), size_text(one.octets)


MAILBOXES = View(
    ("Mailbox", "Would go", "Of", "Size", "Purged", "Stopped", "Next look", "Policy"),
    _mailbox_cells,
    line,
    lambda one: described(one, messages=False),
)

MESSAGES = View(
    ("Unique-id", "Rule", "Due", "Came", "Read", "Size"), _message_cells, message_line, lambda _: {}
)
"""Below the line of their mailbox, which has them with ``--json``."""

PURGED = View(("Purged unique-id", "Hidden", "Size"), _hidden_cells, purged_line, lambda _: {})
"""The same."""

HIDDEN = View(("Unique-id", "Hidden", "Size"), _hidden_cells, hidden_line, hidden_described)
