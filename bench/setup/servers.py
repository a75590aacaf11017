"""Starts and stops the two servers, each on its own copy of the mail."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from bench.setup import dovecot_config, processes
from bench.setup.maildirs import Drop, give
from bench.setup.ports import Ports

ROOT = Path(__file__).parents[2]
OWNER = 20000 if os.geteuid() == 0 else None
"""The user and group that own the mail and serve it: they need no entry in /etc/passwd.

None: those of this program.  As in ``etc/pop3gw.service``, the gateway does not run as root.
"""


free_port = Ports(range(10_000, 12_000)).free
"""A loopback port for a server."""


class NotAvailable(Exception):
    """The server cannot run here; the text says what would cure it."""


class Server:
    """One server: where it listens, what it has cost, how it starts and ends."""

    name = ""
    source = ROOT
    """The tree of which it runs, if it is ours."""
    environment: Mapping[str, str] = MappingProxyType({})
    """What is added to the environment."""
    starts_as_root = False
    """Whether it changes to the owner of the mail by itself, for what serves the mail."""

    def __init__(
        self, directory: Path, pairs: Mapping[str, tuple[Path, Path]], owner: int | None
    ) -> None:
        self.directory = directory
        self.owner = owner
        """The user and group that own the mail and serve it; None: those of this program."""
        self.pairs = pairs
        """Certificate and key, ``rsa`` and ``ecdsa``."""
        self.plain = free_port()
        self.tls = free_port()
        """With an RSA certificate on 127.0.0.1, and an ECDSA one on 127.0.0.2."""
        self.lmtp = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def mail(self) -> Path:
        """The root of its copy of the mail."""
        return self.directory / "mail"

    @property
    def accounts(self) -> Path:
        return self.directory / "accounts"

    @property
    def state(self) -> Path:
        """What it remembers beside the mail."""
        return self.directory / "state"

    def engines_cpu(self) -> Mapping[str, float]:
        """Seconds of CPU so far of each engine that has its mail."""
        return {}

    def count(self, drops: Sequence[Drop]) -> int:
        """How many messages it has of these users."""
        places = (self.mail / drop.local / "Maildir" for drop in drops)
        return sum(len(os.listdir(place / part)) for place in places for part in ("cur", "new"))

    def forget(self, drops: Sequence[Drop]) -> None:
        """Start anew, as if nobody had ever opened these mailboxes."""
        self.stop()
        shutil.rmtree(self.state, ignore_errors=True)
        for drop in drops:
            with os.scandir(self.mail / drop.local / "Maildir") as entries:
                files = [entry.path for entry in entries if entry.is_file()]
            for path in files:
                os.unlink(path)
        self.start()

    def command(self) -> list[str]:
        """Write what configuration it needs and say how to start it in the foreground."""
        raise NotImplementedError

    def start(self, seconds: float = 30.0) -> None:
        """Return once both ports greet; ``NotAvailable`` with the log's end otherwise."""
        log = self.directory / "output.log"
        environment = {**os.environ, "PYTHONPATH": str(self.source), **self.environment}
        user = None if self.starts_as_root else self.owner
        command = self.command()
        with log.open("ab") as output:
            run = partial(
                subprocess.Popen,
                command,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=self.directory,
            )
            try:
                self._process = run(
                    user=user, group=user, extra_groups=None if user is None else []
                )
            except PermissionError:
                # As with a Python of pyenv in the home of root.
                said = f"bench: {self.name} runs as root: user {user} may not run {command[0]}"
                print(said, file=sys.stderr)
                self._process = run()
        end = time.monotonic() + seconds
        for port in (self.plain, self.tls, self.lmtp):
            while not _listening(port):
                if self._process.poll() is not None or time.monotonic() > end:
                    self.stop()
                    raise NotAvailable(f"{self.name} did not start: {self._last_words()}")
                time.sleep(0.05)

    def restart(self) -> None:
        """Stop it, if it runs, and start it."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """End it and what it started, by process id."""
        if self._process is None:
            return
        family = processes.tree(self._process.pid)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                for pid in family:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self._process.wait()
        self._process = None

    def close(self) -> None:
        """End it, and what it needs."""
        self.stop()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The root of its tree of processes."""
        if self._process is None or not self.alive:
            raise NotAvailable(f"{self.name} is not running: {self._last_words()}")
        return self._process.pid

    def _last_words(self) -> str:
        texts = [log.read_text(errors="replace") for log in self.directory.glob("*.log")]
        lines = [line for text in texts for line in text.splitlines() if line.strip()]
        return " | ".join(lines[-3:]) or "it logged nothing"


class Dovecot(Server):
    """Dovecot 2.3 or 2.4 with ``dovecot.conf.in``."""

    name = "dovecot"
    starts_as_root = True

    def command(self) -> list[str]:
        program = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        parts = (Path("/usr/lib/dovecot/pop3"), Path("/usr/lib/dovecot/lmtp"))
        if program is None or not all(part.exists() for part in parts):
            packages = "dovecot-core dovecot-pop3d dovecot-lmtpd"
            raise NotAvailable(f"Dovecot is missing: apt-get install {packages}")
        if os.geteuid() != 0:
            raise NotAvailable("Dovecot starts only as root: run the benchmark as root")
        config = self.directory / "dovecot.conf"
        version = dovecot_config.version(program)
        config.write_text(dovecot_config.configuration(self._settings(), version))
        return [program, "-F", "-c", str(config)]

    def _settings(self) -> str:
        return Template(Path(__file__).with_name("dovecot.conf.in").read_text()).substitute(
            directory=self.directory,
            **{f"{kind}_certificate": pair[0] for kind, pair in self.pairs.items()},
            **{f"{kind}_key": pair[1] for kind, pair in self.pairs.items()},
            owner=self.owner,
            plain=self.plain,
            tls=self.tls,
            lmtp=self.lmtp,
        )


class Gateway(Server):
    """``twistd pop3gw`` of this source tree."""

    name = "gateway"

    def command(self) -> list[str]:
        config = self.directory / "pop3gw.toml"
        config.write_text(self._settings())
        twistd = Path(sys.executable).with_name("twistd")
        if not twistd.exists():
            raise NotAvailable(f"no twistd beside {sys.executable}: install Twisted there")
        log = self.directory / "gateway.log"
        return [
            *(sys.executable, str(twistd), "-n", "--pidfile=", f"--logfile={log}"),
            *("pop3gw", f"--config={config}"),
        ]

    def _settings(self) -> str:
        (rsa_certificate, rsa_key), (certificate, key) = self.pairs["rsa"], self.pairs["ecdsa"]
        return f"""\
state_dir = "{self.state}"

[listeners.plain]
endpoint = "tcp:{self.plain}:interface=127.0.0.1:backlog=1024"
tls = "none"

[listeners.rsa]
endpoint = "tcp:{self.tls}:interface=127.0.0.1:backlog=1024"
tls = "implicit"

[listeners.ecdsa]
endpoint = "tcp:{self.tls}:interface=127.0.0.2:backlog=1024"
tls = "implicit"
certificate = "{certificate}"
key = "{key}"

[tls]
certificate = "{rsa_certificate}"
key = "{rsa_key}"
self_signed = false

[limits]
connections = 12000
connections_per_address = 12000
sessions_per_user = 12000

[directory]
kind = "passwd-file"
file = "{self.accounts}"

[store]
kind = "maildir"
path = "{self.mail}/{{local}}/Maildir"

[lmtp]
endpoint = "tcp:{self.lmtp}:interface=127.0.0.1"
max_size = "200 MB"
"""


def changed(settings: str, changes: Mapping[str, str]) -> str:
    """Settings with other lines for some of them, each of which must be there."""
    for line, other in changes.items():
        if line not in settings:
            raise ValueError(f"no {line!r} to change in:\n{settings}")
        settings = settings.replace(line, other)
    return settings


Some = TypeVar("Some", bound=Server)


def made(
    directory: Path, kinds: Mapping[str, type[Some]], owner: int | None = OWNER
) -> dict[str, Some]:
    """Servers with the same certificates, each in a directory of its name."""
    keys: Mapping[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = {
        "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ecdsa": ec.generate_private_key(ec.SECP256R1()),
    }
    pairs = {kind: _certified(directory / kind, key) for kind, key in keys.items()}
    servers = {}
    for name, kind in kinds.items():
        place = directory / name
        place.mkdir()
        give(place, owner)
        servers[name] = kind(place, pairs, owner)
    return servers


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server, started, and stopped however the block ends."""
    try:
        server.start()
        yield server
    finally:
        server.close()


def _certified(
    path: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    """PEM files with a self-signed certificate for a key, and the key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = path.with_suffix(".pem"), path.with_suffix(".key")
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def _listening(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False
