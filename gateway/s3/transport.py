"""Connections to S3 that are kept for the next request."""

from __future__ import annotations

from collections import deque
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from OpenSSL.crypto import X509
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import BrowserLikePolicyForHTTPS

from gateway.s3.answers import Lost, Response
from gateway.s3.connection import Connection, Content

KEPT = 60.0
"""Seconds after which a connection is not used again: a firewall may have forgotten it."""


class Connections:
    """Connections to one server."""

    def __init__(
        self, reactor: Any, endpoint: IStreamClientEndpoint, host: str, *, most: int
    ) -> None:
        """``host``: as requests name it; ``most``: how many are kept open for later."""
        self.host = host
        self._reactor = reactor
        self._endpoint = endpoint
        self._factory = Factory.forProtocol(lambda: Connection(reactor, self))
        self._idle: deque[tuple[float, Connection]] = deque()
        self._most = most
        self._open = 0
        """With those that are being made."""
        self.is_closed = False

    def has_room(self) -> bool:
        """Whether a further request fits into the connections that are kept."""
        return self._open < self._most or bool(self._idle)

    def ask(
        self, head: bytes, content: Content, within: float, *, fresh: bool = False
    ) -> Deferred[Response]:
        """Send a request; ``within``: the most seconds to the head of its answer.

        Each further piece of a short body has as many again.  So has the connection before, if
        one has to be made.

        ``fresh``: the request before was lost, and with it perhaps all that are kept: close them.
        Fails with ``Lost``, or as the endpoint does.
        """
        if fresh:
            self._close_idle("perhaps lost")
        oldest = self._reactor.seconds() - KEPT
        while self._idle:
            since, connection = self._idle.pop()
            if since >= oldest:
                return connection.ask(head, content, within)
            connection.abort("unused")
        self._open += 1
        connected: Deferred[Any] = self._endpoint.connect(self._factory)
        # The time limit of an endpoint begins when the name of the host is found.
        connected.addTimeout(within, self._reactor, _no_connection)
        return connected.addCallbacks(
            lambda made: made.ask(head, content, within), self._not_connected
        )

    def _not_connected(self, failure: Failure) -> Failure:
        self._open -= 1
        return failure

    def close(self) -> None:
        """Close those that are kept, and keep none any more."""
        self.is_closed = True
        self._close_idle("closed")

    def _close_idle(self, reason: str) -> None:
        while self._idle:
            self._idle.pop()[1].abort(reason)

    # -- the connections' side -------------------------------------------------

    def keep(self, connection: Connection) -> None:
        """Its request is done."""
        if self.is_closed:
            connection.abort("closed")
            return
        if len(self._idle) == self._most:
            self._idle.popleft()[1].abort("one of too many")
        self._idle.append((self._reactor.seconds(), connection))

    def lost(self, connection: Connection) -> None:
        """It is closed."""
        self._open -= 1
        self.forget(connection)

    def forget(self, connection: Connection) -> None:
        """Use it no more."""
        for entry in self._idle:
            if entry[1] is connection:
                self._idle.remove(entry)
                return


def _no_connection(result: object, seconds: float) -> object:
    if isinstance(result, Failure):
        raise Lost(f"no connection within {seconds:.0f} seconds")
    return result


def make_connections(
    reactor: Any, url: str, *, connections: int, timeout: float, authorities: str = ""
) -> Connections:
    """Connections to the server of ``url``, of which this many are kept open.

    ``timeout``: seconds to connect; ``authorities``: a file with the certificates of those it
    trusts; empty: the system's.  Raises ``ValueError`` for a file that has none.
    """
    parts = urlsplit(url)
    is_secure = parts.scheme == "https"
    host, port = (parts.hostname or "").encode(), parts.port or (443 if is_secure else 80)
    endpoint: Any = HostnameEndpoint(reactor, host, port, timeout=timeout)
    if is_secure:
        policy = BrowserLikePolicyForHTTPS(_trusted(authorities) if authorities else None)
        endpoint = wrapClientTLS(policy.creatorForNetloc(host, port), endpoint)
    return Connections(reactor, endpoint, parts.netloc, most=connections)


def _trusted(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            found = x509.load_pem_x509_certificates(file.read())
    except OSError as error:
        raise ValueError(f"bucket_ca_file: {path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"bucket_ca_file: {path}: expected certificates: {error}") from None
    return trustRootFromCertificates([Certificate(X509.from_cryptography(one)) for one in found])
