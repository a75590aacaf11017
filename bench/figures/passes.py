"""How a row is measured: its CPU, what other sessions wait meanwhile, its system calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.figures import calls
from bench.figures.quiet import Meter
from bench.figures.results import Figures, Result
from bench.rows import OTHERS, Others, Row, Sizes
from bench.setup import mail
from bench.setup.maildirs import Copies, Drop, account_lines
from bench.setup.servers import OWNER, NotAvailable, Server, made, running
from bench.work.load import LoadFailed, Probe, login
from bench.work.work import Mail, percentile

PACE = {Others.APART: 0.003, Others.ALONG: 0.01}
"""Seconds between two commands of the other session."""


@contextmanager
def serving(
    directory: Path, kinds: Sequence[type[Server]], sizes: Sizes, chosen: Sequence[Row]
) -> Iterator[tuple[list[Server], Mail]]:
    """Servers that run, each with its copy of all mail of some rows."""
    servers = list(made(directory, {kind.name.replace(" ", "-"): kind for kind in kinds}).values())
    copies = Copies([server.mail for server in servers], OWNER)
    drops = mail.make(copies, sizes, (name for row in chosen for name in row.mail))
    accounts = account_lines([drop for some in drops.values() for drop in some])
    with ExitStack() as stack:
        for server in servers:
            server.accounts.write_text(accounts)
            stack.enter_context(running(server))
        yield servers, drops


def rounds(
    row: Row,
    servers: Sequence[Server],
    drops: Mail,
    count: int,
    say: Callable[[str], None],
) -> Result:
    """The rounds of one row, the servers taking turns; a failing one is left out of it."""
    result = Result(row.name, row.title, row.unit, row.goals)
    for turn in range(min(count, row.rounds)):
        for server in servers:
            if server.name in result.troubles:
                continue
            try:
                found = _round(row, server, drops, traced=row.traced and turn == 0)
            except (LoadFailed, NotAvailable, OSError) as why:
                result.troubles[server.name] = str(why)
                say(f"{row.name}: {server.name}: {why}")
            else:
                result.rounds.setdefault(server.name, []).append(found)
    return result


def _round(row: Row, server: Server, drops: Mail, *, traced: bool) -> Figures:
    if not server.alive:
        server.restart()
    row.work.prepare(server, drops)
    waits: Figures = {}
    before = server.engines_cpu()
    meter = Meter()
    if row.others is Others.ALONG:
        with _other_session(server, drops[OTHERS][0], row.others, waits):
            found = row.work.measure(server, drops)
    else:
        found = row.work.measure(server, drops)
    found = {**found, "foreign": meter.foreign()}
    for name, seconds in server.engines_cpu().items():
        found[f"{name}_us"] = (seconds - before[name]) / found["units"] * 1e6
    if row.others is Others.APART:
        row.work.prepare(server, drops)
        with _other_session(server, drops[OTHERS][0], row.others, waits):
            row.work.measure(server, drops)
    if traced:
        row.work.prepare(server, drops)
        with calls.counted(server) as made:
            units = row.work.measure(server, drops)["units"]
        found.update(calls.figures(made, units))
    return {**found, **waits}


@contextmanager
def _other_session(server: Server, drop: Drop, others: Others, waits: Figures) -> Iterator[None]:
    """Another user's session, which sends NOOP after NOOP; what it waits is in ``waits`` then."""
    probe = Probe(server.plain, login(drop.login, drop.password), PACE[others])
    try:
        time.sleep(0.2)
        yield
        time.sleep(0.2)
    finally:
        times = probe.stop()
    if not times:
        raise LoadFailed("the other session ended early")
    waits["hold_up_p99_ms"] = percentile(times, 99) * 1000
    waits["hold_up_ms"] = max(times) * 1000
