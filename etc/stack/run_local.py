#!/usr/bin/env python3
"""Run compose.yaml's services as processes of this machine, where there is no container engine.

``run_local.py DIR up`` reads ``compose.yaml`` and each ``Dockerfile`` and starts every service in
mount and process namespaces of its own, with a read-only overlay of this machine's root: the same
commands, users, capabilities, environment, mounts and health checks. It builds no image: Debian's
packages of the Dockerfiles must be installed here, and pop3gw in the Python that runs this. All
services share one network, so ports are those inside the containers. It needs Linux and root.

``exec``, ``restart`` and ``kill`` are those of ``docker compose``; ``healthy`` returns once a
service is. DIR keeps the volumes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    import yaml
except ImportError:
    sys.exit("run_local.py needs PyYAML: pip install pyyaml")

HERE = Path(__file__).resolve().parent
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
VENV = "/opt/pop3gw"
"""Where pop3gw's image has its virtual environment; here it is the one that runs this."""


@dataclass
class Image:
    """What the last stage of a Dockerfile says."""

    environment: dict[str, str] = field(default_factory=lambda: {"PATH": DEFAULT_PATH})
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    user: str = "0:0"
    directory: str = "/"
    copies: list[tuple[Path, str, int | None]] = field(default_factory=list)
    """Files: from where, to where, with which mode."""


def read_dockerfile(context: Path, file: Path) -> Image:
    """The image that this file describes, without RUN and what comes from other stages."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(), flags=re.M)
    image = Image()
    for line in re.sub(r"\\\n", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            image = Image()
        elif word == "ENV":
            for name, value in (pair.split("=", 1) for pair in shlex.split(rest)):
                path = image.environment["PATH"]
                image.environment[name] = value.replace("$PATH", path)
        elif word == "USER":
            image.user = rest
        elif word == "WORKDIR":
            image.directory = rest
        elif word in ("ENTRYPOINT", "CMD"):
            image.command += json.loads(rest)
        elif word == "HEALTHCHECK":
            image.health = json.loads(rest[rest.index("CMD") + 3 :])
        elif word == "COPY" and "--from=" not in rest:
            mode = re.match(r"--chmod=(\d+) ", rest)
            *sources, target = rest[mode.end() if mode else 0 :].split()
            for source in sources:
                image.copies.append((context / source, target, int(mode[1], 8) if mode else None))
    return image


def overlay(work: Path) -> str:
    """A shell script that mounts an overlay of this machine's root below ``work``, as ``$root``."""
    places = sorted({str(HERE.parents[1]), sys.prefix, sys.base_prefix})
    lines = [
        f"set -eu; umask 022; PATH=$PATH:{DEFAULT_PATH}; work={shlex.quote(str(work))}",
        'mkdir -p "$work"; mount -t tmpfs -o mode=755 tmpfs "$work"',
        'mkdir "$work/up" "$work/wk" "$work/root"; root=$work/root',
        'mount -t overlay -o lowerdir=/,upperdir="$work/up",workdir="$work/wk" none "$root"',
        'for d in dev sys; do mount --rbind /$d "$root/$d"; done',
        'mount -t proc proc "$root/proc"',
    ]
    for place in map(shlex.quote, places):
        # Other file systems than the root's are not in the overlay.
        lines.append(f'[ -e "$root"{place}/. ] && [ "$(ls -A "$root"{place})" ] ||')
        lines.append(f'{{ mkdir -p "$root"{place}; mount --rbind {place} "$root"{place}; }}')
    for parent in sorted({str(parent) for place in places for parent in Path(place).parents}):
        # A user who may not go through /root, say, may do so in here.
        lines.append(f'chmod a+x "$root"{shlex.quote(parent)}')
    return "\n".join(lines)


class Service:
    """One service of compose.yaml: its root, its process, and what happens to it."""

    def __init__(
        self,
        name: str,
        settings: dict[str, Any],
        data: Path,
        hosts: str,
        image: Image | None = None,
    ) -> None:
        """``image``: in place of the one that its Dockerfile describes."""
        self.name, self.settings, self.data, self.hosts = name, settings, data, hosts
        self.image = image or self._built()
        self.image.environment |= settings.get("environment", {})
        self.user, _, group = settings.get("user", self.image.user).partition(":")
        self.group = group or self.user
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = False

    def _built(self) -> Image:
        build = self.settings["build"]
        context = (HERE / build["context"]).resolve()
        return read_dockerfile(context, context / build.get("dockerfile", "Dockerfile"))

    def _mounts(self) -> list[tuple[str, str, str]]:
        """Of each volume the source, the target and the options."""
        found = [(sys.prefix, VENV, "ro")]
        for volume in self.settings["volumes"]:
            source, target, *options = volume.split(":")
            if source.startswith((".", "/")):
                place = (HERE / source).resolve()
                if not place.exists():
                    sys.exit(f"{place} does not exist: run {HERE}/prepare {self.data} first")
            else:
                place = self.data / "volumes" / source
                if not place.exists():
                    place.mkdir(parents=True)
                    os.chown(place, int(self.user), int(self.group))
            found.append((str(place), target, ",".join(options)))
        return found

    def _script(self) -> str:
        """A shell script that makes the root and becomes the service's process."""
        lines = [overlay(self.data / "roots" / self.name)]
        for source, target, mode in self.image.copies:
            lines.append(f'mkdir -p "$root{os.path.dirname(target)}"')
            lines.append(f'cp -r {shlex.quote(str(source))} "$root{target}"')
            if mode is not None:
                lines.append(f'chmod {mode:o} "$root{target}"')
        lines.append(f'printf %s {shlex.quote(self.hosts)} >"$root/etc/hosts"')
        for place in self.settings.get("tmpfs", ()):
            target, _, options = place.partition(":")
            lines.append(f'mkdir -p "$root{target}"')
            lines.append(f'mount -t tmpfs -o {options or "mode=1777"} tmpfs "$root{target}"')
        for source, target, options in self._mounts():
            if Path(source).is_dir():
                lines.append(f'mkdir -p "$root{target}"')
            else:
                lines.append(f'mkdir -p "$root{os.path.dirname(target)}"')
                lines.append(f'rm -f "$root{target}"; : >"$root{target}"')
            lines.append(f'mount --bind {shlex.quote(source)} "$root{target}"')
            if options:
                lines.append(f'mount -o remount,bind,{options} "$root{target}"')
        if self.settings.get("read_only"):
            lines.append('mount -o remount,bind,ro "$root"')
        lines.append(f'exec chroot "$root" {shlex.join(self.confined(self.image.command))}')
        return "\n".join(lines)

    def confined(self, command: list[str]) -> list[str]:
        """The command with the service's user, capabilities, environment and directory."""
        kept = ["-all", *(f"+{name.lower()}" for name in self.settings.get("cap_add", ()))]
        variables = [f"{name}={value}" for name, value in self.image.environment.items()]
        return [
            *("setpriv", "--reuid", self.user, "--regid", self.group, "--clear-groups"),
            *("--bounding-set", ",".join(kept), "--inh-caps=-all", "--no-new-privs"),
            *("env", "-i", f"--chdir={self.image.directory}", *variables, *command),
        ]

    def starting(self) -> list[str]:
        """The command that starts it once, in namespaces; with what calls it, it ends too."""
        inside = ("--mount", "--pid", "--fork", "--kill-child", "--propagation=private")
        return [
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", *inside, "sh", "-c", self._script()),
        ]

    def start(self) -> None:
        """Start it, and again whenever it ends, until it is stopped."""
        self._spawn()
        threading.Thread(target=self._keep, daemon=True).start()

    def _spawn(self) -> None:
        self.process = subprocess.Popen(
            self.starting(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        pid = self.process.pid
        inner = ""
        while not inner and self.process.poll() is None:
            time.sleep(0.01)
            with contextlib.suppress(FileNotFoundError):
                inner = Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()
        place = self.data / "services" / self.name
        place.parent.mkdir(exist_ok=True)
        about = {"pid": int(inner or 0), "inside": self.confined([]), "health": self.image.health}
        text = json.dumps(about)
        place.with_suffix(".new").write_text(text)
        place.with_suffix(".new").rename(place)
        print(f"{self.name} | started: pid={inner}", flush=True)

    def _keep(self) -> None:
        """Pass its output on; at its end start it again, as restart: unless-stopped says."""
        while True:
            assert self.process is not None
            assert self.process.stdout is not None
            for line in self.process.stdout:
                sys.stdout.write(f"{self.name} | {line.decode(errors='replace')}")
                sys.stdout.flush()
            status = self.process.wait()
            print(f"{self.name} | ended: status={status}", flush=True)
            if self.stopping:
                return
            time.sleep(0.2)
            self._spawn()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after stop_grace_period."""
        self.stopping = True
        grace = float(self.settings.get("stop_grace_period", "10s").removesuffix("s"))
        with contextlib.suppress(ProcessLookupError):
            send(self.data, self.name, signal.SIGTERM)
        assert self.process is not None
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()


def state(data: Path, name: str) -> dict[str, Any]:
    """What ``_spawn`` wrote about a service; SystemExit if there is none of this name."""
    try:
        found: dict[str, Any] = json.loads((data / "services" / name).read_text())
    except FileNotFoundError:
        sys.exit(f"no service {name} runs in {data}")
    return found


def run_in(data: Path, name: str, command: list[str], *, quiet: bool = False) -> int:
    """Run a command beside a service's process, as its user; the exit status."""
    about = state(data, name)
    enter = ["nsenter", "--target", str(about["pid"]), "--mount", "--pid", "--net", "--root"]
    output = subprocess.DEVNULL if quiet else None
    done = [*enter, *about["inside"], *command]
    path = {**os.environ, "PATH": f"{os.environ['PATH']}:{DEFAULT_PATH}"}
    return subprocess.run(done, stdout=output, stderr=output, env=path, check=False).returncode


def wait_until_healthy(data: Path, name: str, ended: threading.Event) -> None:
    """Ask its health check until it succeeds; SystemExit if it does not in two minutes."""
    end = time.monotonic() + 120
    while run_in(data, name, state(data, name)["health"], quiet=True) != 0:
        if time.monotonic() > end:
            sys.exit(f"{name} is not healthy after two minutes")
        if ended.wait(0.2):
            return
    print(f"{name} | healthy", flush=True)


def send(data: Path, name: str, number: int) -> None:
    """Send a signal to a service's process."""
    os.kill(state(data, name)["pid"], number)


def up(data: Path) -> None:
    """Start all services in the order of depends_on; returns after SIGTERM or SIGINT."""
    text = (HERE / "compose.yaml").read_text()
    text = re.sub(r"\$\{(\w+):-(.*?)\}", lambda name: os.environ.get(name[1], name[2]), text)
    settings = yaml.safe_load(text)["services"]
    hosts = f"127.0.0.1 localhost\n127.0.0.1 {' '.join(settings)}\n"
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    data.mkdir(parents=True, exist_ok=True)
    services: dict[str, Service] = {}
    try:
        while len(services) < len(settings) and not ended.is_set():
            for name, one in settings.items():
                needed = one.get("depends_on", {})
                if name not in services and needed.keys() <= services.keys():
                    services[name] = Service(name, one, data, hosts)
                    services[name].start()
                    wait_until_healthy(data, name, ended)
        print("all services are healthy", flush=True)
        ended.wait()
    finally:
        for service in reversed(services.values()):
            service.stop()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="DIR")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("up")
    for action in ("restart", "healthy"):
        actions.add_parser(action).add_argument("service")
    kill = actions.add_parser("kill")
    kill.add_argument("-s", dest="signal", default="KILL")
    kill.add_argument("service")
    execute = actions.add_parser("exec")
    execute.add_argument("-T", action="store_true", help="no terminal, as always here")
    execute.add_argument("service")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    data = given.data.resolve()
    if given.action == "up":
        up(data)
    elif given.action == "exec":
        sys.exit(run_in(data, given.service, given.command))
    elif given.action == "healthy":
        wait_until_healthy(data, given.service, threading.Event())
    else:
        send(data, given.service, signal.Signals[f"SIG{getattr(given, 'signal', 'TERM')}"])


if __name__ == "__main__":
    main()
