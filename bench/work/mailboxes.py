"""Sessions that find a mailbox changed, never opened, or one of very many."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bench.figures.results import Figures
from bench.setup import processes
from bench.setup.maildirs import Drop, deliver, letters
from bench.setup.servers import Server
from bench.work.load import QUIT, Step, Talk, Tally, converse, login
from bench.work.work import Mail, connect, figures, hold

PAUSE = 1.1
"""Seconds after a change: both servers distrust a directory that changed within the last second."""


@dataclass(frozen=True)
class FirstOpen:
    """The first session ever of a long mailbox."""

    mail: str
    others: str
    commands: tuple[str, ...]

    def prepare(self, server: Server, mail: Mail) -> None:
        server.forget(mail[self.mail])
        hold(server, mail[self.others], ("STAT",), 8)

    def measure(self, server: Server, mail: Mail, /) -> Figures:
        tally, spent, _ = hold(server, mail[self.mail], self.commands)
        return figures(tally, spent, len(tally.sessions), tally.sessions)


@dataclass(frozen=True)
class InTurn:
    """Very many mailboxes, each once: by a server that has never seen them, and again."""

    mail: str
    at_once: int = 8

    def prepare(self, server: Server, mail: Mail) -> None:
        server.forget(mail[self.mail])

    def measure(self, server: Server, mail: Mail, /) -> Figures:
        first, again = (hold(server, mail[self.mail], ("STAT",), self.at_once) for _ in range(2))
        units = len(mail[self.mail])
        found = figures(first.tally, first.cpu, units, first.tally.sessions)
        return {**found, "units": 2 * units, "again_us": again.cpu / units * 1e6}


@dataclass(frozen=True)
class NewMail:
    """The first session after messages came to each mailbox, and the next one, without any."""

    mail: str
    messages: int = 1
    octets: int = 400
    retrieve: bool = False
    """Fetch what is new."""

    delete: bool = False
    """And delete it then."""

    def prepare(self, server: Server, mail: Mail) -> None:
        hold(server, mail[self.mail], ())

    def measure(self, server: Server, mail: Mail, /) -> Figures:
        new = list(letters(self.messages, self.octets))
        drops = mail[self.mail]
        counts = {drop: deliver(server.mail, drop, new) for drop in drops}
        first = self._visit(
            server, [_steps(drop, count, self._commands(count)) for drop, count in counts.items()]
        )
        gone = self.messages if self.delete else 0
        again = self._visit(
            server, [_steps(drop, count - gone, ()) for drop, count in counts.items()]
        )
        units = len(drops)
        found = figures(first[0], first[1], units, first[0].sessions)
        return {**found, "units": 2 * units, "again_us": again[1] / units * 1e6}

    def _visit(self, server: Server, sessions: Sequence[list[Step]]) -> tuple[Tally, float]:
        time.sleep(PAUSE)
        before = processes.settle(server.pid)
        talks = (Talk(connect(server, "plain"), steps, ends=True) for steps in sessions)
        tally = converse(talks, 1)
        return tally, processes.settle(server.pid) - before

    def _commands(self, count: int) -> Iterator[Step]:
        """What is done with the newest messages."""
        for number in range(count - self.messages + 1, count + 1):
            if self.retrieve:
                yield Step(b"RETR %d\r\n" % number, lines=True)
            if self.delete:
                yield Step(b"DELE %d\r\n" % number)


def _steps(drop: Drop, count: int, commands: Iterable[Step]) -> list[Step]:
    """A session in which STAT has to tell this number of messages."""
    stat = Step(b"STAT\r\n", expect=b"+OK %d " % count)
    return [*login(drop.login, drop.password), stat, *commands, QUIT]
