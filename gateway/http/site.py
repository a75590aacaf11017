"""HTTP on a listener: bounded requests, and the client's ``Connection``."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import CACHED, NOT_MODIFIED, HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from gateway.events import HEALTH_CHECK, Emit, RequestServed
from gateway.model import Connection
from gateway.networks import is_here

MOST_BODY = 64 * 1024
"""Octets of the largest body of a request."""

REQUEST_WITHIN = 30.0
"""Seconds for a whole request to arrive."""

IDLE = 60.0
"""Seconds for which a connection is kept without a request."""

CLOSE_WITHIN = 3.0
"""Seconds in which a client reads its last answer, and with TLS closes its side, when the server
stops.  One that keeps a connection for later does not read, and other work would have no time."""

CONNECTIONS = 200
"""Connections at once; further ones are closed."""

_ABSOLUTE = re.compile(rb"(?i:https?)://(?P<host>[^/?#]+)(?P<rest>.*)", re.DOTALL)
"""A target with its scheme and host."""

_TAG = re.compile(rb'"[^"]*"')
"""An entity tag, without the W/ of a weak one."""

_CREDENTIALS = struct.Struct("3i")


class _Channel(HTTPChannel):
    """A connection; its requests have to arrive in time."""

    _late: IDelayedCall | None = None
    _is_finishing = False
    clock: IReactorTime
    closed: Callable[[_Channel], None]

    def connectionMade(self) -> None:
        """Wait for the first request."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._wait()

    def _wait(self) -> None:
        self._wait_no_more()
        seconds = CLOSE_WITHIN if self._is_finishing else REQUEST_WITHIN + IDLE
        self._late = self.clock.callLater(seconds, self.forceAbortClient)

    def _wait_no_more(self) -> None:
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()

    def lineReceived(self, line: bytes) -> None:
        """The request begins, or goes on; however slowly it comes, it does so in time."""
        if self._late is not None:
            left = self._late.getTime() - self.clock.seconds()
            if left > REQUEST_WITHIN:
                self._late.reset(REQUEST_WITHIN)
        super().lineReceived(line)  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        """The request is here; the answer takes its time."""
        self._wait_no_more()
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def finish(self) -> None:
        """The server stops: close the connection, after the answer to a request that is here."""
        self._is_finishing = True
        if self._late is None:
            self.persistent = False
        else:
            self._wait()
            self.loseConnection()  # type: ignore[no-untyped-call]

    def requestDone(self, request: Request) -> None:
        """Wait for the next request."""
        super().requestDone(request)  # type: ignore[no-untyped-call]
        if self._late is None:
            self._wait()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone."""
        self._wait_no_more()
        self.closed(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class BoundedRequest(Request):
    """A request that knows its connection, with a body of at most ``MOST_BODY`` octets."""

    connection: Connection
    operator = ""
    """Who asks, once it is known."""

    may_read = False
    """Whether they may know what is wrong with the server."""

    def __init__(self, *arguments: Any, connection: Connection, **more: Any) -> None:
        super().__init__(*arguments, **more)  # type: ignore[no-untyped-call]
        self.connection = connection
        self.sent_body = b""
        """The body."""
        self.is_too_large = False

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Read the absolute form of a target, which every server has to (RFC 9112 section 3.2.2).

        Its host is the one that is meant, whatever the header says.
        """
        if absolute := _ABSOLUTE.fullmatch(path):
            host, path = absolute["host"], absolute["rest"]
            path = path if path.startswith(b"/") else b"/" + path
            self.requestHeaders.setRawHeaders(b"host", [host])
        super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def setETag(self, etag: bytes) -> Any:
        """The tag of the answer to a GET; ``CACHED`` if the client has that answer already.

        ``If-None-Match`` is a list, and compares weakly (RFC 9110 section 13.1.2).
        """
        self.etag = etag
        lines = self.requestHeaders.getRawHeaders(b"if-none-match", [])
        told = b",".join(lines)
        if told.strip() == b"*" or etag in _TAG.findall(told):
            self.setResponseCode(NOT_MODIFIED)
            return CACHED
        return None

    def getRequestHostname(self) -> bytes:
        """The host that the client names; HTTP/1.0 need not, and a UNIX socket has none."""
        if not self.getHeader(b"host"):
            return b"localhost"
        named: bytes = super().getRequestHostname()  # type: ignore[no-untyped-call]
        return named

    def getClientAddress(self) -> Any:
        """The client's address, and not that of a proxy before it."""
        return IPv4Address("TCP", self.connection.host, 0)

    def header(self, name: str) -> str:
        """The last header of this name, a character for each octet; empty: there is none.

        ``getHeader`` of a text fails for octets that are no UTF-8.
        """
        octets: bytes = self.getHeader(name.encode("ascii")) or b""
        return octets.decode("latin-1")

    @property
    def shown_path(self) -> str:
        """The path for the log, without the query: somebody may have put a secret there."""
        return self.uri.partition(b"?")[0].decode("ascii", "backslashreplace")

    @property
    def is_from_here(self) -> bool:
        """Whether the client is on this machine."""
        host: Any = self.getHost()  # type: ignore[no-untyped-call]
        return is_here(self.connection.host, str(getattr(host, "host", "")))

    @property
    def uid(self) -> int | None:
        """The user at the other end of a UNIX socket; None: unknown."""
        handle = getattr(self.channel.transport, "getHandle", lambda: None)()
        if not isinstance(handle, socket.socket) or handle.family != socket.AF_UNIX:
            return None
        try:
            said = handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except (OSError, AttributeError):
            return None
        return int(_CREDENTIALS.unpack(said)[1])

    def set(self, name: str, value: str) -> None:
        """Set a header of the answer."""
        self.setHeader(name, value)  # type: ignore[no-untyped-call]

    def gotLength(self, length: int | None) -> None:  # noqa: ARG002
        """Allocate no file for the body."""
        super().gotLength(0)  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:
        """Keep the octets.  Of a body that is too large the rest is dropped, so that the client
        reads the answer."""
        if self.is_too_large or len(self.sent_body) + len(data) > MOST_BODY:
            self.sent_body, self.is_too_large = b"", True
        else:
            self.sent_body += data


class BoundedSite(Site):
    """A site of bounded requests."""

    noisy = False
    protocol = _Channel  # type: ignore[assignment]

    def __init__(self, root: IResource, clock: IReactorTime, emit: Emit) -> None:
        super().__init__(root, timeout=IDLE, reactor=clock)  # type: ignore[no-untyped-call]
        self._own_clock = clock
        self._emit = emit
        self._channels: set[_Channel] = set()
        self._drained: Deferred[None] | None = None
        """Fires when the last connection is closed, while the server stops."""

    def replaces(self, known: Site) -> None:
        """Have a site that is in use serve what this one serves.

        Also to clients that keep their connection: an old token is good no more.
        """
        known.resource = self.resource

    def log(self, request: Any) -> None:
        """Emit what was asked, unless ``pop3gw health`` has asked on this machine."""
        if request.is_from_here and request.header("user-agent") == HEALTH_CHECK:
            return
        method = request.method.decode("ascii", "backslashreplace")
        self._emit(
            RequestServed(
                request.connection,
                method[:20],
                request.shown_path[:500],
                int(request.code),
                int(request.sentLength),
                request.operator,
            )
        )

    def buildProtocol(self, addr: object) -> Any:
        """One connection's protocol; ``addr`` is a ``Connection`` or an address."""
        if len(self._channels) >= CONNECTIONS or self._drained is not None:
            return None
        connection = addr if isinstance(addr, Connection) else Connection("-", "")
        channel = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        channel.requestFactory = partial(BoundedRequest, connection=connection)
        channel.clock, channel.closed = self._own_clock, self._closed
        self._channels.add(channel)
        return channel

    def _closed(self, channel: _Channel) -> None:
        self._channels.discard(channel)
        self._look()

    def drain(self, seconds: float) -> Deferred[None]:
        """Answer the requests that are here, and take no more; fires when that is done.

        After ``seconds`` all connections are closed.
        """
        drained = self._drained = Deferred[None]()
        late = self._own_clock.callLater(seconds, self.abort)
        drained.addCallback(lambda _: late.cancel() if late.active() else None)
        for channel in list(self._channels):
            channel.finish()
        self._look()
        return drained

    def abort(self) -> None:
        """Close all connections now."""
        for channel in list(self._channels):
            channel.forceAbortClient()  # type: ignore[no-untyped-call]
        self._channels.clear()
        self._look()

    def _look(self) -> None:
        if self._drained is not None and not self._drained.called and not self._channels:
            self._drained.callback(None)
