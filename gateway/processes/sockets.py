"""The listening sockets of worker processes; the parent binds and keeps them."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any, cast

from attrs import frozen
from twisted.internet import unix
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory
from zope.interface import implementer

BALANCES = sys.platform == "linux"
"""Whether the system balances clients over the sockets of one port (SO_REUSEPORT).  Elsewhere all
workers share one socket."""


class Unread(ServerFactory):
    """The parent accepts no clients."""

    noisy = False


@frozen
class Bound:
    """The sockets of one listener.

    TCP: one for each worker.  The queue of a worker that ends stays, for the next one.
    Others, such as UNIX sockets: one, which all workers share.
    """

    port: Any
    """The port that was bound; it is never read from."""

    more: tuple[socket.socket, ...] = ()
    """The sockets beside that of ``port``."""

    @property
    def descriptors(self) -> list[int]:
        """The socket of each worker; or the one that all share."""
        return [self.port.fileno(), *(one.fileno() for one in self.more)]

    @property
    def family(self) -> int:
        """The address family, such as ``AF_INET``."""
        return int(self.port.addressFamily)

    @property
    def address(self) -> str:
        """Where it listens, for the log."""
        return shown_address(self.port.getHost())

    def close(self) -> Deferred[Any]:
        """Close them; clients that wait are dropped when the workers have closed theirs."""
        for one in self.more:
            one.close()
        return maybeDeferred(self.port.stopListening)


def unread(port: Any) -> Bound:
    """A port that listens, for workers to accept its clients."""
    port.stopReading()
    return Bound(port)


def bind(endpoint: IStreamServerEndpoint, workers: int, *, balanced: bool) -> Deferred[Bound]:
    """Bind and listen; fails as the endpoint does, also if another server has the port.

    ``balanced``: one socket for each worker, if the system balances clients over them.
    """

    def bound(port: Any) -> Bound:
        alone = unread(port)
        if not (balanced and BALANCES):
            return alone
        # Another server of the same user could share the port as well, if the first socket had
        # this option before it listens.
        first: socket.socket = port.socket
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return Bound(port, tuple(_beside(first, port.backlog) for _ in range(workers - 1)))

    return endpoint.listen(Unread()).addCallback(bound)


def _beside(first: socket.socket, backlog: int) -> socket.socket:
    another = socket.socket(first.family, first.type)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        another.setsockopt(socket.SOL_SOCKET, option, 1)
    another.setblocking(False)
    another.bind(first.getsockname())
    another.listen(backlog)
    return another


@implementer(IStreamServerEndpoint)
@frozen
class Inherited:
    """A socket that listens already, and that another process keeps: the parent, or systemd."""

    reactor: Any
    descriptor: int
    family: int

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """Accept clients; may be called again after the port has stopped."""
        os.set_blocking(self.descriptor, False)
        os.set_inheritable(self.descriptor, False)
        if self.family == socket.AF_UNIX:
            return succeed(self._listen_at_path(protocolFactory))
        return succeed(self.reactor.adoptStreamPort(self.descriptor, self.family, protocolFactory))

    def _listen_at_path(self, factory: Any) -> IListeningPort:
        port = unix.Port._fromListeningDescriptor(self.reactor, self.descriptor, factory)
        # Of a file Twisted's port would change the mode, to let every user in, and remove it at
        # its end; and it would shut the socket down for all processes, which it does not for TCP.
        port._bindPath = b"\0" + port._bindPath
        port._shouldShutdown = False
        port.backlog = socket.SOMAXCONN
        port.startListening()
        return cast(IListeningPort, port)


def shown_address(address: Any) -> str:
    """An address of a listener as ``HOST:PORT``, or the path of a UNIX socket."""
    if hasattr(address, "port"):
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{host}:{address.port}"
    return os.fsdecode(getattr(address, "name", None) or "")
