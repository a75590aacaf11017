"""The load generator of ``python -m bench``: what it counts is what the server did."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import bench.work
from gateway.directory import passwd_entries
from servers import Gateway, fill, need

pytestmark = pytest.mark.interop

USERS = [f"user{number:04d}@bench.example" for number in range(3)]
MESSAGE = b"Subject: 1\r\n\r\n" + b"text\r\n" * 5000


@pytest.fixture
def saturate(tmp_path: Path) -> Callable[..., tuple[int, int]]:
    """Runs it; the numbers of sessions or messages, and of octets."""
    need("gcc", "/usr/include/stdio.h")
    program = tmp_path / "saturate"
    source = Path(bench.work.__file__).with_name("saturate.c")
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)

    def run(*arguments: object) -> tuple[int, int]:
        command = [str(program), *map(str, arguments)]
        said = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout.split()
        return int(said[0]), int(said[1])

    return run


def test_it_counts_the_sessions_and_the_octets_that_the_server_logs(
    tmp_path: Path, saturate: Callable[..., tuple[int, int]]
) -> None:
    server = Gateway(tmp_path)
    for user in USERS:
        passwd_entries.put(str(server.accounts), user, b"pw-" + user[:8].encode(), "SSHA256")
        fill(tmp_path / "mail" / user, [MESSAGE] * 2)
    server.run()
    logins, _ = saturate("login", server.plain, 4, 0.5, len(USERS))
    each = len(MESSAGE) + len(b".\r\n")
    messages, octets = saturate("retr", server.plain, 4, 0.5, 2, "user0001", each)
    server.stop()
    assert logins >= 4
    assert len(re.findall("session_end: end=quit ", server.log)) == logins
    assert octets == messages * each
    # The last message of a connection is read whole, and the connection is dropped then.
    assert sum(map(int, re.findall(r" retr=(\d+)/", server.log))) == messages >= 4
    assert "Traceback" not in server.log
