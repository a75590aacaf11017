"""Each row of ``python -m bench``, with very little of everything, against the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.figures import calls, passes
from bench.rows import Others, Sizes, rows
from bench.setup import mail
from bench.setup.maildirs import Copies, Drop, account_lines
from bench.setup.servers import Gateway, made, running
from bench.work import memory
from programs import need

pytestmark = pytest.mark.interop

TINY = Sizes(
    rounds=1,
    users=4,
    sessions=8,
    tls_sessions=6,
    long=50,
    middle=20,
    short=10,
    few=1,
    polls=2,
    many=6,
    fetches=4,
    readers=2,
    letters=20,
    letter_passes=1,
    large=100_000,
    large_passes=1,
    idle=5,
    cycles=2,
    flooded=0.5,
    deliveries=12,
    soak=80,
)
ROWS = rows(TINY)

Server = tuple[Gateway, dict[str, list[Drop]]]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the mail of all rows."""
    server = made(tmp_path_factory.mktemp("bench"), {"gateway": Gateway}, owner=None)["gateway"]
    drops = mail.make(
        Copies([server.mail], None), TINY, {name for row in ROWS for name in row.mail}
    )
    server.accounts.write_text(account_lines([drop for some in drops.values() for drop in some]))
    with running(server):
        yield server, drops


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_row_brings_each_figure_that_has_to_reach_something(
    gateway: Server, row: passes.Row
) -> None:
    server, drops = gateway
    # Once is enough of what takes seconds: strace, and another pass for others.
    others = Others.NO if row.others is Others.NO else Others.ALONG
    result = passes.rounds(replace(row, traced=False, others=others), [server], drops, 1, print)
    assert result.troubles == {}
    (found,) = result.rounds["gateway"]
    assert {goal.figure for goal in row.goals} <= set(found)
    assert ("hold_up_p99_ms" in found) == (row.others is not Others.NO)
    assert found["foreign"] >= 0
    assert found.get("resumed", 1) > 0
    log = (server.directory / "gateway.log").read_text()
    assert "Traceback" not in log


def test_the_system_calls_of_a_server_are_counted(gateway: Server) -> None:
    need("strace")
    server, drops = gateway
    (login,) = (row for row in ROWS if row.name == "login")
    login.work.prepare(server, drops)
    with calls.counted(server) as made:
        login.work.measure(server, drops)
    assert made["accept4"] >= TINY.sessions


def test_memory_is_told_of_sessions_messages_and_mailboxes(tmp_path: Path) -> None:
    lines = memory.measure(tmp_path, TINY, print, owner=None)
    assert [line[0] for line in lines[: len(memory.HELD)]] == [held.title for held in memory.HELD]
    for _, octets, _ in lines[: len(memory.HELD)]:
        assert int(octets.split()[0].replace(",", "")) > 0
    assert lines[-2][0] == "slope of resident memory"
