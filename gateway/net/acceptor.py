"""The acceptor: makes a ``Connection`` of each client, and asks admission before it begins."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from base64 import b32encode
from itertools import count
from typing import Any, cast

from twisted.internet.interfaces import IProtocolFactory, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import GatewayError
from gateway.events import ConnectionClosed, ConnectionOpened, ConnectionRefused
from gateway.interfaces import Leave
from gateway.model import Connection
from gateway.net.forwarding import ForwardingFactory
from gateway.net.sessions import SessionFactory

_process: list[str] = []
_numbers = count(1)


def new_id() -> str:
    """A short id that no other connection has: of this process, another one, or an earlier one.

    Ten letters and digits (50 random bits) for the process, then the connection's number in hex.
    """
    if not _process:
        _process.append(b32encode(os.urandom(7)).decode()[:10].lower())
    return f"{_process[0]}{next(_numbers):x}"


# A child process must not reuse its parent's ids.
os.register_at_fork(after_in_child=_process.clear)


class Acceptor(ForwardingFactory):
    """What a listener listens with: it hands each client's ``Connection`` to a protocol.

    A listener with a name has set TCP_NODELAY at its socket, for all connections.
    ``Connection`` takes the place of the address in ``buildProtocol``, also through TLS.
    ``gateway.net.proxy_protocol`` has the acceptor that reads a PROXY header first.
    """

    def __init__(self, listener: str, protocols: IProtocolFactory, *, secure: bool = False) -> None:
        """``secure``: ``protocols`` begin with TLS."""
        super().__init__(protocols)
        self.listener = listener
        self._secure = secure

    def buildProtocol(self, addr: object) -> Protocol | None:
        """The protocol of a new client; None: reject it."""
        return self.protocol_of(Connection(new_id(), host_of(addr), self._secure, self.listener))

    def protocol_of(self, connection: Connection) -> Protocol | None:
        """The protocol of a connection; None: reject it."""
        built: Protocol | None = self._factory.buildProtocol(connection)
        return built


def connection_of(address: object, transport: Any) -> Connection:
    """What the acceptor has made; or, on an application's own endpoint, a new one."""
    if isinstance(address, Connection):
        return address
    return Connection(new_id(), host_of(transport.getPeer()), ISSLTransport.providedBy(transport))


def host_of(address: object) -> str:
    """The IP address of a transport's address; empty for a UNIX socket."""
    return str(getattr(address, "host", ""))


class AdmittedProtocol(Protocol, ABC):
    """A protocol that begins once admission has let its client in.

    Until then it reads nothing and sends nothing.  A rejected client counts nowhere.
    """

    # Slots, since a server has thousands of these: a dictionary takes four times the memory.
    __slots__ = (
        *("_address", "_disconnect", "_early", "_factory", "_lost", "_over"),
        *("connected", "connection", "transport"),
    )

    transport: Any
    log: Logger
    connection: Connection
    """The client, from ``connectionMade`` on."""

    def __init__(self, factory: SessionFactory, address: object) -> None:
        """``address``: what the factory's ``buildProtocol`` was given."""
        # As Twisted's protocols have them before there is a connection.
        self.connected, self.transport = 0, None
        self._factory: SessionFactory = factory
        self._address = address
        self._disconnect: Leave | None = None
        """Gives back the place among the connections; None: not let in."""
        self._early = b""
        """What came together with a PROXY header, before admission has answered."""
        self._over = False
        self._lost = False

    @abstractmethod
    def _greet(self) -> None:
        """Begin the session: the client is let in."""

    @abstractmethod
    def _refuse(self, error: GatewayError) -> None:
        """Close the connection: the client is not let in."""

    def connectionMade(self) -> None:
        """Ask admission."""
        address = self._address
        if type(address) is Connection:
            self.connection = address
        else:
            self.connection = connection_of(address, self.transport)
        asked = self._factory.admit(self.connection)
        if not asked.called or asked.paused:
            self.transport.pauseProducing()
            asked.addBoth(self._answered)
        elif not isinstance(asked.result, Failure):
            # As within one process.  The callbacks of a Deferred would cost more.
            try:
                self._admitted(cast("Leave", asked.result))
            except Exception:
                self._fault()
            return
        asked.addCallbacks(self._admitted, self._not_admitted).addErrback(self._fault)

    def _answered(self, answer: Any) -> Any:
        if not self._lost:
            self.transport.resumeProducing()
        return answer

    def _admitted(self, disconnect: Leave) -> None:
        if self._lost or self._factory.draining:
            disconnect()
            self.abort()
            return
        self._disconnect = disconnect
        self._factory.emit(ConnectionOpened(self.connection, self._factory.protocol_name))
        self._greet()
        if self._early:
            early, self._early = self._early, b""
            self.dataReceived(early)

    def _not_admitted(self, failure: Failure) -> None:
        failure.trap(GatewayError)
        name, error = self._factory.protocol_name, failure.value
        assert isinstance(error, GatewayError)
        self._factory.emit(ConnectionRefused(self.connection, name, str(error)))
        self._over = True
        if not self._lost:
            self._refuse(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """The connection is closed."""
        self._lost = self._over = True
        if self._disconnect is not None:
            self._disconnect()
            self._factory.emit(ConnectionClosed(self.connection, self._factory.protocol_name))

    def abort(self) -> None:
        """Close now, whatever is waiting to be sent."""
        self._over = True
        self.transport.abortConnection()

    def _fault(self, failure: Failure | None = None) -> None:
        """Log an internal error and close; without ``failure``: the exception at hand."""
        self.log.failure("session {id}: internal error", failure, id=self.connection.id)
        self.abort()
