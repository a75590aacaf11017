"""Retention and hidden mail."""

from __future__ import annotations

from gateway.errors import MessageGone
from gateway.http.page.pages import PER_PAGE, At, Done, Part, Shown, part
from gateway.http.page.plots import Series, plot
from gateway.http.page.words import Words
from gateway.operations.mail import retention, stored_mail
from gateway.operations.mail.retention_forecast import Forecast, forecast


async def overview(at: At) -> Shown:
    """What has stopped, what goes in the next 90 days, and when each mailbox is looked at."""
    tools = at.tools
    stopped = await retention.list_scans(tools, stopped=True, per_page=PER_PAGE)
    scans = await retention.list_scans(tools, page=at.page(), per_page=PER_PAGE)
    values = {
        "stopped": stopped,
        "found": scans,
        "forecast": await forecast_part(at),
    }
    return Shown("retention.html", values)


async def forecast_part(at: At) -> Part:
    """The forecast as a plot."""
    found = await part(forecast(at.tools))
    return found if found.problem else Part("", _plotted(found.value, at.words))


def _plotted(found: Forecast, words: Words) -> dict[str, object]:
    labels = [words.day(day.begins) for day in found.days]
    counts = tuple(float(day.messages) for day in found.days)
    return {
        "plot": plot("forecast", labels, Series(words.text("messages"), "one", counts)),
        "begins": labels[0] if labels else "",
        "ends": labels[-1] if labels else "",
        "messages": sum(day.messages for day in found.days),
        "octets": sum(day.octets for day in found.days),
        "today": found.days[0].messages if found.days else 0,
        "stopped": found.stopped,
    }


async def preview(at: At) -> Shown:
    """What retention would remove now, some mailboxes at a time."""
    found = await retention.preview(at.tools, after=at.asked.one("after"), most=PER_PAGE)
    return Shown("preview.html", {"found": found})


async def ask_release(at: At) -> Shown:
    """Ask before a release."""
    mailbox, words = at.asked.one("mailbox"), at.words
    due = await retention.preview_mailbox(at.tools, mailbox=mailbox, per_page=1)
    going = due.preview.would_go + due.preview.would_purge
    left = due.preview.messages + due.preview.hidden
    question = words.texts(
        "Retention will remove %(num)s message of %(all)s from %(mailbox)s.",
        "Retention will remove %(num)s messages of %(all)s from %(mailbox)s.",
        going,
        all=words.number(left),
        mailbox=mailbox,
    )
    return Shown(
        "confirm.html",
        {
            "title": words.text("Release %(mailbox)s", mailbox=mailbox),
            "question": question,
            "listed": [due.preview.stops] if due.preview.stops else [],
            "fields": [("mailbox", mailbox)],
            "action": "/retention/release",
            "verb": words.text("Release, and remove what is due"),
            "back": "/retention",
        },
    )


async def release(at: At) -> Done:
    """Release a mailbox that the removal guard has stopped."""
    orders = await retention.release(at.tools, mailbox=at.asked.one("mailbox"))
    return Done("released", orders.mailboxes, "/retention")


async def run(at: At) -> Done:
    """Have retention look at a mailbox."""
    mailbox = at.asked.one("mailbox")
    orders = await retention.run(at.tools, mailbox=mailbox or None)
    return Done("ordered", orders.mailboxes, "/retention")


async def hidden(at: At) -> Shown:
    """The hidden messages of a mailbox."""
    mailbox = at.asked.one("mailbox")
    found = None
    if mailbox:
        found = await stored_mail.list_hidden(
            at.tools, mailbox=mailbox, page=at.page(), per_page=PER_PAGE
        )
    values = {"mailbox": mailbox, "found": found}
    return Shown("hidden.html", values)


async def restore(at: At) -> Done:
    """Bring back the chosen messages."""
    mailbox, uids = at.asked.one("mailbox"), at.asked.all("uid")
    to = {"mailbox": mailbox}
    if not uids:
        return Done("nothing", 0, "/hidden", to)
    try:
        restored = await stored_mail.restore(at.tools, mailbox=mailbox, uids=uids)
    except MessageGone:
        return Done("gone", 0, "/hidden", to)
    return Done("restored", restored.restored, "/hidden", to)
