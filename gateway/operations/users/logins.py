"""The last login to each mailbox, and mailboxes that nobody uses."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Literal

from attrs import frozen

from gateway.errors import GatewayError
from gateway.mailboxes.pieces import joined
from gateway.model import LastLogin
from gateway.operations.tools import Tools
from gateway.operations.values import Bounds, Page, page_of

DAY = 86_400.0


@frozen
class MailboxLogin:
    """The last login to a mailbox; times in Unix seconds."""

    mailbox: str
    at: float | None
    """None: there was none since ``known_since``."""

    method: str
    """``PASS`` or the SASL mechanism; empty: there was no login."""

    network: Literal["", "local", "private", "public"]
    """Where the client was."""

    known_since: float | None
    """Since when logins are kept: nobody knows of the time before.  None: none was kept yet."""


async def list_logins(
    tools: Tools,
    *,
    unused_days: Annotated[int, Bounds(0, 36_500)] = 0,
    search: str = "",
    sort: Literal["oldest", "newest", "mailbox"] = "oldest",
    page: Annotated[int, Bounds(0, 1_000_000)] = 0,
    per_page: Annotated[int, Bounds(1, 1000)] = 100,
) -> Page[MailboxLogin]:
    """List the last login to each mailbox, the mailboxes without any first.

    ``unused_days``: only mailboxes without a login in that time, those that were never
    used too.  ``search``: a part of the mailbox's name.
    """
    with suppress(GatewayError):
        # Of a process that cannot, the logins of the last seconds are missing.
        await tools.processes.ask_each("store logins")
    listed = await tools.survey.listed()
    known_since = await tools.state.logins_since()
    logins: Mapping[str, LastLogin] = await joined(tools.state.last_logins)
    before = tools.now() - unused_days * DAY if unused_days else None

    def found() -> Page[MailboxLogin]:
        part = search.lower()
        names = (one.mailbox for one in listed)
        rows = [_row(name, logins.get(name), known_since) for name in names if part in name.lower()]
        if before is not None:
            rows = [row for row in rows if row.at is None or row.at < before]
        if sort != "mailbox":
            rows.sort(key=lambda row: (row.at or 0.0, row.mailbox), reverse=sort == "newest")
        return page_of(rows, page, per_page)

    return await tools.run(found)


def _row(mailbox: str, login: LastLogin | None, known_since: float | None) -> MailboxLogin:
    if login is None:
        return MailboxLogin(mailbox, None, "", "", known_since)
    return MailboxLogin(mailbox, login.at, login.method, _network(login.network), known_since)


def _network(text: str) -> Literal["", "local", "private", "public"]:
    known: tuple[Literal["local", "private", "public"], ...] = ("local", "private", "public")
    return next((one for one in known if one == text), "")
