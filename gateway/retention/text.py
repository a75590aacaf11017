"""The text form of a retention policy, for example ``unread 60d, read 7d``.

Items in any order and case, separated by commas, each at most once:

==================  =========================================================
``unread 60d``      remove unread mail 60 days after it arrived
``read 7d``         remove read mail 7 days after it was read
``any 1y``          remove all mail a year after it arrived
``newest 1000``     keep the newest 1000 messages, remove older ones
``size 2G``         remove the oldest messages beyond 2 GiB
``floor 3d``        keep mail that arrived less than 3 days ago
``hide 14d``        hide mail for 14 days before it is removed
``hold``            remove nothing
``never``           alone: no rule, whatever the defaults are
==================  =========================================================

Times are whole numbers of ``s``, ``min``, ``h``, ``d``, ``w`` or ``y`` (365 days);
sizes as in quotas.  There is no ``m``: meant as months it would remove mail within
minutes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from attrs import fields

from gateway.errors import RetentionMalformed
from gateway.model import UNLIMITED
from gateway.retention.rules import Policy
from gateway.units import parse_size, size_text

NOTHING = ("never", "none")
"""Names of the empty policy; the first is written."""

_SECONDS = {"y": 365 * 86_400, "w": 7 * 86_400, "d": 86_400, "h": 3600, "min": 60, "s": 1}

_WRITTEN = ("y", "d", "h", "min", "s")
"""The units in written texts."""

LONGEST = 1000 * _SECONDS["y"]
"""Longest time in seconds, so that every date can be shown."""

_EXAMPLE = "as in 'unread 60d, read 7d'"


class _Word(NamedTuple):
    """A part of the text and its column, from 1."""

    column: int
    text: str

    def wrong(self, cure: str) -> RetentionMalformed:
        """The error to raise about it."""
        return RetentionMalformed(self.column, self.text, cure)


class _Item(NamedTuple):
    """One item of the text."""

    name: _Word
    value: _Word
    """The value; empty: there is none."""


def _time(value: _Word) -> int:
    found = re.fullmatch(r"([0-9]{1,12})\s*([^\s0-9]*)", value.text)
    if not found:
        raise value.wrong("expected a whole number with its unit, as 60d")
    number, unit = found.groups()
    if unit.lower() not in _SECONDS:
        raise value.wrong(
            f"expected {number} with one of the units s, min, h, d, w, y, as {number}d"
        )
    seconds = int(number) * _SECONDS[unit.lower()]
    if seconds > LONGEST:
        raise value.wrong(f"expected at most {_time_text(LONGEST)}")
    return seconds


def _time_text(seconds: int) -> str:
    unit = next(unit for unit in _WRITTEN if seconds % _SECONDS[unit] == 0) if seconds else "s"
    return f"{seconds // _SECONDS[unit]}{unit}"


def _count(value: _Word) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value.text):
        raise value.wrong("expected a number of messages as 1000")
    return int(value.text)


def _size(value: _Word) -> int:
    try:
        octets = parse_size(value.text)
    except ValueError:
        raise value.wrong("expected a size as 500M or 1.5 GB") from None
    if octets >= UNLIMITED:
        raise value.wrong("for a size without a limit leave this item out")
    return octets


class _Kind(NamedTuple):
    """A kind of value after the name of an item."""

    read: Callable[[_Word], int]
    """Raises ``RetentionMalformed``."""

    written: Callable[[int], str]
    example: str


_TIME = _Kind(_time, _time_text, "60d")

_KINDS = {
    "unread": _TIME,
    "read": _TIME,
    "any": _TIME,
    "newest": _Kind(_count, str, "1000"),
    "size": _Kind(_size, size_text, "2G"),
    "floor": _TIME,
    "hide": _TIME,
}
"""By name of the item, which is the field of the policy; ``hold`` has no value."""

_NAMES = (*(one.name for one in fields(Policy)), *NOTHING)


def parse(text: str) -> Policy:
    """The policy of ``text``; ``never`` and ``none``: the empty one.

    Raises ``RetentionMalformed`` with place and cure, also for a text without items:
    the caller checks whether there is a text at all.
    """
    said: dict[str, Any] = {}
    columns: dict[str, int] = {}
    for name, value in _items(text):
        word = name.text.lower()
        if word not in _NAMES:
            raise name.wrong(f"expected one of {', '.join(_NAMES)}, {_EXAMPLE}")
        if word in columns:
            raise name.wrong(f"it stands at column {columns[word]} already, keep one of them")
        if columns and (alone := {word, *columns}.intersection(NOTHING)):
            raise name.wrong(f"{min(alone)} stands alone, leave it out or all the others")
        columns[word] = name.column
        said[word] = _value(word, name, value)
    return Policy(**{word: value for word, value in said.items() if word not in NOTHING})


def text_of(policy: Policy) -> str:
    """The text of a policy, with its items in a fixed order; ``parse`` reads it."""
    said = []
    for one in fields(Policy):
        value = getattr(policy, one.name)
        if one.name in _KINDS and value is not None:
            said.append(f"{one.name} {_KINDS[one.name].written(value)}")
        elif value is True:
            said.append(one.name)
    return ", ".join(said) or NOTHING[0]


def _items(text: str) -> Iterator[_Item]:
    column = 1
    for part in text.split(","):
        item = part.lstrip()
        start = column + len(part) - len(item)
        item = item.rstrip()
        if not item:
            raise _Word(start, item).wrong(f"expected an item, {_EXAMPLE}")
        name = item.split(None, 1)[0]
        value = item[len(name) :].lstrip()
        yield _Item(_Word(start, name), _Word(start + len(item) - len(value), value))
        column += len(part) + 1


def _value(word: str, name: _Word, value: _Word) -> int | bool:
    words = [
        _Word(value.column + found.start(), found[0]) for found in re.finditer(r"\S+", value.text)
    ]
    names = [one for one in words if one.text.lower() in _NAMES]
    if word in _KINDS and words[:1] == names[:1]:
        raise name.wrong(f"expected a value after it, as {word} {_KINDS[word].example}")
    if names:
        raise names[0].wrong("expected a comma before it")
    if word in _KINDS:
        return _KINDS[word].read(value)
    if words:
        raise value.wrong(f"expected nothing, or a comma, after {word}")
    return True
