"""How previews, forecasts and hidden messages are shown: lines, cells of a table, JSON."""

from __future__ import annotations

from typing import Any

from attrs import asdict

from gateway.cli.moments import day_of, minute_of, time_or
from gateway.cli.terminal import View
from gateway.operations.mail.retention import DueMail, DueMessage, MailboxPreview, Ordered, Scan
from gateway.operations.mail.retention_forecast import ForecastDay
from gateway.operations.mail.stored_mail import HiddenMessage
from gateway.units import rounded_size, size_text, time_text

# -- previews ------------------------------------------------------------------


def line(one: MailboxPreview) -> str:
    """A mailbox in one line."""
    why = ", ".join(f"{each.rule} {each.messages}" for each in one.rules)
    going = f"{one.would_go} of {one.messages} messages would go"
    if one.would_go:
        going += f" ({why}; {size_text(one.would_go_octets)})"
    if one.would_purge:
        going += f", {one.would_purge} hidden ones for good"
    stops = " STOPPED until it is released" if one.stops else ""
    then = time_or(one.next_look, "never")
    return f"{one.mailbox}: {going}{stops}; next look {then}; policy {one.policy}"


def message_line(one: DueMessage) -> str:
    """A message in one line."""
    seen = "unread" if one.read is None else f"read {time_text(one.read)}"
    due, came = time_text(one.due), time_text(one.received)
    return f"  {one.uid}: {one.rule}, due {due}; came {came}, {seen}, {one.octets} octets"


def hidden_line(one: HiddenMessage) -> str:
    """A hidden message in one line."""
    return f"{one.uid}: hidden {time_text(one.hidden)}, {one.octets} octets"


def purged_line(one: HiddenMessage) -> str:
    """A hidden message that would be removed for good, below the line of its mailbox."""
    return f"  {hidden_line(one)}"


def hidden_described(one: HiddenMessage) -> dict[str, Any]:
    """A hidden message for JSON."""
    return {"uid": one.uid, "size": one.octets, "hidden": time_text(one.hidden)}


def described(one: MailboxPreview) -> dict[str, Any]:
    """A mailbox for JSON."""
    return asdict(one) | {
        "rules": {each.rule: each.messages for each in one.rules},
        "next_look": None if one.next_look is None else time_text(one.next_look),
    }


def due_described(one: DueMail) -> dict[str, Any]:
    """A mailbox for JSON, with each message that would go."""
    removed = [
        {
            "uid": gone.uid,
            "size": gone.octets,
            "received": time_text(gone.received),
            "read": None if gone.read is None else time_text(gone.read),
            "rule": gone.rule,
            "due": time_text(gone.due),
        }
        for gone in one.due
    ]
    purged = [hidden_described(gone) for gone in one.purged]
    return described(one.preview) | {"removed": removed, "purged": purged}


def _mailbox_cells(one: MailboxPreview) -> tuple[str, ...]:
    counts = f"{one.would_go:,}", f"{one.messages:,}", rounded_size(one.would_go_octets)
    stopped = "yes" if one.stops else ""
    return (one.mailbox, *counts, f"{one.would_purge:,}", stopped, one.policy)


def _message_cells(one: DueMessage) -> tuple[str, ...]:
    read = "" if one.read is None else time_text(one.read)
    times = time_text(one.due), time_text(one.received), read
    return (one.uid, one.rule, *times, rounded_size(one.octets))


def _hidden_cells(one: HiddenMessage) -> tuple[str, ...]:
    return one.uid, time_text(one.hidden), rounded_size(one.octets)


MAILBOXES = View(
    ("Mailbox", "Would go", "Of", "Size", "Purged", "Stopped", "Policy"),
    _mailbox_cells,
    line,
    described,
    numbers=("Would go", "Of", "Size", "Purged"),
)

MESSAGES = View(
    ("Unique-id", "Rule", "Due", "Came", "Read", "Size"),
    _message_cells,
    message_line,
    lambda _: {},
    numbers=("Size",),
)
"""Below the line of their mailbox, which has them with ``--json``."""

PURGED = View(
    ("Purged unique-id", "Hidden", "Size"),
    _hidden_cells,
    purged_line,
    lambda _: {},
    numbers=("Size",),
)
"""The same."""

HIDDEN = View(
    ("Unique-id", "Hidden", "Size"),
    _hidden_cells,
    hidden_line,
    hidden_described,
    numbers=("Size",),
)

# -- the schedule --------------------------------------------------------------


def _order_line(one: Ordered) -> str:
    if one.released and one.stopped:
        return f"{one.mailbox}: {one.stopped}; released"
    return f"{one.mailbox}: ordered"


ORDERED: View[Ordered] = View(
    ("Mailbox", "Order", "Stopped by"),
    lambda one: (one.mailbox, "released" if one.released else "run", one.stopped or ""),
    _order_line,
    asdict,
)


def _scan_line(one: Scan) -> str:
    stopped = f"; STOPPED: {one.stopped}" if one.stopped else ""
    looked, due = time_text(one.looked), time_or(one.due, "never")
    return (
        f"{one.mailbox}: {one.messages} messages; looked {looked}, next look {due};"
        f" policy {one.policy}{stopped}"
    )


def _scan_described(one: Scan) -> dict[str, Any]:
    due = None if one.due is None else time_text(one.due)
    return asdict(one) | {"looked": time_text(one.looked), "due": due}


SCANS: View[Scan] = View(
    ("Mailbox", "Messages", "Looked", "Next look", "Policy", "Stopped by"),
    lambda one: (
        one.mailbox,
        f"{one.messages:,}",
        minute_of(one.looked),
        minute_of(one.due, "never"),
        one.policy,
        one.stopped or "",
    ),
    _scan_line,
    _scan_described,
    numbers=("Messages",),
)


DAYS: View[ForecastDay] = View(
    ("Day", "Messages", "Size"),
    lambda one: (day_of(one.begins), f"{one.messages:,}", rounded_size(one.octets)),
    lambda one: f"{day_of(one.begins)}: {one.messages} messages, {one.octets} octets",
    lambda one: {"day": day_of(one.begins), "messages": one.messages, "size": one.octets},
    numbers=("Messages", "Size"),
)
