"""Sizes and times as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

from gateway.model import UNLIMITED

_UNITS = {"": 1, "B": 1} | {
    letter + rest: 1024**power
    for power, letter in enumerate("KMGTP", 1)
    for rest in ("", "B", "IB")
}


def parse_size(text: str) -> int:
    """The octets that ``500M``, ``10 KiB``, ``1.5 GB`` or ``unlimited`` stand for.

    K, KB and KiB are all 1024 octets, as Exchange and Dovecot count them;
    letters in any case.  Raises ``ValueError`` that says what is wrong
    with which part of the text.
    """
    if text.strip().lower() == "unlimited":
        return UNLIMITED
    found = re.fullmatch(r"\s*([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*(.*?)\s*", text, re.S)
    if not found:
        raise ValueError(f"expected a size as 500M, 1.5 GB or unlimited, found {text!r}")
    number, unit = found.groups()
    if unit.upper() not in _UNITS:
        raise ValueError(f"expected K, M, G, T or P after {number}, found {unit!r} in {text!r}")
    octets = int(Decimal(number) * _UNITS[unit.upper()])
    if octets >= UNLIMITED:
        raise ValueError(f"expected less than 8192 P, or unlimited, found {text!r}")
    return octets


def limit_of(number: int | None) -> int | None:
    """The limit that a quota stands for: 0 is none, as Dovecot, Courier and maildrop have it."""
    return UNLIMITED if number == 0 else number


def size_text(octets: int) -> str:
    """What ``parse_size`` reads as ``octets``, in the largest unit that needs no fraction."""
    if octets >= UNLIMITED:
        return "unlimited"
    for power, letter in ((5, "P"), (4, "T"), (3, "G"), (2, "M"), (1, "K")):
        if octets and octets % 1024**power == 0:
            return f"{octets // 1024**power}{letter}"
    return str(octets)


def rounded_size(octets: int) -> str:
    """A size for people, in three digits: ``1.5 MB``; K, M and G are those of ``parse_size``."""
    if octets >= UNLIMITED:
        return "unlimited"
    size, unit = float(octets), "B"
    for larger in ("KB", "MB", "GB", "TB", "PB"):
        if size < 999.5:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}" if size < 9.95 and unit != "B" else f"{size:.0f} {unit}"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: ``1 mailbox``, ``2 mailboxes``; ``many``: where it is not + s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def rounded_time(seconds: float) -> str:
    """A time that has passed, for people: ``45 s``, ``12 min``, ``3 h``, ``9 d``."""
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


LATEST = 253_402_300_799.0
"""The last second of the year 9999, as far as ISO 8601 goes; a file's name may claim more."""


def time_text(seconds: float, precision: str = "seconds") -> str:
    """A Unix time in UTC, as ISO 8601 has it; ``precision`` may be ``milliseconds``."""
    moment = datetime.fromtimestamp(min(max(seconds, 0.0), LATEST), UTC)
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")
