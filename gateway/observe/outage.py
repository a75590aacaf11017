"""Outages of a back-end: one event when it stops to answer, and one when it answers again."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

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
        # One thread may see the back-end go while another sees it come back.
        self._one_at_a_time = Lock()
        self._since: float | None = None
        """When the present outage began; None: there is none."""
        self._back = float("-inf")

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
