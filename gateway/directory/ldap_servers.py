"""Connections to LDAP servers: kept, opened anew, and to the next server when one is down.

Everything here blocks: for a worker.  ldap3's defaults would fetch the schema
with every bind, follow referrals with the service's password, and take any
certificate; each is set otherwise.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import ldap3
from attrs import frozen
from ldap3.core.exceptions import LDAPException
from twisted.logger import Logger

from gateway.errors import DirectoryDown

log = Logger()

T = TypeVar("T")


@frozen
class Reach:
    """How servers are reached."""

    uris: Sequence[str]
    """``ldap://`` or ``ldaps://`` with host and port; the first that answers is used."""

    start_tls: bool = False
    ca_file: str = ""
    """PEM file of authorities; empty: those of the system."""

    timeout: int = 5
    """Seconds for a connection, and for each answer."""

    retry_after: float = 10.0
    """Seconds for which a server that did not answer is left alone."""


class _Server:
    """One server: how it is, and connections that nobody uses just now."""

    def __init__(self, uri: str, reach: Reach) -> None:
        self.uri = uri
        self.down_until = 0.0
        self._reach = reach
        # A deque, since several threads take and keep.
        self._idle: deque[Any] = deque()

    def take(self) -> Any:
        """A connection that is kept, or None."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def keep(self, connection: Any) -> None:
        """Keep a connection for the next."""
        self._idle.append(connection)

    def open(self) -> Any:
        """A new connection, TLS begun, nobody bound."""
        parts = urlsplit(self.uri)
        secure = parts.scheme == "ldaps"
        tls = ldap3.Tls(
            validate=ssl.CERT_REQUIRED,
            ca_certs_file=self._reach.ca_file or ssl.get_default_verify_paths().cafile,
            valid_names=[parts.hostname],
        )
        server = ldap3.Server(
            parts.hostname or "",
            port=parts.port or (636 if secure else 389),
            use_ssl=secure,
            tls=tls,
            get_info=ldap3.NONE,
            connect_timeout=self._reach.timeout,
        )
        connection = ldap3.Connection(
            server,
            client_strategy=ldap3.SAFE_SYNC,
            receive_timeout=self._reach.timeout,
            auto_referrals=False,
            check_names=False,
            read_only=True,
        )
        connection.open(read_server_info=False)
        # Without it StartTLS and a bind wait for delayed ACKs, 50 ms.
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._reach.start_tls and not secure:
            connection.start_tls(read_server_info=False)
        return connection


class Servers:
    """Several servers with the same content."""

    def __init__(self, reach: Reach, prepare: Callable[[Any], None], now: Callable[[], float]):
        """``prepare`` is done once with every new connection: a service's bind."""
        self._reach = reach
        self._prepare = prepare
        self._now = now
        self._servers = [_Server(uri, reach) for uri in reach.uris]

    def use(self, work: Callable[[Any], T]) -> T:
        """Do ``work`` with a connection to the first server that answers.

        A connection that was kept may have been closed by the other end: then
        the work is done once more with a new one.  A server that does not
        answer is left alone for a while, unless none does.  Raises
        ``DirectoryDown``, and whatever ``work`` and ``prepare`` raise.
        """
        now = self._now()
        ready = [server for server in self._servers if server.down_until <= now]
        problems = []
        for server in ready or self._servers:
            try:
                return self._use(server, work)
            except (LDAPException, OSError) as error:
                server.down_until = self._now() + self._reach.retry_after
                problems.append(f"{server.uri}: {type(error).__name__}: {error}")
                log.warn("{problem}", problem=problems[-1])
        raise DirectoryDown("; ".join(problems))

    def _use(self, server: _Server, work: Callable[[Any], T]) -> T:
        kept = server.take()
        if kept is not None:
            try:
                result = work(kept)
            except (LDAPException, OSError):
                _close(kept)
            except BaseException:
                _close(kept)
                raise
            else:
                server.keep(kept)
                return result
        connection = server.open()
        try:
            self._prepare(connection)
            result = work(connection)
        except BaseException:
            _close(connection)
            raise
        server.keep(connection)
        return result


def _close(connection: Any) -> None:
    try:
        connection.unbind()
    except (LDAPException, OSError):
        return
