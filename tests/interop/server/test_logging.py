"""What reads the log of a real server: fail2ban, rsyslogd, an operator with ``pop3gw trace``."""

from __future__ import annotations

import base64
import json
import os
import poplib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from programs import find, need
from servers import PASSWORD, USER, Gateway, free_port

pytestmark = pytest.mark.interop

FILTER = Path(__file__).parents[3] / "etc/fail2ban/filter.d/pop3gw.conf"

HOSTILE = (
    "x from=203.0.113.1",
    'x" from=203.0.113.2 reason="wrong password',
    'x\\" from=203.0.113.3',
    'x","from":"203.0.113.4","reason":"wrong password',
    "info login_failed: from=203.0.113.5 reason=throttled",
)


@pytest.fixture(params=["text", "json"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gateway]:
    """One that has another listener, for IPv6."""
    port = free_port()
    made = Gateway(
        tmp_path,
        f'[log]\nformat = "{request.param}"\n'
        f'[listeners.six]\nendpoint = "tcp6:{port}:interface=\\\\:\\\\:1"\ntls = "stls"\n'
        "[throttle]\nfree = 100\nnetwork_free = 100",
    )
    made.six = port  # type: ignore[attr-defined]
    yield made.run()
    if made.process is not None:
        made.stop()


def guess(line: socket.socket, user: str) -> None:
    """A login that fails, and the end of its session."""
    with line, line.makefile("rb") as replies:
        replies.readline()
        line.sendall(b"AUTH PLAIN\r\n")
        replies.readline()
        line.sendall(base64.b64encode(f"\0{user}\0wrong".encode()) + b"\r\nQUIT\r\n")
        assert replies.readline().startswith(b"-ERR [AUTH]")
        replies.readline()


def from_address(gateway: Gateway, address: str) -> socket.socket:
    """A connection from an address of this machine."""
    place = ("127.0.0.1", gateway.plain)
    if ":" in address:
        place = (address, gateway.six)  # type: ignore[attr-defined]
    return socket.create_connection(place, timeout=30, source_address=(address, 0))


def test_fail2ban_finds_who_guesses_and_nobody_that_a_name_tells_of(
    gateway: Gateway, tmp_path: Path
) -> None:
    need("fail2ban-regex")
    guess(from_address(gateway, "127.0.0.2"), USER)
    guess(from_address(gateway, "::1"), "nobody@example.org")
    for number, name in enumerate(HOSTILE):
        guess(from_address(gateway, f"127.0.1.{number}"), name)
    right = from_address(gateway, "127.0.0.9")
    with right, right.makefile("rb") as replies:
        right.sendall(f"USER {USER}\r\nPASS {PASSWORD}\r\nQUIT\r\n".encode())
        assert len(replies.read().splitlines()) == 4
    gateway.stop()
    gateway.wait_for(b"(end of output)")
    log = tmp_path / "pop3gw.log"
    log.write_text(gateway.log.removesuffix("(end of output)\n"))
    done = subprocess.run(
        [str(find("fail2ban-regex")), "--out", "ip", str(log), str(FILTER)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = sorted(done.stdout.split())
    expected = ["127.0.0.2", "::1", *(f"127.0.1.{number}" for number in range(len(HOSTILE)))]
    assert found == sorted(expected), done.stdout + done.stderr + gateway.log


def test_a_failed_login_is_one_line_with_its_reason(gateway: Gateway) -> None:
    guess(from_address(gateway, "127.0.0.2"), USER)
    guess(from_address(gateway, "127.0.0.3"), "nobody@example.org")
    gateway.stop()
    gateway.wait_for(b"(end of output)")
    lines = [line for line in gateway.log.splitlines() if "login_failed" in line]
    reasons = re.findall(r'"?reason"?[=:]"([^"]*)"', "\n".join(lines))
    assert reasons == ["wrong password", "no such user"]
    assert "wrong" not in "".join(lines).replace("wrong password", "")


def test_json_is_one_object_a_line_to_the_last(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, '[log]\nformat = "json"\n[processes]\nworkers = 2').run()
    gateway.wait_for(b'"event":"ready"')
    for name in HOSTILE:
        guess(gateway.connect(), name)
    gateway.stop()
    gateway.wait_for(b"(end of output)")
    found = [json.loads(line) for line in gateway.log.splitlines()[:-1]]
    assert {"login_failed", "worker_ready", "ready", "stopped"} <= {one["event"] for one in found}
    assert {one["user"] for one in found if one["event"] == "login_failed"} == set(HOSTILE)


def test_a_trace_sees_a_user_in_all_workers_over_tls_and_no_password(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "[processes]\nworkers = 2").run()
    gateway.wait_for(b" info worker_ready: ", times=2)
    program = Path(sys.executable).with_name("pop3gw")
    command = [str(program), "trace", USER, "--config", str(gateway.config), "--for", "1m"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "80"}
    ) as tracing:
        assert tracing.stdout is not None
        assert tracing.stdout.readline().startswith(f"tracing {USER} until ")
        sessions, context = 12, gateway.context()
        for _ in range(sessions):
            client = poplib.POP3_SSL("127.0.0.1", gateway.tls, timeout=30, context=context)
            client.user(USER)
            client.pass_(PASSWORD)
            client.quit()
        lines: list[str] = []
        while sum(line.endswith("-: closed\n") for line in lines) < sessions:
            lines.append(tracing.stdout.readline())
            assert lines[-1]
        tracing.send_signal(2)
        assert tracing.wait(30) == 0
    said = "".join(lines)
    assert said.count("C: PASS [blanked]") == sessions
    assert PASSWORD not in said
    assert said.count(f"C: USER {USER}") == sessions
    # The ids of one worker begin alike.
    assert len({line.split()[1][:10] for line in lines}) == 2
    gateway.stop()


def test_rsyslogd_keeps_the_lines_of_the_log_as_they_are(tmp_path: Path) -> None:
    need("rsyslogd")
    log, out, config = (tmp_path / name for name in ("pop3gw.log", "out", "rsyslog.conf"))
    config.write_text(
        f'global(workDirectory="{tmp_path}")\n'
        'module(load="imfile" mode="polling" pollingInterval="1")\n'
        f'input(type="imfile" File="{log}" Tag="pop3gw:" Facility="mail" readMode="2")\n'
        'template(name="plain" type="string" string="%msg%\\n")\n'
        f'action(type="omfile" file="{out}" template="plain")\n'
    )
    gateway = Gateway(tmp_path)
    gateway.run()
    guess(gateway.connect(), HOSTILE[0])
    gateway.stop()
    gateway.wait_for(b"(end of output)")
    log.write_text(gateway.log.removesuffix("(end of output)\n"))
    with subprocess.Popen(
        [str(find("rsyslogd")), "-n", "-f", str(config), "-i", str(tmp_path / "pid")]
    ) as server:
        end = time.monotonic() + 60
        while not (out.exists() and "Main loop terminated" in out.read_text()):
            assert time.monotonic() < end
            assert server.poll() is None
            time.sleep(0.1)
        server.terminate()
    (line,) = [one for one in out.read_text().splitlines() if "login_failed" in one]
    assert line.strip() in gateway.log.splitlines()
