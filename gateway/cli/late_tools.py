"""The tools of an operator while no server runs: parts are made when they are first used."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, cast

from twisted.internet.defer import execute

from gateway.app.assembly import Assembly
from gateway.app.parts.retention import guard_of, policies_of
from gateway.app.parts.rows import make_state
from gateway.config.settings import Settings
from gateway.operations.tools import Tools


class _LateTools:
    """As ``Tools``; so an operation on the state alone needs no directory that answers."""

    def __init__(self, reactor: Any, settings: Settings) -> None:
        self._reactor = reactor
        self._assembly: Assembly | None = None
        self.settings = settings
        self.operator = f"uid {os.geteuid()}"
        self.now = time.time
        # In this thread: nobody waits behind it.
        self.run = execute
        shared = make_state(settings, execute)
        self.state, self._close_state = shared.state, shared.close_now
        self.policies = policies_of(settings.retention)
        self.guard = guard_of(settings.retention)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    @cached_property
    def _whole(self) -> Tools:
        self._assembly = Assembly(self._reactor, self.settings, ())
        return self._assembly.tools

    def close(self) -> None:
        """Give back what was made."""
        if self._assembly is not None:
            self._assembly.stop_threads()
        self._close_state()


@contextmanager
def late_tools(reactor: Any, settings: Settings) -> Iterator[Tools]:
    """The tools of an operator; nothing of a server is started.

    An operation that uses a directory raises as the making of one does.
    """
    late = _LateTools(reactor, settings)
    try:
        yield cast(Tools, late)
    finally:
        late.close()
