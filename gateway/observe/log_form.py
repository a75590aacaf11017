"""How a line of the log looks: ``event: key=value`` as text, or one object of JSON."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal, Protocol

from twisted.logger import LogEvent, eventAsText, formatEvent

from gateway.printable import printable
from gateway.remember import remember_short

LEVELS: Mapping[str, int] = {"debug": 0, "info": 1, "warn": 2, "error": 3, "critical": 4}
"""``critical`` is Twisted's word for a traceback; the log says ``error``."""

LONGEST_VALUE = 4000
"""Characters of a value in JSON; of a longer one the end, where a traceback has its error."""

LONGEST_LINE = 60_000
"""Octets of an object; of a longer one only the first fields stay.  A pipe cuts lines at 64 KiB."""

SECOND = {"retr": "retr_octets", "top": "top_octets", "del": "messages"}
"""Counters that the text has as one field, ``retr=3/1500``, and JSON as two."""

Fields = Mapping[str, Any]
"""Strings, numbers, flags, lists of strings; None and an empty string: not there."""


class Form:
    """The settings ``[log] format`` and ``level`` of this process."""

    def __init__(self) -> None:
        self.is_json = False
        self.least = LEVELS["info"]

    def configure(self, format: Literal["text", "json"], level: str) -> None:
        """Take the settings, also for events that wait to be written."""
        self.is_json = format == "json"
        self.least = LEVELS[level]


FORM = Form()
"""There is one log in a process, as there is one ``globalLogPublisher``."""


class Named(Protocol):
    """A row of the table in ``log_events``."""

    name: str
    fields: Callable[[Any], Fields]
    words: Callable[[Any], str]
    """Makes the text behind the name."""


class Line:
    """An event with a name, which does not change: rendered by whatever writes it."""

    __slots__ = ("event", "row")

    def __init__(self, row: Named, event: Any) -> None:
        self.row = row
        self.event = event

    def __str__(self) -> str:
        """For observers of Twisted, such as its one for syslog; they add time and level."""
        if FORM.is_json:
            return _dumped({"event": self.row.name, **_flat(self.row.fields(self.event))})
        return f"{self.row.name}: {self.row.words(self.event)}"


def line_of(event: LogEvent) -> bytes:
    """The line for an event of Twisted's log; empty: it has none."""
    line = event.get("line")
    if type(line) is not Line:
        return _direct(event)
    row, level, when = line.row, event["log_level"].name, event["log_time"]
    if FORM.is_json:
        found = {"time": _rfc3339(when), "level": level, "event": row.name}
        return _json(found, _flat(row.fields(line.event)))
    words = row.words(line.event)
    if "\n" in words:
        words = words.replace("\n", "\n\t")
    return f"{_second(int(when))} {level} {row.name}: {words}\n".encode("utf-8", "backslashreplace")


# -- lines without an event of their own ---------------------------------------

_NOISE = re.compile(r"(Start|Stopp)ing factory |.* starting on \S+$|\(.* Port \S+ Closed\)$")
"""What Twisted says of each port, beside the events ``listener_started`` and ``_stopped``."""


def _direct(event: LogEvent) -> bytes:
    """A line that says what it says; ``part`` is the package that it comes from."""
    level = getattr(event.get("log_level"), "name", "info")
    if LEVELS[level] < FORM.least:
        return b""
    level = "error" if level == "critical" else level
    when = event.get("log_time") or time.time()
    part = part_of(str(event.get("log_namespace") or ""))
    failure = event.get("log_failure")
    is_passed_on = event.get("log_format") == "{line}" and part == "pop3gw.processes"
    if not FORM.is_json:
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if not text or (part == "twisted" and _NOISE.match(text)):
            return b""
        name = "internal_error" if failure else part
        # As Twisted's own observer has it: a message of several lines is indented.
        shown = text if is_passed_on else f"{name}: {text}"
        shown = shown.replace("\n", "\n\t")
        return f"{_second(int(when))} {level} {shown}\n".encode("utf-8", "backslashreplace")
    text = formatEvent(event)
    if not (text or failure) or (part == "twisted" and _NOISE.match(text)):
        return b""
    found: dict[str, Any] = {"time": _rfc3339(when), "level": level}
    found |= {"event": "internal_error" if failure else "notice", "part": part, "text": text}
    if failure:
        kind = getattr(failure, "type", None)
        found |= {"error": getattr(kind, "__name__", ""), "traceback": failure.getTraceback()}
    return _json(found, {key: _plain(value) for key, value in event.items() if _is_ours(key)})


_OF_TWISTED = {"line", "words", "time", "system", "isError", "message", "format", "failure", "why"}


def _is_ours(key: str) -> bool:
    return not key.startswith("log_") and key not in _OF_TWISTED


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else str(value)


@lru_cache(maxsize=1000)
def part_of(namespace: str) -> str:
    """The package that wrote a line: ``pop3gw.store``, or ``twisted``."""
    words = namespace.split(".")
    if words[0] == "gateway" and len(words) > 1:
        return f"pop3gw.{words[1]}"
    return namespace if words[0] == "pop3gw" else "twisted"


# -- JSON ----------------------------------------------------------------------


def _json(first: dict[str, Any], fields: dict[str, Any]) -> bytes:
    """No field takes the place of one of the first."""
    line = _dumped({**first, **{key: fields[key] for key in fields if key not in first}})
    if len(line) > LONGEST_LINE:
        line = _dumped({**first, "cut": True})
    return f"{line}\n".encode()


def _flat(fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in fields.items():
        if type(value) is tuple and key in SECOND:
            found[key], found[SECOND[key]] = value
        elif not (value is None or value == ""):
            found[key] = value
    return found


def _dumped(found: dict[str, Any]) -> str:
    """One line, of ASCII alone; octets that are no text are shown as ``\\udc80``."""
    try:
        line = _encode(found)
        if len(line) < LONGEST_VALUE and "\\ud" not in line:
            return line
    except (TypeError, ValueError):
        pass
    return _encode({key: _cut(value) for key, value in found.items()})


_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _cut(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        if len(value) > LONGEST_VALUE:
            value = "..." + value[-LONGEST_VALUE:]
        if not value.isascii():
            # A lone surrogate is no character, and not every reader of JSON takes it.
            value = value.encode("utf-8", "backslashreplace").decode()
        return value
    if kind is float:
        return round(value, 3) if value - value == 0 else str(value)
    if isinstance(value, list | tuple):
        return [_cut(one) for one in value[:100]]
    return value if value is None or isinstance(value, int) else _cut(str(value))


def _rfc3339(when: float) -> str:
    seconds = int(when)
    return f"{_utc(seconds)}.{int((when - seconds) * 1000):03}Z"


@lru_cache(maxsize=2)
def _utc(when: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))


@lru_cache(maxsize=2)
def _second(when: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(when))


# -- text ----------------------------------------------------------------------


def pairs(fields: Fields) -> str:
    """``key=value`` for each field; strings with blanks and the like in quotes."""
    found = []
    for key, value in fields.items():
        kind = type(value)
        if kind is str:
            if value:
                found.append(f"{key}={quoted(value)}")
        elif kind is tuple and key in SECOND:
            found.append(f"{key}={value[0]}/{value[1]}")
        elif kind is float:
            found.append(f"{key}={value:.1f}")
        elif value is not None:
            found.append(f"{key}={_shown(value)}")
    return " ".join(found)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return quoted(",".join(map(str, value)))
    return quoted(str(value))


@remember_short(4096)
def quoted(value: str) -> str:
    r"""A value that ends where it seems to: in quotes if it has blanks, quotes or ``=``.

    In quotes, ``"`` and ``\`` have a ``\`` before them, and what cannot be printed is escaped.
    """
    if value and value.isprintable() and not _SPECIAL.search(value):
        return value
    escaped = printable(_QUOTED.sub(r"\\\g<0>", value))
    return f'"{escaped}"'


_SPECIAL = re.compile(r'[\s"=\\]')
_QUOTED = re.compile(r'["\\]')
