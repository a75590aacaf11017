"""One LMTP connection in memory: the real session, a shell and a store of scripted answers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.lmtp.actions import Abort, Action, Begin, Finish, HangUp, Recipient, StartTLS, Write
from gateway.lmtp.profile import Profile
from gateway.lmtp.session import Session
from gateway.wire.outgoing import SLICE

PATIENT = Profile(refused_in_a_row=10**6)
REPLY = re.compile(rb"(?:\d{3}-[^\r\n]*\r\n)*\d{3} [^\r\n]*\r\n")


class Shell:
    """Performs what a session asks for, as a shell of ``gateway.services`` would.

    ``unknown`` says which recipients are refused, ``begin`` why content is,
    ``write_fails`` at which octet of it and why, ``commits`` for whom.  With
    ``slow`` the answers to ``Finish`` are left to the test, with ``deaf`` all.
    """

    def __init__(
        self,
        profile: Profile | None = None,
        *,
        refuse: Mapping[str, Exception] | None = None,
        begin: Exception | None = None,
        write_fails: tuple[int, Exception] | None = None,
        commits: Mapping[str, Exception] | None = None,
        slow: bool = False,
        deaf: tuple[type[Action], ...] = (),
        secure: bool = False,
        can_start_tls: bool = False,
    ) -> None:
        self.session = Session(profile or Profile(), secure=secure, can_start_tls=can_start_tls)
        self.refuse = refuse or {}
        self.begin = begin
        self.write_fails = write_fails
        self.commits = commits or {}
        self.slow = slow
        self.deaf = deaf
        self.actions: list[Action] = []
        self.messages: list[tuple[str, bytes]] = []
        """Recipient and content of everything delivered."""
        self.envelope = Begin("", (), False)
        self.content: list[bytes] | None = None
        self.waiting = 0
        self.aborted = 0
        self.closed = False
        self.greeting = self.read()

    def send(self, *lines: bytes) -> bytes:
        """Send lines in one piece, CRLF added; what came back by now."""
        return self.send_octets(b"".join(line + b"\r\n" for line in lines))

    def send_octets(self, octets: bytes) -> bytes:
        """Send octets as they are; what came back by now."""
        self.session.receive(octets)
        return self.pump()

    def pump(self) -> bytes:
        """Perform all that can be performed; what came back by now."""
        replies = b""
        while (action := self.session.next_action()) is not None:
            self.actions.append(action)
            if not isinstance(action, self.deaf):
                self.perform(action)
            replies += self.read()
        return replies + self.read()

    def read(self) -> bytes:
        """What the session has to say."""
        data = b""
        while piece := self.session.data_to_send():
            data += piece
        return data

    def perform(self, action: Action) -> None:
        """Answer one action."""
        session = self.session
        match action:
            case Recipient():
                if (error := self.refuse.get(action.address)) is not None:
                    session.refused(error)
                else:
                    session.accepted()
            case Begin():
                assert self.content is None, "begun twice"
                if self.begin is not None:
                    session.begin_failed(self.begin)
                    return
                self.envelope, self.content = action, []
                session.begun()
            case Write():
                self.write(action.data)
            case Finish():
                self.waiting = len(self.envelope.recipients)
                if not self.slow:
                    for index in range(self.waiting):
                        self.commit(index)
            case Abort():
                assert self.content is not None, "nothing is open"
                self.content = None
                self.aborted += 1
                session.aborted()
            case StartTLS():
                session.secured()
            case HangUp():
                self.closed = True

    def write(self, data: bytes) -> None:
        """Keep a piece of content, if it is one."""
        assert self.content is not None, "nothing is open"
        assert 0 < len(data) <= SLICE
        self.content.append(data)
        if self.write_fails is not None and len(b"".join(self.content)) > self.write_fails[0]:
            self.session.write_failed(self.write_fails[1])
        else:
            self.session.written()

    def deliver(self, index: int) -> bytes:
        """Answer about one recipient; what came back at once."""
        self.commit(index)
        return self.read()

    def commit(self, index: int) -> None:
        """Answer about one recipient."""
        assert self.content is not None, "nothing is open"
        address = self.envelope.recipients[index]
        error = self.commits.get(address)
        if error is None:
            self.messages.append((address, b"".join(self.content)))
        self.session.delivered(index, error)
        self.waiting -= 1
        if not self.waiting:
            self.content = None

    def begin_mail(self, *recipients: bytes, sender: bytes = b"s@example.net") -> bytes:
        """LHLO, MAIL and RCPT."""
        return self.send(
            b"LHLO client.example.net",
            b"MAIL FROM:<" + sender + b">",
            *(b"RCPT TO:<" + recipient + b">" for recipient in recipients),
        )


def codes(data: bytes) -> list[str]:
    """The reply code of each reply, and its enhanced status code if it has one."""
    found = []
    for reply in split(data):
        match = re.match(rb"(\d{3}) (\d\.\d+\.\d+ )?", reply.splitlines()[-1])
        assert match, reply
        found.append(b"".join((match[1], b" ", match[2] or b"")).decode().strip())
    return found


def split(data: bytes) -> list[bytes]:
    """The replies, several lines of one together."""
    found = []
    while data:
        match = REPLY.match(data)
        assert match, data[:80]
        found.append(match[0])
        data = data[match.end() :]
    return found
