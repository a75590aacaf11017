"""The audit log: search it by mailbox, message, time or operator."""

from __future__ import annotations

from typing import Annotated

from attrs import frozen

from gateway.errors import BadValue, NotSupported
from gateway.interfaces import IAuditStore
from gateway.model import AuditEntry, AuditLines, AuditQuery
from gateway.operations.tools import Tools
from gateway.operations.values import Bounds
from gateway.state.audit_search import find_lines


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
    """Search the audit log, the newest entry first.

    An entry fits that has all the values asked for; ``message_id`` with or without its angle
    brackets.  ``since`` and ``until`` are Unix seconds.
    """
    if message_id and not message_id.startswith("<"):
        message_id = f"<{message_id}>"
    fields = {
        "mailbox": mailbox,
        "message_id": message_id,
        "operator": operator,
        "session": session,
        "action": action,
    }
    query = AuditQuery({name: value for name, value in fields.items() if value}, since, until)
    try:
        found = await _search(tools, query, cursor, most)
    except ValueError as error:
        raise BadValue([f"cursor: {error}"]) from None
    return AuditPage(tuple(found.lines), found.cursor, found.damaged)


async def _search(tools: Tools, query: AuditQuery, cursor: str, most: int) -> AuditLines:
    store: IAuditStore | None = IAuditStore(tools.store, None)
    if store is not None:
        return await store.search_audit(query, cursor, most)
    path = tools.settings.audit_path
    if not path:
        raise NotSupported("there is no audit log: set audit.path")
    return await tools.run(lambda: find_lines(path, query, cursor=cursor, most=most))
