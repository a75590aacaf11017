"""The acceptor: below TLS and above every protocol, it makes a ``Connection`` of each client."""

from __future__ import annotations

import os
from base64 import b32encode
from itertools import count
from typing import Any

from twisted.internet.interfaces import IProtocolFactory, ISSLTransport
from twisted.internet.protocol import Protocol, ServerFactory

from gateway.model import Connection

_process: list[str] = []
_numbers = count(1)


def new_id() -> str:
    """A short id that no other connection has: of this process, another one, or an earlier one."""
    if not _process:
        _process.append(b32encode(os.urandom(5)).decode().lower())
    return f"{_process[0]}{next(_numbers):x}"


# A child process would give the ids of its parent.
os.register_at_fork(after_in_child=_process.clear)


class Acceptor(ServerFactory):
    """What a listener listens with: it hands each client's ``Connection`` to a protocol.

    ``Connection`` takes the place of the address in ``buildProtocol``, also through TLS.
    """

    noisy = False

    def __init__(self, listener: str, protocols: IProtocolFactory, *, secure: bool = False) -> None:
        """``secure``: ``protocols`` begin with TLS."""
        self._listener = listener
        self._protocols: Any = protocols
        self._secure = secure

    def doStart(self) -> None:
        """Start the protocols' factory."""
        self._protocols.doStart()

    def doStop(self) -> None:
        """Stop the protocols' factory."""
        self._protocols.doStop()

    def buildProtocol(self, addr: object) -> Protocol | None:
        """The protocol of a new client, or None to turn it away."""
        connection = Connection(new_id(), _host(addr), self._secure, self._listener)
        built: Protocol | None = self._protocols.buildProtocol(connection)
        return built


def connection_of(address: object, transport: Any) -> Connection:
    """What the acceptor has made; or, on an application's own endpoint, a new one."""
    if isinstance(address, Connection):
        return address
    return Connection(new_id(), _host(transport.getPeer()), ISSLTransport.providedBy(transport))


def _host(address: object) -> str:
    return str(getattr(address, "host", ""))
