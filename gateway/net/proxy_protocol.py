"""The PROXY protocol: an acceptor that learns from a proxy which client it connects for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from attrs import frozen
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from gateway.errors import ProxyHeaderMalformed
from gateway.events import ConnectionRefused, Emit
from gateway.model import Connection, Proxy
from gateway.net.acceptor import Acceptor, host_of, new_id
from gateway.networks import is_here
from gateway.observe.log import emit_to_log
from gateway.wire.proxy_header import ProxyHeader, read_header

__all__ = ["ProxyAcceptor", "ProxyOptions"]

MOST_WAITING = 1000
"""Connections that may wait for their header at one time.  A proxy sends it at once."""

_NO_PROXY = "proxy_networks has no such address"


ProxyTls = Literal["off", "stated", "always"]
"""Which clients count as secure: none because of its proxy, those of which the proxy states that
they are connected to it over TLS, or all."""


def is_secure_at(tls: ProxyTls, stated: bool) -> bool:
    """Whether a client counts as secure; ``stated``: its proxy says that it has TLS."""
    return tls == "always" or (tls == "stated" and stated)


@frozen
class ProxyOptions:
    """Which proxies a listener believes, and what."""

    allows: Callable[[str], bool]
    """Whether the peer at this address is a proxy; empty: of a UNIX socket."""

    section: str
    """The section of the settings, for the log."""

    tls: ProxyTls = "off"

    timeout: float = 5.0
    """Seconds for the whole header."""


class ProxyAcceptor(Acceptor):
    """Reads the header of each connection before there is a ``Connection``, or TLS.

    Who is no proxy, or sends no header or a wrong one, is disconnected with an event.  Only a
    client on this machine may do without being a proxy, as long as it names nobody else:
    ``pop3gw health``.
    """

    def __init__(
        self,
        listener: str,
        protocols: IProtocolFactory,
        options: ProxyOptions,
        *,
        protocol: str = "pop3",
        clock: IReactorTime,
        secure: bool = False,
        emit: Emit = emit_to_log,
    ) -> None:
        """``protocol``: its name, for events; ``secure``: ``protocols`` begin with TLS."""
        super().__init__(listener, protocols, secure=secure)
        self.options = options
        self.clock = clock
        self.waiting = 0
        """Connections that wait for their header."""
        self._protocol = protocol
        self._emit = emit

    def buildProtocol(self, addr: object) -> Protocol | None:
        """What reads the header of a new connection; None: reject it."""
        host = host_of(addr)
        if self.waiting < MOST_WAITING:
            return _HeaderReader(self, host)
        self.refuse(host, f"{self.waiting} connections wait for their PROXY header")
        return None

    def refuse(self, host: str, reason: str) -> None:
        """Emit that the peer at ``host`` is disconnected."""
        connection = Connection(new_id(), host, False, self.listener)
        reason = f"{self.options.section}: {reason}"
        self._emit(ConnectionRefused(connection, self._protocol, reason))

    def begin(self, proxy: str, header: ProxyHeader) -> Protocol | None:
        """The protocol of the client that the proxy at this address connects for."""
        # Of a client without an IP address only the proxy is known, and counts.
        host = header.host or proxy
        proxy_tls = not header.local and is_secure_at(self.options.tls, header.tls)
        secure = self._secure or proxy_tls
        of = Proxy(proxy, header.unique_id, header.local)
        return self.protocol_of(Connection(new_id(), host, secure, self.listener, of))


class _HeaderReader(Protocol):
    """Reads the header, and hands the transport over to the client's protocol."""

    transport: Any

    def __init__(self, acceptor: ProxyAcceptor, host: str) -> None:
        self._acceptor = acceptor
        self._host = host
        self._data = b""
        self._over = False

    def connectionMade(self) -> None:
        """Wait for the header, but not for long."""
        acceptor = self._acceptor
        acceptor.waiting += 1
        self._timer = acceptor.clock.callLater(acceptor.options.timeout, self._late)
        self._is_proxy = acceptor.options.allows(self._host)
        if not (self._is_proxy or is_here(self._host, host_of(self.transport.getHost()))):
            self._refuse(_NO_PROXY)

    def dataReceived(self, data: bytes) -> None:
        """Add octets of the header; what follows it is the client's."""
        if self._over:
            return
        self._data += data
        try:
            header = read_header(self._data)
        except ProxyHeaderMalformed as error:
            self._refuse(str(error))
            return
        if header is None:
            return
        if not (self._is_proxy or header.local):
            self._refuse(_NO_PROXY)
            return
        self._end()
        self._hand_over(header)

    def _hand_over(self, header: ProxyHeader) -> None:
        transport, rest = self.transport, self._data[header.length :]
        protocol = self._acceptor.begin(self._host, header)
        if protocol is None:
            transport.abortConnection()
            return
        # The transport itself, and no layer above it: from here on it costs nothing.
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)

    def _late(self) -> None:
        self._refuse(f"no whole PROXY header in {self._acceptor.options.timeout:g} s")

    def _refuse(self, reason: str) -> None:
        self._end()
        self._acceptor.refuse(self._host, reason)
        self.transport.abortConnection()

    def _end(self) -> None:
        self._over = True
        self._acceptor.waiting -= 1
        if self._timer.active():
            self._timer.cancel()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """The peer has gone; one that sent nothing at all only checked the port."""
        if self._over:
            return
        self._end()
        if self._data:
            self._acceptor.refuse(self._host, "the connection ended within its PROXY header")
