"""The signals of a server, be it one process or the parent of workers."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gateway.app.server.reload import Reloads
from gateway.events import Emit, ListenerStopped, ReloadEnded, ServerStopping


class SignalledService(Service, ABC):
    """SIGHUP reloads; SIGTERM and SIGINT stop, which Twisted does; a second one hurries."""

    log = Logger()

    def __init__(
        self, reactor: Any, perform: Callable[[], Deferred[ReloadEnded]], emit: Emit
    ) -> None:
        """``perform`` reloads; it is never called twice at once, and does not fail."""
        self._reactor = reactor
        self._emit = emit
        self._reloads = Reloads(perform, emit)

    @abstractmethod
    def hurry(self) -> None:
        """While the server stops: close remaining sessions, and end at once."""

    def reload(self) -> Deferred[ReloadEnded]:
        """SIGHUP, or an operator's command; fires with what became of it.  Sessions continue."""
        return self._reloads.request()

    def _handle_hangup(self) -> None:
        """From here on SIGHUP ends the process no more."""
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))

    def _begin_stop(self, seconds: float) -> None:
        """No more reloads; the server stops within ``seconds``."""
        Service.stopService(self)
        self._reloads.stop()
        # The reactor's handlers would raise an error at a second signal.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._told_again))
        self._emit(ServerStopping(seconds))

    def _told_again(self) -> None:
        self.log.info("second stop signal: closing remaining sessions")
        self.hurry()

    def _stopped_listening(self, _: object, name: str) -> None:
        self._emit(ListenerStopped(name))
