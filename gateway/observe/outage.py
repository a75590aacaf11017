"""Outages of a back-end: one event when it stops to answer, and one when it answers again."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.events import BackEndBack, BackEndDown, BackEndReplaced, Emit
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
        # A dictionary: its single operations are atomic between threads.
        self._down: dict[str, tuple[float]] = {}
        self._back = float("-inf")

    def failed(self, error: object) -> None:
        """The back-end did not answer."""
        since = (self._now(),)
        if since[0] - self._back < QUIET:
            return
        if self._down.setdefault("since", since) is since:
            self._emit(BackEndDown(self._what, str(error)))

    def answered(self) -> None:
        """The back-end answered."""
        if not self._down:
            return
        since = self._down.pop("since", None)
        if since is not None:
            self._back = self._now()
            self._emit(BackEndBack(self._what, round(self._back - since[0])))

    def replaced(self) -> None:
        """A reload has changed or removed the back-end: its outage is over, and no other begins."""
        self._back = float("inf")
        if self._down.pop("since", None) is not None:
            self._emit(BackEndReplaced(self._what))
