"""Clients that send one command without end, and what others wait meanwhile."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.figures.results import Figures
from bench.setup.maildirs import Drop
from bench.setup.servers import Server
from bench.work.load import LoadFailed, Step, login
from bench.work.visitors import visit
from bench.work.work import Mail, hold, percentile

CLIENTS = 10


@dataclass(frozen=True)
class Flooded:
    """Sessions of other users while some clients send ``command`` without waiting for replies."""

    mail: str
    command: str
    logged_in: bool
    seconds: float

    def prepare(self, server: Server, mail: Mail) -> None:
        hold(server, mail[self.mail], ("STAT",), 8)

    def measure(self, server: Server, mail: Mail, /) -> Figures:
        first, *others = mail[self.mail]
        steps = login(first.login, first.password) if self.logged_in else [Step(b"")]
        with flood(server.plain, steps, f"{self.command}\r\n".encode()):
            return self._visit(server, others)

    def _visit(self, server: Server, others: Sequence[Drop]) -> Figures:
        times = visit(server.plain, others[:20], self.seconds)
        replies = [took for name in times for took in times[name]]
        sessions = [sum(took) for took in zip(*times.values(), strict=True)]
        if not sessions:
            raise LoadFailed("nobody was served")
        return {
            "rate": len(sessions) / self.seconds,
            "p50_ms": percentile(sessions, 50) * 1000,
            "p99_ms": percentile(sessions, 99) * 1000,
            "reply_p99_ms": percentile(replies, 99) * 1000,
        }


@contextlib.contextmanager
def flood(port: int, steps: Sequence[Step], command: bytes) -> Iterator[None]:
    """Have ``CLIENTS`` connections go through ``steps``, then send ``command`` without end."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_flood, args=(theirs, port, steps, command))
    process.start()
    theirs.close()
    try:
        if not pipe.poll(60) or pipe.recv() != "flooding":
            raise LoadFailed("the floods did not begin")
        yield
        if not process.is_alive():
            raise LoadFailed("the floods ended early")
    finally:
        pipe.close()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()


def _flood(
    pipe: multiprocessing.connection.Connection, port: int, steps: Sequence[Step], command: bytes
) -> None:
    lines = {}
    for _ in range(CLIENTS):
        line = socket.create_connection(("127.0.0.1", port), timeout=20)
        for step in steps:
            line.sendall(step.command)
            if not line.recv(512).startswith(b"+OK"):
                raise LoadFailed(f"{step.command!r} was refused")
        line.setblocking(False)
        lines[line.fileno()] = line
    commands = memoryview(command * (200_000 // len(command)))
    sent = dict.fromkeys(lines, 0)
    poll = select.epoll()
    for number in lines:
        poll.register(number, select.EPOLLIN | select.EPOLLOUT)
    pipe.send("flooding")
    while not pipe.poll():
        for number, events in poll.poll(0.05):
            with contextlib.suppress(BlockingIOError):
                if events & select.EPOLLIN:
                    lines[number].recv(1 << 20)
            with contextlib.suppress(BlockingIOError):
                if events & select.EPOLLOUT:
                    sent[number] += lines[number].send(commands[sent[number] % len(command) :])
        time.sleep(0)
