"""The API of a server with workers, asked by curl at its control socket."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from programs import need
from servers import PASSWORD, USER, Gateway, fill

pytestmark = pytest.mark.interop

URL = "http://localhost/v1"


class Site:
    """A server with two workers."""

    def __init__(self, place: Path) -> None:
        self.gateway = Gateway(place, "[processes]\nworkers = 2\n")
        self._socket = place / "control"
        fill(self.gateway.maildir, [b"Subject: x\r\n\r\nx\r\n"])

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer."""
        command = ["curl", "-sS", "--unix-socket", str(self._socket), "-X", method, URL + path]
        if body is not None:
            command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        said = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
        return json.loads(said)

    def log_in(self) -> socket.socket:
        """A session after its login."""
        client = self.gateway.connect()
        file = client.makefile("rb")
        assert file.readline().startswith(b"+OK")
        for line in (f"USER {USER}", f"PASS {PASSWORD}"):
            client.sendall(line.encode() + b"\r\n")
            assert file.readline().startswith(b"+OK")
        return client


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server that runs."""
    need("curl")
    site = Site(tmp_path_factory.mktemp("workers"))
    site.gateway.run()
    site.gateway.wait_for(b"ready: ")
    yield site
    site.gateway.stop()
    assert "Traceback" not in site.gateway.log


def test_sessions_of_all_workers_are_listed_and_each_can_be_kicked(site: Site) -> None:
    clients = [site.log_in() for _ in range(6)]
    found = site.ask("GET", "/sessions?per_page=4")
    assert (found["total"], len(found["items"])) == (6, 4)
    (row,) = site.ask("GET", "/sessions?per_page=1")["items"]
    assert (row["user"], row["mailbox"], row["mechanism"]) == (USER, USER, "PASS")
    assert (row["state"], row["listener"], row["address"]) == ("logged in", "plain", "127.0.0.1")
    kicked = site.ask("DELETE", f"/sessions/{row['session']}")["sessions"]
    assert [(one["session"]["session"], one["ended"]) for one in kicked] == [(row["session"], True)]
    assert site.ask("DELETE", f"/sessions/{row['session']}")["status"] == 404
    assert len(site.ask("POST", "/kick", {"user": USER})["sessions"]) == 5
    for client in clients:
        with client, client.makefile("rb") as file:
            assert file.read().startswith(b"-ERR ")
    assert site.ask("GET", "/sessions")["total"] == 0
    site.gateway.wait_for(b"end=kicked", times=6)
    site.gateway.wait_for(b'reason="by uid ')


def test_the_status_names_the_parent_and_its_workers(site: Site) -> None:
    with site.log_in():
        status = site.ask("GET", "/status")
    roles = [one["role"] for one in status["processes"]]
    assert (roles, status["workers"]) == (["parent", "worker", "worker"], 2)
    assert {"protocol": "pop3", "sessions": 1} in status["sessions"]
    assert [one["name"] for one in status["listeners"]] == ["plain", "secure"]
    (certificate,) = site.ask("GET", "/certificates")["certificates"]
    assert certificate["listeners"] == ["listeners.plain", "listeners.secure"]


def test_a_reload_is_asked_of_the_parent_and_shown_by_every_worker(site: Site) -> None:
    text = site.gateway.config.read_text()
    site.gateway.config.write_text(f"{text}\n[quota]\nwarn_percent = 77\n")
    changed = site.ask("GET", "/configuration?name=quota")["changed"]
    assert changed == ["quota.warn_percent"]
    assert site.ask("POST", "/reload")["changed"] == ["quota.warn_percent"]
    for _ in range(4):
        (row,) = site.ask("GET", "/configuration?name=quota.warn_percent")["settings"]
        assert (row["value"], row["is_default"]) == (77, False)
