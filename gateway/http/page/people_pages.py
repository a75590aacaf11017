"""Last logins, and the audit log."""

from __future__ import annotations

from datetime import datetime

from gateway.errors import NotSupported
from gateway.http.page.pages import PER_PAGE, At, Shown
from gateway.operations.audit import search_audit
from gateway.operations.logins import list_logins

UNUSED = ("90", "0", "30", "180", "365")
"""Days without a login that can be chosen, the usual first; 0: any mailbox."""

ACTIONS = ("", "hide", "restore", "discard", "purge")
"""What the audit log records; empty: all."""


async def logins(at: At) -> Shown:
    """Mailboxes by their last login, those that nobody uses first."""
    days = at.choice("days", *UNUSED)
    found = await list_logins(
        at.tools,
        unused_days=int(days),
        search=at.asked.one("search"),
        page=at.page(),
        per_page=PER_PAGE,
    )
    since = found.items[0].known_since if found.items else None
    values = {
        "now": at.tools.now(),
        "found": found,
        "days": days,
        "choices": sorted(UNUSED, key=int),
        "search": at.asked.one("search"),
        "since": since,
    }
    return Shown("logins.html", values)


async def audit(at: At) -> Shown:
    """Removals, hidden and restored mail, the newest first."""
    asked = at.asked
    names = ("mailbox", "message_id", "operator")
    fields = {name: asked.one(name) for name in names}
    times = {name: asked.one(name) for name in ("since", "until")}
    action = at.choice("action", *ACTIONS)
    values = {
        "now": at.tools.now(),
        "actions": ACTIONS,
        "action": action,
        "fields": {**fields, **times},
        "found": None,
        "is_off": False,
    }
    try:
        values["found"] = await search_audit(
            at.tools,
            **fields,
            action=action,
            since=_seconds(times["since"]) or 0.0,
            until=_seconds(times["until"]),
            cursor=asked.one("cursor"),
            most=PER_PAGE,
        )
    except NotSupported:
        values["is_off"] = True
    return Shown("audit.html", values)


def _seconds(text: str) -> float | None:
    """The Unix time of a field ``datetime-local`` in the server's time zone; None: it has none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
