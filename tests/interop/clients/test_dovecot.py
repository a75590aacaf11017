"""The same mail served by Dovecot and by the gateway, compared octet by octet."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from cluster_engines import Engines
from cluster_gateway import ClusterGateway
from servers import PASSWORD, USER, Dovecot, Gateway, corpus, fill, give_to_dovecot

pytestmark = pytest.mark.interop

ODD = {
    "empty": b"",
    "one-newline": b"\n",
    "only-newlines": b"\n\n\r\n",
    "header-only": b"Subject: x\n",
    "header-and-separator": b"Subject: x\n\n",
    "no-final-newline": b"Subject: x\n\nbody",
    "no-final-newline-crlf": b"Subject: x\r\n\r\nbody",
    "no-final-newline-header": b"Subject: x",
    "no-separator": b"Subject: x\nbody that no empty line comes before\n",
    "no-header": b"just text\nand more\n",
    "lf": b"Subject: x\n\nbody\n.dot\n..\n",
    "crlf": b"Subject: x\r\n\r\nbody\r\n.dot\r\n..\r\n",
    "mixed": b"Subject: x\r\n\nbody\n.dot\r\n.\n",
    "crlf-header-lf-body": b"Subject: x\r\n\r\nbody\n\nand more\n",
    "bare-cr": b"Subject: x\n\nbo\rdy\r\r\n\r.dot\n",
    "bare-cr-header": b"Subject: x\ry\n\r\r\n" + b"y: z\n" * 12 + b"\nbody\n",
    "last-cr": b"Subject: x\n\nbody\r",
    "nul": b"Subject: x\0\n\nbo\0dy\n\0",
    "eight-bit": b"Subject: gr\xfc\xdf\n\n\xff\xfe\n",
    "long-line": b"Subject: x\n\n" + b"y" * 300_000 + b"\n",
    "long-header": b"Subject: " + b"y" * 300_000 + b"\n\nbody\n",
    "many-dots": b"Subject: x\n\n" + b".\n" * 70_000,
    "many-dots-crlf": b"Subject: x\r\n\r\n" + b".\r\n..\r\n" * 50_000,
    "dot-in-header": b"Subject: x\n.y: z\n\nbody\n",
    "last-line-is-dot": b"Subject: x\n\nbody\n.\n",
    "last-line-is-dot-without-newline": b"Subject: x\n\nbody\n.",
    "only-dots": b".\n..\n.\n\n.\n",
    "one-dot": b".",
    "first-line-begins-with-dot": b".Subject: x\r\n\r\nbody\r\n",
}
TOPS = tuple(f"TOP {lines}" for lines in (0, 1, 10, 10_000))
COMMANDS = ("LIST", "UIDL", "RETR", *TOPS)


def header(content: bytes) -> bytes:
    """What is before the first empty line."""
    return re.split(rb"(?m)^\r?\n", content, maxsplit=1)[0]


class Difference(NamedTuple):
    """A class of messages that the gateway answers otherwise than Dovecot does, 2.3 and 2.4."""

    where: Callable[[bytes], bool]
    """Whether a message, as it is stored, is of this class."""
    commands: tuple[str, ...]
    """The commands whose replies differ; none of the others does."""
    reason: str
    rfc: str


DIFFERENCES = (
    Difference(
        lambda content: content != b"" and not content.endswith(b"\n"),
        ("LIST",),
        "Dovecot adds the missing last line end to what it sends and not to the size; ours is 2"
        " more. (STAT differs by the sum of these.)",
        "RFC 1939 section 11",
    ),
    Difference(
        lambda content: content == b"",
        ("RETR", *TOPS),
        "Dovecot adds a line end to a message of no lines, whose size it says is 0; ours sends"
        " nothing but the final dot",
        "RFC 1939 sections 3 and 11",
    ),
    Difference(
        lambda content: content.startswith(b"."),
        ("RETR", *TOPS),
        "Dovecot stuffs no dot that is the first octet of a message, so that a client may take"
        " the first line for the last",
        "RFC 1939 section 3",
    ),
    Difference(
        lambda content: re.search(rb"(?m)^\r+\r\n", header(content)) is not None,
        ("TOP 0", "TOP 1", "TOP 10"),
        "Dovecot takes a line of nothing but a CR for the empty line that ends the header; it has"
        " one octet before its line end, so ours goes on to a line that is empty",
        "RFC 1939 section 7 (TOP); RFC 5322 sections 2.1 and 2.3",
    ),
    Difference(
        lambda content: re.search(rb"\r\.", content) is not None,
        ("LIST", "RETR", "TOP 10", "TOP 10000"),
        "Dovecot sends a CR that stands alone before a dot as it is, and a client that ends lines"
        " at a CR may take the dot for the end; ours sends CRLF, which is one octet more",
        "RFC 1939 section 3; RFC 5322 section 2.3",
    ),
)


class Client:
    """A POP3 client that keeps every octet and does not rely on the final dot."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self._socket.makefile("rb")
        assert self._file.readline().startswith(b"+OK")
        for line in (f"USER {USER}", f"PASS {PASSWORD}"):
            self._socket.sendall(line.encode() + b"\r\n")
            assert self._file.readline().startswith(b"+OK")

    def ask(self, command: str) -> bytes:
        """All that comes for a command, less the status line's text where that is free.

        A command that is sure to fail follows it and marks where the reply ends.
        """
        self._socket.sendall(command.encode() + b"\r\nLIST 0\r\n")
        lines = [self._file.readline()]
        assert lines[0].startswith(b"+OK"), (command, lines)
        while not lines[-1].startswith(b"-ERR"):
            lines.append(self._file.readline())
            assert lines[-1], f"{command}: connection lost"
        if len(lines) > 2:
            lines[0] = lines[0][:3] + b"\r\n"
        return b"".join(lines[:-1])

    def close(self) -> None:
        """QUIT."""
        self._socket.sendall(b"QUIT\r\n")
        assert self._file.readline().startswith(b"+OK")
        self._file.close()
        self._socket.close()


class Pair:
    """Both servers, each with a copy of the same mail and the same uidlist."""

    def __init__(self, directory: Path, contents: Iterable[bytes], *, no_nuls: bool = False):
        contents = list(contents)
        for name in ("gateway", "dovecot"):
            (directory / name).mkdir()
        self.gateway: Gateway = Gateway(
            directory / "gateway",
            "[store]\npath = 'mail/{name}'\nmark_read = false\n"
            f"outlook_no_nuls = {str(no_nuls).lower()}",
        )
        self.theirs = directory / "mail"
        for maildir in (self.gateway.maildir, self.theirs):
            fill(maildir, contents)
        self.dovecot = Dovecot(
            directory / "dovecot",
            self.theirs,
            more="pop3_client_workarounds = outlook-no-nuls\n" if no_nuls else "",
        )

    def run(self, stack: ExitStack) -> tuple[Client, Client]:
        """Start both and log in: ours, theirs."""
        self.dovecot.run()
        stack.callback(self.dovecot.stop)
        # Dovecot gives the ids, the gateway takes them over.
        first = Client(self.dovecot.plain)
        first.ask("UIDL")
        first.close()
        if self.gateway.maildir.exists():
            shutil.copy(self.theirs / "dovecot-uidlist", self.gateway.maildir)
        self.gateway.run()
        stack.callback(self.gateway.stop)
        clients = Client(self.gateway.plain), Client(self.dovecot.plain)
        for client in clients:
            stack.callback(client.close)
        return clients


def line_of(listing: bytes, number: int) -> bytes:
    """One message's line of a multi-line LIST or UIDL."""
    return listing.split(b"\r\n")[number]


def as_sent(content: bytes) -> bytes:
    """What RFC 1939 makes of stored text: CRLF line ends, and one after the last line."""
    text = re.sub(rb"(?<!\r)\n|\r(?=\.)", b"\r\n", content)
    return text if not text or text.endswith(b"\r\n") else text + b"\r\n"


def unstuffed(reply: bytes) -> bytes:
    """The message in a reply to RETR."""
    assert reply.startswith(b"+OK\r\n")
    assert reply.endswith(b"\r\n.\r\n")
    return re.sub(rb"(?m)^\.", b"", reply[5:-3])


def replies(client: Client, number: int) -> dict[str, bytes]:
    """The replies to all commands about one message."""
    lines = {command: command.partition(" ") for command in COMMANDS}
    return {
        command: client.ask(f"{keyword} {number} {argument}".rstrip())
        for command, (keyword, _, argument) in lines.items()
    }


def named(messages: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """Message and command of every difference that is to be expected."""
    return {
        (name, command)
        for difference in DIFFERENCES
        for name, content in messages.items()
        if difference.where(content)
        for command in difference.commands
    }


SHOWN = pytest.mark.conformance(
    *(
        "P-1",
        "P-2",
        "P-3",
        "P-4",
        "P-5",
        "X-N4",
        "X-N5",
        "X-C0011",
        "X-V0004",
        "X-V0005",
        "X-V0007",
    ),
    *("O-C0017", "O-C0019", "O-C0020", "O-C0021", "O-C0023", "O-C0034", "O-C0036"),
)
"""What ``check_all`` shows."""


def check_all(ours: Client, theirs: Client, messages: Mapping[str, bytes]) -> None:
    """Ours answers as RFC 1939 says, and as theirs does but for what is named."""
    differing = set()
    uidl, listing = ours.ask("UIDL"), ours.ask("LIST")
    assert uidl == theirs.ask("UIDL")
    their_listing = theirs.ask("LIST")
    sent = sent_by_dovecot = 0
    for number, (name, content) in enumerate(messages.items(), 1):
        own, other = replies(ours, number), replies(theirs, number)
        differing |= {(name, command) for command in COMMANDS if own[command] != other[command]}
        # Ours is right by the RFC, whether or not Dovecot agrees.
        message = unstuffed(own["RETR"])
        assert message == as_sent(content), name
        assert own["LIST"] == b"+OK %d %d\r\n" % (number, len(message)), name
        # One message and all are spoken of alike.
        assert own["LIST"] == b"+OK " + line_of(listing, number) + b"\r\n"
        assert own["UIDL"] == b"+OK " + line_of(uidl, number) + b"\r\n"
        sent += len(message)
        sent_by_dovecot += int(line_of(their_listing, number).split()[1])
    assert ours.ask("STAT") == b"+OK %d %d\r\n" % (len(messages), sent)
    assert theirs.ask("STAT") == b"+OK %d %d\r\n" % (len(messages), sent_by_dovecot)
    assert listing.count(b"\r\n") == their_listing.count(b"\r\n") == len(messages) + 2
    assert differing == named(messages)
    for difference in DIFFERENCES:
        assert any(map(difference.where, messages.values())), f"no message has {difference}"


@SHOWN
def test_the_gateway_answers_as_dovecot_does_but_for_what_is_named(directory: Path) -> None:
    messages = dict(corpus()) | ODD
    with ExitStack() as stack:
        check_all(*Pair(directory, messages.values()).run(stack), messages)


@SHOWN
@pytest.mark.xdist_group("cluster")
def test_so_does_a_gateway_of_a_cluster(engines: Engines, directory: Path) -> None:
    engines.clear()
    messages = dict(corpus()) | ODD
    pair = Pair(directory, messages.values())
    (directory / "cluster").mkdir()
    pair.gateway = ClusterGateway(engines, engines.make_bucket(), directory / "cluster")
    pair.gateway.mail.put(USER, messages.values())
    with ExitStack() as stack:
        check_all(*pair.run(stack), messages)


@pytest.mark.conformance("P-5")
def test_nuls_are_replaced_as_dovecot_does_for_outlook(directory: Path) -> None:
    contents = [b"Subject: x\0\n\n\0bo\0\0dy\0\n", b"Subject: y\r\n\r\n" + b"\0\r\n" * 100_000]
    with ExitStack() as stack:
        ours, theirs = Pair(directory, contents, no_nuls=True).run(stack)
        for number, content in enumerate(contents, 1):
            own = replies(ours, number)
            assert own == replies(theirs, number)
            assert unstuffed(own["RETR"]) == as_sent(content.replace(b"\0", b"\x80"))


@pytest.mark.conformance("X-C0009", "P-17")
def test_ids_and_order_that_a_uidlist_carries_are_shown_as_dovecot_shows_them(
    directory: Path,
) -> None:
    contents = [b"Subject: %d\n\nbody\n" % number for number in range(6)]
    pair = Pair(directory, contents)
    names = sorted(file.name for file in (pair.theirs / "new").iterdir())
    fields = ["", " POld-Id.1", " O2 P+AAA!#~", " O1", " Pl_o_n_g" + "x" * 60, ""]
    entries = [
        f"{10 * number}{field} :{name}\n"
        for number, (field, name) in enumerate(zip(fields, names, strict=True), 1)
    ]
    uidlist = pair.theirs / "dovecot-uidlist"
    uidlist.write_text(f"3 V1700000000 N70 G{'0a' * 16}\n{''.join(entries)}")
    give_to_dovecot(pair.theirs)
    with ExitStack() as stack:
        ours, theirs = pair.run(stack)
        uidl = ours.ask("UIDL")
        assert uidl == theirs.ask("UIDL")
        assert [line.split()[1] for line in uidl.split(b"\r\n")[1:-2]] == [
            *(b"40", b"+AAA!#~", b"10", b"Old-Id.1", b"l_o_n_g" + b"x" * 60, b"60")
        ]
        for number in range(1, 7):
            assert replies(ours, number) == replies(theirs, number)
