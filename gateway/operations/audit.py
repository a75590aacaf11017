"""The audit log: search it by mailbox, message, time or operator."""

from __future__ import annotations

from typing import Annotated

from attrs import frozen

from gateway.errors import BadValue, NotSupported
from gateway.operations.tools import Tools
from gateway.operations.values import Bounds
from gateway.state.audit_search import AuditEntry, AuditLines, Wanted, find_lines


@frozen
class AuditPage:
    """Entries of the audit log, the newest first."""

    items: tuple[AuditEntry, ...]
    cursor: str
    """Give it to the next question, which goes on behind these; empty: there are no more.

    A search reads a bounded part of the log at once: it may find nothing and have a cursor."""

    damaged: int
    """Lines of this part that could not be read."""


async def search_audit(
    tools: Tools,
    *,
    mailbox: str = "",
    message_id: str = "",
    operator: str = "",
    session: str = "",
    action: str = "",
    since: float = 0.0,
    until: float | None = None,
    cursor: str = "",
    most: Annotated[int, Bounds(1, 1000)] = 100,
) -> AuditPage:
    """Search the audit log and its older files, the newest entry first.

    An entry fits that has all the values asked for; ``message_id`` with or without its angle
    brackets.  ``since`` and ``until`` are Unix seconds.
    """
    settings = tools.settings
    if not settings.audit.path:
        raise NotSupported("there is no audit log: set audit.path")
    if message_id and not message_id.startswith("<"):
        message_id = f"<{message_id}>"
    fields = {
        "mailbox": mailbox,
        "message_id": message_id,
        "operator": operator,
        "session": session,
        "action": action,
    }
    wanted = Wanted({name: value for name, value in fields.items() if value}, since, until)
    path = settings.path_of(settings.audit.path)

    def search() -> AuditLines:
        try:
            return find_lines(path, wanted, cursor=cursor, most=most)
        except ValueError as error:
            raise BadValue([f"cursor: {error}"]) from None

    found = await tools.run(search)
    return AuditPage(tuple(found.lines), found.cursor, found.damaged)
