"""What all sessions have in common: octets in, octets and actions out, in the order of commands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from gateway.wire.lines import LineBuffer
from gateway.wire.outgoing import SLICE, Outgoing

Action = TypeVar("Action")


def _never() -> bool:
    return False


class Dialogue(ABC, Generic[Action]):
    """The server's side of one connection, as its shell sees it.

    The shell calls

    * ``receive`` with what has arrived, then
    * ``next_action`` until it answers None, performing each action, and
    * ``data_to_send`` for what is to go out.

    While an answer is owed nothing more is parsed, so replies keep the order of
    the commands however far the client runs ahead.
    """

    def __init__(self) -> None:
        self.closed = False
        """Whether the session is over: nothing is taken in, and no answer is waited for."""
        self.taken = 0
        """Lines and pieces of content taken so far: a client that sends some is not idle."""
        self._input = LineBuffer()
        self._out = Outgoing()
        self._pieces: Iterator[bytes] | None = None
        """The rest of a reply that is made a piece at a time, before any other command is taken."""
        self._owed = False
        self._action: Action | None = None

    # -- bytes ---------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what has arrived."""
        if not self.closed:
            self._input.feed(data)

    @property
    def backlog(self) -> int:
        """Octets received that wait to be parsed."""
        return len(self._input)

    def data_to_send(self) -> bytes:
        """What is to go out next, a slice at the most; ``b""`` for nothing."""
        return self._out.take()

    @property
    def waiting_to_send(self) -> int:
        """Octets that ``data_to_send`` still has."""
        return self._out.length

    # -- actions -------------------------------------------------------------

    def next_action(self, interrupted: Callable[[], bool] = _never) -> Action | None:
        """What the shell is to do next; None when that depends on more input or answers.

        None as well, after at least one command, once ``interrupted`` is true: it is
        asked after each, since thousands may have arrived that ask for no action.
        """
        while self._action is None:
            if self._owed or self.closed or self._out.length > SLICE or not self._go_on():
                return None
            self.taken += 1
            if self._action is None and interrupted():
                return None
        action, self._action = self._action, None
        self._owed = not self.closed
        return action

    def _go_on(self) -> bool:
        """Make another piece of a reply, or take the next command; False when there is neither."""
        if self._pieces is None:
            return self._take_next()
        piece = next(self._pieces, None)
        if piece is None:
            self._pieces = None
        else:
            self._out.put(piece)
        return True

    @property
    def has_more(self) -> bool:
        """Whether ``next_action`` may go on without more input or answers."""
        waiting = self._pieces is not None or bool(self._input)
        return self._action is not None or (waiting and not (self._owed or self.closed))

    @abstractmethod
    def _take_next(self) -> bool:
        """Take in one command, or a piece of content; False when none is whole."""

    def _start_tls(self, action: Action) -> None:
        """Let TLS begin, the client having been told so."""
        # Whatever came with it in clear may be an attacker's (CVE-2011-0411).
        self._input = LineBuffer()
        self._action = action

    def _hang_up(self, action: Action) -> None:
        """The session is over; nobody answers ``action``."""
        self.closed = True
        self._input.clear()
        self._action = action

    # -- what the shell tells every session ----------------------------------

    @abstractmethod
    def secured(self) -> None:
        """TLS protects the line; both sides forget what was said before."""

    @abstractmethod
    def idle(self) -> None:
        """The client has been silent for too long."""

    @abstractmethod
    def dismiss(self) -> None:
        """The server is stopping."""

    @abstractmethod
    def give_up(self, error: BaseException) -> None:
        """The work that is owed will not be answered in time."""
