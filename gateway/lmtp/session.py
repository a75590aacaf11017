"""One LMTP session as a value: bytes and answers go in, bytes and actions come out.

RFC 2033, with RFC 5321 for what it takes from SMTP, and RFC 1870, 2034, 2920,
3030, 3207, 6152 and 6531 for the extensions.  Nothing here knows of sockets,
clocks or files; ``gateway.wire.dialogue`` says how a shell drives it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.lmtp import actions, replies
from gateway.lmtp.actions import Action
from gateway.lmtp.intake import Intake
from gateway.lmtp.profile import Profile
from gateway.lmtp.replies import Refused, Reply
from gateway.wire.dialogue import LineDialogue
from gateway.wire.lines import LineTooLong

_TEXT = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f-\x9f\ufffd]*")

_COUNTED = frozenset({500, 501, 502, 555})
"""Replies that count towards ``Profile.refused_in_a_row``: unknown commands.

Commands out of sequence and rejected recipients do not count: after one early
rejection a pipelining client gets one for each of its recipients.
"""


class Session(LineDialogue[Action]):
    """The server's side of one connection."""

    def __init__(
        self, profile: Profile, *, secure: bool = False, can_start_tls: bool = False
    ) -> None:
        super().__init__()
        self.profile = profile
        self.secure = secure
        self.can_start_tls = can_start_tls
        self.lhlo = ""
        """The argument of LHLO; empty before it."""
        self._refused = 0
        self._intake = Intake(profile, self._say, self._ask)
        self.counts = self._intake.counts
        self.output.put(b"220 %b LMTP ready.\r\n" % profile.name.encode("ascii"))

    @property
    def sender(self) -> str:
        """The sender of the present transaction; empty: ``<>``, or there is none."""
        return self._intake.sender

    @property
    def octets(self) -> int:
        """Octets of the present message so far, as RETR counts them; 0: there is none."""
        return self._intake.octets

    @property
    def is_receiving(self) -> bool:
        """Whether content of a message comes in."""
        return self._intake.receiving

    # -- commands ------------------------------------------------------------

    def _say(self, reply: Reply) -> None:
        self.output.put(reply.line)

    def _ask(self, action: Action) -> None:
        self._action = action

    def _close(self, reply: Reply) -> None:
        self._say(reply)
        self._hang_up(actions.HangUp())

    def _take_next(self) -> bool:
        if self._intake.receiving:
            return self._intake.go_on(self._input)
        line = self._input.take_line(self.profile.command_limit)
        if line is None:
            return False
        try:
            self._perform(line)
        except Refused as refused:
            reply = refused.reply
            self._refused += reply.code in _COUNTED
            if self._refused >= self.profile.refused_in_a_row:
                self._close(replies.REFUSED_TOO_OFTEN)
            elif reply.code == 421:
                self._close(reply)
            else:
                self._say(reply)
        return True

    def _perform(self, line: bytes | LineTooLong) -> None:
        if isinstance(line, LineTooLong):
            self._intake.next_message()
            raise Refused(replies.TOO_LONG)
        words = line.split(None, 1)
        if words and words[0].upper() == b"MAIL":
            self._intake.next_message()
        row = COMMANDS.get(words[0].upper()) if words else None
        if row is None:
            raise Refused(replies.UNKNOWN)
        argument = words[1].rstrip().decode("utf-8", "replace") if len(words) > 1 else ""
        if row.checked:
            if not _TEXT.fullmatch(argument):
                raise Refused(replies.NO_TEXT)
            if not row.least <= len(argument) <= row.most:
                raise Refused(replies.ARGUMENTS)
        row.perform(self, argument)
        self._refused = 0

    def _lhlo(self, argument: str) -> None:
        self._intake.forget()
        self.lhlo = argument
        self.output.put(self.profile.lhlo_reply(tls=self.can_start_tls and not self.secure))

    def _helo(self, _: str) -> None:
        raise Refused(replies.NOT_SMTP)

    def _starttls(self, _: str) -> None:
        if self.secure:
            raise Refused(replies.TLS_ACTIVE)
        if not self.can_start_tls:
            raise Refused(replies.NO_TLS)
        if self._intake.busy:
            raise Refused(replies.IN_TRANSACTION)
        self._say(replies.TLS)
        self._start_tls(actions.StartTLS())

    def _mail(self, argument: str) -> None:
        if not self.lhlo:
            raise Refused(replies.NO_LHLO)
        self._intake.mail(argument)

    def _rcpt(self, argument: str) -> None:
        self._intake.rcpt(argument)

    def _data(self, _: str) -> None:
        self._intake.data()

    def _bdat(self, argument: str) -> None:
        self._intake.bdat(argument)

    def _rset(self, _: str) -> None:
        self._intake.forget()
        self._say(replies.OK)

    def _noop(self, _: str) -> None:
        self._say(replies.OK)

    def _vrfy(self, _: str) -> None:
        self._say(replies.NOT_VERIFIED)

    def _help(self, _: str) -> None:
        self._say(replies.HELP)

    def _quit(self, _: str) -> None:
        self.only_quit = not self.taken
        self._close(replies.BYE)

    # -- answers -------------------------------------------------------------

    def _answered(self) -> bool:
        """Whether the session waits for this answer, which may be too late."""
        self._owed = False
        return not self.closed

    def accepted(self) -> None:
        """The recipient exists, and its mailbox has room, as far as known."""
        if self._answered():
            self._intake.accepted()

    def refused(self, error: BaseException) -> None:
        """The recipient does not exist here, or cannot get this message."""
        if self._answered():
            self._intake.refused(error)

    def begun(self) -> None:
        """The store is ready for content."""
        if self._answered():
            self._intake.begun()

    def begin_failed(self, error: BaseException) -> None:
        """The store rejects content; nothing is open."""
        if self._answered():
            self._intake.begin_failed(error)

    def written(self) -> None:
        """The store has the octets."""
        self._answered()

    def write_failed(self, error: BaseException) -> None:
        """The store could not write; ``Abort`` is the next action."""
        if self._answered():
            self._intake.write_failed(error)

    def delivered(self, index: int, error: BaseException | None = None) -> None:
        """The result of delivery to one recipient, by its place in ``Begin``.

        None: the message is in the mailbox, synced to disk.  The reply is sent as soon as
        those of all earlier recipients are.
        """
        if not self.closed and self._intake.delivered(index, error):
            self._owed = False

    def aborted(self) -> None:
        """The content is discarded."""
        self._answered()

    def secured(self) -> None:
        """TLS is active; both sides discard the state before it (RFC 3207 section 4.2)."""
        if self._answered():
            self.secure = True
            self.lhlo = ""
            self._refused = 0

    # -- the end -------------------------------------------------------------

    def idle(self) -> None:
        """The client has been idle too long."""
        self._close(replies.IDLE)

    def dismiss(self) -> None:
        """The server is stopping."""
        self._close(replies.CLOSING)

    def give_up(self, error: BaseException) -> None:
        """The pending action timed out.

        Recipients without an answer get ``error``.  Delivery may still succeed, so they
        may get the message twice, which is better than never.
        """
        self._intake.give_up(error)
        self._owed = False
        self._close(replies.GIVEN_UP)


class Row(NamedTuple):
    """A row of the table of commands: its function, and the limit of its argument."""

    perform: Callable[[Session, str], None]
    least: int = 0
    most: int = 0
    checked: bool = True
    """False: the command checks its argument itself."""


_ANY = 1 << 20

COMMANDS: Mapping[bytes, Row] = {
    b"LHLO": Row(Session._lhlo, 1, 255),
    b"HELO": Row(Session._helo, 0, _ANY),
    b"EHLO": Row(Session._helo, 0, _ANY),
    b"STARTTLS": Row(Session._starttls),
    b"MAIL": Row(Session._mail, 1, _ANY),
    b"RCPT": Row(Session._rcpt, 1, _ANY),
    b"DATA": Row(Session._data),
    b"BDAT": Row(Session._bdat, checked=False),
    b"RSET": Row(Session._rset),
    b"NOOP": Row(Session._noop, 0, _ANY),
    b"VRFY": Row(Session._vrfy, 1, _ANY),
    b"HELP": Row(Session._help, 0, _ANY),
    b"QUIT": Row(Session._quit),
}
