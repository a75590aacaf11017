"""The trace of a session: what goes over the line, without passwords and SASL data."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from gateway.lmtp.session import COMMANDS as LMTP_COMMANDS
from gateway.lmtp.session import Session as LMTPSession
from gateway.net.shell import Shell
from gateway.observe.labels import mechanism_of
from gateway.pop3.session import COMMANDS as POP3_COMMANDS
from gateway.pop3.session import Session, State
from gateway.printable import printable
from gateway.wire.lines import LineTooLong

Traced = Session | LMTPSession
"""The sessions that have a trace: those of commands and replies, in lines."""

BLANKED = "[blanked]"

LONGEST = 500
"""Characters of a line that are shown."""

MOST_LINES = 50
"""Lines of one reply that are shown, of a listing for example."""

LARGEST_BODY = 16 * 1024
"""Octets of a message that are shown, if they are asked for."""

BEFORE = 8 * 1024
"""Characters of lines that are kept while the user of a session is not known."""

CLIENT, SERVER, NOTE = "C", "S", "-"


class Wire(NamedTuple):
    """A line of a trace."""

    time: float
    """Unix seconds."""

    session: str
    direction: str
    """``C``: the client sent it.  ``S``: the server.  ``-``: a note."""

    text: str


class Watch:
    """What one trace sees of one session."""

    def __init__(self, is_meant: Callable[[Shell, str], bool], add: Callable[[Wire], None]) -> None:
        """``is_meant``: whether the trace is of this session, as far as is known by now."""
        self._is_meant = is_meant
        self._add = add
        self.is_sure = False
        self._before: deque[Wire] = deque()
        self._length = 0

    def take(self, shell: Shell, line: Wire) -> None:
        """The next line."""
        if not self.is_sure and self._is_meant(shell, line.text):
            self.is_sure = True
            for one in self._before:
                self._add(one)
            self._before.clear()
        if self.is_sure:
            self._add(line)
            return
        self._before.append(line)
        self._length += len(line.text)
        while self._length > BEFORE or len(self._before) > BEFORE // 32:
            self._length -= len(self._before.popleft().text)


class Tap:
    """Hears what one session takes and replies."""

    def __init__(self, shell: Shell, session: Traced, now: Callable[[], float]) -> None:
        self.watches: dict[str, Watch] = {}
        """By the id of the trace."""
        self.shows_bodies = False
        self.is_on = False
        """Whether it hears the session."""
        self._shell = shell
        self._session = session
        self._now = now
        self._octets = 0
        """Of a message that is going over the line."""
        self._body = b""

    def note(self, text: str) -> None:
        """Something that did not go over the line."""
        self._tell(NOTE, text)

    def line(self, line: bytes | LineTooLong) -> None:
        """The session takes a line of the client."""
        self._end_body()
        self._tell(CLIENT, _command(self._session, line))

    def content(self, data: bytes) -> None:
        """Octets of a message by LMTP."""
        self._more(data)

    def gave_back(self, count: int) -> None:
        """The last of these octets were no content."""
        self._octets -= count
        if count and self._body:
            self._body = self._body[: max(0, min(len(self._body), self._octets))]

    def sent(self, piece: bytes) -> None:
        """The session replies."""
        session = self._session
        if isinstance(session, Session):
            if session.is_sending and not (self._octets == 0 and piece.startswith(b"+OK")):
                self._more(piece)
                return
            self._end_body()
        elif not session.is_receiving or self._octets:
            self._end_body()
        for text in _replies(piece):
            self._tell(SERVER, text)

    def _more(self, data: bytes) -> None:
        self._octets += len(data)
        if self.shows_bodies and len(self._body) < LARGEST_BODY:
            self._body += data[: LARGEST_BODY - len(self._body)]

    def _end_body(self) -> None:
        direction = SERVER if isinstance(self._session, Session) else CLIENT
        octets, self._octets = self._octets, 0
        body, self._body = self._body, b""
        if not octets:
            return
        for line in body.splitlines():
            self._tell(direction, _shown(line))
        if octets > len(body):
            self._tell(direction, f"[{octets - len(body)} octets]")

    def close(self) -> None:
        """The session is over."""
        self._end_body()
        self.note("closed")

    def _tell(self, direction: str, text: str) -> None:
        line = Wire(self._now(), self._shell.connection.id, direction, text)
        for watch in self.watches.values():
            watch.take(self._shell, line)

    @property
    def is_useless(self) -> bool:
        """Whether no trace is of this session, nor can be."""
        session = self._session
        logged_in = isinstance(session, Session) and session.state is not State.AUTHORIZATION
        return logged_in and not any(watch.is_sure for watch in self.watches.values())


def _command(session: Traced, line: bytes | LineTooLong) -> str:
    """A line of the client.  What is no command that there is may be a password."""
    if isinstance(line, LineTooLong):
        return "[line too long]"
    if isinstance(session, LMTPSession):
        words = line.split(None, 1)
        is_known = bool(words) and words[0].upper() in LMTP_COMMANDS
        return _shown(line) if is_known else _unknown(line)
    if session.is_secret:
        return BLANKED
    words = line.split()
    keyword = words[0].upper() if words else b""
    if keyword not in POP3_COMMANDS:
        return _unknown(line)
    least_shown = _SHOWN.get(keyword)
    if least_shown is None:
        return _shown(line)
    shown = [_shown(word) for word in words[: least_shown + 1]]
    if keyword == b"AUTH" and len(words) > 1 and mechanism_of(shown[1].upper()) == "other":
        shown[1] = BLANKED
    more = len(words) > least_shown + 1 or (keyword == b"PASS")
    return " ".join([*shown, BLANKED] if more else shown)


_SHOWN = {b"USER": 1, b"PASS": 0, b"AUTH": 1}
"""Commands with secrets, and how many of their arguments are shown."""


def _unknown(line: bytes) -> str:
    return f"[unknown command of {len(line)} octets]"


def _replies(piece: bytes) -> Iterator[str]:
    lines = piece.split(b"\r\n", MOST_LINES)
    for line in lines[:MOST_LINES]:
        if line:
            # A challenge has no secret, but what follows from it may.
            yield f"+ {BLANKED}" if line.startswith(b"+ ") else _shown(line)
    if len(lines) > MOST_LINES and (rest := lines[-1].count(b"\r\n")):
        yield f"[{rest} lines]"


def _shown(line: bytes) -> str:
    text = printable(line[: 4 * LONGEST].decode("utf-8", "backslashreplace"))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
