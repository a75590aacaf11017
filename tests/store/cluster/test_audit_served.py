"""Operators of one gateway see what all gateways have removed."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from test_served import deliver, logged_in

from cluster_engines import Engines
from cluster_gateway import ClusterGateway, running
from commands import PROGRAM
from servers import USER, Gateway, free_port

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("cluster")]

SECRET = "t" * 32
TOKEN = f'token = "{SECRET}"'


@pytest.fixture
def pair(engines: Engines, tmp_path: Path) -> Iterator[list[ClusterGateway]]:
    """Two gateways with the operator's API."""
    settings = {}
    for name in ("one", "two"):
        endpoint = f"tcp:{free_port()}:interface=127.0.0.1"
        http = f'[http]\nendpoint = "{endpoint}"\n[http.tokens.desk]\n{TOKEN}\nscopes = ["read"]\n'
        settings[name] = http
    with running(engines, tmp_path, settings) as made:
        yield made


def remove_first(gateway: Gateway) -> None:
    """A session that removes the oldest message."""
    with closing(logged_in(gateway)) as client:
        client.dele(1)
        client.quit()


def told(gateway: Gateway, *command: str) -> list[dict[str, Any]]:
    """What a command prints."""
    done = subprocess.run(
        [*PROGRAM, *command, "--json", "--config", str(gateway.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def asked(gateway: Gateway, question: str) -> Any:
    """What the API answers."""
    port = gateway.config.read_text().partition("[http]")[2].split(":")[1]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/audit?{question}",
        headers={"Authorization": f"Bearer {SECRET}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_the_command_and_the_api_of_each_gateway_tell_what_both_have_removed(
    pair: list[ClusterGateway],
) -> None:
    one, two = pair
    for number in range(4):
        deliver(one.lmtp, b"Message-ID: <%d@example.org>\r\n\r\nbody\r\n" % number)
    for gateway in (one, two, one):
        remove_first(gateway)
    told(two, "messages", "hide", USER, "4")
    for gateway in pair:
        found = told(gateway, "audit", "--all")
        assert [entry["uid"] for entry in found] == ["4", "3", "2", "1"]
        assert [entry["action"] for entry in found] == ["hide", *["discard"] * 3]
        assert found[0]["operator"].startswith("uid ")
        assert found[1]["client"] == "127.0.0.1"
        first = asked(gateway, f"mailbox={USER}&most=3")
        rest = asked(gateway, f"mailbox={USER}&most=3&cursor={first['cursor']}")
        assert [entry["uid"] for entry in first["items"] + rest["items"]] == ["4", "3", "2", "1"]
        assert rest["cursor"] == ""
        assert asked(gateway, "message_id=1@example.org")["items"][0]["uid"] == "2"
        assert not list(gateway.directory.rglob("audit*"))
