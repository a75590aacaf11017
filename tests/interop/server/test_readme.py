"""What the README says to type, on a server and in a container, and what the unit then starts."""

from __future__ import annotations

import configparser
import poplib
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.samples import text
from programs import need
from servers import PASSWORD, Server, free_port

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[3]
BOB = "bob@example.org"


def commands(first: str) -> list[str]:
    """The lines of the README's block that begins with a line like this."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    (block,) = (block for block in blocks if block.startswith(first))
    return [line.partition("   #")[0] for line in block.splitlines()]


def unit() -> dict[str, str]:
    """The service of the unit."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text("pop3gw.service"))
    return dict(parser["Service"])


def test_the_unit_the_sample_and_the_readme_name_the_same_places() -> None:
    service, typed = unit(), "\n".join(commands("useradd"))
    state = tomllib.loads(text("pop3gw.toml"))["state_dir"]
    assert state == f"/var/lib/{service['StateDirectory']}"
    assert f"install -d -o {service['User']} -g {service['Group']} -m 750 {state}" in typed
    assert f"--home-dir {state} " in typed
    assert typed.splitlines()[0].endswith(service["User"])
    program, config = re.fullmatch(r"(\S+) .* --config (\S+)", service["ExecStart"]).groups()  # type: ignore[union-attr]
    command = Path(program).with_name("pop3gw")
    assert f"{command} check-config --user {service['User']} --config {config}" in typed
    assert f"passwd --config {config} " in typed
    assert f"pop3gw.toml > {config}" in typed
    dockerfile = (ROOT / "Dockerfile").read_text()
    (inside,) = (line for line in commands("docker build") if "pop3gw passwd" in line)
    image = re.search(r"POP3GW_CONFIG=(\S+)", dockerfile)[1]  # type: ignore[index]
    assert f"--config {image} " in inside
    assert f"-v pop3gw:{state} " in inside
    assert f"POP3GW_STATE_DIR={state}" in dockerfile


class Installed(Server):
    """A server as the README installs one, below a directory in place of the root's."""

    def __init__(self, root: Path) -> None:
        super().__init__(Path("/"))
        self.root = root
        self.port = free_port()
        for place in ("etc/systemd/system", "var/lib", "opt/pop3gw/bin"):
            (root / place).mkdir(parents=True)
        for name in ("python", "twistd", "pop3gw"):
            script = root / "opt/pop3gw/bin" / name
            ours = "" if name == "python" else Path(sys.executable).with_name(name)
            script.write_text(f'#!/bin/sh\nexec {sys.executable} {ours} "$@"\n')
            script.chmod(0o755)

    def here(self, words: str) -> str:
        """The same below the directory, for a user that every system has."""
        words = re.sub(r"(?<![\w.])/(etc|var/lib|opt)/", rf"{self.root}/\1/", words)
        group = pwd.getpwnam("nobody").pw_gid
        words = words.replace("-o pop3gw -g pop3gw", f"-o nobody -g {group}")
        return re.sub(r"--(uid|user) pop3gw", r"--\1 nobody", words)

    def type(self, line: str) -> None:
        """Do what a line says, at the root directory and without a terminal."""
        done = subprocess.run(
            ["sh", "-c", self.here(line)],
            cwd="/",
            input=f"{PASSWORD}\n".encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout + done.stderr)
        config = self.root / "etc/pop3gw.toml"
        if line.endswith("> /etc/pop3gw.toml"):
            found = self.here(config.read_text()).replace("tcp:1110:", f"tcp:{self.port}:")
            config.write_text(found.replace("tcp:1995:", f"tcp:{free_port()}:"))

    def run(self) -> None:
        """Start what the unit starts, where systemd starts it."""
        command = self.here(unit()["ExecStart"].replace("twistd -n", "twistd --uid pop3gw -n"))
        self.start(shlex.split(command), b"listener pop3s at")


@pytest.fixture
def installed() -> Iterator[Installed]:
    """Ended with the test."""
    need("install", "sh", root=True)
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    found = Installed(root)
    yield found
    if found.process is not None:
        found.stop()
    shutil.rmtree(root)


def test_what_the_readme_says_to_type_makes_a_server_that_the_unit_starts(
    installed: Installed,
) -> None:
    # A user, a virtual environment and systemd are the system's.
    for line in commands("useradd"):
        if not re.match(r"useradd|python3 -m venv|/opt/pop3gw/bin/pip|systemctl", line):
            installed.type(line)
    installed.run()
    assert "listener pop3 at" in installed.log
    assert "tls=stls" in installed.log
    assert "tls=implicit" in installed.log
    client = poplib.POP3("127.0.0.1", installed.port, timeout=60)
    client.user(BOB)
    client.pass_(PASSWORD)
    assert client.stat() == (0, 0)
    client.quit()
    nobody = pwd.getpwnam("nobody").pw_uid
    state = installed.root / "var/lib/pop3gw"
    for path in (state, *state.rglob("*")):
        assert path.stat().st_uid == nobody, path
    assert "Traceback" not in installed.log
