"""The same mail served by Dovecot and by the gateway, compared octet by octet."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from servers import PASSWORD, USER, Dovecot, Gateway, corpus, fill, need

pytestmark = pytest.mark.interop

ODD = {
    "empty": b"",
    "one-newline": b"\n",
    "header-only": b"Subject: x\n",
    "no-final-newline": b"Subject: x\n\nbody",
    "lf": b"Subject: x\n\nbody\n.dot\n..\n",
    "crlf": b"Subject: x\r\n\r\nbody\r\n.dot\r\n..\r\n",
    "mixed": b"Subject: x\r\n\nbody\n.dot\r\n.\n",
    "bare-cr": b"Subject: x\n\nbo\rdy\r\r\n",
    "last-cr": b"Subject: x\n\nbody\r",
    "nul": b"Subject: x\n\nbo\0dy\n",
    "eight-bit": b"Subject: gr\xfc\xdf\n\n\xff\xfe\n",
    "no-header": b"just text\nand more\n",
    "long-line": b"Subject: x\n\n" + b"y" * 300_000 + b"\n",
    "dots": b"Subject: x\n\n.\n..\n.\n\n.\n",
    "first-dot": b".x: y\n\nbody\n",
}
TOPS = (0, 1, 10, 10_000)


FETCHES = ("RETR", *(f"TOP {lines}" for lines in TOPS))


class Difference(NamedTuple):
    """Where we differ from Dovecot 2.3, and why we are right."""

    reason: str
    commands: tuple[str, ...]
    applies: Callable[[bytes], bool]


DIFFERENCES = (
    Difference(
        "RFC 1939 section 11: a size is of what is sent. Dovecot does not count the CRLF that it"
        " adds to an incomplete last line.",
        ("LIST", "LIST n"),
        lambda stored: stored != b"" and not stored.endswith(b"\n"),
    ),
    Difference(
        "RFC 1939 sections 3 and 11: an empty message has no lines, and both list it with 0"
        " octets. Dovecot sends an empty line.",
        FETCHES,
        lambda stored: stored == b"",
    ),
    Difference(
        "RFC 1939 section 3: a dot that begins any line is stuffed. Dovecot leaves the very first"
        " octet of a message alone.",
        FETCHES,
        lambda stored: stored.startswith(b"."),
    ),
)


class Client:
    """A POP3 client that keeps every octet."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        for line in (f"USER {USER}", f"PASS {PASSWORD}"):
            assert self.ask(line) == b"+OK"

    def ask(self, command: str) -> bytes:
        """The status, without its text where the text is free, and all that follows."""
        self._socket.sendall(command.encode() + b"\r\n")
        status = self._file.readline()
        if not status.startswith(b"+OK"):
            return status[:4]
        keyword, *arguments = command.split()
        if keyword in ("RETR", "TOP") or (keyword in ("LIST", "UIDL") and not arguments):
            lines = [b"+OK\r\n"]
            while lines[-1] != b".\r\n":
                lines.append(self._file.readline())
            return b"".join(lines)
        return status if keyword in ("STAT", "LIST", "UIDL") else b"+OK"

    def close(self) -> None:
        """QUIT."""
        self.ask("QUIT")
        self._socket.close()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that Dovecot's own user may enter."""
    path = Path(tempfile.mkdtemp(prefix="pop3gw-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.conformance("O-C0023", "O-C0034", "P-1", "P-2", "P-4", "X-C0007", "O-C0039")
def test_the_gateway_answers_as_dovecot_does_but_for_what_is_named(directory: Path) -> None:
    need("dovecot")
    messages = corpus() + list(ODD.items())
    names = [name for name, _ in messages]
    (directory / "gateway").mkdir()
    (directory / "dovecot").mkdir()
    gateway = Gateway(directory / "gateway", "[store]\npath = 'mail/{name}'\nmark_read = false")
    fill(gateway.maildir, (content for _, content in messages))
    theirs = directory / "mail"
    fill(theirs, (content for _, content in messages))
    dovecot = Dovecot(directory / "dovecot", theirs).run()
    try:
        # Dovecot gives the ids, the gateway takes them over.
        first = Client(dovecot.plain)
        first.ask("UIDL")
        first.close()
        shutil.copy(theirs / "dovecot-uidlist", gateway.maildir)
        gateway.run()
        try:
            differing = set(differences(Client(gateway.plain), Client(dovecot.plain), names))
        finally:
            gateway.stop()
    finally:
        dovecot.stop()
    named = {
        (name, command)
        for name, stored in messages
        for difference in DIFFERENCES
        if difference.applies(stored)
        for command in difference.commands
    }
    assert differing == named


def differences(ours: Client, theirs: Client, names: list[str]) -> Iterator[tuple[str, str]]:
    """Name and command wherever the replies differ; the number of a message is left out."""
    uidl = ours.ask("UIDL")
    assert uidl == theirs.ask("UIDL")
    assert uidl.count(b"\r\n") == len(names) + 2
    total = int(ours.ask("STAT").split()[2]) - int(theirs.ask("STAT").split()[2])
    our_list, their_list = (side.ask("LIST").split(b"\r\n")[1:-2] for side in (ours, theirs))
    for number, name in enumerate(names, 1):
        if our_list[number - 1] != their_list[number - 1]:
            yield name, "LIST"
        sizes = [int(side[number - 1].split()[1]) for side in (our_list, their_list)]
        total -= sizes[0] - sizes[1]
        for form in ("LIST n", "UIDL n", "RETR n", *(f"TOP n {lines}" for lines in TOPS)):
            command = form.replace("n", str(number))
            if ours.ask(command) != theirs.ask(command):
                yield name, form if form == "LIST n" else form.replace(" n", "")
    assert total == 0, "STAT is not the sum of LIST on both sides"
    for side in (ours, theirs):
        side.close()
