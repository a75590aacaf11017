"""How mailboxes are shown: lines, cells of a table, JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.cli.moments import day_of, time_or
from gateway.cli.terminal import View, described
from gateway.units import counted, rounded_size, time_text

if TYPE_CHECKING:
    from gateway.operations.mail.mailbox_list import MailboxDetails, MailboxRow


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _messages(value: int | None) -> str:
    return "? messages" if value is None else counted(value, "message")


def _size(value: int | None, unknown: str = "?") -> str:
    return unknown if value is None else rounded_size(value)


def _share(one: MailboxRow) -> str:
    return "" if one.share is None else f"{one.share:.0%}"


def _level(one: MailboxRow) -> str:
    words = {"over": "over quota", "warn": "nearly full", "normal": "", None: ""}
    return words[one.level]


def _login(one: MailboxRow) -> str:
    return time_or(one.last_login, "never seen")


def _state(one: MailboxRow) -> str:
    notes = [_level(one), "on hold" if one.on_hold else "", "" if one.owner else "no account"]
    return ", ".join(note for note in (*notes, one.problem) if note)


def _cells(one: MailboxRow) -> tuple[str, ...]:
    limit = _size(one.limit_octets, "none")
    return (
        one.mailbox,
        _number(one.messages),
        _size(one.octets),
        limit,
        _share(one),
        day_of(one.last_login, "never seen"),
        _state(one),
    )


def _line(one: MailboxRow) -> str:
    limit = "no limit" if one.limit_octets is None else f"of {rounded_size(one.limit_octets)}"
    share = f" ({_share(one)})" if one.share is not None else ""
    state = f"; {_state(one)}" if _state(one) else ""
    return (
        f"{one.mailbox}: {_messages(one.messages)}, {_size(one.octets)} {limit}{share};"
        f" last login {_login(one)}{state}"
    )


def _described(one: MailboxRow) -> dict[str, Any]:
    return described(one, "last_login")


MAILBOXES: View[MailboxRow] = View(
    ("Mailbox", "Messages", "Size", "Limit", "Used", "Last login", "State"),
    _cells,
    _line,
    _described,
    numbers=("Messages", "Size", "Limit", "Used"),
)


def with_source(value: str, source: str) -> str:
    """A value, and where it is set; an empty ``source``: nowhere."""
    return f"{value}, set by {source}" if source else value


def details(one: MailboxDetails) -> dict[str, str]:
    """The fields of one mailbox, by their headings."""
    row = one.mailbox
    limit_messages = "none" if row.limit_messages is None else f"{row.limit_messages:,}"
    policy = with_source(row.policy or "none", row.policy_from)
    found = {
        "Mailbox": row.mailbox,
        "Account": row.owner or "none in the directory",
        "Last login": _login(row),
        "Sessions": f"{one.sessions:,}",
        "Messages": f"{one.shown_messages:,}, {rounded_size(one.shown_octets)}",
        "Hidden": f"{_number(row.hidden)}, {rounded_size(one.hidden_octets)}",
        "Other folders": f"{one.folder_messages:,}, {rounded_size(one.folder_octets)}",
        "Usage": f"{_messages(row.messages)}, {_size(row.octets)}"
        + (f", {_share(row)} of its limit" if row.share is not None else ""),
        "Limit": with_source(_size(row.limit_octets, "none"), row.limit_octets_from),
        "Most messages": with_source(limit_messages, row.limit_messages_from),
        "Level": _level(row) or "normal",
        "Retention": policy + (": on hold, nothing is removed" if row.on_hold else ""),
    }
    if one.policy_error:
        found["Wrong policy"] = f"{one.policy_error}; all mail stays until it is corrected"
    if one.scanned is not None:
        then = "not before something changes" if one.next_scan is None else time_text(one.next_scan)
        found["Last scan"] = f"{time_text(one.scanned)}; next: {then}"
    if one.stopped:
        found["Stopped"] = f"{one.stopped}; see pop3gw retention release"
    if row.problem:
        found["Problem"] = row.problem
    return found


def details_described(one: MailboxDetails) -> dict[str, Any]:
    """One mailbox for JSON."""
    found = described(one, "scanned", "next_scan")
    return _described(one.mailbox) | {
        name: value for name, value in found.items() if name != "mailbox"
    }
