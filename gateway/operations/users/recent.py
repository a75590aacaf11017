"""Deliveries, refusals and failed logins of late, gathered from all processes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from gateway.model import Delivery, FailedLogin
from gateway.operations.tools import Tools
from gateway.operations.users.sessions import named_network
from gateway.operations.users.users import names_of
from gateway.operations.values import Bounds, Page, page_of

_NOT_DELIVERED = ("refused", "failed", "policy")


async def list_deliveries(
    tools: Tools,
    *,
    user: str = "",
    address: str = "",
    message_id: str = "",
    outcome: Literal["", "delivered", "not-delivered", "refused", "failed", "policy"] = "",
    since: float = 0.0,
    page: Annotated[int, Bounds(0, 1_000_000)] = 0,
    per_page: Annotated[int, Bounds(1, 1000)] = 100,
) -> Page[Delivery]:
    """List deliveries and refusals of late, the latest first.

    ``user``: a login name, mail address or mailbox: mail for and from any address of it.
    ``address``: of a recipient or the sender, also one that nobody has.  ``message_id``: the
    Message-ID, or the id in Received and in the log.  ``outcome``: ``not-delivered`` is anything
    but ``delivered``.  ``since``: Unix seconds.  Each process keeps its last 2,000 in memory, and
    answers with at most 1,000 that fit.
    """
    wanted = _NOT_DELIVERED if outcome == "not-delivered" else (outcome,) if outcome else ()
    names = [*await names_of(tools, user), *([address] if address else [])]
    question = {
        "names": [name.lower() for name in names],
        "message_id": message_id.strip("<>"),
        "outcomes": wanted,
        "since": since,
    }
    found = await tools.processes.ask_each("deliveries", question)
    return await _page(tools, found, _delivery, page, per_page)


async def list_failed_logins(
    tools: Tools,
    *,
    user: str = "",
    address: str = "",
    since: float = 0.0,
    page: Annotated[int, Bounds(0, 1_000_000)] = 0,
    per_page: Annotated[int, Bounds(1, 1000)] = 100,
) -> Page[FailedLogin]:
    """List failed logins of late, the latest first.

    ``user``: any name of the account, or the name that the client has sent.  ``address``: of the
    client, or a network.  ``since``: Unix seconds.  Each process keeps its last 2,000 in memory.
    """
    names = [name.lower() for name in await names_of(tools, user)]
    question = {"names": names, "network": named_network(address), "since": since}
    found = await tools.processes.ask_each("failed logins", question)
    return await _page(tools, found, lambda row: FailedLogin(*row), page, per_page)


async def _page(
    tools: Tools, answers: list[list[Any]], read: Any, page: int, per_page: int
) -> Page[Any]:
    def found() -> Page[Any]:
        rows = sorted((row for answer in answers for row in answer), key=_at, reverse=True)
        part = page_of(rows, page, per_page)
        return Page(tuple(map(read, part.items)), page, per_page, part.total)

    return await tools.run(found)


def _at(row: list[Any]) -> float:
    """The time, which is the first field of a row."""
    return float(row[0])


def _delivery(row: list[Any]) -> Delivery:
    at, outcome, mailbox, recipients, *rest = row
    return Delivery(at, outcome, mailbox, tuple(recipients), *rest)
