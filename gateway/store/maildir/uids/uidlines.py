"""The lines of a uidlist as text.  Pure."""

from __future__ import annotations

from typing import NamedTuple

LARGEST_UID = 2**32 - 2

RESERVE = 2**30
"""Ids at the upper end of the range; a line with one is wrong."""

HIGHEST = LARGEST_UID - RESERVE


BOM = "\ufeff"
"""The byte order mark, which some editors write."""


def decimal(text: str, digits: int = 18) -> int | None:
    """The number of a text of ASCII digits; None for other text."""
    if text.isdecimal() and text.isascii() and len(text) <= digits:
        return int(text)
    return None


class Header(NamedTuple):
    """Line 1."""

    version: str
    uidvalidity: int
    next_uid: int | None
    """None: out of range."""
    others: tuple[str, ...] = ()
    """Other fields, to be kept."""


def parse_header(line: str) -> Header:
    """Parse line 1.  Raises ``ValueError`` unless it is of version 1 or 3."""
    version, *words = line.removeprefix(BOM).split(" ")
    if version == "1":
        known = dict(zip("VN", words, strict=False))
        others: tuple[str, ...] = ()
    elif version == "3":
        known = {word[0]: word[1:] for word in words if word[:1] in ("V", "N")}
        others = tuple(word for word in words if word and word[0] not in "VN")
    else:
        raise ValueError(line)
    uidvalidity, number = decimal(known.get("V", ""), 10), known.get("N", "")
    if uidvalidity is None or not (number.isdecimal() and number.isascii()):
        raise ValueError(line)
    next_uid = decimal(number, 10)
    if next_uid is not None and next_uid > HIGHEST:
        next_uid = None
    return Header(version, uidvalidity, next_uid, others)


def kept_fields(number: str, fields: str) -> str:
    """The fields that a message keeps if the number of its line cannot be a unique-id.

    The number becomes a carried-over id, because clients have seen it.
    """
    if decimal(number, 70) and not any(word[:1] == "P" for word in fields.split(" ")):
        return f"P{number} {fields}".rstrip()
    return fields


def carried_number(text: str) -> int:
    """The number that is shown as ``text``; 0: none."""
    number = 0 if text[:1] == "0" else decimal(text, 10) or 0
    return number if number <= HIGHEST else 0


def joined(kept: str, new: str) -> str:
    """Fields, with new ones in place of those with the same letter."""
    letters = {word[:1] for word in new.split(" ")}
    return " ".join(
        [*(word for word in kept.split(" ") if word and word[0] not in letters), new]
    ).rstrip()
