"""Sockets that systemd has bound, by ``systemd-socket-activate``: found by name or by number."""

from __future__ import annotations

import smtplib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from programs import need
from servers import USER, Gateway, fill

pytestmark = pytest.mark.interop

NUMBERS = {"pop3": "INET:index=0", "pop3s": "INET:index=1", "lmtp": "UNIX:index=2"}
NAMES = {"pop3": "INET:name=pop3", "pop3s": "INET:name=pop3s", "lmtp": "UNIX:name=lmtp"}


class Activated(Gateway):
    """A gateway with the sockets of another program."""

    def __init__(self, directory: Path, endpoints: dict[str, str]) -> None:
        need("systemd-socket-activate")
        super().__init__(directory, f'[lmtp]\nendpoint = "systemd:domain={endpoints["lmtp"]}"\n')
        text = self.config.read_text()
        for name, port in (("pop3", self.plain), ("pop3s", self.tls)):
            ours = f"systemd:domain={endpoints[name]}"
            text = text.replace(f"tcp:{port}:interface=127.0.0.1", ours)
        self.config.write_text(text)
        self.path = directory / "lmtp"

    def listen(self, **env: str) -> None:
        """Have all bound; the first client starts the gateway."""
        listen = [f"--listen={where}" for where in self.places]
        names = "--fdname=pop3:pop3s:lmtp"
        more = [f"--setenv={name}={value}" for name, value in env.items()]
        command = ["systemd-socket-activate", *listen, names, *more, *self.command]
        self.start(command, b" as 5.", env=env)
        self.mode = self.path.stat().st_mode

    @property
    def places(self) -> list[str]:
        """In the order of their numbers."""
        return [f"127.0.0.1:{self.plain}", f"127.0.0.1:{self.tls}", str(self.path)]

    def serves(self) -> bool:
        """A client of each."""
        with self.connect() as plain, self.connect_tls() as tls:
            greetings = [line.makefile("rb").readline() for line in (plain, tls)]
        with smtplib.LMTP(str(self.path)) as client:
            client.sendmail("a@example.org", [USER], "Subject: one\n\none\n")
        return all(greeting.startswith(b"+OK") for greeting in greetings)

    def connect_tls(self) -> socket.socket:
        """A connection over TLS."""
        line = socket.create_connection(("127.0.0.1", self.tls), timeout=30)
        return self.context().wrap_socket(line, server_hostname="localhost")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name, for a socket."""
    with tempfile.TemporaryDirectory(prefix="pop3gw-") as name:
        yield Path(name)


def begun(server: Activated, **env: str) -> Activated:
    """Once all of its sockets are served."""
    fill(server.maildir, [])
    server.listen(**env)
    with server.connect():
        server.wait_for(b"listener lmtp at")
    return server


@pytest.mark.parametrize("endpoints", [NUMBERS, NAMES], ids=["numbers", "names"])
def test_sockets_of_each_kind_are_served_and_stay_when_the_gateway_ends(
    directory: Path, endpoints: dict[str, str]
) -> None:
    server = begun(Activated(directory, endpoints))
    assert server.path.stat().st_mode == server.mode
    assert server.serves()
    assert server.stop() in (0, -15)
    assert "Traceback" not in server.log
    assert server.path.is_socket()


def test_workers_serve_the_sockets_of_systemd(directory: Path) -> None:
    server = Activated(directory, NAMES)
    with open(server.config, "a", encoding="utf-8") as config:
        config.write("[processes]\nworkers = 2\n")
    begun(server)
    assert server.path.stat().st_mode == server.mode
    for _ in range(5):
        assert server.serves()
    assert server.stop() in (0, -15)
    assert "Traceback" not in server.log
    assert server.path.is_socket()


def test_a_locale_without_utf8_does_not_lose_the_sockets(directory: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    server = begun(Activated(directory, NAMES), **ascii_only)
    assert server.serves()
    server.stop()


def test_a_socket_that_did_not_come_is_named_with_the_cure(directory: Path) -> None:
    server = Activated(directory, {**NAMES, "pop3s": "INET:name=pop3-tls"})
    server.listen()
    server.connect().close()
    server.wait_for(b"(end of output)")
    assert "listeners.secure.endpoint: 'systemd:domain=INET:name=pop3-tls': no such socket" in (
        server.log
    )
    assert "Traceback" not in server.log
