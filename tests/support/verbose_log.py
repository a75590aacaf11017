"""For ``twistd --logger``: all of every event, whether or not its words show it."""

from __future__ import annotations

import sys

from twisted.internet.defer import setDebugging
from twisted.logger import ILogObserver, LogEvent, eventAsText
from twisted.logger._json import eventAsJSON
from zope.interface import provider


def observer() -> ILogObserver:
    """Writes an event as text with its traceback, as JSON, and each value's ``repr``."""
    setDebugging(True)

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        for text in (
            eventAsText(event, includeTraceback=True),
            eventAsJSON(event),
            repr(event),
            repr([vars(value) for value in event.values() if hasattr(value, "__dict__")]),
        ):
            print(text, file=sys.__stdout__, flush=True)

    return observe
