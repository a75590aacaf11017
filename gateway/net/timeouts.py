"""Timeouts of clients and back-ends, and the timer that watches over a connection."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

__all__ = ["Timeouts"]


@frozen
class Timeouts:
    """How long the server waits for others, in seconds."""

    stall: float = 300.0
    """For a client that reads none of its pending output."""

    work: float = 120.0
    """For one request to a back-end."""

    handshake: float = 60.0
    """For a client to complete a TLS handshake."""


class IdleTimer:
    """Calls ``expired`` when nothing has happened on a connection within its timeout.

    Activity does not reset the timer: when it is due, it checks whether it has to
    wait on.
    """

    __slots__ = ("_clock", "_expired", "_timeout", "_timer", "since")

    def __init__(
        self,
        clock: IReactorTime,
        now: float,
        timeout: Callable[[], float],
        expired: Callable[[], None],
    ) -> None:
        """``timeout`` returns the timeout of the present state, in seconds."""
        self._clock = clock
        self._timeout = timeout
        self._expired = expired
        self.since = now
        """When there was activity last."""
        self._timer = clock.callLater(timeout(), self._check)

    def touch(self) -> None:
        """There was activity: the timeout begins again."""
        self.since = self._clock.seconds()

    def hurry(self) -> None:
        """The state has changed: its timeout may be shorter."""
        if not self._timer.active():
            return
        due = self.since + self._timeout()
        if self._timer.getTime() > due:
            self._timer.reset(max(0.0, due - self._clock.seconds()))

    def stop(self) -> None:
        """The connection is closed."""
        self._timer.cancel()
        # No reference leads back: the connection is freed without the garbage collector.
        del self._timeout, self._expired

    def _check(self) -> None:
        now = self._clock.seconds()
        left = self.since + self._timeout() - now
        if left > 0:
            self._timer = self._clock.callLater(left, self._check)
            return
        self.since = now
        self._timer = self._clock.callLater(self._timeout(), self._check)
        self._expired()
