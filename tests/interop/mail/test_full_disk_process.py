"""A server of which state and mail are on one disk, and that is full."""

from __future__ import annotations

import json
import os
import poplib
from contextlib import suppress
from pathlib import Path

import pytest

from disks import small_disk_at
from servers import PASSWORD, USER, Gateway, fill

pytestmark = pytest.mark.interop


def log_in(gateway: Gateway) -> poplib.POP3:
    client = poplib.POP3("127.0.0.1", gateway.plain, timeout=30)
    client.stls(gateway.context())
    client.user(USER)
    client.pass_(PASSWORD)
    return client


def fill_up(disk: Path) -> None:
    """Leave no octet on the disk."""
    with open(disk / "ballast", "ab", buffering=0) as file:
        for piece in (1 << 20, 1):
            with suppress(OSError):
                while True:
                    os.write(file.fileno(), b"x" * piece)


def test_users_delete_on_a_full_disk_whenever_the_server_was_started(tmp_path: Path) -> None:
    with small_disk_at(tmp_path / "disk", mebibytes=24) as disk:
        gateway = Gateway(disk)
        fill(gateway.maildir, [b"Subject: %d\r\n\r\n" % number for number in range(400)])
        try:
            gateway.run()
            log_in(gateway).quit()
            fill_up(disk)
            for first in (1, 101):
                sessions = [log_in(gateway) for _ in range(2)]
                for number, client in enumerate(sessions):
                    start = first if number == 0 else first + 50
                    for message in range(start, start + 50):
                        client.dele(message)
                for client in sessions:
                    assert client.quit().startswith(b"+OK")
                    fill_up(disk)
                gateway.stop()
                fill_up(disk)
                gateway.run()
            client = log_in(gateway)
            assert client.stat()[0] == 200
            client.quit()
        finally:
            gateway.stop()
        assert "Traceback" not in gateway.log
        assert len([json.loads(line) for line in (disk / "audit.log").open()]) == 200
