"""Quota warnings to users, and the digest to an administrator, as messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from html import escape
from typing import NamedTuple

from attrs import frozen

from gateway.model import Level, Limits, Usage
from gateway.quota.texts import Language, Template

MOST_ROWS = 1000
"""Most mailboxes in a digest."""

_NO_DOMAIN = "invalid"
"""Domain in place of an invalid one (RFC 2606)."""

_UNITS = ("KB", "MB", "GB", "TB", "PB", "EB")


@frozen
class Origin:
    """The sender.  Raises ``ValueError`` for an address or id that a header cannot contain."""

    address: str
    name: str = ""
    list_id: str = ""
    """List-Id (RFC 2919) without brackets; empty: ``quota.`` and the domain of the address."""

    def __attrs_post_init__(self) -> None:
        if not re.fullmatch(r"[^\s@<>]+@[^\s@<>]+", self.address) or self.domain == _NO_DOMAIN:
            raise ValueError(
                f"expected an address as postmaster@example.org, found {self.address!r}"
            )
        if not re.fullmatch(r"[!-;=?-~]*", self.list_id):
            raise ValueError(f"expected an id as quota.example.org, found {self.list_id!r}")

    @property
    def domain(self) -> str:
        """The domain of the address, in ASCII."""
        return _ascii_domain(self.address.rpartition("@")[2])


class Stamp(NamedTuple):
    """Date and id of a message."""

    now: float
    """Unix seconds."""

    unique: str
    """Letters and digits, unique on this server."""


@frozen
class Row:
    """A mailbox in a digest."""

    mailbox: str
    level: Level
    usage: Usage
    limits: Limits


class Figures(NamedTuple):
    """Usage of the limit that is closest, as text."""

    used: str
    limit: str
    percent: int


def figures(usage: Usage, limits: Limits, language: Language) -> Figures:
    """Octets or messages of the mailbox, whichever is closer to its limit.

    Without a limit of octets the warning level takes its place.
    """
    found = []
    octets = limits.warn_octets if limits.octets is None else limits.octets
    if octets is not None:
        percent = _percent(usage.octets, octets)
        found.append(Figures(_size(usage.octets, language), _size(octets, language), percent))
    if limits.messages is not None:
        percent = _percent(usage.messages, limits.messages)
        used, limit = (_messages(count, language) for count in (usage.messages, limits.messages))
        found.append(Figures(used, limit, percent))
    if not found:
        return Figures(_size(usage.octets, language), "∞", 0)
    return max(found, key=lambda one: one.percent)


def _percent(used: int, limit: int) -> int:
    return max(used, 0) * 100 // limit if limit else 100


def _messages(count: int, language: Language) -> str:
    number = f"{count:,}".replace(",", language.group)
    return f"{number} {language.message if count == 1 else language.messages}"


def _size(octets: int, language: Language) -> str:
    """The percentage, rounded down: only a full mailbox has 100 %."""
    power = min((max(octets, 1).bit_length() - 1) // 10, len(_UNITS))
    if power == 0:
        return f"{octets} {language.octet if octets == 1 else language.octets}"
    whole, tenth = divmod(octets * 10 >> 10 * power, 10)
    decimals = f"{language.point}{tenth}" if tenth and whole < 100 else ""
    return f"{whole}{decimals} {_UNITS[power - 1]}"


def warning(
    to: str,
    usage: Usage,
    limits: Limits,
    *,
    template: Template,
    language: Language,
    origin: Origin,
    stamp: Stamp,
) -> bytes:
    """A warning for the user with the address or login name ``to``.

    Internet text (RFC 5322) with CRLF line ends, as it goes into the maildrop.
    """
    said = figures(usage, limits, language)
    fields = {"name": _clean(to), **said._asdict()}
    escaped = {name: escape(str(value)) for name, value in fields.items()}
    return _message(
        to,
        template.subject.format(**fields),
        template.text.format(**fields),
        template.html.format(**escaped),
        origin,
        stamp,
    )


def digest(
    to: str, rows: Iterable[Row], *, language: Language, origin: Origin, stamp: Stamp
) -> bytes:
    """A list of mailboxes for the administrator, the fullest first; made as ``warning``."""
    known = [(row, figures(row.usage, row.limits, language)) for row in rows]
    known.sort(key=lambda one: (-one[0].level, -one[1].percent, one[0].mailbox))
    lines, cells = [], []
    for row, said in known[:MOST_ROWS]:
        name, state = _clean(row.mailbox), language.levels[row.level]
        amount = f"{said.used} {language.of} {said.limit}"
        lines.append(f"{state:<12} {said.percent:>4} %  {name}  ({amount})")
        texts = (state, f"{said.percent} %", name, amount)
        cells.append(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in texts)}</tr>")
    more = language.more.format(count=len(known) - len(lines)) if len(known) > len(lines) else ""
    subject = language.digest.format(count=len(known))
    text = "\n".join([*lines, *filter(None, ["", more])])
    html = "\n".join(["<table>", *cells, "</table>", f"<p>{more}</p>"])
    return _message(to, subject, f"{text}\n", _page(subject, html), origin, stamp)


def _page(title: str, body: str) -> str:
    return (
        f"<!DOCTYPE html>\n<html>\n"
        f'<head><meta charset="utf-8"><title>{escape(title)}</title></head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _message(to: str, subject: str, text: str, html: str, origin: Origin, stamp: Stamp) -> bytes:
    sender = _address(origin.address, origin.domain, origin.name)
    recipient = _address(to, origin.domain)
    ascii_only = sender.addr_spec.isascii() and recipient.addr_spec.isascii()
    message = EmailMessage(SMTP if ascii_only else SMTPUTF8)
    message["From"], message["To"], message["Subject"] = sender, recipient, subject
    # Not every path to a client is 8-bit clean.
    message.set_content(text, cte="quoted-printable")
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    message.set_boundary(f"=_{stamp.unique}")
    return _head(origin, stamp) + message.as_bytes()


def _head(origin: Origin, stamp: Stamp) -> bytes:
    """Headers with tokens, which the email package would split into encoded words."""
    date = format_datetime(datetime.fromtimestamp(int(stamp.now), UTC))
    headers = {
        # No automatic replies: RFC 5321 section 4.5.5, RFC 3834, and the header that
        # older programs know.
        "Return-Path": "<>",
        "Auto-Submitted": "auto-generated",
        "Precedence": "bulk",
        "List-Id": f"<{origin.list_id or f'quota.{origin.domain}'}>",
        "Message-ID": f"<{stamp.unique}@{origin.domain}>",
        "Date": date,
    }
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii")


def _address(text: str, domain: str, name: str = "") -> Address:
    """The address; for a login name without a domain, the address in ``domain``."""
    local, at, own = _clean(text).rpartition("@")
    if not (local and own):
        local, own = (local or own or at), domain
    if quoted := re.fullmatch(r'"(.*)"', local):
        local = re.sub(r"\\(.)", r"\1", quoted[1])
    return Address(_clean(name), local, _ascii_domain(own))


def _ascii_domain(domain: str) -> str:
    try:
        found = domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return _NO_DOMAIN
    return found if re.fullmatch(r"[a-z0-9._-]+", found) else _NO_DOMAIN


def _clean(text: str) -> str:
    """The text without line ends and other characters that a header cannot contain."""
    return "".join(char if char.isprintable() else "?" for char in text)
