"""The first page: is it healthy, and what happens now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from gateway.http.page.pages import At, Part, Shown, part
from gateway.http.page.plots import Series, plot
from gateway.http.page.retention_pages import forecast_part
from gateway.http.page.words import Words
from gateway.operations.mail import retention
from gateway.operations.mail.mailbox_list import list_mailboxes
from gateway.operations.server.certificates import list_certificates
from gateway.operations.server.figures import Minute, history
from gateway.operations.server.readiness import Readiness, readiness
from gateway.operations.users.sessions import list_sessions
from gateway.operations.users.throttle import list_throttled

FULLEST = 8
"""Mailboxes that the first page shows."""

SOON = 21
"""Days before its end at which a certificate is worth a warning."""

MINUTES = 60
"""Minutes of the plots."""


@frozen
class Warned:
    """Something that an administrator should look at."""

    style: str
    title: str
    detail: str = ""
    link: str = ""
    link_text: str = ""


@frozen
class Figure:
    """A number that stands out."""

    name: str
    value: str
    unit: str = ""
    note: str = ""
    link: str = ""


async def overview(at: At) -> Shown:
    """The whole server; a part that fails leaves the others as they are."""
    tools, words = at.tools, at.words
    ready = await part(readiness(tools))
    minutes = await part(history(tools))
    open_now = await part(list_sessions(tools, per_page=1))
    waiting = await part(list_throttled(tools, per_page=1))
    certificates = await part(list_certificates(tools))
    fullest = await part(list_mailboxes(tools, sort="share", per_page=FULLEST))
    stopped = await part(retention.list_scans(tools, stopped=True, per_page=1))
    values = {
        "health": {
            "problem": ready.problem,
            "is_ready": not ready.problem and ready.value.ready,
            "warnings": [
                *_checks(ready, words),
                *_certificates(certificates, words),
                *_stopped(stopped, words),
            ],
        },
        "figures": [
            *_present(open_now, waiting, words),
            *_figures(minutes, words),
            *_soonest(certificates, words),
        ],
        "history": Part(minutes.problem, _plots(minutes.value or (), tools.now(), words)),
        "fullest": fullest,
        "forecast": await forecast_part(at),
    }
    return Shown("overview.html", values)


def _checks(ready: Part, words: Words) -> list[Warned]:
    found: Readiness | None = ready.value
    names = {
        "directory": words.text("Directory"),
        "store": words.text("Mail store"),
        "disk": words.text("Disk"),
        "state": words.text("State"),
        "leader": words.text("Leader"),
        "stopping": words.text("The server is stopping"),
    }
    return [
        Warned("bad" if one.state == "fail" else "warn", names.get(one.name, one.name), one.reason)
        for one in (found.checks if found else ())
        if one.state != "ok"
    ]


def _certificates(found: Part, words: Words) -> list[Warned]:
    """Those that have a problem, or end soon."""
    warned = []
    for row in found.value.certificates if found.value else ():
        name = row.names[0] if row.names else row.path
        advice = words.text("Replace it, and reload.")
        left = row.days_left
        if left is not None and left < 0:
            title = words.text("%(name)s: the certificate has expired.", name=name)
            warned.append(Warned("bad", title, advice))
        elif left is not None and left < SOON:
            title = words.texts(
                "%(name)s: the certificate ends in %(num)s day.",
                "%(name)s: the certificate ends in %(num)s days.",
                int(left),
                name=name,
            )
            warned.append(Warned("warn", title, advice))
        warned += [Warned("warn", name, problem) for problem in row.problems]
    return warned


def _soonest(found: Part, words: Words) -> list[Figure]:
    """The certificate that ends first."""
    rows = found.value.certificates if found.value else ()
    known = [row for row in rows if row.days_left is not None]
    if not known:
        return []
    first = min(known, key=lambda row: row.days_left)
    days = words.number(max(int(first.days_left), 0))
    note = first.names[0] if first.names else first.path
    return [Figure(words.text("Certificate"), days, words.text("days"), note)]


def _stopped(scans: Part, words: Words) -> list[Warned]:
    count = 0 if scans.problem else scans.value.total or 0
    if not count:
        return []
    title = words.texts(
        "Retention has stopped in %(num)s mailbox.",
        "Retention has stopped in %(num)s mailboxes.",
        count,
    )
    link_text = words.text("Look, and release it")
    return [Warned("warn", title, scans.value.items[0].stopped, "/retention", link_text)]


def _present(open_now: Part, waiting: Part, words: Words) -> list[Figure]:
    found = []
    if not open_now.problem:
        count = words.number(open_now.value.total or 0)
        found.append(Figure(words.text("Sessions now"), count, link="/sessions"))
    if not waiting.problem:
        count = words.number(waiting.value.total or 0)
        note = words.text("wait, or are near a limit")
        found.append(Figure(words.text("Throttle"), count, note=note, link="/throttle"))
    return found


def _figures(minutes: Part, words: Words) -> list[Figure]:
    rows: Sequence[Minute] = minutes.value or ()
    if minutes.problem:
        return []
    logins, failed = sum(one.logins for one in rows), sum(map(_failed, rows))
    refused, octets = sum(one.refusals for one in rows), sum(one.retrieved_octets for one in rows)
    last_hour = words.text("in the last hour")
    return [
        Figure(words.text("Logins"), words.number(logins), note=last_hour),
        Figure(
            words.text("Failed logins"),
            words.number(failed),
            note=_reasons(rows, words) or last_hour,
        ),
        Figure(
            words.text("Deliveries"),
            words.number(sum(one.deliveries for one in rows)),
            note=words.text("%(num)s refused", num=words.number(refused)),
        ),
        Figure(words.text("Retrieved"), words.size(octets), note=last_hour),
    ]


def _failed(minute: Minute) -> int:
    return sum(minute.failed.values())


def _reasons(rows: Sequence[Minute], words: Words) -> str:
    """The most frequent reason of failed logins."""
    counts: dict[str, int] = {}
    for minute in rows:
        for reason, count in minute.failed.items():
            counts[reason] = counts.get(reason, 0) + count
    if not counts:
        return ""
    most = max(counts, key=lambda reason: counts[reason])
    return words.text("most: %(reason)s", reason=most.replace("_", " "))


def _plots(rows: Sequence[Minute], now: float, words: Words) -> dict[str, Any]:
    """An hour of minutes; those that nobody counted are empty."""
    first = now // 60 * 60 - (MINUTES - 1) * 60
    known = {one.began // 60 * 60: one for one in rows}
    begins = [first + number * 60 for number in range(MINUTES)]
    found = [known.get(began) for began in begins]
    labels = [words.minute(began) for began in begins]

    def counts(read: Any) -> tuple[float, ...]:
        return tuple(0.0 if one is None else float(read(one)) for one in found)

    return {
        "logins": plot(
            "logins",
            labels,
            Series(words.text("logged in"), "one", counts(lambda one: one.logins)),
            Series(words.text("failed"), "two", counts(_failed)),
        ),
        "deliveries": plot(
            "deliveries",
            labels,
            Series(words.text("delivered"), "one", counts(lambda one: one.deliveries)),
            Series(words.text("refused"), "two", counts(lambda one: one.refusals)),
        ),
        "begins": labels[0],
        "ends": labels[-1],
    }
