"""Commands while a server runs: it does the work, and they print what they print without it."""

from __future__ import annotations

import json
import os
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import PROGRAM
from gateway.store.maildir.removal.hidden import hidden_name
from programs import need
from servers import USER, Gateway, fill

DAY = 86_400
SETTINGS = '[retention]\npolicy = "unread 60d, hide 14d"\n'
BOTH = [
    "retention preview",
    "retention preview --json",
    f"retention preview {USER}",
    f"retention preview {USER} --json",
    f"retention hidden {USER}",
    f"retention hidden {USER} --json",
    "retention list",
    "retention forecast --days 3 --json",
    "retention release --all",
    f"retention restore {USER} 4711",
]
"""What works with a server and without one, and changes nothing here."""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """One that is not yet started, with messages of which some are due, and a hidden one."""
    one = Gateway(tmp_path, SETTINGS)
    files = fill(one.maildir, [b"Subject: %d\r\n\r\n" % number for number in range(5)])
    for number, path in enumerate(files):
        then = time.time() - (61 if number < 3 else 10) * DAY
        os.utime(path, (then, then))
    hidden = one.maildir / ".Expired/cur" / hidden_name("1700000000.M1P1.host", "17")
    for folder in ("cur", "new", "tmp"):
        (hidden.parents[1] / folder).mkdir(parents=True)
    hidden.write_bytes(b"Subject: x\r\n\r\n")
    try:
        yield one
    finally:
        if one.process is not None:
            one.stop()
    assert "Traceback" not in one.log


def typed(gateway: Gateway, words: str) -> subprocess.CompletedProcess[str]:
    """What a command does."""
    return subprocess.run(
        [*PROGRAM, *words.split(), "--config", str(gateway.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_command_prints_the_same_with_a_server_and_without_one(gateway: Gateway) -> None:
    alone = [typed(gateway, words) for words in BOTH]
    assert "3 of 5 messages would go" in alone[0].stdout
    gateway.run()
    for words, without in zip(BOTH, alone, strict=True):
        done = typed(gateway, words)
        found = done.returncode, done.stdout, done.stderr
        assert found == (without.returncode, without.stdout, without.stderr), words


def test_the_server_does_what_changes_something_and_the_audit_log_names_who_asked(
    gateway: Gateway,
) -> None:
    gateway.run()
    done = typed(gateway, f"retention restore {USER} 17 --json")
    assert json.loads(done.stdout) == {"mailbox": USER, "wanted": 1, "restored": 1}
    (line,) = (gateway.directory / "audit.log").read_text().splitlines()
    assert json.loads(line)["action"] == "restore"
    assert json.loads(line)["operator"] == f"uid {os.geteuid()}"


def test_the_settings_of_the_running_server_are_a_configuration_as_those_of_its_file_are(
    gateway: Gateway,
) -> None:
    with gateway.config.open("a") as file:
        file.write('[quota.domains."example.org"]\noctets = "1 GB"\n')
    gateway.run()
    alone, running = (typed(gateway, f"config show{more}") for more in ("", " --running"))
    assert (running.returncode, running.stderr) == (0, "")
    assert tomllib.loads(running.stdout) == tomllib.loads(alone.stdout)
    domain = 'quota.domains."example.org"'
    asked = typed(gateway, f"config show --running {domain}")
    assert f'{domain}.octets = "1 GB"  # ' in asked.stdout
    assert asked.stdout == typed(gateway, f"config show {domain}").stdout
    as_json = [typed(gateway, f"config show{more} --json").stdout for more in ("", " --running")]
    assert as_json[1] == as_json[0]


def test_root_may_ask_a_server_of_any_user(gateway: Gateway) -> None:
    need(root=True)
    gateway.run()
    os.chown(gateway.directory, 65534, -1)
    done = typed(gateway, f"retention hidden {USER}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("17: hidden ")
    gateway.stop()
    done = typed(gateway, f"retention hidden {USER}")
    assert done.returncode == 1
    assert "no server runs there: run it as the server's user" in done.stderr


def test_a_server_that_was_killed_leaves_a_socket_that_hinders_nobody(gateway: Gateway) -> None:
    gateway.run()
    assert gateway.process is not None
    gateway.process.kill()
    gateway.process.wait()
    assert (gateway.directory / "control").exists()
    assert typed(gateway, f"retention hidden {USER}").returncode == 0


def test_what_needs_a_server_says_so_without_one(gateway: Gateway) -> None:
    done = typed(gateway, "reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert "control: No such file or directory; is the server running" in done.stderr


def test_a_broken_configuration_does_not_hinder_a_question_to_the_server(gateway: Gateway) -> None:
    gateway.run()
    text = gateway.config.read_text()
    gateway.config.write_text(text + "[limits]\nconnections = 'many'\n")
    assert typed(gateway, f"retention hidden {USER}").returncode == 0
    done = typed(gateway, "reload")
    assert done.returncode == 1
    assert "limits.connections: expected a whole number" in done.stderr
    assert "nothing was changed" in done.stderr


def test_workers_answer_as_one_process_does(gateway: Gateway) -> None:
    alone = typed(gateway, "retention preview --json").stdout
    gateway.config.write_text(gateway.config.read_text() + "[processes]\nworkers = 2\n")
    gateway.run()
    for _ in range(4):
        assert typed(gateway, "retention preview --json").stdout == alone
    assert typed(gateway, "reload").stdout == "changed: nothing\n"
