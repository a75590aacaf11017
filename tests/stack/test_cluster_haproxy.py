"""HAProxy of ``etc/cluster`` before two gateways with its settings; their mail is in Maildirs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from pages import commands
from programs import need
from proxies import Haproxy
from servers import Gateway, free_port

pytestmark = pytest.mark.interop

CLUSTER = Path(__file__).parents[2] / "etc" / "cluster"
CONFIG = CLUSTER / "haproxy.cfg"
PORTS = {"pop3": 1110, "pop3s": 1995, "lmtp": 1024}
HOSTS = {"gateway1": "172.30.25.11", "gateway2": "172.30.25.12"}
HAPROXY = "172.30.25.10"
CLIENT = "127.0.0.9"
HEALTH = "127.0.0.1:8404"


class Site:
    """The example with ports of its own in place of addresses."""

    def __init__(self, directory: Path) -> None:
        need("bash", "chmod", "cat", "curl", "env", "mkdir", "openssl", "rm", "sh", "tr")
        self.directory = directory
        subprocess.run([CLUSTER / "prepare", str(directory)], check=True, timeout=60)
        self.fronts = {name: free_port() for name in (*PORTS, "health")}
        self.backs = {host: {name: free_port() for name in PORTS} for host in HOSTS}
        self.gateways = {name: self._gateway(name) for name in HOSTS}
        (directory / "haproxy").mkdir()
        self.haproxy = Haproxy(directory / "haproxy", self._moved())

    def _gateway(self, name: str) -> Gateway:
        """One with the settings of the example, but for the store."""
        (self.directory / name).mkdir()
        gateway = Gateway(self.directory / name)
        text = (CLUSTER / "pop3gw.toml").read_text()
        store = f'path = "{self.directory}/mail/{{name}}"\n\n'
        text = re.sub(r'^kind = "cluster"\n.*?\n\n', store, text, flags=re.M | re.S)
        for listener, port in PORTS.items():
            endpoint = f"tcp:{self.backs[name][listener]}:interface=127.0.0.1"
            text = text.replace(f'"tcp:{port}"', f'"{endpoint}"')
        for old, new in (
            (HAPROXY, "127.0.0.1"),
            ("/var/lib/pop3gw", str(self.directory / name)),
            ("/etc/mail-tls", str(self.directory / "tls/mail")),
            ("/etc/mail-accounts", str(self.directory / "accounts")),
        ):
            text = text.replace(old, new)
        gateway.config.write_text(text)
        return gateway

    def _moved(self) -> str:
        text = CONFIG.read_text().replace(HEALTH, f"127.0.0.1:{self.fronts['health']}")
        for name, port in PORTS.items():
            text = text.replace(f"bind :{port}\n", f"bind 127.0.0.1:{self.fronts[name]}\n")
            for host, address in HOSTS.items():
                text = text.replace(f"{address}:{port}\n", f"127.0.0.1:{self.backs[host][name]}\n")
        # It would take seconds to see that a gateway is down, or up. Checks may take their time.
        text = text.replace("timeout connect 5s\n", "timeout connect 5s\n    timeout check 30s\n")
        return text.replace(" inter 2s ", " inter 200ms ")

    def start(self, name: str) -> Gateway:
        """Start a gateway; returns once it serves."""
        gateway = self.gateways[name]
        gateway.start(gateway.command, b" info ready: ")
        return gateway

    def type(self, text: str) -> str:
        """Do what a block of the page says with the ports of this test; the output."""
        text = text.replace("'127.0.0.1', 24)", f"'127.0.0.1', {self.fronts['lmtp']})")
        text = text.replace("::127.0.0.1: ", f"::127.0.0.1:{self.fronts['pop3s']} ")
        text = text.replace("curl ", f"curl --disable --interface {CLIENT} ")
        done = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=self.directory,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (text, done.stdout + done.stderr)
        return done.stdout

    @property
    def health(self) -> int:
        """The status that the container's health check gets."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.fronts['health']}/health") as one:
                return int(one.status)
        except HTTPError as error:
            return error.code

    def stop(self) -> None:
        """End what runs."""
        for server in (self.haproxy, *self.gateways.values()):
            if server.process is not None:
                server.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Ends with the test."""
    made = Site(tmp_path)
    yield made
    made.stop()


def test_haproxy_takes_its_file_as_it_stands_without_a_warning() -> None:
    need("haproxy")
    done = subprocess.run(
        ["haproxy", "-c", "-dW", "-f", str(CONFIG)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_sends_and_fetches_a_message_through_the_gateway_that_serves(site: Site) -> None:
    one = site.start("gateway1")
    haproxy = site.haproxy.run()
    block = commands("cluster-compose.md")[0]
    assert re.search(r"^Subject: hello\n(.+\n)*\nhello\n", site.type(block), re.M)
    one.wait_for(f" from={CLIENT} via=127.0.0.1 ".encode())
    fetch = block.splitlines()[-1]

    two = site.start("gateway2")
    for name in PORTS:
        haproxy.wait_for(f"Server {name}/gateway2 is UP".encode())
    one.stop()
    assert "hello" in site.type(fetch)
    two.wait_for(f" from={CLIENT} via=127.0.0.1 ".encode())
    haproxy.wait_for(b"Server pop3/gateway1 is DOWN")
    assert site.health == 200

    two.stop()
    haproxy.wait_for(b"backend pop3 has no server available")
    assert site.health == 503
    for gateway in (one, two):
        assert "Traceback" not in gateway.log
        assert "connection_refused" not in gateway.log
