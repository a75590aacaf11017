"""A primary and a standby of PostgreSQL, which take each other's place."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress

import psycopg

from postgresql import PostgreSQL

_IN_STEP = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = %s"


class PostgreSQLPair:
    """Two servers; one is the primary, the other its standby."""

    def __init__(self, *, synchronous: bool = True) -> None:
        """``synchronous``: a commit is answered when the standby has it too."""
        self._synchronous = synchronous
        self._running = ExitStack()
        self.primary, self.standby = PostgreSQL(), PostgreSQL(is_empty=True)
        self.ports = (self.primary.port, self.standby.port)
        for server in (self.primary, self.standby):
            self._running.callback(server.stop)

    def run(self) -> PostgreSQLPair:
        """Start both; returns once the standby is in step."""
        self.primary.run()
        self.rebuild()
        return self

    def stop(self) -> None:
        """End both."""
        self._running.close()

    def fail_over(self) -> None:
        """Kill the primary, and make the standby the primary; the other one is down then."""
        self.primary.kill()
        self.primary, self.standby = self.standby, self.primary
        self.primary.promote()
        # It has no standby yet, and would wait for one at each commit.
        self._set("synchronous_standby_names", "")

    def rebuild(self) -> None:
        """Make a standby of the server that is down; returns once it is in step."""
        self.standby.follow(self.primary)
        if self._synchronous:
            self._set("synchronous_standby_names", "*")
        wanted = "sync" if self._synchronous else "async"
        self._until(_IN_STEP.replace("%s", f"'{wanted}'"), 1)

    def fall_behind(self) -> None:
        """Let the standby receive no more: what is committed from now on can be lost."""
        with self.standby.connect() as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
        self._until("SELECT count(*) FROM pg_stat_replication", 0)

    def _set(self, name: str, value: str) -> None:
        with self.primary.connect() as connection:
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            connection.execute("SELECT pg_reload_conf()")

    def _until(self, query: str, count: int, seconds: float = 60) -> None:
        """Return once this query of the primary has this answer."""
        end = time.monotonic() + seconds
        while True:
            with suppress(psycopg.OperationalError):
                if self.primary.value(query) == count:
                    return
            assert time.monotonic() < end, f"{query}: not {count}"
            time.sleep(0.02)
