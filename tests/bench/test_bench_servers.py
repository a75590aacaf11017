"""Which user serves the mail that is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench.setup.servers import NotAvailable, Server, made

USER = 20000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start others' programs")


class Told(Server):
    """A server that makes a file, and ends."""

    name = "told"

    def command(self) -> list[str]:
        return [str(self.directory.parent / "run"), str(self.directory / "file")]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter; those of pytest are closed to others."""
    with TemporaryDirectory(prefix="pop3gw-bench-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(("mode", "who"), [(0o755, USER), (0o700, 0)])
def test_a_server_runs_as_the_owner_of_the_mail_if_he_may_run_it(
    place: Path, mode: int, who: int, capfd: pytest.CaptureFixture[str]
) -> None:
    program = place / "run"
    program.write_text('#!/bin/sh\n: >"$1"\n')
    program.chmod(mode)
    server = made(place, {"told": Told}, owner=USER)["told"]
    with pytest.raises(NotAvailable):
        server.start(5)
    assert (server.directory / "file").stat().st_uid == who
    assert (f"user {USER} may not run" in capfd.readouterr().err) is (who == 0)
