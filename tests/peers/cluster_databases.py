"""PostgreSQL of ``etc/cluster``: db1 and db2 as compose.yaml describes them, without an engine."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import psycopg
import yaml
from psycopg.conninfo import make_conninfo

import run_local
from gateway.config.load import load_settings
from pages import DOCS
from postgresql import PG_BASEBACKUP, PG_CTL, POSTGRES
from programs import find, need
from servers import Server, free_port

CLUSTER = Path(__file__).parents[2] / "etc" / "cluster"
ENTRYPOINT = Path(__file__).with_name("docker-entrypoint.sh")
PAGE = DOCS / "cluster-compose.md"

ADDRESSES = {"db1": "127.0.0.11", "db2": "127.0.0.12"}
IMAGE_USER = "999"
"""The number that the user ``postgres`` has in the image."""


class ClusterDatabase(Server):
    """One of the two; each start is that of a new container with the volume of the one before."""

    def __init__(self, name: str, data: Path, port: int, env: dict[str, str]) -> None:
        """``data``: what ``prepare`` has filled; ``env``: what Compose reads in ``.env``."""
        super().__init__(data)
        self.name, self._volume = name, data / "volumes" / name
        self._port, self._env = port, env

    def _service(self) -> run_local.Service:
        """What compose.yaml says, but for the number of the user, the port and the address."""
        user = pwd.getpwnam("postgres")
        text = (CLUSTER / "compose.yaml").read_text()
        text = text.replace(f"uid={IMAGE_USER},gid={IMAGE_USER}", "uid={0},gid={1}")
        text = text.replace(f"{IMAGE_USER}:{IMAGE_USER}", "{0}:{1}")
        for old, new in (("{0}", user.pw_uid), ("{1}", user.pw_gid)):
            text = text.replace(old, str(new))
        env = {"MAIL_DATA": str(self.directory), **self._env}
        text = re.sub(r"\$\{(\w+):-(.*?)\}", lambda one: env.get(one[1], one[2]), text)
        compose = yaml.safe_load(text)
        settings: dict[str, Any] = compose["services"][self.name]
        volumes = [re.sub(r"^\./", f"{CLUSTER}/", one) for one in settings["volumes"]]
        for secret in settings["secrets"]:
            file = compose["secrets"][secret]["file"]
            volumes.append(f"{file}:/run/secrets/{secret}:ro")
        # A link of Debian, which would lead out of the root.
        settings["tmpfs"] = [one.replace("/var/run/", "/run/") for one in settings["tmpfs"]]
        settings["volumes"] = volumes
        self._stop_signal = signal.Signals[settings["stop_signal"]]
        (_, *health) = settings["healthcheck"]["test"]
        here = [f"--host={self.name}" if one == "--host=127.0.0.1" else one for one in health]
        # A standby without its primary is promoted when its next try is due: in five seconds.
        quick = {"fsync": "off", "wal_retrieve_retry_interval": "100ms"}
        more = {"listen_addresses": self.name, **quick}
        options = [word for name, value in more.items() for word in ("-c", f"{name}={value}")]
        programs = Path(str(find(POSTGRES))).parent
        image = run_local.Image(
            environment={
                "PATH": f"{programs}:{run_local.VENV}/bin:{run_local.DEFAULT_PATH}",
                "LANG": "C.UTF-8",
                "PGPORT": str(self._port),
            },
            command=[*settings["entrypoint"], *settings["command"], *options],
            health=here,
            copies=[(ENTRYPOINT, "/usr/local/bin/docker-entrypoint.sh", 0o755)],
        )
        hosts = [f"{address} {name}\n" for name, address in ADDRESSES.items()]
        return run_local.Service(
            self.name, settings, self.directory, "127.0.0.1 localhost\n" + "".join(hosts), image
        )

    def begin(self, says: bytes) -> ClusterDatabase:
        """Start it; returns once it has said something."""
        self._inside = self._service()
        self.start(self._inside.starting(), says)
        return self

    def run(self) -> ClusterDatabase:
        """Start it; returns once it is healthy."""
        self.begin(b"starting PostgreSQL")
        self.until_healthy()
        return self

    def until_healthy(self, seconds: float = 60) -> None:
        """Return once its health check succeeds."""
        assert self.process is not None
        end = time.monotonic() + seconds
        while self.execute(*self._inside.image.health).returncode:
            assert time.monotonic() < end, self.log
            assert self.process.poll() is None, self.log
            time.sleep(0.02)

    def _first(self) -> str:
        """Its process 1, by the number outside; empty once it has ended."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return children.read_text().strip()

    def execute(
        self, *command: str, stdin: IO[str] | None = None, stdout: IO[str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as its user."""
        enter = ("--mount", "--pid", "--net", "--root", "--wd")
        return subprocess.run(
            ["nsenter", "--target", self._first(), *enter, *self._inside.confined([*command])],
            env={"PATH": run_local.DEFAULT_PATH},
            stdin=stdin,
            stdout=stdout or subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    def stop(self, number: int = 0) -> int:
        """End it by the signal that compose.yaml has, or by this one."""
        assert self.process is not None
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(self._first()), number or self._stop_signal)
        # What has made its namespaces ends with it.
        return super().stop(0)

    def forget(self) -> None:
        """Remove its volume."""
        shutil.rmtree(self._volume)

    def ended(self) -> int:
        """Its exit status, once it has ended by itself."""
        assert self.process is not None
        return self.process.wait(60)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process is not None and self.process.poll() is None


class ClusterDatabases:
    """Both, and the terminal of the page."""

    def __init__(self, data: Path) -> None:
        need("bash", "cat", "chmod", "cp", "mkdir", "mount", "openssl", "psql", "pg_isready", "rm")
        need("env", "nsenter", "setpriv", "sh", "sleep", "tr", "unshare", root=True)
        need(POSTGRES, PG_CTL, PG_BASEBACKUP)
        self.data, self._port, self.env = data, free_port(), dict[str, str]()
        subprocess.run([CLUSTER / "prepare", str(data)], check=True, timeout=60)
        self.servers = {
            name: ClusterDatabase(name, data, self._port, self.env) for name in ADDRESSES
        }

    def run(self) -> ClusterDatabases:
        """Start both at once; returns once both are healthy."""
        # It waits for the other one.
        self.servers["db2"].begin(b"db2: db1 cannot be copied yet")
        self.servers["db1"].run()
        self.servers["db2"].wait_for(b"starting PostgreSQL")
        self.servers["db2"].until_healthy()
        return self

    def stop(self) -> None:
        """End those that run."""
        for server in self.servers.values():
            if server.runs:
                server.stop()

    def migrate(self) -> subprocess.CompletedProcess[str]:
        """What the service ``migrate`` does, beside db1, which has its secret too."""
        migrate = yaml.safe_load((CLUSTER / "compose.yaml").read_text())["services"]["migrate"]
        hosts = ",".join(ADDRESSES)
        ports = ",".join(f"{name}:{self._port}" for name in ADDRESSES)
        command = [
            one.replace("$$", "$").replace(f"@{hosts}/", f"@{ports}/") for one in migrate["command"]
        ]
        return self.servers["db1"].execute(*migrate["entrypoint"], *command)

    def conninfo(self, role: str, *, database: str = "", **more: str) -> str:
        """How a role connects by the settings of the gateways, but for these."""
        secrets = self.data / "secrets"
        name = {"pop3gw": "owner"}.get(role, role)
        store: Any = load_settings(
            str(CLUSTER / "pop3gw.toml"),
            {
                "POP3GW_STORE__DATABASE_PASSWORD_FILE": str(secrets / "database-gateway"),
                "POP3GW_STORE__BUCKET_SECRET_KEY_FILE": str(secrets / "bucket-gateway"),
            },
        ).store
        hosts = urlsplit(store.database).netloc.partition("@")[2].split(",")
        settings = {
            "user": role,
            "password": (secrets / f"database-{name}").read_text(),
            "hostaddr": ",".join(ADDRESSES[host] for host in hosts),
            "port": str(self._port),
            "sslrootcert": str(self.data / "tls/ca/ca.crt"),
            **({"dbname": database} if database else {}),
        }
        return make_conninfo(store.database, **(settings | more))

    def connect(self, role: str, **more: str) -> psycopg.Connection[Any]:
        """A connection without transactions."""
        return psycopg.connect(self.conninfo(role, **more), autocommit=True)

    def value(self, name: str, query: str) -> str:
        """What a server answers to its superuser."""
        how = ("--no-psqlrc", "--tuples-only", "--no-align", "--username=postgres", "--dbname=mail")
        done = self.servers[name].execute("psql", *how, f"--command={query}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def until(self, name: str, query: str, answer: str, seconds: float = 60) -> None:
        """Return once a server answers that."""
        end = time.monotonic() + seconds
        while (found := self.value(name, query)) != answer:
            assert time.monotonic() < end, f"{query}: {found}"
            time.sleep(0.02)

    @property
    def primary(self) -> str:
        """The name of the primary."""
        asked = "SELECT pg_is_in_recovery()"
        (name,) = (one for one in self.servers if self.value(one, asked) == "f")
        return name

    def _run_pop3gw(self, program: str, service: str, *command: str) -> None:
        """A command of a gateway that does not run, by its settings but for where things are."""
        assert service == "gateway1"
        env = {
            "POP3GW_CONFIG": CLUSTER / "pop3gw.toml",
            "POP3GW_STATE_DIR": self.data,
            "POP3GW_STORE__DATABASE": re.sub(r"\bpassword=\S+", "", self.conninfo("gateway")),
            "POP3GW_STORE__DATABASE_PASSWORD_FILE": self.data / "secrets/database-gateway",
            "POP3GW_STORE__BUCKET_CA_FILE": self.data / "tls/ca/ca.crt",
            "POP3GW_STORE__BUCKET_SECRET_KEY_FILE": self.data / "secrets/bucket-gateway",
            "POP3GW_DIRECTORY__FILE": self.data / "accounts/users",
            "POP3GW_TLS__CERTIFICATE": self.data / "tls/mail/tls.crt",
            "POP3GW_TLS__KEY": self.data / "tls/mail/tls.key",
        }
        done = subprocess.run(
            [Path(sys.executable).with_name(program), *command],
            env=os.environ | {name: str(value) for name, value in env.items()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def type(self, text: str) -> None:
        """Do what the page says, with what we have for Docker."""
        assert text in PAGE.read_text()
        for line in text.splitlines():
            self._type(shlex.split(line))

    def _type(self, words: list[str]) -> None:
        match words:
            case ["docker", "compose", "exec", "-T", name, *command, ">" | "<" as way, file]:
                with (self.data / file).open("w" if way == ">" else "r") as stream:
                    done = self.servers[name].execute(
                        *command, **{"stdout" if way == ">" else "stdin": stream}
                    )
                assert done.returncode == 0, (words, done.stderr)
            case ["docker", "compose", "run", "--rm", "--no-deps", "--entrypoint", *command]:
                self._run_pop3gw(*command)
            case ["docker", "compose", "exec", name, *command]:
                done = self.servers[name].execute(*command)
                assert done.returncode == 0, (words, done.stdout, done.stderr)
            case ["docker", "compose", "up", "--detach", "--no-deps", "--wait", name]:
                if not self.servers[name].runs:
                    self.servers[name].run()
            case ["docker", "compose", "stop", "haproxy", "gateway1", "gateway2"]:
                # There are none here.
                pass
            case ["docker", "compose", "stop", name]:
                self.servers[name].stop()
            case ["docker", "compose", "rm", "--force", "--stop", name]:
                if self.servers[name].runs:
                    self.servers[name].stop()
            case ["docker", "volume", "rm", volume]:
                self.servers[volume.removeprefix("mail-cluster_")].forget()
            case ["echo", setting, ">>", ".env"]:
                self.env.update([setting.split("=")])
            case _:
                raise AssertionError(f"no test knows how to do {words}")
