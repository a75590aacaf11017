"""The traces of this process: which there are, and what they have seen."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from ipaddress import ip_network
from typing import Any

from twisted.internet.interfaces import IReactorTime

from gateway.app.server.questions import Questions
from gateway.errors import TooManyTraces
from gateway.net.sessions import SessionFactory
from gateway.net.shell import Shell
from gateway.net.wire_trace import Tap, Traced, Watch, Wire
from gateway.networks import within

MOST_TRACES = 4
MOST_LINES = 5000
"""Lines that wait to be read; the oldest are dropped, and counted."""

AT_ONCE = 200
"""Lines of one answer."""

UNREAD = 30.0
"""Seconds after which a trace ends that nobody reads."""


class Trace:
    """One of them."""

    def __init__(self, asked: Mapping[str, Any], seconds: Callable[[], float]) -> None:
        self._asked = asked
        self._seconds = seconds
        self.ends = seconds() + asked["seconds"]
        self.read_at = seconds()
        self.shows_bodies = bool(asked["bodies"])
        self._user = asked["user"].casefold()
        address = asked["address"]
        self._inside = within([ip_network(address)]) if address else None
        self._lines: deque[Wire] = deque()
        self._dropped = 0
        self._latest = 0.0

    def is_meant(self, shell: Shell, text: str) -> bool:
        """Whether this is a session of the user or address; ``text``: the latest line."""
        if self._inside is not None:
            host = shell.connection.host
            return bool(host) and self._inside(host)
        names = (name.casefold() for name in shell.names)
        # The recipient of a message, also one that there is not.
        return self._user in names or (
            text[:8].upper() == "RCPT TO:" and f"<{self._user}>" in text.casefold()
        )

    def add(self, line: Wire) -> None:
        """Keep a line until it is read."""
        if line.time <= self._latest:
            # A reader asks for what is later than the last line that it has.
            line = line._replace(time=self._latest + 1e-6)
        self._latest = line.time
        if len(self._lines) >= MOST_LINES:
            self._lines.popleft()
            self._dropped += 1
        self._lines.append(line)

    def read(self, after: float) -> dict[str, Any]:
        """The lines later than ``after``; earlier ones were read and are forgotten."""
        while self._lines and self._lines[0].time <= after:
            self._lines.popleft()
        dropped, self._dropped = self._dropped, 0
        lines = [self._lines[index] for index in range(min(AT_ONCE, len(self._lines)))]
        is_all = len(lines) == len(self._lines)
        upto = max(time.time(), self._latest) if is_all else lines[-1].time
        asked = {**self._asked, "seconds": max(self.ends - self._seconds(), 0.0)}
        return {"lines": lines, "dropped": dropped, "upto": upto, "asked": asked}


class Traces:
    """All of them.  Without one, no session has a tap, and no command costs more."""

    def __init__(
        self, clock: IReactorTime, factories: Callable[[], Iterable[SessionFactory]]
    ) -> None:
        """``factories``: those of the listeners that there are now."""
        self._clock = clock
        self._factories = factories
        self._traces: dict[str, Trace] = {}
        self._taps: dict[Shell, Tap] = {}
        self._told: set[SessionFactory] = set()

    def start(self, asked: Mapping[str, Any]) -> bool:
        """Begin a trace; ``asked``: its ``trace`` (id), ``user`` or ``address``, ``seconds``."""
        if asked["trace"] in self._traces:
            return True
        if len(self._traces) >= MOST_TRACES:
            raise TooManyTraces(f"{MOST_TRACES} traces are running: end one, or wait")
        self._traces[asked["trace"]] = Trace(asked, self._clock.seconds)
        if len(self._traces) == 1:
            self._clock.callLater(1.0, self._look)
        self._tap_all()
        return True

    def read(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """What a trace has seen ``after`` a time; None: there is none of this id."""
        trace = self._traces.get(asked["trace"])
        if trace is None:
            return None
        trace.read_at = self._clock.seconds()
        return trace.read(asked["after"])

    def stop(self, asked: Mapping[str, Any]) -> bool:
        """End a trace; whether there was one of this id."""
        return self._end(asked["trace"])

    def _end(self, name: str) -> bool:
        found = self._traces.pop(name, None)
        for tap in self._taps.values():
            tap.watches.pop(name, None)
        self._forget_useless()
        if not self._traces:
            for factory in self._told:
                factory.tell(None, _ignore)
            self._told.clear()
        return found is not None

    def _look(self) -> None:
        now = self._clock.seconds()
        for name, trace in list(self._traces.items()):
            if now >= trace.ends or now >= trace.read_at + UNREAD:
                self._end(name)
        if self._traces:
            self._clock.callLater(1.0, self._look)
            # A reload may have brought other listeners.
            self._tap_all()
            self._forget_useless()

    def _tap_all(self) -> None:
        for factory in self._factories():
            if factory not in self._told:
                self._told.add(factory)
                factory.tell(partial(self._opened, factory), self._closed)
            for shell in factory.sessions:
                self._tap(shell)

    def _opened(self, factory: SessionFactory, shell: Shell) -> None:
        self._tap(shell, f"({factory.protocol_name})")

    def _tap(self, shell: Shell, connected: str = "") -> None:
        """Have the session heard by all traces; ``connected``: it has just begun."""
        if not isinstance(shell.session, Traced):
            # Postfix's policy protocol has no commands.
            return
        tap = self._taps.get(shell)
        missing = self._traces.keys() - (tap.watches.keys() if tap else set())
        if not missing:
            return
        if tap is None:
            tap = self._taps[shell] = Tap(shell, shell.session, time.time)
        for name in missing:
            trace = self._traces[name]
            tap.watches[name] = Watch(trace.is_meant, trace.add)
            tap.shows_bodies = tap.shows_bodies or trace.shows_bodies
        if connected:
            tap.note(f"connected from {shell.connection.host or 'a UNIX socket'} {connected}")
        if not tap.is_on:
            tap.is_on = True
            shell.session.tap(tap)

    def _closed(self, shell: Shell) -> None:
        tap = self._taps.pop(shell, None)
        if tap is not None:
            tap.close()

    def _forget_useless(self) -> None:
        for shell, tap in list(self._taps.items()):
            if not tap.watches:
                del self._taps[shell]
            if tap.is_on and (not tap.watches or tap.is_useless):
                tap.is_on = False
                shell.session.tap(None)


def _ignore(_: object) -> None:
    """Nobody traces."""


def answer_traces(questions: Questions, traces: Traces) -> None:
    """Have operations start, read and stop traces in this process."""
    questions.answer("trace start", traces.start)
    questions.answer("trace read", traces.read)
    questions.answer("trace stop", traces.stop)
