"""Maildirs in homes, which only the directory knows: what goes through all mailboxes finds them."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands import PROGRAM
from servers import USER, Gateway, fill, free_port

pytestmark = pytest.mark.interop

TOKEN = "a-long-secret-of-an-operator"
SIZE = 40
SETTINGS = """\
[store]
path = "{{home}}/Maildir"
[retention]
enabled = true
check_every = 1.0
policy = "any 60d"
[http]
endpoint = "tcp:{port}:interface=127.0.0.1"
token = "{token}"
[quota]
octets = "1 MB"
warn_octets = "50"
warn_from = "postmaster@example.org"
warn_check = 1.0
"""


class Homes(Gateway):
    """A gateway before one home, with three old messages in it and two new ones."""

    def __init__(self, directory: Path) -> None:
        self.http = free_port()
        super().__init__(directory, SETTINGS.format(port=self.http, token=TOKEN))
        home = directory / "homes" / "a"
        fields = self.accounts.read_text().rstrip("\n").split(":")
        fields += [""] * (8 - len(fields))
        fields[5] = str(home)
        self.accounts.write_text(":".join(fields) + "\n")
        self.maildir = home / "Maildir"
        # One who has never had mail, whose home may lie on what is not mounted.
        with self.accounts.open("a") as file:
            file.write(f"bob@example.org:{{PLAIN}}x::::{directory}/away/b::\n")
        then = time.time() - 61 * 86_400
        for path in fill(self.maildir, [b"Subject: x\r\n\r\n".ljust(SIZE - 2) + b"\r\n"] * 5)[:3]:
            os.utime(path, (then, then))

    def ask(self, path: str) -> Any:
        """What the HTTP service says."""
        line = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
        line.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        answer = line.getresponse()
        assert answer.status == 200
        return json.loads(answer.read())

    def preview(self) -> str:
        """What an operator is told of all mailboxes."""
        command = [
            *PROGRAM,
            "retention",
            "preview",
            "--config",
            str(self.config),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Homes]:
    """Ended at the end; it must have foreseen everything."""
    gateway = Homes(tmp_path)
    yield gateway
    gateway.stop()
    print(gateway.log)
    assert "Traceback" not in gateway.log


def test_retention_warnings_preview_and_the_list_of_usage_find_mail_in_homes(homes: Homes) -> None:
    assert "3 of 5 messages in 1 mailboxes would go" in homes.preview()
    homes.run()
    homes.wait_for(f"{USER}: retention removed 3 messages, ".encode())
    homes.wait_for(f"quota_warning: user={USER} quota_level=WARN".encode())
    (row,) = homes.ask("/v1/quota/")["mailboxes"]
    assert (row["mailbox"], row["messages"]) == (USER, 3)
    assert "0 of 3 messages in 1 mailboxes would go" in homes.preview()
    assert not (homes.directory / "away").exists()
