"""What the gateway holds in memory, and whether it grows with time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

from bench.rows import Sizes
from bench.setup import mail as mails
from bench.setup import processes
from bench.setup.maildirs import Copies, Drop, account_lines
from bench.setup.servers import OWNER, Server, made, running
from bench.work.allocated import TellingGateway
from bench.work.load import LoadFailed
from bench.work.work import Connection, Mail, hold, logged_in

SAMPLES = 20
"""Times that resident memory is looked at during the soak; the first quarter is its warm-up."""

Lines = list[list[str]]
"""What, how much, of how many."""


@dataclass(frozen=True)
class Held:
    """Something of which many are held in memory while ``keep``'s block runs."""

    title: str
    mail: str
    count: Callable[[Sizes], int]
    keep: Callable[[Server, Sequence[Drop], int], AbstractContextManager[object]]
    warm: bool = True
    """Each user has logged in before: only what is held now counts."""


def _sessions(over: Connection) -> Callable[..., AbstractContextManager[object]]:
    def keep(server: Server, drops: Sequence[Drop], count: int) -> AbstractContextManager[object]:
        return logged_in(server, list(islice(cycle(drops), count)), over)

    return keep


@contextmanager
def _opened(server: Server, drops: Sequence[Drop], _count: int) -> Iterator[None]:
    hold(server, drops, ("STAT",), 8)
    yield


HELD = (
    Held("idle session", "users", lambda sizes: sizes.idle, _sessions("plain")),
    Held("idle session, TLS 1.3", "users", lambda sizes: sizes.idle, _sessions("rsa")),
    Held("message in a cached listing", "listed", lambda sizes: sizes.middle, _opened, warm=False),
    Held(
        "mailbox of 2 messages in the cache, with its password and account",
        "many",
        lambda sizes: sizes.many,
        _opened,
        warm=False,
    ),
)


def measure(
    directory: Path, sizes: Sizes, say: Callable[[str], None], owner: int | None = OWNER
) -> Lines:
    """Lines of the table.

    Raises ``NotAvailable`` and ``LoadFailed``.
    """
    # Of what each mailbox takes, a quarter says as much.
    sizes = replace(sizes, many=max(sizes.many // 4, 1))
    servers = made(directory, {"gateway": TellingGateway}, owner)
    server = servers["gateway"]
    copies = Copies([server.mail], owner)
    mail = mails.make(copies, sizes, (*(held.mail for held in HELD), "users", "10k-lf"))
    server.accounts.write_text(account_lines([drop for drops in mail.values() for drop in drops]))
    lines = []
    for held in HELD:
        say(f"memory: {held.title}")
        first = mail["users"] if held.warm else mail["users"][:1]
        lines.append(_held(server, held, first, mail[held.mail], held.count(sizes)))
    say(f"memory: soak of {sizes.soak:,} sessions")
    return [*lines, *_soak(server, mail, sizes.soak)]


def _held(
    server: TellingGateway, held: Held, first: Sequence[Drop], drops: Sequence[Drop], count: int
) -> list[str]:
    ways: tuple[Connection, ...] = ("plain", "rsa")
    with running(server):
        for over in ways:  # What is loaded at the first session does not count.
            hold(server, first, ("STAT",), 8, over)
        processes.settle(server.pid)
        before = server.allocated()
        with held.keep(server, drops, count):
            processes.settle(server.pid)
            grown = server.allocated() - before
    return [held.title, f"{grown / count:,.0f} octets", f"{count:,}"]


def _soak(server: Server, mail: Mail, count: int) -> Lines:
    """Many sessions, each with STAT and RETR, one in ten over TLS; whether memory grows."""
    drops = list(islice(cycle([*mail["users"], *mail["10k-lf"]]), max(count // SAMPLES, 1)))
    part = len(drops) // 10
    found: list[tuple[float, float]] = []
    done = 0
    with running(server):
        while done < count:
            hold(server, drops[part:], ("STAT", "RETR 1"), 8)
            hold(server, drops[:part], ("STAT", "RETR 1"), 8, "rsa")
            done += len(drops)
            found.append((done, processes.status(server.pid, "VmRSS") * 1024))
    settled = found[len(found) // 4 :]
    if len(settled) < 2:
        raise LoadFailed(f"the soak was too short: {count} sessions")
    each = slope(settled)
    first, last = (f"{octets / 2**20:.1f}" for _, octets in (settled[0], settled[-1]))
    return [
        ["slope of resident memory", f"{each:+.1f} octets a session", f"{count:,} sessions"],
        ["  resident memory after a quarter of them, and at the end", f"{first}, {last} MiB", ""],
    ]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """By how much the second value grows with the first one, by least squares."""
    return statistics.linear_regression(*zip(*points, strict=True)).slope
