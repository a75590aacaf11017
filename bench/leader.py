"""``python -m bench.leader``: what the processes of a server hold of retention's mailboxes."""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from bench.program import main
from bench.setup import processes
from gateway.jobs.expunger import Budget, Expunger
from gateway.jobs.rate_limit import RateLimit
from gateway.jobs.retention import Mailboxes, RetentionJob
from gateway.mailboxes.owners import AllMailboxes
from gateway.model import Account
from gateway.retention.policies import Policies
from gateway.retention.removal_guard import Guard
from gateway.state.ledger import Ledger, LedgerState
from gateway.state.ledger_file import NAME
from gateway.state.memory import MemoryLeader

POLICY = "unread 60d, read 7d, hide 14d"
NEVER = 4e9
"""When something is due in these mailboxes, in Unix seconds."""

BEAT = 0.005
reactor: Any = _reactor


class Store:
    """A directory and a store with so many mailboxes."""

    lists_mailboxes = True
    is_asked = False
    """Whether a round has begun to ask for their owners."""

    def __init__(self, mailboxes: int) -> None:
        self._mailboxes = mailboxes

    def owner(self, mailbox: str) -> Deferred[Account | None]:
        """As a directory does."""
        self.is_asked = True
        return succeed(Account(name=mailbox, mailbox=mailbox))

    def names(self) -> Deferred[list[str]]:
        """As a store does."""
        return deferToThread(lambda: [_name(number) for number in range(self._mailboxes)])


class Stalls:
    """Finds out for how long the reactor's thread stood still."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._latest = time.monotonic()
        self._beat()

    def _beat(self) -> None:
        now = time.monotonic()
        self.longest = max(self.longest, now - self._latest - BEAT)
        self._latest = now
        reactor.callLater(BEAT, self._beat)


def _fill(directory: str, mailboxes: int) -> None:
    Ledger(directory).close()
    with closing(sqlite3.connect(f"{directory}/{NAME}")) as database, database:
        database.executemany(
            "INSERT INTO retention VALUES (?, ?, ?, 1.7e9, 100, NULL, 7)",
            ((_name(n), POLICY, NEVER + n) for n in range(mailboxes)),
        )


def _name(number: int) -> str:
    return f"user{number:07}@example.org"


def _megabytes(what: str = "VmRSS") -> float:
    return processes.status(os.getpid(), what) / 1024


async def _lead(directory: str, mailboxes: int) -> None:
    """Follow for a while, then lead and begin a round, and print what each cost."""
    state, leaders = LedgerState(directory, deferToThread), list[object](["another process"])
    limit = RateLimit(reactor, rate=1e6, load=lambda: 0, most=1)
    budget, now = Budget(Guard(), state, time.time), time.time
    store: Any = Store(mailboxes)
    expunger = Expunger(
        store,
        limit,
        budget,
        Guard(),
        batch=100,
        run=deferToThread,
        now=now,
        seconds=reactor.seconds,
    )
    job = RetentionJob(
        Mailboxes(AllMailboxes(store, store, deferToThread, hosts=()), Policies(POLICY)),
        expunger,
        budget,
        limit,
        state,
        MemoryLeader(leaders),
        deferToThread,
        clock=reactor,
        now=now,
        every=3600.0,
        listen=0.5,
    )
    before, stalls = _megabytes(), Stalls()
    job.start()
    await deferLater(reactor, 2)
    follows = _megabytes() - before
    leaders.clear()
    began = time.monotonic()
    while not job.is_leading:
        await deferLater(reactor, 0.05)
    leads, seconds = _megabytes() - before, time.monotonic() - began
    while not store.is_asked:
        await deferLater(reactor, 0.05)
    print(follows, leads, _megabytes("VmHWM") - before, seconds, stalls.longest)
    await job.stop()
    await state.close()


def _measure(directory: Path, rounds: int, mailboxes: int) -> Mapping[str, str]:
    _fill(str(directory), mailboxes)
    found = [_once(directory, mailboxes) for _ in range(rounds)]
    follows, leads, most, seconds, stall = map(statistics.median, zip(*found, strict=True))
    return {
        f"memory of a process that follows, {mailboxes} mailboxes": f"{follows:.0f} MB",
        "memory of the leader": f"{leads:.0f} MB",
        "at most, as a round begins": f"{most:.0f} MB",
        "until it leads": f"{seconds:.1f} s",
        "its reactor stood still for, at most": f"{stall * 1000:.0f} ms",
    }


def _once(directory: Path, mailboxes: int) -> Sequence[float]:
    """In a process of its own, which has held nothing before."""
    command = [sys.executable, "-m", "bench.leader", "--lead", str(directory), str(mailboxes)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [float(one) for one in done.stdout.split()]


def _run(directory: str, mailboxes: int) -> None:
    def begin() -> None:
        leading = Deferred.fromCoroutine(_lead(directory, mailboxes))
        leading.addErrback(lambda failure: print(failure.getTraceback(), file=sys.stderr))
        leading.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--lead"]:
        _run(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main("bench.leader", __doc__, _measure, {"mailboxes": 100_000}))
