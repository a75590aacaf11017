"""The clock of an application that did not hand one in."""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IReactorTime


def installed_clock() -> IReactorTime:
    """The running reactor's clock.

    ``POP3Factory(portal)`` is to work in any Twisted application; imported
    late, since importing the reactor installs one.
    """
    from twisted.internet import reactor

    return cast(IReactorTime, reactor)
