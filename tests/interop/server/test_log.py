"""The log of the whole process: complete and in order, on standard output and in a file."""

from __future__ import annotations

import poplib
import re
from pathlib import Path

import pytest

from servers import PASSWORD, USER, Gateway

pytestmark = pytest.mark.interop

SESSIONS = 60


class ToFile(Gateway):
    """One that logs to a file."""

    @property
    def command(self) -> list[str]:
        """With twistd's ``--logfile``."""
        *twistd, plugin, config, path = super().command
        return [*twistd, f"--logfile={self.directory}/pop3gw.log", plugin, config, path]

    def run(self, **env: str) -> Gateway:
        """Start it; returns once a client is greeted."""
        self.start(["sh", "-c", 'echo begun; exec "$@"', "sh", *self.command], b"begun", env=env)
        while True:
            try:
                self.connect().close()
            except ConnectionRefusedError:
                assert self.process is not None
                assert self.process.poll() is None, self.log
            else:
                return self


def serve(gateway: Gateway) -> None:
    """Sessions one after the other, and SIGTERM right after the last."""
    gateway.run()
    try:
        for _ in range(SESSIONS):
            client = poplib.POP3("127.0.0.1", gateway.plain, timeout=30)
            client.user(USER)
            client.pass_(PASSWORD)
            client.quit()
    finally:
        gateway.stop()


def in_order(log: str) -> bool:
    """Whether each line is whole, and all are there up to the last."""
    lines = log.splitlines()
    origin = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (info|warn|error) [\w.]+: ")
    assert [line for line in lines if not origin.match(line)] == []
    ids = re.findall(rf"session_end: end=quit user={USER} .* session=(\w+)", log)
    assert len(ids) == len(set(ids)) == SESSIONS
    ends = [log.index(words) for words in ("end=quit user=", "stopping: ", "Server Shut Down.")]
    return ends == sorted(ends) and "Server Shut Down." in lines[-1]


def test_each_session_has_its_line_though_the_process_ends_right_after_it(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    serve(gateway)
    assert in_order(gateway.log.removesuffix("(end of output)\n"))


def test_the_same_in_a_file_of_twistds(tmp_path: Path) -> None:
    gateway = ToFile(tmp_path)
    serve(gateway)
    assert in_order((tmp_path / "pop3gw.log").read_text())
