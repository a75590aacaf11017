"""What the rows do to a server, and the figures that come of it."""

from __future__ import annotations

import contextlib
import statistics
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice, repeat
from typing import Protocol

from bench import processes
from bench.load import (
    QUIT,
    Line,
    LoadFailed,
    Probe,
    Step,
    Talk,
    Tally,
    converse,
    login,
    tls_context,
)
from bench.maildirs import Drop
from bench.servers import Server

Figures = Mapping[str, float]
Mail = Mapping[str, Sequence[Drop]]

_TLS = tls_context()


class Work(Protocol):
    """One kind of load."""

    @property
    def fresh(self) -> bool:
        """True: the server is started anew before each round."""

    def warm(self, server: Server, mail: Mail) -> None:
        """Bring the server into the state that is to be measured."""

    def measure(self, server: Server, mail: Mail, turn: int, /) -> Figures:
        """Do it once; ``turn`` counts the rounds from 0."""


@dataclass(frozen=True)
class Sessions:
    """Whole sessions: connect, log in, ``commands``, QUIT, wait for the server to close."""

    mail: str
    commands: tuple[str, ...]
    count: int
    at_once: int = 8
    tls: bool = False
    fresh = False

    def warm(self, server: Server, mail: Mail) -> None:
        drops = mail[self.mail]
        self._run(server, [*drops, drops[0]])

    def measure(self, server: Server, mail: Mail, _turn: int, /) -> Figures:
        before = processes.settle(server.pid)
        tally = self._run(server, list(islice(cycle(mail[self.mail]), self.count)))
        spent = processes.settle(server.pid) - before
        return figures(tally, spent, self.count, tally.sessions)

    def _run(self, server: Server, drops: Sequence[Drop]) -> Tally:
        steps = {drop: visit(drop, self.commands) for drop in set(drops)}
        talks = (Talk(connect(server, self.tls), steps[drop], ends=True) for drop in drops)
        return converse(talks, self.at_once)


@dataclass(frozen=True)
class Retrieval:
    """RETR of every message of each drop, ``passes`` times, a session for each drop."""

    mail: str
    passes: int
    tls: bool = False
    fresh = False

    def warm(self, server: Server, mail: Mail) -> None:
        with logged_in(server, mail[self.mail], self.tls) as lines:
            self._run(lines, mail[self.mail], 1)

    def measure(self, server: Server, mail: Mail, _turn: int, /) -> Figures:
        drops = mail[self.mail]
        with logged_in(server, drops, self.tls) as lines:
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
class FirstOpen:
    """The first session ever of a long maildrop, another user's session probed meanwhile."""

    mail: str
    others: str
    commands: tuple[str, ...]
    fresh = False

    def warm(self, server: Server, mail: Mail) -> None:
        Sessions(self.others, ("STAT",), 0).warm(server, mail)

    def measure(self, server: Server, mail: Mail, turn: int, /) -> Figures:
        drop = mail[self.mail][turn]
        other = mail[self.others][0]
        before = processes.settle(server.pid)
        tally = self._open(server, drop)[0]
        spent = processes.settle(server.pid) - before
        found = dict(figures(tally, spent, 1, tally.sessions))
        # Probing costs the server something too, so the hold-up has an opening of its own.
        probe = Probe(server.plain, login(other.login, other.password))
        try:
            time.sleep(0.2)
            self._open(server, mail[self.mail][-1 - turn])
            time.sleep(0.2)
        finally:
            times = probe.stop()
        if not times:
            raise LoadFailed("the probe's session ended early")
        return {**found, "hold_up_ms": max(times) * 1000}

    def _open(self, server: Server, drop: Drop) -> tuple[Tally, Drop]:
        talk = Talk(connect(server, False), visit(drop, self.commands), ends=True)
        return converse(iter([talk]), 1), drop


@dataclass(frozen=True)
class Idle:
    """Connections that have logged in and wait; what each adds to the server's memory."""

    mail: str
    count: int
    tls: bool = False
    fresh = True

    def warm(self, server: Server, mail: Mail) -> None:
        Sessions(self.mail, ("STAT",), 0, at_once=4, tls=self.tls).warm(server, mail)

    def measure(self, server: Server, mail: Mail, _turn: int, /) -> Figures:
        processes.settle(server.pid)
        before = processes.memory(server.pid)
        drops = list(islice(cycle(mail[self.mail]), self.count))
        with logged_in(server, drops, self.tls):
            processes.settle(server.pid)
            grown = processes.memory(server.pid) - before
        return {"memory_kib": grown / self.count / 1024}


@dataclass(frozen=True)
class SmallReplies:
    """One session, one short command after the other."""

    mail: str
    cycles: int
    fresh = False

    commands = (
        Step(b"NOOP\r\n"),
        Step(b"STAT\r\n"),
        Step(b"LIST 1\r\n"),
        Step(b"UIDL 1\r\n"),
        Step(b"TOP 1 0\r\n", lines=True),
        Step(b"RETR 1\r\n", lines=True),
    )

    def warm(self, server: Server, mail: Mail) -> None:
        self._run(server, mail, 10)

    def measure(self, server: Server, mail: Mail, _turn: int, /) -> Figures:
        tally, spent = self._run(server, mail, self.cycles)
        noops = tally.replies[:: len(self.commands)]
        return {
            **figures(tally, spent, len(tally.replies), tally.replies),
            "noop_p50_ms": percentile(noops, 50) * 1000,
            "noop_p99_ms": percentile(noops, 99) * 1000,
        }

    def _run(self, server: Server, mail: Mail, cycles: int) -> tuple[Tally, float]:
        with logged_in(server, mail[self.mail][:1], tls=False) as lines:
            before = processes.settle(server.pid)
            steps = chain.from_iterable(repeat(self.commands, cycles))
            tally = converse(iter([Talk(lines[0], steps, ends=False)]), 1)
            return tally, processes.settle(server.pid) - before


def figures(tally: Tally, cpu: float, units: int, times: array[float]) -> Figures:
    """CPU in microseconds per unit, units and megabytes per second, times in milliseconds."""
    return {
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


def connect(server: Server, tls: bool) -> Line:
    """A new connection to the server's plain or TLS port."""
    return Line(server.tls, _TLS) if tls else Line(server.plain, None)


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
def logged_in(server: Server, drops: Sequence[Drop], tls: bool) -> Iterator[list[Line]]:
    """A session for each of ``drops``, in that order, dropped at the end of the block."""
    lines: list[Line] = []

    def talks() -> Iterator[Talk]:
        for drop in drops:
            lines.append(connect(server, tls))
            yield Talk(lines[-1], login(drop.login, drop.password), ends=False)

    try:
        converse(talks(), at_once=8)
        yield lines
    finally:
        for line in lines:
            line.socket.close()
