"""The sessions that there are, and their orderly end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure


class Drainable(Protocol):
    """A session that can be ended."""

    def drain(self) -> None:
        """Finish what is running, then go."""

    def abort(self) -> None:
        """Go now."""


S = TypeVar("S", bound=Drainable)


class Sessions(Generic[S]):
    """All sessions of a factory that still hold something."""

    def __init__(self, clock: Callable[[], IReactorTime]) -> None:
        self._clock = clock
        self._open: set[S] = set()
        self._empty: Deferred[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, session: S) -> None:
        """A session began."""
        self._open.add(session)

    def closed(self, session: S) -> None:
        """A session ended, and holds nothing any more."""
        self._open.discard(session)
        if self._empty is not None and not self._open:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def drain(self, seconds: float) -> Deferred[None]:
        """Let running work finish, close what is idle, and after ``seconds`` all that is left.

        Fires when no session holds anything any more, at the latest a moment
        after ``seconds``.
        """
        drained: Deferred[None] = Deferred()
        self._empty = drained
        if not self._open:
            self._empty = None
            drained.callback(None)
            return drained
        for session in list(self._open):
            session.drain()
        if self._empty is None:
            return drained
        late = self._clock().callLater(seconds, self.abort)

        def in_time(result: Failure | None) -> Failure | None:
            if late.active():
                late.cancel()
            return result

        return drained.addBoth(in_time)

    def abort(self) -> None:
        """End all of them now; whoever drains waits no longer."""
        for session in list(self._open):
            session.abort()
        if self._empty is not None:
            # Work that is still running ends with the process; it is made so
            # that it may.
            empty, self._empty = self._empty, None
            empty.callback(None)
