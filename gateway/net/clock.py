"""The reactor's clock: which one it is, and what it follows."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, cast

from twisted.internet.interfaces import IReactorTime


def installed_clock() -> IReactorTime:
    """The running reactor's clock.

    ``POP3Factory(portal)`` is to work in any Twisted application; imported
    late, since importing the reactor installs one.
    """
    from twisted.internet import reactor

    return cast(IReactorTime, reactor)


def follow_boot_time(reactor: Any) -> None:
    """Have the timers of a reactor follow the time since the machine started.

    Twisted's follow the time of day: set back by an hour, none would fire for an hour.  Time in
    which the machine is suspended counts, since the peers' timers went on.  Call it before the
    first timer.
    """
    which = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    reactor.seconds = partial(time.clock_gettime, which)
