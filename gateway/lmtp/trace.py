"""Trace headers (RFC 5321 section 4.4): added at delivery, and old Return-Path removed."""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

from gateway.lmtp.envelope import PATH_LIMIT

_OUTSIDE_NAMES = re.compile(r"[^\w.:\[\]-]")
_OUTSIDE_ADDRESSES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAME_LIMIT = 255


def _cleaned(value: str, outside: re.Pattern[str], limit: int, *, utf8: bool) -> str:
    """``value`` with ``?`` for characters that a header cannot contain, up to ``limit`` octets."""
    value = outside.sub("?", value)
    if value.isascii():
        return value[:limit]
    if not utf8:
        value = re.sub(r"[^\x00-\x7f]", "?", value)
    return value.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


@lru_cache(maxsize=1)
def date_of(seconds: int) -> str:
    """The RFC 5322 date of a Unix time in the local time zone, cached for a second."""
    return format_datetime(datetime.fromtimestamp(seconds).astimezone())


def trace_header(
    sender: str,
    recipients: tuple[str, ...],
    *,
    utf8: bool,
    secure: bool,
    lhlo: str,
    client: str,
    name: str,
    number: str,
    date: str,
) -> bytes:
    """``Return-Path``, ``Delivered-To`` and ``Received``, lines ending in CRLF.

    ``client``: its IP address, or empty; ``name``: this server's host name; ``number``: id of
    the message in the log; ``date``: from ``date_of``.  The recipient is named only if it is
    the only one: several share the file on disk, and must not learn of each other.
    """

    def named(value: str) -> str:
        return _cleaned(value, _OUTSIDE_NAMES, _NAME_LIMIT, utf8=utf8) or "unknown"

    def addressed(value: str) -> str:
        return _cleaned(value, _OUTSIDE_ADDRESSES, PATH_LIMIT, utf8=utf8)

    came = named(lhlo)
    if client:
        kind = "IPv6:" if ":" in client else ""
        came += f" ([{kind}{named(client)}])"
    # RFC 3848 and RFC 6531 section 4.3.
    protocol = ("UTF8LMTP" if utf8 else "LMTP") + ("S" if secure else "")
    lines = [f"Return-Path: <{addressed(sender)}>"]
    received = [
        f"Received: from {came}",
        f"\tby {named(name)} with {protocol} id {named(number)}",
    ]
    if len(recipients) == 1:
        address = addressed(recipients[0])
        lines.append(f"Delivered-To: {address}")
        received.append(f"\tfor <{address}>")
    received[-1] += ";"
    received.append(f"\t{date}")
    return "".join(f"{line}\r\n" for line in lines + received).encode("utf-8")


_NAME = b"return-path"
_FIELD = re.compile(rb"return-path[ \t]{0,32}:", re.IGNORECASE)
_MAYBE = re.compile(rb"return-path[ \t]{0,32}", re.IGNORECASE)
_FIELD_END = re.compile(rb"\r\n(?=[^ \t])")


class ReturnPathCut:
    """A stream transformer that removes ``Return-Path`` fields at the start of canonical text.

    An earlier delivery added them; only the one of this delivery is right.  Fields further
    down are history, and stay.  The result does not depend on how the input is split.
    """

    __slots__ = ("_dropping", "_kept", "_past")

    def __init__(self) -> None:
        self._kept = b""
        self._dropping = False
        self._past = False

    def feed(self, data: bytes) -> bytes:
        """Add input; returns the output that is known."""
        if self._past:
            return data
        data, self._kept = self._kept + data, b""
        while True:
            if self._dropping:
                end = _FIELD_END.search(data)
                if end is None:
                    # The next octets decide whether the field is folded.
                    self._kept = next(tail for tail in (b"\r\n", b"\r", b"") if data.endswith(tail))
                    return b""
                data = data[end.end() :]
            field = _FIELD.match(data)
            self._dropping = field is not None
            if field is not None:
                data = data[field.end() :]
            elif _NAME.startswith(data.lower()) or _MAYBE.fullmatch(data):
                self._kept = data
                return b""
            else:
                self._past = True
                return data

    def finish(self) -> bytes:
        """The rest of the output."""
        return b"" if self._dropping else self._kept
