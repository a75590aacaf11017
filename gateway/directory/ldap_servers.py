"""Several LDAP servers with the same content: kept connections, reconnection, failover.

All functions block: call them in a thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from attrs import evolve
from ldap3.core.exceptions import (
    LDAPCertificateError,
    LDAPCommunicationError,
    LDAPException,
    LDAPResponseTimeoutError,
    LDAPStartTLSError,
)

from gateway.directory.ldap_connection import (
    Reach,
    address_of,
    bind,
    close_connection,
    open_connection,
)
from gateway.errors import (
    DirectoryDown,
    DirectoryMisconfigured,
    GatewayError,
    PasswordUnanswered,
)
from gateway.events import DirectoryAsked, Emit
from gateway.observe.log import emit_to_log
from gateway.observe.outage import Outage

__all__ = ["Reach"]

T = TypeVar("T")

_NO_ANSWER = (
    *(LDAPCommunicationError, LDAPResponseTimeoutError, LDAPStartTLSError, LDAPCertificateError),
    OSError,
)
"""Failures of a server; ldap3's other errors concern the request."""

KEPT = 60.0
"""Seconds after which an idle connection is not used again: a firewall may have forgotten it."""


class ServerUnavailable(DirectoryDown):
    """A server says that it is busy or unavailable (RFC 4511: 51, 52); another may not be."""


class _Server:
    """A server: its state, and its idle connections."""

    def __init__(
        self, uri: str, reach: Reach, outage: Outage, monotonic: Callable[[], float]
    ) -> None:
        self.uri = uri
        self.outage = outage
        self.down_until = 0.0
        self.silent = False
        """It timed out when last tried, and did not refuse."""
        self._address = address_of(uri)
        self._reach = reach
        self._monotonic = monotonic
        # A deque: safe for several threads.
        self._idle: deque[tuple[float, Any]] = deque()
        """Connections, and since when."""
        self.users = 0
        """The ``Servers`` that use it, of the directory before and after a reload for example."""

    def take(self) -> Any:
        """A connection that is idle, and not for too long, or None."""
        while (idle := self._pop()) is not None:
            since, connection = idle
            if self._monotonic() - since <= KEPT:
                return connection
            close_connection(connection)
        return None

    def _pop(self) -> tuple[float, Any] | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def answered(self, connection: Any) -> None:
        """Mark the server as up, and keep the connection."""
        self.down_until, self.silent = 0.0, False
        self.outage.answered()
        self.keep(connection)

    def keep(self, connection: Any) -> None:
        """Keep the connection as idle, while anybody uses this server."""
        self._idle.append((self._monotonic(), connection))
        if not self.users:
            self.close_idle()

    def close_idle(self) -> None:
        """Close the idle connections."""
        while (idle := self._pop()) is not None:
            close_connection(idle[1])

    def open(self) -> Any:
        """A new connection, not bound."""
        return open_connection(self._address, self._reach, self._monotonic)


class Servers:
    """Several servers with the same content."""

    def __init__(
        self,
        reach: Reach,
        prepare: Callable[[Any], None],
        now: Callable[[], float],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        beside: Servers | None = None,
        before: Servers | None = None,
        bound_as: object = None,
        emit: Emit = emit_to_log,
    ) -> None:
        """``beside``: the same servers for other work; both share the state of outages.

        ``before``: servers of before a reload.  Those that are the same share connections and
        state, if these are ``bound_as`` the same and reached in the same way.
        ``prepare`` is called once with every new connection: the service account's bind.
        ``now`` times retries.  ``monotonic`` times answers, so that a clock that is set
        back blocks no thread.  Raises ``ValueError`` for a bad URI.
        """
        self._reach = reach
        self._prepare = prepare
        self._now = now
        self._monotonic = monotonic
        self._emit = emit
        outages = [Outage(_name(uri), now, emit) for uri in reach.uris]
        if beside is not None:
            outages = [server.outage for server in beside._servers]
        self._fit = evolve(reach, uris=(), retry_after=0.0), bound_as
        fits = before is not None and before._fit == self._fit
        known = {one.uri: one for one in before._servers} if before is not None and fits else {}
        self._servers: list[_Server] = [
            known.get(uri) or _Server(uri, self._fit[0], outage, monotonic)
            for uri, outage in zip(reach.uris, outages, strict=True)
        ]
        for server in self._servers:
            server.users += 1
        self._is_open = True

    def close(self) -> None:
        """Close idle connections, but not those that others share; the rest as they fall idle."""
        if self._is_open:
            self._is_open = False
            for server in self._servers:
                server.users -= 1
                if not server.users:
                    server.outage.replaced()
                    server.close_idle()

    def use(self, work: Callable[[Any], T]) -> T:
        """Do ``work`` with a connection to the first server that answers and can do it.

        If the server closed an idle connection, ``work`` runs again with a new one.
        A failed server is not tried for a while, unless all have failed.  A password that
        got no answer in time is sent once only: each server would count it as wrong.  Raises
        ``DirectoryDown``, ``DirectoryMisconfigured`` if ldap3 rejects the request,
        and whatever ``work`` and ``prepare`` raise.
        """
        problems = []
        for server in self._candidates():
            began = self._monotonic()
            try:
                result = self._use(server, work)
            except ServerUnavailable as error:
                self._asked(server, began, answered=False)
                problems.append(self._pass_over(server, str(error)))
                server.silent = False
            except _NO_ANSWER as error:
                problems.append(self._no_answer(server, began, error))
            except PasswordUnanswered as error:
                self._asked(server, began, answered=False)
                if self._answers(server):
                    raise
                # An outage, and no sign of a wrong password.  Another server gets the next one.
                raise DirectoryDown(str(error), logged=True) from None
            except DirectoryDown as error:
                self._asked(server, began, answered=False)
                _log_once(server, error)
                raise
            except GatewayError:
                self._asked(server, began, answered=True)
                raise
            except LDAPException as error:
                # Every server would fail alike: the request is at fault.
                raise DirectoryMisconfigured(f"{type(error).__name__}: {error}") from error
            else:
                self._asked(server, began, answered=True)
                return result
        raise DirectoryDown(
            "; ".join(problems) or "no server has answered for some seconds", logged=True
        )

    def _pass_over(self, server: _Server, why: str) -> str:
        """Leave a server alone for a while; returns why."""
        server.down_until = self._now() + self._reach.retry_after
        server.outage.failed(why)
        return f"{server.uri}: {why}"

    def _no_answer(self, server: _Server, began: float, error: Exception) -> str:
        """Leave a server alone that refused or timed out; returns why."""
        self._asked(server, began, answered=False)
        server.silent = self._monotonic() - began >= self._reach.timeout / 2
        return self._pass_over(server, f"{type(error).__name__}: {error}")

    def _answers(self, server: _Server) -> bool:
        """Whether a server answers an anonymous bind; if not, it is left alone for a while.

        Some servers are slow with wrong passwords only, such as a domain controller that
        passes each on to another one that is away.  Others must be able to log in.
        """
        began = self._monotonic()
        try:
            self._work(server, server.open(), lambda connection: bind(connection, "", b""))
        except (LDAPException, OSError) as error:
            self._no_answer(server, began, error)
            return False
        return True

    def _asked(self, server: _Server, began: float, *, answered: bool) -> None:
        seconds = self._monotonic() - began
        self._emit(DirectoryAsked(_name(server.uri), seconds, answered))

    def _candidates(self) -> list[_Server]:
        """The servers to try, in order.

        If all are down, those that refuse at once are tried again, which is cheap.
        One that times out would delay every login, so one login at a time tries it
        after ``retry_after``.
        """
        now = self._now()
        ready = [server for server in self._servers if server.down_until <= now]
        for server in ready:
            if server.silent:
                server.down_until = now + max(self._reach.retry_after, 2 * self._reach.timeout)
        return ready or [server for server in self._servers if not server.silent]

    def _use(self, server: _Server, work: Callable[[Any], T]) -> T:
        kept = server.take()
        if kept is not None:
            # The server closed it before it answered.
            with suppress(*_NO_ANSWER):
                return self._work(server, kept, work)
        connection = server.open()
        try:
            self._prepare(connection)
        except BaseException as error:
            close_connection(connection)
            if isinstance(error, GatewayError):
                # Not for this request alone.
                _log_once(server, error)
            raise
        return self._work(server, connection, work)

    def _work(self, server: _Server, connection: Any, work: Callable[[Any], T]) -> T:
        try:
            result = work(connection)
        except PasswordUnanswered:
            # The answer may still come.  Or a firewall has forgotten this connection, and so
            # those that are kept: no other login is to wait for one.
            close_connection(connection)
            server.close_idle()
            raise
        except DirectoryDown:
            # It answers, that it is busy for example.
            server.keep(connection)
            raise
        except GatewayError:
            # The server has answered: a rejection leaves the connection usable.
            server.answered(connection)
            raise
        except BaseException:
            close_connection(connection)
            raise
        server.answered(connection)
        return result


def _name(uri: str) -> str:
    """The name of a server in events."""
    return f"LDAP server {uri}"


def _log_once(server: _Server, error: GatewayError) -> None:
    server.outage.failed(error)
    error.logged = True
