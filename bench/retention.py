"""``python -m bench.retention``: retention in very many mailboxes, and who waits for it."""

from __future__ import annotations

import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bench.program import main
from bench.setup import processes
from bench.setup.crowd import crowd, grow_old, maildir, settle_in
from bench.setup.maildirs import Drop, account_lines
from bench.setup.servers import Gateway, changed, made, running
from bench.work.load import LoadFailed
from bench.work.visitors import Times, visit
from bench.work.work import percentile
from gateway.config.retention import Retention

IDLE = 60.0
"""Seconds for which a server is looked at that has nothing to do."""

LIVE = 10.0
"""Seconds for which visitors come, with and without a sweep."""

VISITORS = 200

DEFAULT_RATE = Retention().rate
"""Messages a second, as ``[retention] rate`` is where nobody sets it."""

_WAIT = 1800.0
"""Seconds after which nothing is waited for any longer."""


class KeepingGateway(Gateway):
    """The gateway with the policy of RFC 1939 section 8's example."""

    rate = DEFAULT_RATE
    check_every = 3600.0

    def _settings(self) -> str:
        changes = {"/{local}/Maildir": "/{name}/Maildir"}
        return f"""{changed(super()._settings(), changes)}
[retention]
enabled = true
policy = "unread 60d, read 7d"
check_every = {self.check_every}
rate = {self.rate}
max_removal_share = 1.0
"""

    def looked(self, since: float) -> int:
        """At how many mailboxes retention has looked since then, in Unix seconds."""
        return self._ask("SELECT count(*) FROM retention WHERE looked >= ?", since)

    def messages(self) -> int:
        """How many there are in all mailboxes, as far as retention knows."""
        return self._ask("SELECT total(messages) FROM retention")

    def removed(self) -> int:
        """How many are gone."""
        return self._ask("SELECT total(messages) FROM removals")

    def _ask(self, question: str, *values: object) -> int:
        ledger = f"file:{self.state}/ledger.sqlite3?mode=ro"
        try:
            with closing(sqlite3.connect(ledger, uri=True)) as database:
                return int(database.execute(question, values).fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # It is just being made.

    def make_due(self, drops: Sequence[Drop]) -> None:
        """Have the mailboxes be due, as if their time had come while no server ran."""
        with closing(sqlite3.connect(f"{self.state}/ledger.sqlite3")) as database, database:
            database.executemany(
                "UPDATE retention SET due = looked - 3600 WHERE mailbox = ?",
                [(drop.login,) for drop in drops],
            )


class Span(NamedTuple):
    """What was done, and what it took."""

    done: int
    seconds: float
    cpu: float


def _until(server: Gateway, done: Callable[[], int], total: int) -> Span:
    """From when something has been done until all has."""
    begun = _reached(server, done, 1)
    end = _reached(server, done, total)
    return Span(*(last - first for first, last in zip(begun, end, strict=True)))


def _reached(server: Gateway, done: Callable[[], int], least: int) -> Span:
    limit = time.monotonic() + _WAIT
    while (now := done()) < least:
        if time.monotonic() > limit:
            raise LoadFailed(f"{now} of {least} done after {_WAIT:.0f} s")
        time.sleep(0.1)
    return Span(now, time.monotonic(), processes.cpu(server.pid))


def _measure(directory: Path, rounds: int, mailboxes: int, messages: int) -> dict[str, str]:
    servers = made(directory, {"all": KeepingGateway, "few": KeepingGateway})
    server, few = servers["all"], servers["few"]
    drops = crowd(mailboxes, messages)
    for one in servers.values():
        one.accounts.write_text(account_lines(drops))
    settle_in(server.mail, drops)
    for drop in drops[: mailboxes // 10]:
        home = maildir(few.mail, drop).parent
        home.parent.mkdir(exist_ok=True)
        home.symlink_to(maildir(server.mail, drop).parent)
    return {
        **_surveyed(server, few, drops),
        **_rounds(server),
        **_swept(server, drops),
        **_visited(server, drops, rounds),
    }


def _surveyed(server: KeepingGateway, few: KeepingGateway, drops: Sequence[Drop]) -> dict[str, str]:
    """The first look at all; what the knowledge of it takes."""
    with running(server):
        span = _until(server, lambda: server.looked(0), len(drops))
        idle = processes.settle(server.pid, 5)
        memory = processes.memory(server.pid)
        time.sleep(IDLE)
        idle = processes.settle(server.pid) - idle
    count = len(drops) // 10
    with running(few):
        _reached(few, lambda: few.looked(0), count)
        processes.settle(few.pid, 5)
        less = processes.memory(few.pid)
    there = server.messages()
    each = there / len(drops)
    more = len(drops) - count
    return {
        f"first survey of {there:,} messages in {len(drops):,} mailboxes": (
            f"{span.done * each / span.seconds:,.0f} messages a second, {span.seconds:.0f} s"
        ),
        "  CPU of a message, of a mailbox": (
            f"{span.cpu / span.done / each * 1e6:.1f} us, {span.cpu / span.done * 1e3:.2f} ms"
        ),
        f"memory with {count:,} and {len(drops):,} mailboxes with nothing due": (
            f"{less / 2**20:.1f} MB, {memory / 2**20:.1f} MB"
        ),
        "  a mailbox": f"{(memory - less) / more / 1024:.2f} KB",
        "CPU in a minute in which nothing is due": f"{idle * 60 / IDLE * 1000:.1f} ms",
    }


def _rounds(server: KeepingGateway) -> dict[str, str]:
    """What it costs to see that no mailbox is new and no policy is another."""
    server.check_every = 1.0
    with running(server):
        time.sleep(5)
        spent, begun = processes.cpu(server.pid), time.monotonic()
        time.sleep(IDLE)
        busy = (processes.cpu(server.pid) - spent) / (time.monotonic() - begun)
    server.check_every = KeepingGateway.check_every
    # The next round begins a second after the last has ended.
    cost = busy / (1 - busy)
    return {"CPU of a round in which all is as it was": f"{cost * 1000:.0f} ms"}


def _swept(server: KeepingGateway, drops: Sequence[Drop]) -> dict[str, str]:
    """A tenth as much again, as fast as it goes."""
    each = max(drops[0].messages // 10, 1)
    due = each * len(drops)
    there = server.messages()
    grow_old(server.mail, drops, each)
    server.make_due(drops)
    server.rate = 1e9
    with running(server):
        span = _until(server, server.removed, due)
        processes.settle(server.pid, 5)
    server.rate = DEFAULT_RATE
    if server.messages() != there:
        raise LoadFailed(f"{server.messages()} messages are left of {there}")
    return {
        f"sweep of {due:,} due messages, {each} in each mailbox": (
            f"{span.done / span.seconds:,.0f} messages a second, {span.seconds:.0f} s"
        ),
        "  CPU of a message": f"{span.cpu / span.done * 1e6:.0f} us",
    }


def _visited(server: KeepingGateway, drops: Sequence[Drop], rounds: int) -> dict[str, str]:
    """POP3 sessions without a sweep and during one with the default rate, in turns."""
    visitors = drops[:: max(len(drops) // VISITORS, 1)]
    quiet: list[Times] = []
    swept: list[Times] = []
    rates = []
    for _ in range(rounds):
        with running(server):
            processes.settle(server.pid, 10)
            quiet.append(visit(server.plain, visitors, LIVE))
        before = server.removed()
        added = _make_work(server, drops)
        with running(server):
            first = _reached(server, server.removed, before + 1)
            swept.append(visit(server.plain, visitors, LIVE))
            last = _reached(server, server.removed, 0)
        rates.append((last.done - first.done) / (last.seconds - first.seconds))
        _finish(server, before + added)
    found = {
        f"sweep at the default rate of {DEFAULT_RATE:.0f} while sessions go on": (
            f"{statistics.median(rates):.0f} messages a second"
        )
    }
    for names in (("PASS", "LIST", "RETR", "NOOP"), ("PASS",), ("LIST",), ("RETR",), ("NOOP",)):
        without, during = (_p99(times, names) for times in (quiet, swept))
        title = ", ".join(names)
        reach = " (reach 2.0)" if len(names) > 1 else ""
        found[f"  p99 of {title} without it and during it{reach}"] = (
            f"{without * 1000:.2f} ms, {during * 1000:.2f} ms ({during / without:.2f}x)"
        )
    return found


def _make_work(server: KeepingGateway, drops: Sequence[Drop]) -> int:
    """As much as cannot be done while the visitors are there; how much that is."""
    most = int(DEFAULT_RATE * LIVE * 3)
    some = drops[: max(most // 10, 1)]
    each = -(-most // len(some))
    grow_old(server.mail, some, each)
    server.make_due(some)
    return each * len(some)


def _finish(server: KeepingGateway, removed: int) -> None:
    """Have the rest go, so that nothing is due."""
    server.rate = 1e9
    with running(server):
        _reached(server, server.removed, removed)
        processes.settle(server.pid, 5)
    server.rate = DEFAULT_RATE


def _p99(rounds: Sequence[Times], names: Sequence[str]) -> float:
    """The median over the rounds, of the replies to these commands together."""
    each = [[took for name in names for took in times[name]] for times in rounds]
    return statistics.median(percentile(took, 99) for took in each)


if __name__ == "__main__":
    amounts = {"mailboxes": 10_000, "messages": 1_000_000}
    sys.exit(main("bench.retention", __doc__, _measure, amounts))
