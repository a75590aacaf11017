"""A real PostgreSQL for the tests of the cluster store."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from gateway.net.tls.certificates import make_certificate
from programs import find, need
from servers import Server, free_port

INITDB, POSTGRES = "/usr/lib/postgresql/*/bin/initdb", "/usr/lib/postgresql/*/bin/postgres"
PG_CTL = "/usr/lib/postgresql/*/bin/pg_ctl"
PG_BASEBACKUP = "/usr/lib/postgresql/*/bin/pg_basebackup"

OWNER, PASSWORD = "pop3gw", "schema-owner"
"""The role that owns the schema; it is a superuser here."""


class PostgreSQL(Server):
    """A cluster of its own on a loopback port; with passwords, and without syncing."""

    def __init__(self, *, is_empty: bool = False) -> None:
        """``is_empty``: it has no data until it follows another one."""
        need(INITDB, POSTGRES, PG_CTL, PG_BASEBACKUP, "setpriv")
        # Where every user may go: it does not run as root.
        super().__init__(Path(tempfile.mkdtemp(prefix="pop3gw-sql-")))
        self.port = free_port()
        self._data = self.directory / "data"
        self.certificate, key = self.directory / "cert.pem", self.directory / "key.pem"
        make_certificate(str(self.certificate), str(key))
        self._user: list[str] = []
        if os.geteuid() == 0:
            # Its package has made this user.
            self._user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            for path in (self.directory, key):
                os.chown(path, *pwd.getpwnam("postgres")[2:4])
        if not is_empty:
            self._make()

    def _make(self) -> None:
        secret = self.directory / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        more = ("-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "-N", "-U", OWNER)
        self._do(INITDB, "-D", str(self._data), f"--pwfile={secret}", *more)

    def _do(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._user, str(find(program)), *arguments],
            cwd=self.directory,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )

    def run(self) -> PostgreSQL:
        """Start it; returns once it takes connections."""
        return self._run(b"database system is ready to accept connections")

    def follow(self, primary: PostgreSQL) -> PostgreSQL:
        """Start it as a standby with a copy of the primary; what it had is removed."""
        shutil.rmtree(self._data, ignore_errors=True)
        source = primary.url(database="replication")
        more = ("-R", "-X", "stream", "-c", "fast", "--no-sync")
        self._do(PG_BASEBACKUP, "-D", str(self._data), "-d", source, *more)
        return self._run(b"database system is ready to accept read-only connections")

    def promote(self) -> None:
        """Make a primary of a standby; returns once it takes writes."""
        self._do(PG_CTL, "promote", "-w", "-D", str(self._data))

    def _run(self, ready: bytes) -> PostgreSQL:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.directory,
            "fsync": "off",
            "lc_messages": "C",
            "ssl": "on",
            "ssl_cert_file": self.certificate,
            "ssl_key_file": self.directory / "key.pem",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [*self._user, str(find(POSTGRES)), "-D", str(self._data), *words]
        self.start(command, ready)
        return self

    def crash(self) -> None:
        """End it without a checkpoint; ``run`` starts it again."""
        super().stop(signal.SIGQUIT)

    def kill(self) -> None:
        """End all of its processes at once, as a loss of power does."""
        assert self.process is not None
        self.halt()
        # Its processes first: none sees the end of the postmaster and does something about it.
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in children.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        super().stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it, at once for its clients, and remove it."""
        status = 0 if self.process is None else super().stop(number)
        shutil.rmtree(self.directory)
        return status

    def url(self, database: str = "postgres", role: str = OWNER, password: str = PASSWORD) -> str:
        """Where a role finds a database."""
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def make_database(self, name: str) -> None:
        """A new, empty database."""
        self.execute(f'CREATE DATABASE "{name}"')

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def dumped(self, name: str) -> bytes:
        """A backup of a database."""
        return self._by("pg_dump", "--format=custom", f"--dbname={self.url(name)}")

    def restore(self, name: str, dump: bytes) -> None:
        """Make a database anew, from a backup."""
        self.drop_database(name)
        self.make_database(name)
        self._by("pg_restore", "--exit-on-error", f"--dbname={self.url(name)}", given=dump)

    def _by(self, program: str, *arguments: str, given: bytes = b"") -> bytes:
        path = Path(str(find(INITDB))).with_name(program)
        done = subprocess.run(
            [path, *arguments], input=given, capture_output=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Perform a statement as the owner, outside of a transaction."""
        with self.connect(database) as connection:
            connection.execute(statement.encode())

    def value(self, query: str) -> Any:
        """The one value of a query."""
        with self.connect() as connection:
            row = connection.execute(query.encode()).fetchone()
        return row and row[0]

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A connection of the owner, without transactions."""
        return psycopg.connect(self.url(database), autocommit=True)
