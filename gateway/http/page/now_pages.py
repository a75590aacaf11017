"""What happens now: open sessions, and who has to wait."""

from __future__ import annotations

from gateway.errors import BadRequest
from gateway.http.page.pages import PER_PAGE, At, Done, Shown
from gateway.operations.users import sessions, throttle


async def list_sessions(at: At) -> Shown:
    """The open sessions, the oldest first."""
    search = at.asked.one("search")
    values = {"search": search, "found": await _sessions(at, search)}
    return Shown("sessions.html", values)


async def _sessions(at: At, search: str) -> object:
    """Those of an address or a network, or else of a user."""
    page, tools = at.page(), at.tools
    if search:
        try:
            return await sessions.list_sessions(tools, address=search, page=page, per_page=PER_PAGE)
        except BadRequest:
            pass
    return await sessions.list_sessions(tools, user=search, page=page, per_page=PER_PAGE)


async def ask_kick(at: At) -> Shown:
    """Ask before a session is closed."""
    words, session = at.words, at.asked.one("session")
    user = at.asked.one("user") or words.text("not logged in")
    question = words.text(
        "The client of %(user)s loses its connection. It removes no message without QUIT, and may "
        "come back at once: to keep it out, disable the account.",
        user=user,
    )
    return Shown(
        "confirm.html",
        {
            "title": words.text("Kick %(user)s", user=user),
            "question": question,
            "listed": [session],
            "fields": [("session", session)],
            "action": "/sessions/kick",
            "verb": words.text("Kick this session"),
            "back": "/sessions",
        },
    )


async def kick_session(at: At) -> Done:
    """Close a session."""
    kicked = await sessions.kick_session(at.tools, session=at.asked.one("session"))
    return Done("kicked", len(kicked.sessions), "/sessions")


async def list_throttled(at: At) -> Shown:
    """Who waits after wrong passwords, and who is near a limit."""
    search = at.asked.one("search")
    found = await throttle.list_throttled(
        at.tools, search=search, page=at.page(), per_page=PER_PAGE
    )
    return Shown("throttle.html", {"search": search, "found": found})


async def forgive(at: At) -> Done:
    """Forget wrong passwords."""
    forgiven = await throttle.forgive(
        at.tools, user=at.asked.one("user"), address=at.asked.one("address")
    )
    return Done("forgiven", forgiven.places + forgiven.delays, "/throttle")
