"""A server of which a test plays the part, octet by octet."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from gateway.s3.requests import Requests
from gateway.s3.signing import Signer
from gateway.s3.transport import Connections


class Transport(StringTransport):
    """A connection whose other end is the test."""

    aborted = False

    def abortConnection(self) -> None:
        """Note it."""
        self.aborted = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """As TCP has it."""


@implementer(IStreamClientEndpoint)
class Server:
    """An endpoint that connects at once."""

    def __init__(self) -> None:
        self.transports: list[Transport] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        """A new connection."""
        protocol, transport = factory.buildProtocol(None), Transport()
        protocol.makeConnection(transport)
        transport.protocol = protocol
        self.transports.append(transport)
        return succeed(protocol)


def requests_of(most: int) -> tuple[Clock, Server, Requests]:
    """Requests to a server that the test plays, with ``most`` connections kept."""
    clock, server = Clock(), Server()
    connections = Connections(clock, server, "s3", most=most)
    signer = Signer("us-east-1", "key", "secret")
    return clock, server, Requests(clock, connections, signer, "http://s3/mail")
