"""``pop3gw health`` beside a server that runs, and beside servers that do not serve."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import PROGRAM
from gateway.config.load import load_settings
from gateway.endpoints import parse
from gateway.operations.server.health import Health, Question, ask, ask_all
from servers import Gateway, free_port

pytestmark = pytest.mark.interop

TOKEN = "a-token-for-health-checks"


def health(gateway: Gateway, *options: str, **env: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code, and the answer about each listener."""
    done = subprocess.run(
        [*PROGRAM, "health", "--json", "--config", str(gateway.config), *options],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {row["listener"]: row for row in rows}


@pytest.fixture
def gateway(directory: Path) -> Iterator[Gateway]:
    """One with every kind of listener."""
    gateway = Gateway(
        directory,
        f"""\
[listeners.none]
endpoint = "tcp:{free_port()}:interface=0.0.0.0"
tls = "none"
[lmtp]
endpoint = "unix:{directory}/lmtp"
[policy]
endpoint = "tcp:{free_port()}:interface=127.0.0.1"
[http]
endpoint = "tcp:{free_port()}:interface=127.0.0.1"
token = "{TOKEN}"
""",
    )
    try:
        yield gateway.run()
    finally:
        gateway.stop()
    assert "Traceback" not in gateway.log


def states(rows: dict[str, dict[str, str]]) -> dict[str, str]:
    """Listener to state."""
    return {name: row["state"] for name, row in rows.items()}


def test_a_server_that_serves_is_healthy_and_logs_no_session(gateway: Gateway) -> None:
    gateway.wait_for(b" ready: ")
    before = gateway.log
    for _ in range(3):
        code, rows = health(gateway)
        assert code == 0, rows
    assert states(rows) == dict.fromkeys(
        ("plain", "secure", "none", "lmtp", "policy", "http"), "up"
    )
    answers = {name: row["answer"] for name, row in rows.items()}
    for name in ("plain", "secure", "none"):
        assert answers[name].startswith("+OK"), answers
    assert answers["lmtp"].startswith("220 ")
    assert answers["policy"] == "action=DUNNO"
    assert answers["http"].startswith("HTTP/1.0 200")
    assert gateway.log == before
    # A client that quits as well, but has said something.
    with gateway.connect() as line:
        line.sendall(b"CAPA\r\nQUIT\r\n")
        while line.recv(4096):
            pass
    gateway.wait_for(b"session_end: end=quit from=127.0.0.1 ")


def test_ready_asks_what_the_server_needs_to_serve_clients(gateway: Gateway) -> None:
    (gateway.directory / "mail").mkdir()
    code, rows = health(gateway, "--ready")
    assert code == 0, rows
    checks = {name: rows[name] for name in ("directory", "store", "disk", "state")}
    assert {row["answer"] for row in checks.values()} == {"ok"}


def test_a_server_without_its_directory_is_healthy_and_not_ready(directory: Path) -> None:
    ldap = f"ldap://127.0.0.1:{free_port()}"
    gateway = Gateway(
        directory,
        f'[directory]\nkind = "ldap"\n[ldap]\nuris = ["{ldap}"]\nbase = "dc=example"\n',
    ).run()
    try:
        assert health(gateway)[0] == 0
        code, rows = health(gateway, "--ready")
        assert code == 1
        assert [name for name, row in rows.items() if row["state"] == "down"] == ["directory"]
        assert ldap in rows["directory"]["answer"]
    finally:
        gateway.stop()


def test_http_over_tls_is_asked_over_tls(gateway: Gateway) -> None:
    text = gateway.config.read_text().replace("[http]", '[http]\ntls = "implicit"')
    gateway.config.write_text(text)
    gateway.stop()
    gateway.run()
    code, rows = health(gateway)
    assert (code, rows["http"]["answer"]) == (0, "HTTP/1.0 200 OK")


def test_one_listener_that_is_gone_makes_it_unhealthy(gateway: Gateway) -> None:
    (gateway.directory / "lmtp").unlink()
    code, rows = health(gateway)
    assert code == 1
    assert [name for name, row in rows.items() if row["state"] != "up"] == ["lmtp"]
    assert rows["lmtp"]["answer"].startswith("no such socket")
    other = f"tcp:{free_port()}:interface=127.0.0.1"
    code, rows = health(gateway, POP3GW_LISTENERS__SECURE__ENDPOINT=other)
    assert code == 1
    assert states(rows) == dict.fromkeys(rows, "up") | {"lmtp": "down", "secure": "down"}
    assert rows["secure"]["endpoint"] == other
    assert rows["secure"]["answer"].startswith("nothing listens there")


def test_a_server_that_hangs_is_unhealthy_within_the_time_limit(gateway: Gateway) -> None:
    gateway.halt()
    try:
        code, rows = health(gateway, "--timeout", "1.2")
    finally:
        gateway.send(signal.SIGCONT)
    assert code == 1
    assert set(states(rows).values()) == {"down"}
    assert {row["answer"] for row in rows.values()} == {"no answer in time"}


def test_a_server_that_is_full_or_for_other_networks_serves(gateway: Gateway) -> None:
    text = gateway.config.read_text().replace(
        "[lmtp]", "[limits]\nconnections = 1\n[lmtp]\nconnections = 1"
    )
    gateway.config.write_text(
        text.replace("[policy]", '[policy]\nallowed_networks = ["192.0.2.0/24"]')
    )
    gateway.stop()
    gateway.run()
    with gateway.connect() as line:
        assert line.recv(3) == b"+OK"
        code, rows = health(gateway)
    assert (code, set(states(rows).values())) == (0, {"up"})
    assert rows["plain"]["answer"] == "-ERR [SYS/TEMP] Too many connections."
    assert rows["secure"]["answer"].startswith("closed the connection, as a server does")
    assert rows["policy"]["answer"].startswith("closed the connection, as ")


def test_a_configuration_with_an_error_is_unhealthy(tmp_path: Path) -> None:
    config = tmp_path / "pop3gw.toml"
    config.write_text("[limits]\nconnections = 'x'\n")
    done = subprocess.run(
        [*PROGRAM, "health", "--config", config], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"pop3gw health: {config}:2: limits.connections: ")


class Odd:
    """A server at a loopback port, which reads what comes and answers in its own way."""

    def __init__(self, answer: bytes) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.received = b""
        self._thread = threading.Thread(target=self._serve, args=(answer,))
        self._thread.start()

    def _serve(self, answer: bytes) -> None:
        line, _ = self._listening.accept()
        with line:
            line.sendall(answer)
            # Its client may have left.
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_WR)
                while data := line.recv(4096):
                    self.received += data

    def end(self) -> None:
        """Wait for its client to leave."""
        self._thread.join(30)
        self._listening.close()


def asked(tmp_path: Path, answer: bytes, *, tls: str = "none", endpoint: str = "") -> Health:
    """The health of a listener at which something else answers."""
    odd = Odd(answer)
    config = tmp_path / "odd.toml"
    endpoint = endpoint or f"tcp:{odd.port}:interface=127.0.0.1"
    config.write_text(
        f'state_dir = "{tmp_path}"\n[listeners.a]\nendpoint = "{endpoint}"\ntls = "{tls}"\n'
    )
    (found,) = ask_all(load_settings(str(config), {}), 30)
    if found.serves is None:
        socket.create_connection(("127.0.0.1", odd.port)).close()
    odd.end()
    return found


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"* OK IMAP4rev1 here\r\n", "unexpected answer: * OK IMAP4rev1 here"),
        (b"-ERR [SYS/PERM] no\r\n", "unexpected answer: -ERR [SYS/PERM] no"),
        (b"\xff\x1b[2J\r\n", r"unexpected answer: \xff\x1b[2J"),
        (b"+" * 5000, f"unexpected answer: {'+' * 512}"),
        (b"", "it closed the connection without an answer"),
    ],
)
def test_what_answers_otherwise_does_not_serve(tmp_path: Path, answer: bytes, why: str) -> None:
    found = asked(tmp_path, answer)
    assert (found.serves, found.answer) == (False, why)


def test_a_server_without_tls_does_not_serve_where_tls_is_to_be(tmp_path: Path) -> None:
    found = asked(tmp_path, b"+OK hello, this is plain text\r\n", tls="implicit")
    assert found.serves is False
    assert "WRONG_VERSION_NUMBER" in found.answer.upper().replace(" ", "_")


def test_a_listener_without_an_address_is_not_asked_and_harms_nothing(tmp_path: Path) -> None:
    found = asked(tmp_path, b"", endpoint="systemd:domain=INET:index=0")
    assert found.serves is None
    assert found.answer == "not asked: the configuration does not say where it listens"


def test_a_listener_behind_a_proxy_gets_the_header_of_a_proxy_that_speaks_for_itself() -> None:
    odd = Odd(b"+OK behind a proxy\r\n")
    text = f"tcp:{odd.port}:interface=127.0.0.1"
    found = ask(Question("a", "pop3", parse(text), text, proxied=True), 30)
    odd.end()
    assert (found.serves, found.answer) == (True, "+OK behind a proxy")
    # PROXY protocol 2.2: the signature, version 2 and LOCAL, family unspecified, no more octets.
    header = bytes.fromhex("0d0a0d0a000d0a515549540a 20 00 0000")
    assert odd.received == header + b"QUIT\r\n"
