"""Mailboxes and their messages."""

from __future__ import annotations

from gateway.errors import MessageGone
from gateway.http.page.pages import PER_PAGE, At, Done, Shown
from gateway.operations.mail import messages
from gateway.operations.mail.mailbox_list import list_mailboxes, show_mailbox

SORTS = ("octets", "share", "messages", "mailbox", "last_login")


async def mailboxes(at: At) -> Shown:
    """All mailboxes, the largest first."""
    search, sort = at.asked.one("search"), at.choice("sort", *SORTS)
    found = await list_mailboxes(
        at.tools,
        search=search,
        sort=sort,  # type: ignore[arg-type]
        page=at.page(),
        per_page=PER_PAGE,
    )
    values = {"found": found, "search": search, "sort": sort}
    return Shown("mailboxes.html", values)


async def mailbox(at: At) -> Shown:
    """One mailbox, and what will go when."""
    name = at.asked.one("name")
    details = await show_mailbox(at.tools, mailbox=name)
    sort = at.choice("sort", "received", "due", "octets")
    found = await messages.list_messages(
        at.tools,
        mailbox=name,
        show="shown",
        sort=sort,  # type: ignore[arg-type]
        descending=sort == "octets",
        page=at.page(),
        per_page=PER_PAGE,
    )
    values = {
        "name": name,
        "facts": details.mailbox,
        "details": details,
        "found": found,
        "sort": sort,
    }
    return Shown("mailbox.html", values)


async def hide_messages(at: At) -> Done:
    """Hide the chosen messages."""
    name, uids = at.asked.one("mailbox"), at.asked.all("uid")
    if not uids:
        return Done("nothing", 0, "/mailbox", {"name": name})
    try:
        changed = await messages.hide_messages(at.tools, mailbox=name, uids=uids)
    except MessageGone:
        return Done("gone", 0, "/mailbox", {"name": name})
    return Done("hidden", changed.done, "/mailbox", {"name": name})


async def remove_messages(at: At) -> Shown | Done:
    """Ask, and then remove the chosen messages."""
    words, name, uids = at.words, at.asked.one("mailbox"), at.asked.all("uid")
    if not uids:
        return Done("nothing", 0, "/mailbox", {"name": name})
    if at.asked.one("sure") == "yes":
        try:
            changed = await messages.remove_messages(at.tools, mailbox=name, uids=uids)
        except MessageGone:
            return Done("gone", 0, "/mailbox", {"name": name})
        return Done("removed", changed.done, "/mailbox", {"name": name})
    question = words.texts(
        "Remove %(num)s message from %(mailbox)s for good? Nobody can restore it.",
        "Remove %(num)s messages from %(mailbox)s for good? Nobody can restore them.",
        len(uids),
        mailbox=name,
    )
    return Shown(
        "confirm.html",
        {
            "title": words.text("Remove from %(mailbox)s", mailbox=name),
            "question": question,
            "listed": uids,
            "fields": [("mailbox", name), *(("uid", uid) for uid in uids)],
            "action": "/mailbox/remove",
            "verb": words.text("Remove for good"),
            "back": at.to("/mailbox", name=name),
        },
    )
