"""A timer that expires when nothing happens on a connection."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime


class IdleTimer:
    """Calls ``expired`` when nothing has happened for as long as is allowed just then.

    Something that happens costs no timer: the one there is looks, when it is
    due, whether it has to wait on.
    """

    __slots__ = ("_clock", "_expired", "_since", "_timeout", "_timer")

    def __init__(
        self, clock: IReactorTime, timeout: Callable[[], float], expired: Callable[[], None]
    ) -> None:
        """``timeout`` tells the seconds that are allowed in the present state."""
        self._clock = clock
        self._timeout = timeout
        self._expired = expired
        self._since = clock.seconds()
        self._timer = clock.callLater(timeout(), self._check)

    def touch(self) -> None:
        """Something happened: time starts anew."""
        self._since = self._clock.seconds()

    def hurry(self) -> None:
        """The state has changed, and less may be allowed in the new one."""
        due = self._since + self._timeout()
        if self._timer.active() and self._timer.getTime() > due:
            self._timer.reset(max(0.0, due - self._clock.seconds()))

    def stop(self) -> None:
        """Nobody waits any more."""
        if self._timer.active():
            self._timer.cancel()

    def _check(self) -> None:
        now = self._clock.seconds()
        left = self._since + self._timeout() - now
        if left > 0:
            self._timer = self._clock.callLater(left, self._check)
            return
        self._since = now
        self._timer = self._clock.callLater(self._timeout(), self._check)
        self._expired()
