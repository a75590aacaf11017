"""Outlook 2007 and 2010, as [MS-STANOPOP3] describes them, keep in step with the real gateway."""

from __future__ import annotations

import re
import socket
from collections.abc import Collection
from pathlib import Path

import pytest

from servers import PASSWORD, USER, Gateway
from whole_corpus import MESSAGES, canonical

pytestmark = pytest.mark.interop

NEWS = [b"Subject: news\r\n\r\n.one\r\n", b"Subject: more news\r\n\r\ntwo\r\n"]


class Session:
    """One connection of Outlook's.

    It sends a command when the reply to the last one is read, waits for CRLF wherever a line is
    to end (a reply without it hangs Outlook, and runs into the timeout here), takes a status
    that begins with "+" for success and any other for failure, and ends LIST, UIDL and CAPA at
    any line that begins with a dot.  What is left over after a reply would be taken for the
    reply to the next command; here it is an error at once.
    """

    def __init__(self, gateway: Gateway, *, hasty: bool = False, secure: bool = False) -> None:
        """``hasty`` sends USER before it has read the greeting."""
        self.statuses: list[bytes] = []
        self._hasty = hasty
        self._received = b""
        port = gateway.tls if secure else gateway.plain
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        if secure:
            self._socket = gateway.context().wrap_socket(self._socket, server_hostname="localhost")
        if hasty:
            self._send(f"USER {USER}")
            assert self._status()
        else:
            assert self._status()
            self._nothing_more()

    def log_in(self, password: str = PASSWORD) -> bool:
        """USER and PASS; whether that succeeded."""
        if self._hasty:
            self._hasty = False
            named = self._status()
            self._nothing_more()
        else:
            named = self.command(f"USER {USER}")
        return named and self.command(f"PASS {password}")

    def command(self, line: str) -> bool:
        """A command with a reply of one line; whether it succeeded."""
        self._send(line)
        succeeded = self._status()
        self._nothing_more()
        return succeeded

    def listing(self, line: str) -> list[str]:
        """What LIST, UIDL or CAPA answers."""
        self._send(line)
        assert self._status()
        lines = []
        while not (text := self._line()).startswith(b"."):
            lines.append(text.decode("ascii"))
        self._nothing_more()
        return lines

    def message(self, number: int) -> bytes:
        """What RETR answers, un-stuffed."""
        self._send(f"RETR {number}")
        assert self._status()
        lines = []
        while (text := self._line()) != b".":
            lines.append(text.removeprefix(b".") + b"\r\n")
        self._nothing_more()
        return b"".join(lines)

    def numbers(self) -> dict[str, int]:
        """Unique-id to message number, as of this session."""
        numbers = {}
        for line in self.listing("UIDL"):
            number, unique_id = line.split()
            numbers[unique_id] = int(number)
        return numbers

    def quit(self) -> None:
        """QUIT; the server says goodbye and closes."""
        assert self.command("QUIT")
        assert self._socket.recv(1) == b""
        self._socket.close()

    def drop(self) -> None:
        """Close without a word."""
        self._socket.close()

    def _send(self, line: str) -> None:
        self._socket.sendall(line.encode("ascii") + b"\r\n")

    def _status(self) -> bool:
        self.statuses.append(self._line())
        return self.statuses[-1].startswith(b"+")

    def _line(self) -> bytes:
        while b"\r\n" not in self._received:
            data = self._socket.recv(65536)
            assert data, f"closed after {self._received!r}"
            self._received += data
        line, _, self._received = self._received.partition(b"\r\n")
        return line

    def _nothing_more(self) -> None:
        assert self._received == b""


class Outlook:
    """An account that leaves its mail on the server until told otherwise.

    By unique-id it knows what it has, and by unique-id alone it deletes.  It never sends RSET or
    APOP, nor LIST or UIDL with a number.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.mail: dict[str, bytes] = {}
        """What it has downloaded, in that order."""
        self.there: list[str] = []
        """The ids that the server had in the last session."""

    def sync(self, delete: Collection[str] = (), *, bye: bool = True, **how: bool) -> list[str]:
        """Send and receive; the ids of what was downloaded.  Without ``bye`` the line breaks."""
        session = Session(self.gateway, **how)
        assert session.log_in()
        assert session.command("STAT")
        numbers = session.numbers()
        new = [unique_id for unique_id in numbers if unique_id not in self.mail]
        if new:
            session.listing("LIST")
        for unique_id in new:
            self.mail[unique_id] = session.message(numbers[unique_id])
        for unique_id in delete:
            assert session.command(f"DELE {numbers[unique_id]}")
        if bye:
            session.quit()
        else:
            session.drop()
        self.there = list(numbers)
        return new


def deliver(gateway: Gateway, first: int) -> None:
    """New messages, in files whose names count up from ``first``."""
    for number, content in enumerate(NEWS, first):
        (gateway.maildir / "new" / f"{1_800_000_000 + number}.M1P1.test").write_bytes(content)


def left(gateway: Gateway) -> list[bytes]:
    """What the Maildir has, in Outlook's form."""
    files = [*(gateway.maildir / "new").iterdir(), *(gateway.maildir / "cur").iterdir()]
    return sorted(canonical(file.read_bytes()) for file in files)


@pytest.mark.conformance(
    *("O-C0001", "O-C0002", "O-C0005", "O-V0001", "O-C0006", "O-V0002", "O-C0007", "O-C0009"),
    *("O-C0014", "O-C0004", "O-C0011", "O-C0017", "O-C0020", "O-C0021"),
)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_outlook_understands_every_reply(gateway: Gateway, secure: bool) -> None:
    session = Session(gateway, secure=secure)
    assert session.log_in()
    assert "UIDL" in session.listing("CAPA")
    assert session.command("STAT")
    assert session.listing("UIDL")
    sizes = [len(canonical(message)) for message in MESSAGES]
    assert session.listing("LIST") == [f"{n} {size}" for n, size in enumerate(sizes, 1)]
    assert [session.message(n) for n in range(1, len(MESSAGES) + 1)] == [
        canonical(message) for message in MESSAGES
    ]
    assert not session.command(f"RETR {len(MESSAGES) + 1}")
    assert session.command("NOOP")
    session.quit()

    assert f"+OK {len(MESSAGES)} {sum(sizes)}".encode() in session.statuses
    odd = [s for s in session.statuses if not re.fullmatch(rb"(\+OK|-ERR)( [ -~]+)?", s)]
    assert odd == []


@pytest.mark.conformance(
    *("O-C0022", "O-C0023", "O-C0037", "O-C0038", "O-C0039", "O-C0041"),
)
def test_the_first_sync_downloads_everything_and_leaves_it_there(gateway: Gateway) -> None:
    outlook = Outlook(gateway)
    new = outlook.sync()
    assert list(outlook.mail.values()) == [canonical(message) for message in MESSAGES]
    assert len(new) == len(set(new)) == len(MESSAGES)
    assert [unique_id for unique_id in new if not re.fullmatch("[.-~]{1,70}", unique_id)] == []
    assert left(gateway) == sorted(outlook.mail.values())


@pytest.mark.conformance("O-C0043")
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_outlook_may_say_user_before_it_has_read_the_greeting(
    gateway: Gateway, secure: bool
) -> None:
    outlook = Outlook(gateway)
    assert len(outlook.sync(hasty=True, secure=secure)) == len(MESSAGES)
    assert outlook.sync(hasty=True, secure=secure) == []


@pytest.mark.conformance("O-C0039")
def test_later_syncs_download_nothing_even_after_a_broken_line_and_a_restart(
    gateway: Gateway, tmp_path: Path
) -> None:
    outlook = Outlook(gateway)
    first = outlook.sync()
    assert outlook.sync() == []
    assert outlook.there == first

    assert outlook.sync(delete=first[:2], bye=False) == []
    assert outlook.sync() == []
    assert outlook.there == first

    gateway.stop()
    outlook.gateway = Gateway(tmp_path).run()
    try:
        assert outlook.sync() == []
        assert outlook.there == first
    finally:
        outlook.gateway.stop()
    assert left(gateway) == sorted(outlook.mail.values())


@pytest.mark.conformance("O-C0030", "O-C0040", "X-C0007", "X-C0008")
def test_ids_of_deleted_mail_never_come_back_and_new_mail_gets_larger_ones(
    gateway: Gateway, tmp_path: Path
) -> None:
    outlook = Outlook(gateway)
    first = outlook.sync()
    gone = [first[10], first[-1]]
    assert outlook.sync(delete=gone) == []
    for unique_id in gone:
        del outlook.mail[unique_id]
    assert left(gateway) == sorted(outlook.mail.values())

    # Had any of them come back, it would be downloaded as new.
    assert outlook.sync() == []
    assert outlook.there == [unique_id for unique_id in first if unique_id not in gone]

    deliver(gateway, 1)
    new = outlook.sync()
    assert [outlook.mail[unique_id] for unique_id in new] == [canonical(text) for text in NEWS]
    assert all(re.fullmatch("[.-~]{1,70}", unique_id) for unique_id in new)
    ids = [int(unique_id) for unique_id in (*first, *new)]
    assert ids == sorted(set(ids))

    # The largest id is the one that a server is most likely to give twice.
    assert outlook.sync(delete=new) == []
    gateway.stop()
    outlook.gateway = Gateway(tmp_path).run()
    try:
        assert outlook.sync() == []
        deliver(gateway, 1 + len(NEWS))
        newest = outlook.sync()
    finally:
        outlook.gateway.stop()
    assert len(newest) == len(NEWS)
    assert min(map(int, newest)) > max(ids)


@pytest.mark.conformance("O-C0010", "O-C0012")
def test_after_a_wrong_password_outlook_may_try_again_or_quit(gateway: Gateway) -> None:
    session = Session(gateway)
    assert not session.log_in("looking-glass")
    assert session.log_in()
    assert len(session.numbers()) == len(MESSAGES)
    session.quit()

    session = Session(gateway)
    assert not session.log_in("looking-glass")
    session.quit()
    assert len(left(gateway)) == len(MESSAGES)
