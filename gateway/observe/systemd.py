"""Tells systemd how the server is: sd_notify(3), as ``Type=notify-reload`` wants it.

A subscriber to events like the log.  Messages go to the socket that ``NOTIFY_SOCKET`` names.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gateway import events
from gateway.events import Subscription
from gateway.observe.looping import looping

REFRESH = 10.0
"""Most seconds until a changed number is in the status text."""

AGAIN = 0.1
"""Seconds until a message is sent again that found the socket's queue full."""

MARGIN = 10.0
"""Seconds after ``drain_timeout`` in which the process must have ended."""


class NotifySocket:
    """The socket of systemd; without one, messages go nowhere."""

    log = Logger()

    def __init__(self, clock: IReactorTime, path: str) -> None:
        """``path``: the value of ``NOTIFY_SOCKET``; ``@`` begins an abstract name."""
        self._clock = clock
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._waiting: list[bytes] = []
        self._is_lost = False

    def send(self, **values: object) -> None:
        """Send these values in one message; never blocks."""
        self._waiting.append("".join(f"{name}={values[name]}\n" for name in values).encode())
        if len(self._waiting) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._waiting:
            try:
                self._socket.sendto(self._waiting[0], self._path)
                self._is_lost = False
            except BlockingIOError:
                self._clock.callLater(AGAIN, self._flush)
                return
            except OSError as error:
                self._lost(error.strerror or str(error))
            del self._waiting[0]

    def _lost(self, reason: str) -> None:
        if not self._is_lost:
            self.log.warn("systemd was not notified: {reason}", reason=reason)
        self._is_lost = True


class SystemdNotices:
    """The state of the server, its watchdog and its status text, for systemd."""

    def __init__(self, clock: IReactorTime, environ: MutableMapping[str, str]) -> None:
        """``environ``: of the process; ``start`` takes ``NOTIFY_SOCKET`` out of it."""
        self._clock = clock
        self._environ = environ
        self._send: Callable[..., None] = lambda **_: None
        self._looping = looping(self._tick, "notices to systemd", clock)
        self._is_watched = self._is_ready = False
        self._state = "starting"
        self._sent = ""
        self._connections = Counter[str]()
        self._down: dict[str, str] = {}

    @property
    def subscription(self) -> Subscription:
        """The events that it reports; none where no systemd listens."""
        if not self._environ.get("NOTIFY_SOCKET"):
            return {}
        return {
            events.ServerReady: self._ready,
            events.ReloadStarted: self._reloading,
            events.ReloadEnded: self._reloaded,
            events.ServerStopping: self._stopping,
            events.ConnectionOpened: self._opened,
            events.ConnectionClosed: self._closed,
            events.SessionsCounted: self._counted,
            events.BackEndDown: self._down_again,
            events.BackEndBack: self._back,
            events.BackEndReplaced: self._back,
        }

    def start(self) -> None:
        """Notify from now on, this process alone: a child must not speak for it."""
        path = self._environ.pop("NOTIFY_SOCKET", "")
        if not path:
            return
        self._send = NotifySocket(self._clock, path).send
        every = watchdog_interval(self._environ)
        self._is_watched = every is not None
        self._looping.start(min(every or REFRESH, REFRESH))

    def stop(self) -> None:
        """Send nothing more."""
        if self._looping.running:
            self._looping.stop()

    def _tick(self) -> None:
        # The reactor calls this: one that hangs sends nothing, and systemd restarts the service.
        told: dict[str, Any] = {"WATCHDOG": 1} if self._is_watched else {}
        if (status := self._status()) != self._sent:
            told["STATUS"] = self._sent = status
        if told:
            self._send(**told)

    def _tell(self, state: str, **values: object) -> None:
        self._state = state
        self._sent = self._status()
        self._send(**values, STATUS=self._sent)

    def _status(self) -> str:
        counts = +self._connections
        open_now = " ".join(f"{name}={counts[name]}" for name in sorted(counts))
        down = "; ".join(f"{name} down: {reason}" for name, reason in sorted(self._down.items()))
        about = f"{self._state}; connections: {open_now or 'none'}" + (f"; {down}" if down else "")
        # One line: a line end would begin another value.
        return " ".join(about.split())

    def _ready(self, event: events.ServerReady) -> None:
        # A directory that is down keeps no service from starting: people may wait for it.
        problem = f"; directory at start: {event.problem}" if event.problem else ""
        self._tell(f"ready{problem}", READY=1)
        self._is_ready = True

    def _reloading(self, _: events.ReloadStarted) -> None:
        if not self._is_ready:
            return
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("reloading", RELOADING=1, MONOTONIC_USEC=microseconds)

    def _reloaded(self, event: events.ReloadEnded) -> None:
        if self._is_ready:
            problems = "; ".join((*event.problems, *event.kept))
            self._tell(f"ready; reload: {problems}" if problems else "ready", READY=1)

    def _stopping(self, event: events.ServerStopping) -> None:
        # Whatever TimeoutStopSec= is: drain_timeout is the administrator's word.
        microseconds = int((event.seconds + MARGIN) * 1_000_000)
        self._is_ready = False
        self._tell("stopping", STOPPING=1, EXTEND_TIMEOUT_USEC=microseconds)

    def _opened(self, event: events.ConnectionOpened) -> None:
        self._connections[event.protocol] += 1

    def _closed(self, event: events.ConnectionClosed) -> None:
        self._connections[event.protocol] -= 1

    def _counted(self, event: events.SessionsCounted) -> None:
        self._connections = Counter(event.open)

    def _down_again(self, event: events.BackEndDown) -> None:
        self._down[event.name] = event.reason

    def _back(self, event: events.BackEndBack | events.BackEndReplaced) -> None:
        self._down.pop(event.name, None)


def watchdog_interval(environ: MutableMapping[str, str]) -> float | None:
    """Seconds between two messages to the watchdog (``WatchdogSec=``); None: it does not watch us.

    sd_watchdog_enabled(3) recommends half of its time.
    """
    microseconds = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000 if microseconds.isdecimal() and int(microseconds) else None
