"""HTTP to S3 by Twisted's ``Agent``: kept connections, what is sent, what is read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from OpenSSL.crypto import X509
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseDone,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from gateway.store.cluster.signing import EMPTY


class Content:
    """What a request sends: pieces, their length and their digest."""

    def __init__(self, pieces: Sequence[bytes] = (), digest: str = "") -> None:
        """``digest``: the SHA-256 in hex; empty: it is computed."""
        self.pieces = pieces
        self.length = sum(map(len, pieces))
        self.digest = digest or (_digest(pieces) if pieces else EMPTY)


def _digest(pieces: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def make_agent(
    reactor: Any, url: str, *, connections: int, timeout: float, authorities: str = ""
) -> IAgent:
    """An agent for the server of ``url``, to which it keeps this many connections open.

    ``authorities``: a file with the certificates of those it trusts; empty: the system's.
    Raises ``ValueError`` for a file that has none.
    """
    uri = URI.fromBytes(url.encode())
    endpoint: Any = HostnameEndpoint(reactor, uri.host, uri.port, timeout=timeout)
    if uri.scheme == b"https":
        policy = BrowserLikePolicyForHTTPS(_trusted(authorities) if authorities else None)
        endpoint = wrapClientTLS(policy.creatorForNetloc(uri.host, uri.port), endpoint)
    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = connections
    pool.retryAutomatically = False
    agent: IAgent = Agent.usingEndpointFactory(reactor, _OneServer(endpoint), pool)
    return agent


@implementer(IAgentEndpointFactory)
class _OneServer:
    """Always the same endpoint: to make one for each request costs a third of the request."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: URI) -> Any:  # noqa: ARG002
        """The endpoint of the server."""
        return self._endpoint


def _trusted(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            found = x509.load_pem_x509_certificates(file.read())
    except OSError as error:
        raise ValueError(f"bucket_ca_file: {path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"bucket_ca_file: {path}: expected certificates: {error}") from None
    return trustRootFromCertificates([Certificate(X509.from_cryptography(one)) for one in found])


def read_all(response: IResponse, most: int | None = None) -> Deferred[bytes]:
    """The text of an answer; ``most``: close the connection after the first octets."""
    collector = _Collector(most)
    response.deliverBody(collector)
    return collector.whole


class _Collector(Protocol):
    """Joins what arrives."""

    def __init__(self, most: int | None) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._stop())
        self._pieces: list[bytes] = []
        self._most = most

    def dataReceived(self, data: bytes) -> None:
        """A piece."""
        self._pieces.append(data)
        if self._most is not None and not self.whole.called:
            self._most -= len(data)
            if self._most <= 0:
                whole = b"".join(self._pieces)
                self.whole.callback(whole[: len(whole) + self._most] if self._most else whole)
                self._stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end, or a broken connection."""
        if self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._pieces))
        else:
            self.whole.errback(reason)

    def _stop(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.stopProducing()


@implementer(IBodyProducer)
class Producer:
    """Writes pieces while the connection takes them."""

    def __init__(self, content: Content) -> None:
        self.length = content.length
        self._pieces = iter(content.pieces)
        self._consumer: Any = None
        self._paused = False
        self._done: Deferred[None] | None = None

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Begin to write; fires when all is written."""
        self._consumer, self._done = consumer, Deferred()
        done = self._done
        self.resumeProducing()
        return done

    def resumeProducing(self) -> None:
        """Write on."""
        self._paused = False
        while not self._paused and self._done is not None:
            piece = next(self._pieces, None)
            if piece is None:
                done, self._done = self._done, None
                done.callback(None)
                return
            self._consumer.write(piece)

    def pauseProducing(self) -> None:
        """Wait until ``resumeProducing``."""
        self._paused = True

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._done = None
