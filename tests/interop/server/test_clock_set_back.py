"""The time of day is set back by an hour under a running server: nothing waits for that hour."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from test_process import Client
from test_workers_process import READY

from servers import Gateway, fill

pytestmark = pytest.mark.interop

SET_BACK = """\
import os, time

time_of_day = time.time


def set_back():
    return time_of_day() - 3600 * os.path.exists({mark!r})


time.time = set_back
"""
"""Loaded by each Python of the server before anything else."""


def next_sign_of_life(systemd: socket.socket) -> None:
    """Wait for a notice that the watchdog of systemd wants."""
    while b"WATCHDOG=1" not in systemd.recv(4096):
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_timers_go_on_when_the_clock_is_set_back(workers: int, tmp_path: Path) -> None:
    mark, notify = tmp_path / "set-back", tmp_path / "notify"
    (tmp_path / "sitecustomize.py").write_text(SET_BACK.format(mark=str(mark)))
    server = Gateway(tmp_path, f"[processes]\nworkers = {workers}\n")
    fill(server.maildir, [b"Subject: 1\r\n\r\none\r\n"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(notify))
        systemd.settimeout(30)
        told = {"NOTIFY_SOCKET": str(notify), "WATCHDOG_USEC": "1000000"}
        server.start(server.command, READY, env={"PYTHONPATH": str(tmp_path), **told})
        try:
            next_sign_of_life(systemd)
            mark.touch()
            # The first one may have been due before.
            for _ in range(3):
                next_sign_of_life(systemd)
            with Client(server.connect()) as client:
                assert len(client.log_in().uids()) == 1
        finally:
            server.stop()
    assert "Traceback" not in server.log
