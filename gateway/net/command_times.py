"""How long POP3 commands take: from when a session takes one until its reply is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.events import CommandDone, CommandsDone, Emit
from gateway.model import Connection
from gateway.pop3.session import Session, State

MOST = 50
"""Commands after which those that wait are told of."""

LATEST = 10.0
"""Seconds after which a command tells of those before it."""

_AUTHORIZATION = State.AUTHORIZATION


class Line(Protocol):
    """What the replies of a session are written to."""

    connection: Connection
    wrote: float
    """When something was written last."""


class CommandTimes:
    """Times the commands of one session, which are answered one after the other.

    A reply that the client is slow to read takes as long as the client.  The times are told
    together, at the latest when the session ends: an event for each would cost as much as the
    command.
    """

    __slots__ = (
        *("_before", "_began", "_command", "_done", "_emit", "_line"),
        *("_refusals", "_seconds", "_session", "_tell_after", "_tell_at"),
    )

    def __init__(
        self, line: Line, session: Session, seconds: Callable[[], float], emit: Emit
    ) -> None:
        """``seconds``: the clock."""
        self._line = line
        self._session = session
        self._seconds = seconds
        self._emit = emit
        self._command = ""
        """The command that was taken last; empty: none so far."""
        self._began = 0.0
        self._refusals = 0
        """Replies ``-ERR`` before it."""
        self._before = True
        """Whether it came before the login."""
        self._done: list[CommandDone] = []
        self._tell_at, self._tell_after = seconds() + LATEST, MOST
        session.at_command = self._begin

    def _begin(self, command: str) -> None:
        """The session has taken a command, so the one before is answered."""
        # Each command passes here: no method is called for it but the clock.
        now, session = self._seconds(), self._session
        refusals = session.refusals
        if self._command:
            began, wrote = self._began, self._line.wrote
            # Replies to pipelined commands are written together, later.
            seconds = (wrote if wrote >= began else now) - began
            self._done.append((self._command, self._before, seconds, refusals != self._refusals))
            if now >= self._tell_at or session.taken >= self._tell_after:
                self._tell(now)
        self._command, self._began, self._refusals = command, now, refusals
        self._before = session.state is _AUTHORIZATION

    def end(self) -> None:
        """The connection is closed: nobody waits for a reply any more."""
        if self._command:
            self._begin("")
        if self._done:
            self._tell(0.0)
        # No reference leads back: all of it is freed without the garbage collector.
        del self._session.at_command, self._line

    def _tell(self, now: float) -> None:
        done, self._done = self._done, []
        self._tell_at, self._tell_after = now + LATEST, self._session.taken + MOST
        self._emit(CommandsDone(self._line.connection, done))
