"""Outages of a back-end: one event when it stops to answer, and one when it answers again."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from gateway.events import (
    BackEndAsked,
    BackEndBack,
    BackEndDown,
    BackEndReplaced,
    Emit,
    ServerStopping,
    Subscription,
)
from gateway.observe.log import emit_to_log

QUIET = 10.0
"""Seconds after which a back-end that is back may be reported as down again."""


class Outage:
    """The state of one back-end.

    A failure during an outage raises an error that is ``logged``, so that an
    hour without a directory is two lines, not one for each login and mailbox.  All
    methods may be called on any thread.
    """

    def __init__(
        self,
        what: str,
        now: Callable[[], float] = time.monotonic,
        emit: Emit = emit_to_log,
    ) -> None:
        """``what`` names the back-end for an administrator; ``now`` in seconds."""
        self._what = what
        self._emit = emit
        self._now = now
        # One thread may see the back-end go while another sees it come back.
        self._one_at_a_time = Lock()
        self._since: float | None = None
        """When the present outage began; None: there is none."""
        self._back = float("-inf")

    @property
    def lasts(self) -> bool:
        """Whether the back-end is away."""
        return self._since is not None

    def failed(self, error: object) -> None:
        """The back-end did not answer."""
        with self._one_at_a_time:
            now = self._now()
            if self._since is None and now - self._back >= QUIET:
                self._since = now
                self._emit(BackEndDown(self._what, str(error)))

    def answered(self) -> None:
        """The back-end answered."""
        if self._since is None:
            return
        with self._one_at_a_time:
            if self._since is not None:
                self._back = self._now()
                self._emit(BackEndBack(self._what, round(self._back - self._since)))
                self._since = None

    def replaced(self) -> None:
        """A reload has changed or removed the back-end: its outage is over, and no other begins."""
        with self._one_at_a_time:
            self._back = float("inf")
            if self._since is not None:
                self._since = None
                self._emit(BackEndReplaced(self._what))


class Outages:
    """The outages of a process by the names of back-ends: who asks the same one shares it."""

    def __init__(self, emit: Emit = emit_to_log, now: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._now = now
        self._lock = Lock()
        self._known: dict[str, tuple[Outage, int]] = {}
        """With the number of those who ask it."""
        self._stopping = False

    @property
    def subscription(self) -> Subscription:
        """At the end of the server no back-end is replaced."""
        return {ServerStopping: self._stop}

    def _stop(self, _: ServerStopping) -> None:
        self._stopping = True

    def watch(self, name: str) -> OutageWatch:
        """Watch one of them: for one of those who ask it."""
        with self._lock:
            outage, users = self._known.get(name) or (Outage(name, self._now, self._emit), 0)
            self._known[name] = outage, users + 1
        return OutageWatch(name, outage, self._emit, lambda: self._leave(name))

    def away(self) -> list[str]:
        """The names of those that do not answer."""
        with self._lock:
            return [name for name, (outage, _) in self._known.items() if outage.lasts]

    def _leave(self, name: str) -> None:
        with self._lock:
            outage, users = self._known[name]
            if users > 1:
                self._known[name] = outage, users - 1
                return
            del self._known[name]
        if not self._stopping:
            outage.replaced()


class OutageWatch:
    """A ``gateway.interfaces.Watch``."""

    def __init__(self, name: str, outage: Outage, emit: Emit, leave: Callable[[], None]) -> None:
        self._name = name
        self._outage = outage
        self._emit = emit
        self._leave: Callable[[], None] | None = leave

    def answered(self, seconds: float) -> None:
        """It answered."""
        self._outage.answered()
        self._emit(BackEndAsked(self._name, seconds, answered=True))

    def failed(self, error: object, seconds: float) -> bool:
        """It did not answer: the log has the first time."""
        self._outage.failed(error)
        self._emit(BackEndAsked(self._name, seconds, answered=False))
        return True

    def close(self) -> None:
        """The last of those who asked it ends its outage."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()
