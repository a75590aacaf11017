"""How long POP3 commands take: from when a session takes one until its reply is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.events import CommandDone, Emit
from gateway.pop3.session import Session, State

AUTHORIZATION = State.AUTHORIZATION


class CommandTimes:
    """Times the commands of one session, which are answered one after the other.

    A reply that the client is slow to read takes as long as the client.
    """

    __slots__ = (
        "_before",
        "_began",
        "_command",
        "_emit",
        "_line",
        "_refusals",
        "_seconds",
        "_session",
    )

    def __init__(
        self, line: Any, session: Session, seconds: Callable[[], float], emit: Emit
    ) -> None:
        """``line``: what has the ``connection``, which XCLIENT changes; ``seconds``: the clock."""
        self._line = line
        self._session = session
        self._seconds = seconds
        self._emit = emit
        self._command = ""
        """The command that is being answered; empty: none."""
        self._began = 0.0
        self._refusals = 0
        """Replies ``-ERR`` before it."""
        self._before = True
        """Whether it came before the login."""
        session.at_command = self._begin

    def _begin(self, command: str) -> None:
        """The session has taken a command, so the one before is answered."""
        now = self._seconds()
        if self._command:
            self._done(now)
        session = self._session
        self._command, self._began, self._refusals = command, now, session.refusals
        self._before = session.state is AUTHORIZATION

    def look(self) -> None:
        """The session has done what it can now: its command may be answered."""
        if self._command and self._session.is_idle:
            self._done(self._seconds())

    def end(self) -> None:
        """The connection is closed: nobody waits for a reply any more."""
        if self._command:
            self._done(self._seconds())
        # No reference leads back: all of it is freed without the garbage collector.
        del self._session.at_command, self._line

    def _done(self, now: float) -> None:
        command, self._command = self._command, ""
        refused = self._session.refusals != self._refusals
        self._emit(
            CommandDone(
                self._line.connection, command, not self._before, now - self._began, refused
            )
        )
