"""A real PgBouncer for the tests of the cluster store."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import tempfile
from pathlib import Path

from programs import find, need
from servers import Server, free_port

SERVERS = 3
"""Connections to PostgreSQL, which transactions use in turn."""


class PgBouncer(Server):
    """A pooler in transaction mode, on a loopback port."""

    def __init__(self, target: int, role: str, password: str) -> None:
        """``target``: the port of PostgreSQL; only this role may connect."""
        need("pgbouncer", "setpriv")
        # Where every user may go: it does not run as root.
        super().__init__(Path(tempfile.mkdtemp(prefix="pop3gw-pooler-")))
        self.port = free_port()
        self._command = [str(find("pgbouncer")), str(self._configured(target, role, password))]
        if os.geteuid() == 0:
            # Its package makes this user, by PostgreSQL's.
            user = pwd.getpwnam("postgres")
            for path in (self.directory, *self.directory.iterdir()):
                os.chown(path, user.pw_uid, user.pw_gid)
            change = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
            self._command = [*change, *self._command]

    def _configured(self, target: int, role: str, password: str) -> Path:
        users, settings = self.directory / "users", self.directory / "pgbouncer.ini"
        users.write_text(f'"{role}" "{password}"\n')
        settings.write_text(f"""\
[databases]
* = host=127.0.0.1 port={target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {SERVERS}
server_round_robin = 1
server_login_retry = 1
""")
        return settings

    def run(self) -> PgBouncer:
        """Start it; returns once it takes connections."""
        self.start(self._command, b"process up")
        return self

    def stop(self, number: int = signal.SIGKILL) -> int:
        """End it with all its connections: from version 1.23 on it waits for clients at SIGTERM."""
        return super().stop(number)

    def remove(self) -> None:
        """End it, and remove its files."""
        self.stop()
        shutil.rmtree(self.directory)
