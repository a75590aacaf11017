"""Mail that comes in by LMTP."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from bench.figures.results import Figures
from bench.setup import processes
from bench.setup.maildirs import CRLF, DOMAIN, attachments, letters
from bench.setup.servers import Server
from bench.work.load import LoadFailed, Tally
from bench.work.work import Mail, figures

SIZE = 10_000


class Sender:
    """One connection: MAIL, RCPT and DATA in one go as Postfix does, then the content."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._content = b""
        self._due = b""
        self._got = b""
        self.sent = 0.0
        for command in (b"", b"LHLO client.example\r\n"):
            self.socket.sendall(command)
            said = self.socket.recv(4096)
            while said[-2:] != b"\r\n" or said[said.rfind(b"\n", 0, -1) + 4 :][:1] != b" ":
                if not (more := self.socket.recv(4096)):
                    raise LoadFailed(f"closed after {said!r}")
                said += more
        self._tells_size = b"SIZE" in said

    def begin(self, address: str, content: bytes) -> None:
        """Send the envelope of the next message."""
        self.sent = time.perf_counter()
        self._content, self._due, self._got = content, b"223", b""
        size = f" SIZE={len(content)}" if self._tells_size else ""
        envelope = f"MAIL FROM:<sender@{DOMAIN}>{size}\r\nRCPT TO:<{address}>\r\nDATA\r\n"
        self.socket.sendall(envelope.encode())

    def advance(self) -> bool:
        """Take what has come; True when the message is delivered."""
        data = self.socket.recv(4096)
        self._got += data
        lines = self._got.split(b"\r\n")[:-1]
        said = b"".join(line[:1] for line in lines)
        if not data or not self._due.startswith(said):
            raise LoadFailed(f"not delivered: {self._got[-200:]!r}")
        if said != self._due:
            return False
        if said == b"2":
            return True
        self._due, self._got = b"2", b""
        self.socket.sendall(self._content)
        return False

    def deliver(self, address: str, content: bytes) -> None:
        """A whole message, waited for."""
        self.begin(address, content)
        while not self.advance():
            pass


@contextmanager
def connected(port: int, count: int) -> Iterator[list[Sender]]:
    """So many connections."""
    with ExitStack() as stack:
        senders = [Sender(port) for _ in range(count)]
        for sender in senders:
            stack.callback(sender.socket.close)
        yield senders


def deliver(
    senders: Sequence[Sender], mail: Iterator[tuple[str, bytes]], limit: float = 120.0
) -> Tally:
    """Deliver all of ``mail``, each connection a message after the other."""
    tally = Tally()
    poll = select.poll()
    busy: dict[int, Sender] = {}
    begun = time.perf_counter()
    for sender in senders:
        poll.register(sender.socket, select.POLLIN)
        busy[sender.socket.fileno()] = sender
        sender.begin(*next(mail))
    while busy:
        for number, _ in poll.poll(1000):
            sender = busy[number]
            if sender.advance():
                tally.replies.append(time.perf_counter() - sender.sent)
                if (message := next(mail, None)) is not None:
                    sender.begin(*message)
                else:
                    poll.unregister(number)
                    del busy[number]
        if time.perf_counter() - begun > limit:
            raise LoadFailed(f"not done after {limit:.0f} s")
    tally.seconds = time.perf_counter() - begun
    return tally


def wire(message: bytes) -> bytes:
    """What follows DATA."""
    _, _, message = message.partition(b"\r\n")  # Return-Path is not there yet
    return message.replace(b"\r\n.", b"\r\n..") + b".\r\n"


@dataclass(frozen=True)
class Deliveries:
    """Messages of 10 KB, one recipient each in turns, on connections that stay open."""

    mail: str
    at_once: int
    count: int

    def prepare(self, server: Server, mail: Mail) -> None:
        with connected(server.lmtp, self.at_once) as senders:
            deliver(senders, self._messages(mail, len(mail[self.mail])))

    def measure(self, server: Server, mail: Mail, /) -> Figures:
        there = server.count(mail[self.mail])
        with connected(server.lmtp, self.at_once) as senders:
            before = processes.settle(server.pid)
            tally = deliver(senders, self._messages(mail, self.count))
            spent = processes.settle(server.pid) - before
        came = server.count(mail[self.mail]) - there
        if came != self.count:
            raise LoadFailed(f"{came} messages came, {self.count} were sent")
        return figures(tally, spent, self.count, tally.replies)

    def _messages(self, mail: Mail, count: int) -> Iterator[tuple[str, bytes]]:
        contents = [wire(letter) for letter in letters(20, SIZE, CRLF)]
        pairs = zip(cycle(mail[self.mail]), cycle(contents), strict=False)
        return ((drop.login, content) for drop, content in islice(pairs, count))


@dataclass(frozen=True)
class LargeDelivery:
    """One message; by how much the peak of memory of a server that was just started grows."""

    mail: str
    megabytes: int

    def prepare(self, server: Server, mail: Mail) -> None:
        server.restart()
        with connected(server.lmtp, 1) as (sender,):
            for _ in range(20):
                sender.deliver(mail[self.mail][0].login, wire(next(letters(1, SIZE, CRLF))))

    def measure(self, server: Server, mail: Mail, /) -> Figures:
        to = mail[self.mail][0].login
        content = wire(next(attachments(1, self.megabytes * 1_000_000, CRLF)))
        with connected(server.lmtp, 1) as (sender,):
            spent = processes.settle(server.pid)
            family = processes.tree(server.pid)
            for pid in family:
                # From here on the peak is that of now (proc(5)).
                Path(f"/proc/{pid}/clear_refs").write_text("5")
            before = {pid: processes.status(pid, "VmRSS") for pid in family}
            sender.deliver(to, content)
            peaks = {pid: processes.status(pid, "VmHWM") for pid in family}
            spent = processes.settle(server.pid) - spent
        grown = sum(peaks[pid] - before[pid] for pid in family)
        return {"memory_kib": grown, "cpu_us": spent * 1e6, "units": 1}
