"""One POP3 session as a value: bytes and answers go in, bytes and actions come out.

RFC 1939, 2449, 2595, 3206, 5034, 6856, and [MS-STANXPOP3] where it says more.
Nothing here knows of sockets, clocks or files; ``gateway.wire.dialogue`` says how a shell
drives it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import chain
from typing import NamedTuple

from attrs import evolve

from gateway.model import AS_BEFORE_LOGIN, Form, Listing, Terms
from gateway.pop3.actions import Commit, Fetch, StartTLS
from gateway.pop3.authorization import Authorization
from gateway.pop3.capabilities import Line, capability_lines, mechanisms
from gateway.pop3.marks import NO_MARKS, Marks, SessionCounts
from gateway.pop3.profile import Profile
from gateway.pop3.refusals import Refused, refusal_of
from gateway.pop3.replies import Replies
from gateway.pop3.reply import MessageReply, NotAscii, header_of
from gateway.pop3.texts import ENGLISH, SETS
from gateway.pop3.xclient import read_xclient
from gateway.wire import base64
from gateway.wire.body import END, as_sent
from gateway.wire.lines import LineTooLong

_PRINTABLE = re.compile(rb"[\t -~]*")


class State(Enum):
    """States (RFC 1939 section 3); UPDATE: while a ``Commit`` is owed."""

    AUTHORIZATION = 1
    TRANSACTION = 2
    UPDATE = 3


class Session(Replies):
    """The server's side of one connection."""

    needs_input = True

    def __init__(
        self,
        profile: Profile,
        line: Line,
        *,
        greeting: str = "",
        convert_cr: bool = False,
        expire: str = "",
    ) -> None:
        """``expire``: EXPIRE before login, unless the profile sets it."""
        super().__init__(profile)
        self.line = line
        self.state = State.AUTHORIZATION
        self.counts = SessionCounts()
        self.marks = NO_MARKS
        self._convert_cr = convert_cr
        self._expire = expire
        self._terms: Terms | None = None
        self._authorization = Authorization(profile)
        self._fetch: Fetch | None = None
        self._reply: MessageReply | None = None
        self._sends_utf8 = profile.utf8_headers == "send"
        """Whether a header may have octets that are not ASCII."""
        # Dovecot's proxy looks for this word there, and not in CAPA.
        offer = b"[XCLIENT] " if line.xclient else b""
        self._say(b"+OK " + offer + (greeting.encode("ascii") or self._texts["greeting"]))

    # -- commands ------------------------------------------------------------

    def _take_next(self) -> bool:
        waiting = self._input
        limit = self.profile.command_limit
        if len(waiting.data) >= limit:
            # What is shorter is not too long, whichever line it is.
            limit = self._line_limit()
        if (line := waiting.take_line(limit)) is None:
            return False
        authorization = self._authorization
        name, authorization.name = authorization.name, None
        try:
            if authorization.mechanism is not None:
                self.at_command("response")
                self._action = authorization.respond(line)
            elif type(line) is LineTooLong:
                self.at_command("other")
                raise Refused("too_long")
            else:
                self._perform(line, name)
        except Refused as refused:
            self._refuse_command(refused.key, refused.code)
        return True

    def _line_limit(self) -> int:
        if self._authorization.mechanism is not None or self._input.starts_with(b"AUTH"):
            return self.profile.sasl_line_limit
        if self.line.xclient and self._input.starts_with(b"XCLIENT"):
            return self.profile.sasl_line_limit
        return self.profile.command_limit

    def _perform(self, line: bytes, name: bytes | None) -> None:
        """Process one command; ``name``: the name of the preceding USER."""
        keyword, *arguments = line.split() or (b"",)
        keyword = keyword.upper()
        row = COMMANDS.get(keyword)
        self.at_command("other" if row is None else row.name)
        if row is None or (row is XCLIENT and not self.line.xclient):
            raise Refused(_UNKNOWN.get(keyword, "unknown"))
        if self.state not in row.states:
            before = self.state is State.AUTHORIZATION
            raise Refused("before_login" if before else "after_login")
        if keyword == b"PASS":
            # The rest of the line is the password, with its spaces (V0011).
            self._pass(name, line.lstrip(b" \t")[5:])
            return
        if keyword != b"USER" and not _PRINTABLE.fullmatch(line):
            raise Refused("not_ascii")
        if not row.least <= len(arguments) <= row.most:
            raise Refused("arguments")
        row.perform(self, *arguments)
        if self.state is State.TRANSACTION:
            self._refused = 0

    def _user(self, name: bytes) -> None:
        self._authorization.user(name, self.line)
        self._ok("name")

    def _pass(self, name: bytes | None, password: bytes) -> None:
        self._action = self._authorization.password(name, password)

    def _auth(self, mechanism: bytes | None = None, initial: bytes | None = None) -> None:
        if mechanism is not None:
            self._action = self._authorization.begin(mechanism, initial, self.line)
            return
        lines = "".join(f"{name}\r\n" for name in mechanisms(self.profile, self.line))
        self._multiline("mechanisms", lines.encode("ascii"))

    def _stls(self) -> None:
        if self.line.secure:
            raise Refused("tls_active")
        if not self.line.can_start_tls:
            raise Refused("no_tls")
        self._ok("tls")
        self._start_tls(StartTLS())

    def _xclient(self, *attributes: bytes) -> None:
        self._action = read_xclient(attributes)

    def _capa(self) -> None:
        lines = capability_lines(self.profile, self.line, self._expire, self._terms)
        self._multiline("capabilities", lines)

    def _utf8_mode(self) -> None:
        self._sends_utf8 = True
        self._ok("utf8")

    def _stat(self) -> None:
        self._say(b"+OK %d %d" % self.marks.left())

    def _list(self, number: bytes | None = None) -> None:
        listing = self.marks.listing
        self._show(number, listing.sizes, listing.scan_lines)

    def _uidl(self, number: bytes | None = None) -> None:
        listing = self.marks.listing
        self._show(number, listing.uids, listing.uid_lines)

    def _show(self, number: bytes | None, values: Sequence[object], lines: bytes) -> None:
        """LIST and UIDL: one line, or the lines of all messages without a mark."""
        if number is not None:
            index = self.marks.index(number)
            self._say(f"+OK {index + 1} {values[index]}".encode("ascii"))
            return
        self._ok("listing")
        self._pieces = chain(self.marks.lines_left(lines), (END,))

    def _retr(self, number: bytes) -> None:
        index = self.marks.index(number)
        self._action = self._fetch = Fetch(index)

    def _top(self, number: bytes, lines: bytes) -> None:
        index = self.marks.index(number)
        if not lines.isdigit():
            raise Refused("bad_lines")
        self._action = self._fetch = Fetch(index, int(lines))

    def _dele(self, number: bytes) -> None:
        self.marks.remove(number)
        self._ok("marked")

    def _noop(self) -> None:
        self._ok("ok")

    def _rset(self) -> None:
        self.marks.reset()
        self._ok("reset")

    def _quit(self) -> None:
        self.only_quit = not self.taken
        marks = self.marks
        if self.state is State.AUTHORIZATION or not (marks.removed or marks.retrieved):
            self._ok("bye")
            self._close()
            return
        self._input.clear()
        self.state = State.UPDATE
        self._action = Commit(frozenset(marks.removed), frozenset(marks.retrieved))

    @property
    def is_secret(self) -> bool:
        """Whether the next line of the client is a SASL response."""
        return self._authorization.mechanism is not None

    @property
    def is_sending(self) -> bool:
        """Whether the ``+OK`` of a message is made, and what follows is the message."""
        return self._reply is not None and self._reply.started

    # -- answers to Login, Step, StartTLS, XClient ---------------------------

    def logged_in(self, listing: Listing, terms: Terms = AS_BEFORE_LOGIN) -> None:
        """The login succeeded: the maildrop's listing, and what CAPA announces to its user."""
        self._owed = False
        self._authorization.over()
        self._refused = 0
        self.marks = Marks(listing)
        self._terms = terms
        self.state = State.TRANSACTION
        self._ok("opened")

    def login_failed(self, error: BaseException) -> None:
        """The login failed, or the maildrop could not be opened."""
        self._owed = False
        self._authorization.over()
        code, key = refusal_of(error)
        self._refuse_command(key, code)

    @property
    def not_logged_in(self) -> tuple[bytes, str]:
        """The name that the client gave without logging in, and the reply that rejected it."""
        said = self._authorization
        return said.claimed, ENGLISH.get(said.refusal, "")

    def challenged(self, challenge: bytes) -> None:
        """The mechanism has another challenge."""
        self._owed = False
        # Always with the space: some clients fail at a bare "+".
        self._say(b"+ " + base64.encode(challenge))

    def secured(self) -> None:
        """TLS is active; both sides discard the state before it (RFC 2595 section 4)."""
        self._owed = False
        self.line = evolve(self.line, secure=True, can_start_tls=False)
        self._texts = SETS[self.profile.texts]
        self._sends_utf8 = self.profile.utf8_headers == "send"
        self._refused = 0
        self._authorization.over()

    def identified(self, *, trusted: bool, secure: bool) -> None:
        """The proxy's client is counted; no other may take its place in this session."""
        self._owed = False
        self.line = evolve(self.line, trusted=trusted, secure=secure, xclient=False)
        self._ok("client")

    # -- answers to Fetch ----------------------------------------------------

    def fetched(self, form: Form) -> None:
        """The message is open; no reply was sent yet."""
        lines = self._fetching().lines
        self._reply = MessageReply(form, lines, convert_cr=self._convert_cr)

    def message(self, text: bytes, form: Form) -> None:
        """The whole message at once: what ``fetched``, ``body`` and ``body_ended`` are together.

        A trace needs them one by one, to tell the message from the reply's first line.
        """
        fetch = self._fetch
        assert fetch is not None, "no message is being fetched"
        is_retr = fetch.lines is None and form is not Form.STORED and self._heard is None
        sends_any = self._sends_utf8 or text.isascii()
        if is_retr and (sends_any or header_of(text)[0].isascii()):
            self.output.put(b"+OK %b\r\n" % self._texts["message"] + as_sent(text, form))
            self._sent(fetch, len(text))
            return
        self.fetched(form)
        if text:
            self.body(text)
        if self.fetching:
            self.body_ended()

    @property
    def fetching(self) -> bool:
        """Whether the reply to RETR or TOP is unfinished."""
        return self._fetch is not None

    @property
    def wants_body(self) -> bool:
        """Whether more of the message is needed."""
        return self._reply is not None and not self._reply.complete

    def body(self, data: bytes) -> None:
        """The next stored octets of the message."""
        reply = self._replying()
        if not reply.started:
            if not self._sends_utf8:
                try:
                    data = reply.check_header(data)
                except NotAscii:
                    self._owed, self._fetch, self._reply = False, None, None
                    self._refuse("needs_utf8", "UTF8")
                    return
                if not data:
                    return
            reply.started = True
            self._ok("message")
        self.output.put(reply.feed(data))

    def body_ended(self) -> None:
        """The message is complete, or as much as is needed."""
        fetch, reply = self._fetching(), self._replying()
        if not reply.started:
            self._ok("message")
        self.output.put(reply.finish())
        self._sent(fetch, reply.octets)

    def _sent(self, fetch: Fetch, octets: int) -> None:
        self._owed, self._fetch, self._reply = False, None, None
        self.marks.sent(fetch.message, retrieved=fetch.lines is None)
        if fetch.lines is not None:
            self.counts.top += 1
            self.counts.top_octets += octets
            return
        self.counts.retr += 1
        self.counts.retr_octets += octets

    def fetch_failed(self, error: BaseException) -> None:
        """The message cannot be read, or not completely."""
        fetch, is_started = self._fetching(), self.is_sending
        self._owed, self._fetch, self._reply = False, None, None
        if is_started:
            # Half of the message was sent: no reply can report that.
            self._close(abort=True)
            return
        code, key = refusal_of(error)
        if key != "gone":  # A message that is gone may be deleted.
            self.marks.unreadable(fetch.message)
        self._refuse(key, code)

    def _fetching(self) -> Fetch:
        assert self._fetch is not None, "no message is being fetched"
        return self._fetch

    def _replying(self) -> MessageReply:
        assert self._reply is not None, "the message is not open"
        return self._reply

    # -- answers to Commit, and the end --------------------------------------

    def committed(self) -> None:
        """The marked messages are removed."""
        self._owed = False
        self.counts.removed = len(self.marks.removed)
        self._ok("bye")
        self._close()

    def commit_failed(self, error: BaseException) -> None:
        """A marked message could not be removed (RFC 1939 section 6)."""
        self._owed = False
        code, _ = refusal_of(error)
        self._refuse("not_removed", code)
        self._close()

    def give_up(self, error: BaseException) -> None:
        """The pending action timed out."""
        if self._fetch is not None:
            # The session ends too: the answer may still come, and would then
            # be taken for that to another command.
            self.fetch_failed(error)
            self._close(abort=self._action is not None)
            return
        self._owed = False
        code, key = refusal_of(error)
        self._refuse("not_removed" if self.state is State.UPDATE else key, code)
        self._close()


class Row(NamedTuple):
    """A row of the table of commands: its name, function, states and number of arguments."""

    name: str
    perform: Callable[..., None]
    states: tuple[State, ...]
    least: int = 0
    most: int = 0


# Tuples: an Enum is hashed by a function of Python.
_BEFORE = (State.AUTHORIZATION,)
_AFTER = (State.TRANSACTION,)
_ALWAYS = (*_BEFORE, *_AFTER)

XCLIENT = Row("XCLIENT", Session._xclient, _BEFORE, 1, 100)
"""Of Dovecot's proxies; to anybody else it is an unknown command."""

_ROWS = (
    Row("USER", Session._user, _BEFORE, 1, 1),
    Row("PASS", Session._pass, _BEFORE, 1, 1),
    Row("AUTH", Session._auth, _BEFORE, 0, 2),
    Row("STLS", Session._stls, _BEFORE),
    Row("UTF8", Session._utf8_mode, _BEFORE),
    Row("CAPA", Session._capa, _ALWAYS),
    Row("LANG", Session._lang, _ALWAYS, 0, 1),
    Row("STAT", Session._stat, _AFTER),
    Row("LIST", Session._list, _AFTER, 0, 1),
    Row("UIDL", Session._uidl, _AFTER, 0, 1),
    Row("RETR", Session._retr, _AFTER, 1, 1),
    Row("TOP", Session._top, _AFTER, 2, 2),
    Row("DELE", Session._dele, _AFTER, 1, 1),
    Row("NOOP", Session._noop, _AFTER),
    Row("RSET", Session._rset, _AFTER),
    Row("QUIT", Session._quit, _ALWAYS),
    XCLIENT,
)

COMMANDS = {row.name.encode(): row for row in _ROWS}

_UNKNOWN = {b"": "empty", b"APOP": "no_apop"}
"""Texts for what is no command, where there are others than ``unknown``."""
