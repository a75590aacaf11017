"""What the rows do to a server, and the figures that come of it."""

from __future__ import annotations

import contextlib
import statistics
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice, repeat
from typing import Literal, NamedTuple, Protocol

from bench.figures.results import Figures
from bench.setup import processes
from bench.setup.maildirs import Drop
from bench.setup.servers import Server
from bench.work.load import (
    QUIT,
    Line,
    LoadFailed,
    Step,
    Talk,
    Tally,
    Tickets,
    converse,
    login,
    tls_context,
)

Mail = Mapping[str, Sequence[Drop]]

_TLS = tls_context()

Connection = Literal["plain", "rsa", "ecdsa", "resumed"]
"""Plain, or TLS with a full handshake and the key of the certificate, or resumed (RSA)."""


class Work(Protocol):
    """One kind of load."""

    def prepare(self, server: Server, mail: Mail) -> None:
        """Bring the server into the state that is to be measured; before each round."""

    def measure(self, server: Server, mail: Mail, /) -> Figures:
        """Do it once."""


@dataclass(frozen=True)
class Sessions:
    """Whole sessions: connect, log in, ``commands``, QUIT, wait for the server to close."""

    mail: str
    commands: tuple[str, ...]
    count: int
    at_once: int = 8
    over: Connection = "plain"
    cold: bool = False
    """The server was just started: it has the password and the mailbox of no user but the first.

    ``count`` is then less than the number of users, so that each logs in once.
    """

    def prepare(self, server: Server, mail: Mail) -> None:
        drops = mail[self.mail]
        if self.cold:
            server.restart()
        hold(server, [drops[0]] if self.cold else drops, self.commands, self.at_once, self.over)

    def measure(self, server: Server, mail: Mail, /) -> Figures:
        drops = list(islice(cycle(mail[self.mail]), 1, self.count + 1))
        tally, spent, tickets = hold(server, drops, self.commands, self.at_once, self.over)
        found = figures(tally, spent, self.count, tally.sessions)
        if self.over == "resumed":
            found["resumed"] = tickets.resumed / tickets.lines
            if not tickets.resumed:
                raise LoadFailed("no TLS session was resumed")
        return found


class Held(NamedTuple):
    """What sessions took: by the clock, in seconds of CPU, and which were resumed."""

    tally: Tally
    cpu: float
    tickets: Tickets


def hold(
    server: Server,
    drops: Sequence[Drop],
    commands: Sequence[str],
    at_once: int = 1,
    over: Connection = "plain",
) -> Held:
    """A whole session on each of ``drops``, one after the other, some at a time."""
    tickets = Tickets()
    steps = {drop: visit(drop, commands) for drop in set(drops)}
    if over == "resumed":  # The first one has nothing to resume.
        talk = Talk(connect(server, over, tickets), visit(drops[0], commands), ends=True)
        converse(iter([talk]), 1)
        tickets.lines = 0
    before = processes.settle(server.pid)
    talks = (Talk(connect(server, over, tickets), steps[drop], ends=True) for drop in drops)
    tally = converse(talks, at_once)
    return Held(tally, processes.settle(server.pid) - before, tickets)


@dataclass(frozen=True)
class Retrieval:
    """RETR of every message of each drop, ``passes`` times, a session for each drop."""

    mail: str
    passes: int
    over: Connection = "plain"

    def prepare(self, server: Server, mail: Mail) -> None:
        with logged_in(server, mail[self.mail], self.over) as lines:
            self._run(lines, mail[self.mail], 1)

    def measure(self, server: Server, mail: Mail, /) -> Figures:
        drops = mail[self.mail]
        with logged_in(server, drops, self.over) as lines:
            before = processes.settle(server.pid)
            tally = self._run(lines, drops, self.passes)
            spent = processes.settle(server.pid) - before
        return figures(tally, spent, len(tally.replies), tally.replies)

    def _run(self, lines: Sequence[Line], drops: Sequence[Drop], passes: int) -> Tally:
        talks = (
            Talk(line, chain.from_iterable(repeat(retrievals(drop), passes)), ends=False)
            for line, drop in zip(lines, drops, strict=True)
        )
        tally = converse(talks, len(lines))
        due = passes * sum(drop.reply_octets for drop in drops)
        if tally.octets != due:
            raise LoadFailed(f"RETR brought {tally.octets} octets, {due} were due")
        return tally


@dataclass(frozen=True)
class Idle:
    """Connections that have logged in and wait; what each adds to the server's memory."""

    mail: str
    count: int
    over: Connection = "plain"

    def prepare(self, server: Server, mail: Mail) -> None:
        server.restart()
        hold(server, mail[self.mail], ("STAT",), 4, self.over)

    def measure(self, server: Server, mail: Mail, /) -> Figures:
        processes.settle(server.pid)
        before = processes.memory(server.pid)
        drops = list(islice(cycle(mail[self.mail]), self.count))
        with logged_in(server, drops, self.over):
            processes.settle(server.pid)
            grown = processes.memory(server.pid) - before
        return {"memory_kib": grown / self.count / 1024, "units": self.count}


@dataclass(frozen=True)
class SmallReplies:
    """One session, one short command after the other."""

    mail: str
    cycles: int

    commands = (
        Step(b"NOOP\r\n"),
        Step(b"STAT\r\n"),
        Step(b"LIST 1\r\n"),
        Step(b"UIDL 1\r\n"),
        Step(b"TOP 1 0\r\n", lines=True),
        Step(b"RETR 1\r\n", lines=True),
    )

    def prepare(self, server: Server, mail: Mail) -> None:
        self._run(server, mail, 10)

    def measure(self, server: Server, mail: Mail, /) -> Figures:
        tally, spent = self._run(server, mail, self.cycles)
        noops = tally.replies[:: len(self.commands)]
        return {
            **figures(tally, spent, len(tally.replies), tally.replies),
            "noop_p50_ms": percentile(noops, 50) * 1000,
            "noop_p99_ms": percentile(noops, 99) * 1000,
        }

    def _run(self, server: Server, mail: Mail, cycles: int) -> tuple[Tally, float]:
        with logged_in(server, mail[self.mail][:1], "plain") as lines:
            before = processes.settle(server.pid)
            steps = chain.from_iterable(repeat(self.commands, cycles))
            tally = converse(iter([Talk(lines[0], steps, ends=False)]), 1)
            return tally, processes.settle(server.pid) - before


def figures(tally: Tally, cpu: float, units: int, times: array[float]) -> Figures:
    """CPU in microseconds per unit, units and megabytes per second, times in milliseconds."""
    return {
        "units": units,
        "cpu_us": cpu / units * 1e6,
        "rate": units / tally.seconds,
        "mb_s": tally.octets / tally.seconds / 1e6,
        "p50_ms": percentile(times, 50) * 1000,
        "p99_ms": percentile(times, 99) * 1000,
    }


def percentile(values: Sequence[float], part: int) -> float:
    """The value that ``part`` per cent of ``values`` do not exceed."""
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[part - 1]


def connect(server: Server, over: Connection, tickets: Tickets | None = None) -> Line:
    """A new connection to the server."""
    if over == "plain":
        return Line(server.plain, None)
    host = "127.0.0.2" if over == "ecdsa" else "127.0.0.1"
    return Line(server.tls, _TLS, host, tickets if over == "resumed" else None)


def visit(drop: Drop, commands: Sequence[str]) -> list[Step]:
    """A whole session on ``drop``; STAT and LIST must tell the right number and octets."""
    steps = login(drop.login, drop.password)
    for command in commands:
        expect = b"+OK %d %d" % (drop.messages, drop.octets) if command == "STAT" else b"+OK"
        steps.append(Step(f"{command}\r\n".encode(), command != "STAT", expect))
    return [*steps, QUIT]


def retrievals(drop: Drop) -> list[Step]:
    """RETR of each message of ``drop``."""
    return [Step(b"RETR %d\r\n" % number, lines=True) for number in range(1, drop.messages + 1)]


@contextlib.contextmanager
def logged_in(server: Server, drops: Sequence[Drop], over: Connection) -> Iterator[list[Line]]:
    """A session for each of ``drops``, in that order, dropped at the end of the block."""
    lines: list[Line] = []

    def talks() -> Iterator[Talk]:
        for drop in drops:
            lines.append(connect(server, over))
            yield Talk(lines[-1], login(drop.login, drop.password), ends=False)

    try:
        converse(talks(), at_once=8)
        yield lines
    finally:
        for line in lines:
            line.socket.close()
