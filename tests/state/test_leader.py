"""Who of several processes does what is to be done once.

This file run as a program is the other process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import LedgerUnusable
from gateway.state.leader import LeaderLock


def test_only_one_has_it_and_the_next_gets_what_is_given_back(tmp_path: Path) -> None:
    one, other = (LeaderLock(str(tmp_path / "lease")) for _ in range(2))
    assert (one.take(), one.take(), other.take()) == (True, True, False)
    one.give_back()
    one.give_back()
    assert (other.take(), one.take()) == (True, False)


def test_it_comes_back_from_a_process_that_is_killed(tmp_path: Path) -> None:
    path = str(tmp_path / "lease")
    command, pipe = [sys.executable, __file__, path], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        lease = LeaderLock(path)
        assert not lease.take()
        process.kill()
    assert lease.take()
    lease.give_back()


def test_a_file_that_cannot_be_made_is_said_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match=r"no/lease: No such file"):
        LeaderLock(str(tmp_path / "no" / "lease")).take()


if __name__ == "__main__":
    kept = LeaderLock(sys.argv[1])
    print(kept.take(), flush=True)
    sys.stdin.read()
