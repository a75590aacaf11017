"""How a row is measured: its CPU, what other sessions wait meanwhile, its system calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bench import calls
from bench.load import LoadFailed, Probe, login
from bench.maildirs import Drop
from bench.quiet import Meter
from bench.results import Figures, Result
from bench.rows import OTHERS, Others, Row
from bench.servers import NotAvailable, Server
from bench.work import Mail, percentile

PACE = {Others.APART: 0.003, Others.ALONG: 0.01}
"""Seconds between two commands of the other session."""


def rounds(
    row: Row,
    servers: Sequence[Server],
    mail: Mail,
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
                found = _round(row, server, mail, traced=row.traced and turn == 0)
            except (LoadFailed, NotAvailable, OSError) as why:
                result.troubles[server.name] = str(why)
                say(f"{row.name}: {server.name}: {why}")
            else:
                result.rounds.setdefault(server.name, []).append(found)
    return result


def _round(row: Row, server: Server, mail: Mail, *, traced: bool) -> Figures:
    if not server.alive:
        server.restart()
    row.work.prepare(server, mail)
    waits: Figures = {}
    meter = Meter()
    if row.others is Others.ALONG:
        with _other_session(server, mail[OTHERS][0], row.others, waits):
            found = row.work.measure(server, mail)
    else:
        found = row.work.measure(server, mail)
    found = {**found, "foreign": meter.foreign()}
    if row.others is Others.APART:
        row.work.prepare(server, mail)
        with _other_session(server, mail[OTHERS][0], row.others, waits):
            row.work.measure(server, mail)
    if traced:
        row.work.prepare(server, mail)
        with calls.counted(server) as made:
            units = row.work.measure(server, mail)["units"]
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
