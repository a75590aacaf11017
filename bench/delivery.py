"""``python -m bench.delivery``: mail that comes in by LMTP, beside Dovecot's own."""

from __future__ import annotations

import select
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle, islice
from pathlib import Path

from bench import processes
from bench.load import LoadFailed, Tally
from bench.maildirs import DOMAIN, Drop, attachments, letters
from bench.program import main, need, users_at
from bench.servers import Dovecot, Gateway, changed, free_port, made, running
from bench.work import Figures, figures

SIZE = 10_000
AT_ONCE = (1, 8)
LARGE = (1, 100)
"""Megabytes of the messages for which memory is measured."""


class LmtpGateway(Gateway):
    """The gateway with its LMTP on a port."""

    lmtp = 0

    def _settings(self) -> str:
        return f"""{super()._settings()}
[lmtp]
endpoint = "tcp:{self.lmtp}:interface=127.0.0.1"
max_size = "200 MB"
"""


class LmtpDovecot(Dovecot):
    """Dovecot with its LMTP on a port, and with what it syncs by default."""

    lmtp = 0

    def _settings(self) -> str:
        changes = {
            "protocols = pop3": "protocols = pop3 lmtp",
            "mail_fsync = never": "mail_fsync = optimized",
        }
        return f"""{changed(super()._settings(), changes)}
service lmtp {{
  inet_listener lmtp {{
    port = {self.lmtp}
  }}
  process_min_avail = {max(AT_ONCE)}
}}
"""


Lmtp = LmtpGateway | LmtpDovecot


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


def _measure(directory: Path, rounds: int, messages: int) -> dict[str, str]:
    need("/usr/lib/dovecot/lmtp", "Dovecot's LMTP is missing: apt-get install dovecot-lmtpd")
    kinds: dict[str, type[Lmtp]] = {kind.name: kind for kind in (LmtpDovecot, LmtpGateway)}
    servers = list(made(directory, kinds).values())
    drops = users_at(servers)
    for server in servers:
        server.lmtp = free_port()
    found = _in_turns(servers, drops, rounds, messages)
    for megabytes in LARGE:
        content = wire(next(attachments(1, megabytes * 1_000_000, b"\r\n")))
        for server in servers:
            found[f"memory that a message of {megabytes} MB takes, {server.name}"] = _large(
                server, drops[0], content
            )
    return found


def _in_turns(
    servers: Sequence[Lmtp], drops: Sequence[Drop], rounds: int, messages: int
) -> dict[str, str]:
    contents = [wire(letter) for letter in letters(20, SIZE)]

    def mail(count: int) -> Iterator[tuple[str, bytes]]:
        pairs = zip(cycle(drops), cycle(contents), strict=False)
        return ((drop.login, content) for drop, content in islice(pairs, count))

    rows: dict[tuple[str, int], list[Figures]] = {}
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(running(server))
            with connected(server.lmtp, max(AT_ONCE)) as senders:
                deliver(senders, mail(2 * len(drops)))
        for _ in range(rounds):
            for at_once in AT_ONCE:
                for server in servers:
                    with connected(server.lmtp, at_once) as senders:
                        before = processes.settle(server.pid)
                        tally = deliver(senders, mail(messages))
                        spent = processes.settle(server.pid) - before
                    row = figures(tally, spent, messages, tally.replies)
                    rows.setdefault((server.name, at_once), []).append(row)
    due = len(drops) * 22 + rounds * len(AT_ONCE) * messages
    for server in servers:
        there = sum(1 for _ in server.mail.glob("*/Maildir/[nc]*/*,S=*"))
        if there != due:
            raise LoadFailed(f"{server.name} has {there} messages, {due} were due")
    medians: dict[tuple[str, int], Mapping[str, float]] = {
        which: {name: statistics.median(row[name] for row in found) for name in found[0]}
        for which, found in rows.items()
    }
    found = {}
    for at_once in AT_ONCE:
        dovecot, gateway = medians["dovecot", at_once], medians["gateway", at_once]
        found[f"{at_once} at once: CPU of a message of 10 KB, Dovecot and gateway"] = (
            f"{dovecot['cpu_us']:.0f} us, {gateway['cpu_us']:.0f} us"
        )
        found[f"{at_once} at once:   ratio (reach 0.5)"] = (
            f"{gateway['cpu_us'] / dovecot['cpu_us']:.2f}x"
        )
        found[f"{at_once} at once: messages a second"] = (
            f"{dovecot['rate']:.0f}, {gateway['rate']:.0f}"
        )
        found[f"{at_once} at once:   ratio (reach 1.0 or more)"] = (
            f"{gateway['rate'] / dovecot['rate']:.2f}x"
        )
        for part in ("p50", "p99"):
            found[f"{at_once} at once: {part} from MAIL to the last reply"] = (
                f"{dovecot[f'{part}_ms']:.1f} ms, {gateway[f'{part}_ms']:.1f} ms"
            )
    return found


def _large(server: Lmtp, drop: Drop, content: bytes) -> str:
    """By how much the peak of a server that was just started grows, and the CPU."""
    with running(server), connected(server.lmtp, 1) as (sender,):
        for _ in range(20):
            sender.deliver(drop.login, wire(next(letters(1, SIZE))))
        spent = processes.settle(server.pid)
        family = processes.tree(server.pid)
        for pid in family:
            # From here on the peak is that of now (proc(5)).
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        before = {pid: _status(pid, "VmRSS") for pid in family}
        sender.deliver(drop.login, content)
        grown = sum(_status(pid, "VmHWM") - before[pid] for pid in family)
        spent = processes.settle(server.pid) - spent
    return f"{grown / 1024:.2f} MB (CPU {spent * 1000:.0f} ms)"


def _status(pid: int, field: str) -> int:
    """Of /proc/PID/status, in KiB; 0 for a process that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    return 0


if __name__ == "__main__":
    sys.exit(main("bench.delivery", __doc__, _measure, {"messages": 1000}))
