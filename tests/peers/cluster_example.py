"""The cluster of ``etc/cluster``, started as its compose.yaml says, without a container engine.

Each service has a root of its own and runs the commands, files, secrets, users and variables of
compose.yaml.  What differs: all share this machine's loopback network, each at an address of its
own, and radosgw is the S3.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

import run_local
from programs import find, need
from proxies import Haproxy
from radosgw import SECRET_KEY, RadosGateway
from servers import Server

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "etc" / "cluster"
NETWORK = "172.30.25."
"""How the addresses of compose.yaml begin."""

POSTGRES_PROGRAM = "/usr/lib/postgresql/*/bin/postgres"
PROGRAMS = (
    *("chmod", "env", "mkdir", "mount", "nsenter", "rm", "setpriv", "sh", "tini", "unshare"),
    *("cp", "haproxy", "openssl", "psql", "sleep", "tr"),
    "/usr/lib/postgresql/*/bin/initdb",
    "/usr/lib/postgresql/*/bin/pg_basebackup",
    "/usr/lib/postgresql/*/bin/pg_ctl",
    POSTGRES_PROGRAM,
)

POSTGRES = """\
#!/bin/sh
# What docker-entrypoint.sh of the image does for a user who is not root.
set -eu
mkdir -p "$PGDATA"
chmod 700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --no-sync >/dev/null
    program=$1
    shift
    pg_ctl --options="$* -c listen_addresses=''" --wait start
    set -- "$program" "$@"
    psql="psql --no-psqlrc --set=ON_ERROR_STOP=1 --username=postgres --quiet"
    $psql --command="CREATE DATABASE $POSTGRES_DB"
    for file in /docker-entrypoint-initdb.d/*.sql; do
        $psql --dbname="$POSTGRES_DB" --file="$file"
    done
    pg_ctl --mode=fast --wait stop
fi
exec "$@"
"""

HAPROXY = ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
"""What the image of HAProxy runs."""

FETCH = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)"
"""What wget of the image does."""


class Service(Server):
    """One service of compose.yaml."""

    def __init__(self, example: ClusterExample, name: str) -> None:
        super().__init__(example.directory)
        self._example, self.name = example, name
        self._settings: dict[str, Any] = example.services[name]
        self.address = example.addresses.get(name, "")
        image = self._image()
        self._user = self._settings.get("user", image.user)
        self._environment = image.environment | self._settings.get("environment", {})
        own = [*self._settings.get("entrypoint", ()), *self._settings.get("command", ())]
        self.command = [word.replace("$$", "$") for word in own] or image.command
        if image.health and not self._settings.get("healthcheck"):
            self._health = image.health
        else:
            self._health = self._settings["healthcheck"].get("test", [""])[1:]
        if name.startswith("db"):
            self.command += ["-c", f"listen_addresses={self.address}", "-c", "fsync=off"]
        self._health = [word.replace("127.0.0.1", self.address) for word in self._health]
        if self._health[:1] == ["wget"]:
            self._health = [sys.executable, "-c", FETCH, self._health[-1]]

    def _image(self) -> run_local.Image:
        name = self._settings["image"].partition(":")[0]
        if name == "pop3gw-cluster":
            image = run_local.read_dockerfile(ROOT, ROOT / "Dockerfile")
            image.environment["PYTHONPATH"] = str(ROOT)
            for listener, port in (("LISTENERS__POP3", 1110), ("LISTENERS__POP3S", 1995)):
                image.environment[f"POP3GW_{listener}__ENDPOINT"] = self._endpoint(port)
            image.environment["POP3GW_LMTP__ENDPOINT"] = self._endpoint(1024)
            return image
        image = run_local.Image()
        if name == "postgres":
            programs = os.path.dirname(find(POSTGRES_PROGRAM) or "")
            image.environment["PATH"] = f"{programs}:{run_local.DEFAULT_PATH}"
            image.environment["LANG"] = "C.UTF-8"
        else:
            image.command, image.user = HAPROXY, "99:99"
        return image

    def _endpoint(self, port: int) -> str:
        return f"tcp:{port}:interface={self.address}"

    def _mounts(self) -> list[tuple[Path, str, str]]:
        """Source, target and options of each mount."""
        files, data = self._example.files, self._example.data
        found = [(Path(sys.prefix), run_local.VENV, "ro")]
        for volume in self._settings.get("volumes", ()):
            source, target, *options = volume.split(":")
            place = files / source if source.startswith(".") else data / source
            if not place.exists():
                place.mkdir(parents=True)
                os.chown(place, *map(int, self._user.split(":")))
            found.append((place, target, ",".join(options)))
        for secret in self._settings.get("secrets", ()):
            place = files / self._example.compose["secrets"][secret]["file"]
            found.append((place, f"/run/secrets/{secret}", "ro"))
        return found

    def _script(self) -> str:
        """A shell script that makes the root and becomes the process of the service."""
        user, _, group = self._user.partition(":")
        account = f"postgres:x:{user}:{group}::/:/bin/sh\n"
        lines = [
            run_local.overlay(self.directory / "roots" / self.name),
            f'printf %s {shlex.quote(self._example.hosts)} >"$root/etc/hosts"',
            # Whoever comes first has the number and the name.
            f'{{ printf %s {shlex.quote(account)}; cat /etc/passwd; }} >"$work/passwd"',
            'cp "$work/passwd" "$root/etc/passwd"',
            f'printf %s {shlex.quote(POSTGRES)} >"$root/usr/local/bin/docker-entrypoint.sh"',
            'chmod 755 "$root/usr/local/bin/docker-entrypoint.sh"',
            'mount -t tmpfs -o mode=755 tmpfs "$root/run"',
        ]
        for place in self._settings.get("tmpfs", ()):
            target, _, options = place.partition(":")
            # /var/run is a link, which would lead out of the new root.
            inside = target.replace("/var/run/", "/run/")
            lines.append(f'mkdir -p "$root{inside}"')
            lines.append(f'mount -t tmpfs -o {options or "mode=1777"} tmpfs "$root{inside}"')
        for source, target, options in self._mounts():
            if source.is_dir():
                lines.append(f'mkdir -p "$root{target}"')
            else:
                lines.append(f'mkdir -p "$root{os.path.dirname(target)}"; : >"$root{target}"')
            lines.append(f'mount --bind {shlex.quote(str(source))} "$root{target}"')
            if options:
                lines.append(f'mount -o remount,bind,{options} "$root{target}"')
        if self._settings["read_only"]:
            lines.append('mount -o remount,bind,ro "$root"')
        lines.append(f'exec chroot "$root" {shlex.join(self._confined(*self.command))}')
        return "\n".join(lines)

    def _confined(self, *command: str) -> list[str]:
        """A command as the user of the service, without any capability."""
        user, _, group = self._user.partition(":")
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        return [
            *("setpriv", "--reuid", user, "--regid", group, "--clear-groups"),
            *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
            *("env", "-i", "--chdir=/", *variables, *command),
        ]

    def run(self) -> Service:
        """Start it; returns once it is healthy."""
        self.begin()
        self.wait_until_healthy()
        return self

    def begin(self) -> None:
        """Start it."""
        own = ["--mount", "--pid", "--fork", "--kill-child", "--propagation=private"]
        self.start(["unshare", *own, "sh", "-c", self._script()], b"")

    def _first(self) -> str:
        """The first process of the service, as this machine counts."""
        assert self.process is not None
        pid, found = self.process.pid, ""
        while not found and self.process.poll() is None:
            found = Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, as ``docker compose kill`` does; its exit status, 0 if it never ran."""
        if self.process is None:
            return 0
        if first := self._first():
            os.kill(int(first), number)
        return self.end()

    def end(self) -> int:
        """Wait until it has ended by itself; its exit status."""
        assert self.process is not None
        status = self.process.wait(60)
        # For the rest of its output.
        super().stop()
        return status

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """What ``docker compose exec`` does."""
        enter = ["nsenter", "--target", self._first(), "--mount", "--pid", "--root"]
        return subprocess.run(
            [*enter, *self._confined(*command)],
            env={**os.environ, "PATH": f"{os.environ['PATH']}:{run_local.DEFAULT_PATH}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def wait_until_healthy(self, seconds: float = 120) -> None:
        """Ask the health check until it succeeds."""
        end = time.monotonic() + seconds
        while (done := self.execute(*self._health)).returncode:
            assert self._first(), self.log
            assert time.monotonic() < end, done.stdout + done.stderr + self.log
            time.sleep(0.1)


class ClusterExample:
    """All services, in a copy of ``etc/cluster``; started one by one."""

    def __init__(self, directory: Path, s3: RadosGateway) -> None:
        """``s3`` stands in for the S3 of compose.yaml; its bucket is there."""
        need(*PROGRAMS, root=True)
        self.directory = directory
        self.files, self.data = directory / "files", directory / "volumes"
        made = shutil.ignore_patterns("accounts", "secrets", "tls")
        shutil.copytree(CLUSTER, self.files, ignore=made)
        (self.files / "secrets").mkdir(mode=0o700)
        (self.files / "secrets/bucket-gateway").write_text(SECRET_KEY)
        subprocess.run([self.files / "prepare"], check=True, timeout=60)
        self.network = f"127.{random.randrange(1, 255)}.{random.randrange(255)}."
        self._move()
        self.compose = yaml.safe_load(
            (self.files / "compose.yaml")
            .read_text()
            .replace("${MAIL_DATA:-.}", ".")
            .replace("${PRIMARY:-db1}", "db1")
        )
        self.services: dict[str, dict[str, Any]] = self.compose["services"]
        self.addresses = {
            name: f"{self.network}{number}" for number, name in enumerate(("db1", "db2", "s3"), 21)
        }
        for name, settings in self.services.items():
            if "mail" in settings["networks"]:
                self.addresses[name] = settings["networks"]["mail"]["ipv4_address"]
        self.hosts = "127.0.0.1 localhost\n" + "".join(
            f"{address} {name}\n" for name, address in self.addresses.items()
        )
        self.client = f"{self.network}77"
        self._running = ExitStack()
        self._start_s3(s3)

    def _move(self) -> None:
        """Give the services addresses of this machine, where each port has many takers."""
        for file in ("compose.yaml", "haproxy.cfg", "pop3gw.toml"):
            text = (self.files / file).read_text().replace(NETWORK, self.network)
            if file == "haproxy.cfg":
                own = f"{self.network}10"
                text = text.replace("bind :", f"bind {own}:")
                text = text.replace("bind 127.0.0.1:", f"bind {own}:")
                text = text.replace("defaults\n", f"defaults\n    source {own}\n", 1)
            (self.files / file).write_text(text)

    def _start_s3(self, s3: RadosGateway) -> None:
        """TLS before it, with the certificate of the example."""
        place = self.directory / "s3"
        place.mkdir()
        tls = self.files / "tls/s3"
        (place / "both.pem").write_text(
            (tls / "tls.crt").read_text() + (tls / "tls.key").read_text()
        )
        front = Haproxy(
            place,
            "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1m\n"
            f"    timeout server 1m\nlisten s3\n"
            f"    bind {self.addresses['s3']}:8333 ssl crt both.pem\n"
            f"    server s3 127.0.0.1:{s3.port}\n",
        ).run()
        self._running.callback(front.stop)

    def service(self, name: str) -> Service:
        """A service, not started yet."""
        service = Service(self, name)
        self._running.callback(service.stop, signal.SIGKILL)
        return service

    def add(self, user: str, password: str) -> None:
        """A line in the passwd-file."""
        with (self.files / "accounts/users").open("a") as file:
            file.write(f"{user}:{{PLAIN}}{password}\n")

    def stop(self) -> None:
        """End all."""
        self._running.close()
