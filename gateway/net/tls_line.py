"""TLS on a connection; the client may finish sending before it has read its replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from gateway.net.direct_writer import DirectTransport, DirectWriter

_CURES = {
    "no shared cipher": "the listener's ciphers has none of the client's",
    "unsupported protocol": "the client's TLS is older than the listener's tls_minimum",
    "version too low": "the client's TLS is older than the listener's tls_minimum",
    "http request": "the client sends plain text to a port that begins with TLS",
    "wrong version number": "the client sends plain text to a port that begins with TLS",
    "packet length too long": "the client sends plain text to a port that begins with TLS",
    "unknown ca": "the client does not trust the certificate",
    "certificate unknown": "the client does not trust the certificate",
    "bad certificate": "the client does not trust the certificate",
    "certificate expired": "the client does not trust the certificate",
}
"""Explanations of OpenSSL's reasons, or of their ends."""


def reason_of(error: BaseException) -> str:
    """OpenSSL's reason for a failure, with an explanation if there is one."""
    found = dict.fromkeys(reason for _, _, reason in _entries(error) if reason)
    said = ", ".join(found) or str(error) or type(error).__name__
    cures = (cure for one in found for end, cure in _CURES.items() if one.endswith(end))
    meant = next(cures, "")
    return f"{said} ({meant})" if meant else said


def _entries(error: BaseException) -> list[tuple[str, str, str]]:
    first = error.args[0] if error.args else ()
    return first if isinstance(first, list) else []


class TLSConnection(SSL.Connection):
    """OpenSSL's side.  The client's close_notify ends its commands, not our replies."""

    def __init__(
        self, context: SSL.Context, line: TLSMemoryBIOProtocol, certificates: Sequence[bytes] = ()
    ) -> None:
        """``certificates``: in DER, of which the client knows one as this server's."""
        super().__init__(context, None)
        self.certificates = certificates
        # Its callback may be called again, after the connection has taken another context.
        self._first_context = context
        self._line = line
        self._told = False

    def recv(self, *arguments: Any, **more: Any) -> bytes:
        """Octets from the client; Twisted would close at their end."""
        try:
            return super().recv(*arguments, **more)
        except SSL.ZeroReturnError:
            line = self._line
            protocol = IHalfCloseableProtocol(line.wrappedProtocol, None)
            if protocol is None or line.disconnecting:
                raise
            if not self._told:
                self._told = True
                protocol.readConnectionLost()
            raise SSL.WantReadError from None


@implementer(IHalfCloseableProtocol)
class TLSLine(TLSMemoryBIOProtocol):
    """Twisted's side.  The end of the client's TCP stream does not end replies either."""

    transport: Any
    began = False
    """Whether the client has sent anything at all."""

    _stream_ended = False

    writer: DirectWriter | None = None
    """Of what came before TLS, where anything did."""

    def makeConnection(self, transport: Any) -> None:
        """Begin to speak TLS."""
        below = DirectTransport(transport, self.writer or DirectWriter(transport))
        super().makeConnection(below)  # type: ignore[no-untyped-call]

    def dataReceived(self, bytes: bytes) -> None:
        """Octets from the client."""
        self.began = True
        super().dataReceived(bytes)  # type: ignore[no-untyped-call]

    def readConnectionLost(self) -> None:
        """The client has closed its side, often without a close_notify."""
        self._stream_ended = True
        protocol = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if protocol is None or self.disconnecting:
            self.transport.close_now()
        else:
            protocol.readConnectionLost()

    def writeConnectionLost(self) -> None:
        """Our side closes as a whole only."""

    def loseConnection(self) -> None:
        """Close, without waiting for a close_notify that cannot come."""
        super().loseConnection()  # type: ignore[no-untyped-call]
        if self._stream_ended:
            self.transport.loseConnection()


def tls_factory(tls: Any, wrapped: Any, clock: Any = None) -> TLSMemoryBIOFactory:
    """Implicit TLS before ``wrapped``; ``tls``: an ``IOpenSSLServerConnectionCreator``."""
    factory = TLSMemoryBIOFactory(tls, False, wrapped, clock)
    # Sessions write whole replies: the default's buffering is of no use.
    factory.protocol = TLSLine
    factory.noisy = False
    return factory


def begin_tls(tls: Any, protocol: Protocol, transport: Any, writer: DirectWriter) -> Any:
    """Start TLS between ``protocol`` and its transport; returns the new transport.

    ``writer``: the writer of ``transport`` so far.
    """
    factory: Any = tls_factory(tls, None)
    line = factory.protocol(factory, protocol, False)
    line.writer = writer
    transport.protocol = line
    line.makeConnection(transport)
    return line
