"""The bases of all sessions: octets in, octets and actions out, in the order of commands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from gateway.wire.lines import LineBuffer
from gateway.wire.outgoing import SLICE, Outgoing
from gateway.wire.tapped import Heard, TappedLines, TappedOutgoing

Action = TypeVar("Action")


def _never() -> bool:
    return False


class Dialogue(ABC, Generic[Action]):
    """The server's side of one connection, as its shell sees it.

    The shell calls

    * ``receive`` with received octets,
    * ``next_action`` until it returns None, performing each action, and
    * ``data_to_send`` for the output.

    While an answer is owed nothing more is parsed, so replies keep the order of the
    commands however far a client pipelines.
    """

    needs_input = False
    """Whether ``_take_next`` takes nothing without input, such as the end of content."""

    def __init__(self, received: LineBuffer) -> None:
        """``received``: where the session takes its input from."""
        self.closed = False
        """Whether the session is over: it ignores input and answers."""
        self.taken = 0
        """Lines and pieces of content so far, for the idle timer."""
        self.only_quit = False
        """The client's first command was QUIT."""
        self._input = received
        self.output = Outgoing()
        """Pending output."""
        self._pieces: Iterator[bytes] | None = None
        """The rest of a reply that is made in pieces, before the next command."""
        self._owed = False
        self._action: Action | None = None

    # -- bytes ---------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Add received octets."""
        if not self.closed:
            self._input.feed(data)

    @property
    def backlog(self) -> int:
        """Received octets that are not parsed yet."""
        return len(self._input)

    def data_to_send(self) -> bytes:
        """The next slice of ``output``; ``b""``: none."""
        return self.output.take()

    # -- actions -------------------------------------------------------------

    def next_action(self, interrupted: Callable[[], bool] = _never) -> Action | None:
        """The next action of the shell; None: more input or an answer is needed.

        Also None, after at least one command, once ``interrupted`` returns true: it is called
        after each command, since thousands may be pipelined that need no action.
        """
        while self._action is None:
            if self._owed or self.closed or self.output.length > SLICE:
                return None
            if self._pieces is not None:
                self._put_next(self._pieces)
            elif (self.needs_input and not self._input.data) or not self._take_next():
                return None
            self.taken += 1
            # Where nothing waits, the next round ends by itself.
            waits = self._input.data or self._pieces is not None
            if waits and self._action is None and interrupted():
                return None
        action, self._action = self._action, None
        self._owed = not self.closed
        return action

    def _put_next(self, pieces: Iterator[bytes]) -> None:
        """Make the next piece of a reply."""
        piece = next(pieces, None)
        if piece is None:
            self._pieces = None
        else:
            self.output.put(piece)

    @property
    def has_more(self) -> bool:
        """Whether ``next_action`` can proceed without more input or an answer."""
        waiting = self._pieces is not None or bool(self._input.data)
        return self._action is not None or (waiting and not (self._owed or self.closed))

    @property
    def is_owed(self) -> bool:
        """Whether an action was handed out and not answered yet."""
        return self._owed

    @property
    def is_amid_reply(self) -> bool:
        """Whether a reply is made in pieces and is not complete."""
        return self._pieces is not None

    @property
    def is_idle(self) -> bool:
        """Whether all replies to what was taken so far are made and sent."""
        pending = self._owed or self._action is not None or self._pieces is not None
        return not (pending or self.output.length)

    @abstractmethod
    def _take_next(self) -> bool:
        """Process one command, or a piece of content; False: incomplete."""

    def _hang_up(self, action: Action) -> None:
        """The session is over; ``action`` gets no answer."""
        self.closed = True
        self._input.clear()
        self._action = action

    # -- what the shell calls in every session ----------------------------------

    @abstractmethod
    def secured(self) -> None:
        """TLS is active; both sides discard the state before it."""

    @abstractmethod
    def idle(self) -> None:
        """The client has been idle too long."""

    @abstractmethod
    def dismiss(self) -> None:
        """The server is stopping."""

    @abstractmethod
    def give_up(self, error: BaseException) -> None:
        """The pending action timed out."""


class LineDialogue(Dialogue[Action]):
    """A session that takes commands line by line, and so a trace can hear it."""

    def __init__(self) -> None:
        super().__init__(LineBuffer())
        self._heard: Heard | None = None

    def tap(self, heard: Heard | None) -> None:
        """Tell what is taken and replied from now on; None: not any more."""
        self._heard = heard
        before, self._input = self._input, self._new_input()
        before.go_on_as(self._input)
        pending, self.output = self.output, Outgoing() if heard is None else TappedOutgoing(heard)
        if heard is not None and not self.taken:
            # The greeting, of a session that has just begun.
            for piece in pending.pieces:
                heard.sent(bytes(piece))
        pending.go_on_as(self.output)

    def _new_input(self) -> LineBuffer:
        return LineBuffer() if self._heard is None else TappedLines(self._heard)

    def _start_tls(self, action: Action) -> None:
        """Start TLS; the client has got the reply."""
        # Plain text after the command may be an attacker's (CVE-2011-0411).
        self._input = self._new_input()
        self._action = action
