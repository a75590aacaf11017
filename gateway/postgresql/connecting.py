"""A new connection to the first of several servers that answers.  Blocks.

Who waits for one server after the other waits long if some are silent: psycopg gives each address
all of the time limit.  Here a silent server has a head start, and then others are tried beside it.
"""

from __future__ import annotations

import math
import select
import time
from collections import deque

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import ConnStatus, PGconn, PollingStatus, abc

from gateway.postgresql.conninfo import Words
from gateway.postgresql.servers import Server, Servers

HEAD_START = 1.0
"""Seconds after which the next server is tried too, or sooner if there is less time for all."""


def connect(words: Words, servers: Servers, until: float) -> abc.PGconn:
    """A connection.  Raises ``OperationalError`` with what is known of each server.

    ``until``: when to give up, in seconds of ``time.monotonic``.  The resolver may take longer.
    """
    return _Search(words, servers, until).run()


class _Attempt:
    """A connection that is being made to one address."""

    def __init__(self, words: Words, server: Server, address: Server) -> None:
        self.server, self.address = server, address
        # Those that are empty too: in place of a missing one libpq takes that of the environment.
        conninfo = make_conninfo(**{**words, **address._asdict()})
        self.connection = PGconn.connect_start(conninfo.encode())
        self.event = select.POLLOUT
        """What it waits for."""

    @property
    def is_bad(self) -> bool:
        """Whether it has failed."""
        return self.connection.status == ConnStatus.BAD

    def go_on(self) -> bool:
        """Whether the connection is made.  Raises ``OperationalError``."""
        status = PollingStatus.FAILED if self.is_bad else self.connection.connect_poll()
        if status == PollingStatus.FAILED:
            raise psycopg.OperationalError(self.connection.get_error_message())
        self.event = select.POLLIN if status == PollingStatus.READING else select.POLLOUT
        return status == PollingStatus.OK

    def __str__(self) -> str:
        host, hostaddr, port = self.address
        at = f'"{host}"' if hostaddr in ("", host) else f'"{host}" ({hostaddr})'
        return f"connection to server at {at}, port {port or '5432'}"


class _Search:
    """The attempts of one call."""

    def __init__(self, words: Words, servers: Servers, until: float) -> None:
        self._words, self._servers, self._until = words, servers, until
        self._names = deque(servers.in_order())
        """Those that the resolver was not asked for yet."""
        self._addresses = deque[tuple[Server, Server]]()
        """Those that were not tried yet."""
        self._attempts: list[_Attempt] = []
        self._next_at = 0.0
        """When one more is begun."""
        self._failures: list[str] = []

    def run(self) -> abc.PGconn:
        """As ``connect``."""
        try:
            while self._begin():
                for attempt in self._ready():
                    if self._is_made(attempt):
                        return self._taken(attempt)
            silent = [f"{attempt} failed: no answer" for attempt in self._attempts]
            failures = dict.fromkeys([*self._failures, *silent])
            raise psycopg.OperationalError("; ".join(failures) or "no server was named")
        finally:
            for attempt in self._attempts:
                attempt.connection.finish()

    def _begin(self) -> bool:
        """Begin one more attempt if it is time; whether there is anything to wait for."""
        while (now := time.monotonic()) < self._until:
            is_time = not self._attempts or now >= self._next_at
            if self._addresses and is_time:
                attempt = _Attempt(self._words, *self._addresses.popleft())
                self._attempts.append(attempt)
                # All have begun by the half of the time, and the last one has the other half.
                left = (self._until - now) / (2 * (self._untried() + 1))
                self._next_at = now + min(HEAD_START, left)
            elif self._names and is_time:
                self._look_up(self._names.popleft())
            else:
                return bool(self._attempts)
        return False

    def _untried(self) -> int:
        return len(self._names) + len(self._addresses)

    def _look_up(self, server: Server) -> None:
        began = time.monotonic()
        try:
            found = self._servers.addresses_of(server)
        except OSError as error:
            self._failures.append(f'no address of "{server.host}": {error.strerror or error}')
        else:
            self._addresses += [(server, address) for address in found]
        # Nobody can limit it, and a server that it was slow to find is still to be tried.
        self._until += time.monotonic() - began

    def _ready(self) -> list[_Attempt]:
        """Those that can go on, after a wait for them."""
        if bad := [attempt for attempt in self._attempts if attempt.is_bad]:
            return bad
        poll = select.poll()
        for attempt in self._attempts:
            poll.register(attempt.connection.socket, attempt.event)
        end = min(self._next_at, self._until) if self._untried() else self._until
        seconds = max(end - time.monotonic(), 0)
        found = {number for number, _ in poll.poll(math.ceil(seconds * 1000))}
        return [attempt for attempt in self._attempts if attempt.connection.socket in found]

    def _is_made(self, attempt: _Attempt) -> bool:
        try:
            return attempt.go_on()
        except psycopg.OperationalError as error:
            self._failures.append(str(error).strip())
            self._attempts.remove(attempt)
            attempt.connection.finish()
            self._next_at = 0.0
            return False

    def _taken(self, attempt: _Attempt) -> abc.PGconn:
        self._attempts.remove(attempt)
        connection = attempt.connection
        # A string without target_session_attrs may lead to one, while the primary is away.
        if connection.parameter_status(b"in_hot_standby") != b"on":
            self._servers.remember(attempt.server, attempt.address)
        # As psycopg has it.
        connection.nonblocking = 1
        return connection
