"""The arguments of MAIL and RCPT: paths and parameters (RFC 5321 section 4.1.2, RFC 6531)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from gateway.lmtp import replies
from gateway.lmtp.replies import Refused, Reply

_ATOM = r"[^\x00-\x20\x7f-\x9f()<>\[\]:;@\\,\"\u2028\u2029]+"
_QUOTED = r"\"(?:[^\x00-\x1f\x7f-\x9f\"\\\u2028\u2029]|\\[ -~])*\""
_LITERAL = r"\[[!-;=?-Z^-~]+\]"
_DOMAIN = f"(?:{_ATOM}|{_LITERAL})"
_PATH = re.compile(
    f"<(?:(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?"  # a source route: ignored, as RFC 5321 C says
    f"(?P<local>{_ATOM}|{_QUOTED})(?P<domain>@{_DOMAIN})?)?>"
)
_PLAIN = re.compile(r"[^\x00-\x20()<>\[\]:;@\\,\".]+(?:\.[^\x00-\x20()<>\[\]:;@\\,\".]+)*")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_WORD = re.compile("[^ \t]+")
_SIZE = re.compile("[0-9]{1,20}")

PATH_LIMIT = 512
"""Most octets of an address: twice the limit of RFC 5321 section 4.5.3.1.3; fits a header line."""


def path(text: str) -> tuple[str, str]:
    """The address that ``text`` begins with, empty for ``<>``, and what follows it.

    Unnecessary quotes of a local part are removed: both forms are the same address.
    Raises ``ValueError`` if there is no path.
    """
    match = _PATH.match(text)
    if match is None:
        raise ValueError("no path")
    local, domain = match["local"] or "", match["domain"] or ""
    address = written(bare(local)) + domain if local.startswith('"') else local + domain
    if len(address.encode()) > PATH_LIMIT:
        raise ValueError("too long")
    return address, text[match.end() :]


def bare(local: str) -> str:
    """A local part without its quotes."""
    if len(local) < 2 or not (local.startswith('"') and local.endswith('"')):
        return local
    return re.sub(r"\\(.)", r"\1", local[1:-1])


def written(local: str) -> str:
    """A local part for an address, quoted only if necessary."""
    if _PLAIN.fullmatch(local):
        return local
    return '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'


def forms(address: str) -> list[str]:
    """An address as it is, and then as a directory may have it, if that is another text.

    The forms with and without quotes are one address (RFC 5321 section 4.1.2).  Postfix writes
    ``<"e."@example.org>`` by LMTP and asks its policy service about ``e.@example.org``.  The
    quotes stay around a local part that means something else without them: one that has an
    ``@``, or spaces that a directory ignores.
    """
    local, at, domain = _parted(address)
    other = bare(local)
    if other == local:
        other = written(local)
    elif not other or "@" in other or other != " ".join(other.split()):
        return [address]
    return [address] if other == local else [address, f"{other}{at}{domain}"]


def _parted(address: str) -> tuple[str, str, str]:
    return address.rpartition("@") if "@" in address else (address, "", "")


def without_detail(address: str, delimiter: str) -> str | None:
    """The address without its extension; None: it has none."""
    local, at, domain = _parted(address)
    text = bare(local)
    user, found, _ = text.partition(delimiter) if delimiter else ("", "", "")
    name = user if text == local else written(user)
    return f"{name}{at}{domain}" if user and found else None


def parameters(text: str) -> Mapping[str, str]:
    """The parameters after a path, by keyword in upper case; an empty value: none.

    Raises ``ValueError`` for malformed or duplicate parameters.
    """
    if text and text[0] not in " \t":
        raise ValueError("no space before the parameters")
    found: dict[str, str] = {}
    for word in _WORD.findall(text):
        match = _PARAMETER.fullmatch(word)
        if match is None or match[1].upper() in found:
            raise ValueError("no parameter")
        found[match[1].upper()] = match[2] or ""
    return found


class Sender(NamedTuple):
    """The argument of MAIL."""

    address: str
    """The address of the sender; empty for ``<>``."""

    size: int
    utf8: bool


def sender(argument: str) -> Sender:
    """Parse the argument of MAIL.  Raises ``Refused``."""
    address, given = _split(argument, "FROM:", replies.BAD_SENDER)
    if not given.keys() <= {"SIZE", "BODY", "SMTPUTF8"}:
        raise Refused(replies.PARAMETER)
    size, utf8 = given.get("SIZE", "0"), "SMTPUTF8" in given
    if (
        not _SIZE.fullmatch(size)
        or given.get("BODY", "7BIT").upper() not in ("7BIT", "8BITMIME")
        or given.get("SMTPUTF8")
    ):
        raise Refused(replies.ARGUMENTS)
    return Sender(_permitted(address, utf8=utf8), int(size), utf8)


def recipient(argument: str, *, utf8: bool) -> str:
    """Parse the argument of RCPT.  Raises ``Refused``."""
    address, given = _split(argument, "TO:", replies.BAD_RECIPIENT)
    if given:
        raise Refused(replies.PARAMETER)
    if not address:
        raise Refused(replies.BAD_RECIPIENT)
    return _permitted(address, utf8=utf8)


def _split(argument: str, word: str, otherwise: Reply) -> tuple[str, Mapping[str, str]]:
    """The address and the parameters after ``FROM:`` or ``TO:``."""
    start, text = argument[: len(word)], argument[len(word) :].lstrip(" \t")
    if start.upper() != word:
        raise Refused(replies.ARGUMENTS)
    try:
        address, rest = path(text)
    except ValueError:
        raise Refused(otherwise) from None
    try:
        return address, parameters(rest)
    except ValueError:
        raise Refused(replies.ARGUMENTS) from None


def _permitted(address: str, *, utf8: bool) -> str:
    if not (utf8 or address.isascii()):
        raise Refused(replies.NOT_ASCII)
    return address
