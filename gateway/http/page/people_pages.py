"""Users, last logins, deliveries, and the audit log."""

from __future__ import annotations

from datetime import datetime

from gateway.errors import NoSuchUser, NotSupported
from gateway.http.page.pages import PER_PAGE, At, Shown, part
from gateway.operations.mail.audit import search_audit
from gateway.operations.users.logins import list_logins
from gateway.operations.users.recent import list_deliveries, list_failed_logins
from gateway.operations.users.users import show_user

UNUSED = ("90", "0", "30", "180", "365")
"""Days without a login that can be chosen, the usual first; 0: any mailbox."""

FEW = 10
"""Rows of a list beside others."""

OUTCOMES = ("", "not-delivered", "delivered", "refused", "failed", "policy")
"""What became of mail; empty: anything."""

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
    values: dict[str, object] = {
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


async def users(at: At) -> Shown:
    """One user as the server sees it, and what happened of late."""
    name = at.asked.one("user")
    values: dict[str, object] = {"user": name, "entry": None}
    if not name:
        return Shown("users.html", values)
    try:
        entry = await show_user(at.tools, user=name)
    except NoSuchUser as error:
        return Shown("users.html", {**values, "problem": str(error)})
    values |= {
        "entry": entry,
        "failed": await part(list_failed_logins(at.tools, user=name, per_page=FEW)),
        "deliveries": await part(list_deliveries(at.tools, user=name, per_page=FEW)),
    }
    return Shown("users.html", values)


async def deliveries(at: At) -> Shown:
    """Mail that came of late, and mail that was refused."""
    asked = at.asked
    outcome = at.choice("outcome", *OUTCOMES)
    fields = {name: asked.one(name) for name in ("user", "address", "message_id")}
    found = await list_deliveries(
        at.tools,
        user=fields["user"],
        address=fields["address"],
        message_id=fields["message_id"],
        outcome=outcome,  # type: ignore[arg-type]
        page=at.page(),
        per_page=PER_PAGE,
    )
    values = {
        "found": found,
        "fields": fields,
        "outcome": outcome,
        "outcomes": OUTCOMES,
    }
    return Shown("deliveries.html", values)
