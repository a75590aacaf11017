"""The log's subscriber: lines for events, by the table in ``log_events``."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.logger import Logger, globalLogPublisher

from gateway import events
from gateway.events import Event, Subscription
from gateway.observe.bus import EventBus
from gateway.observe.log_events import ROWS, VARIES, Row
from gateway.observe.log_form import FORM, LEVELS, Line

__all__ = ["emit_to_log", "log_lines", "logged_events"]


def log_lines(sessions: Callable[[], bool] = lambda: True) -> Subscription:
    """The subscription that writes the log.

    Without ``sessions``, which may change, a login has no line, and the end of a POP3 session has
    one only where nobody logged in and the line says why.
    """

    def may_be_left_out(row: Row) -> Callable[[Event], object]:
        def write(event: Event) -> None:
            if sessions() or bool(getattr(event, "reason", "")):
                _write(row, event)

        return write

    found: dict[type[Event], Callable[[Any], object]] = {
        kind: partial(_write, row) for kind, row in ROWS.items()
    }
    found.update((kind, may_be_left_out(ROWS[kind])) for kind in _OF_SESSIONS)
    return found


_OF_SESSIONS: tuple[type[Event], ...] = events.LoginSucceeded, events.POP3SessionEnded

_LOGGER = Logger("pop3gw.events")


def _write(row: Row, event: Event) -> None:
    if row.number < FORM.least or (row.is_left_out is not None and row.is_left_out(event)):
        return
    level = row.level
    if row.number == VARIES:
        level = level(event)
        if LEVELS[level.name] < FORM.least:
            return
    # What ``Logger.emit`` would make, at a third of its time.
    globalLogPublisher(
        {
            "line": Line(row, event),
            "log_format": "{line}",
            "log_level": level,
            "log_logger": _LOGGER,
            "log_namespace": "pop3gw.events",
            "log_source": None,
            "log_time": time.time(),
        }
    )


def logged_events(*, sessions: bool = True) -> EventBus:
    """A bus to which the log has subscribed; ``sessions`` as for ``log_lines``."""
    bus = EventBus()
    bus.subscribe(log_lines(lambda: sessions))
    return bus


emit_to_log = logged_events().emit
"""For parts that are handed no bus, in applications and tests: the log alone subscribes."""
