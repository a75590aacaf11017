"""Requests to S3 of which the connection is lost, or never comes about."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import StoreDown
from gateway.s3.answers import Lost
from gateway.s3.connection import Content
from gateway.s3.requests import ATTEMPTS, Requests
from gateway.s3.signing import Signer
from gateway.s3.transport import Connections
from played_server import requests_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world"

LOSSES = [
    (ConnectionRefusedError(), "ConnectionRefusedError"),
    (DNSLookupError("s3"), "DNSLookupError"),
    (ConnectionLost(), "ConnectionLost"),  # before the connection was there
    (Lost("ConnectionDone: closed"), "ConnectionDone: closed"),
]


class LosingConnections(Connections):
    """Lose each request in the same way."""

    def __init__(self, loss: Exception) -> None:
        super().__init__(Clock(), Any, "s3", most=1)
        self._loss = loss
        self.requests = 0

    def ask(self, *_: Any, **__: Any) -> Deferred[Any]:
        """Lose it."""
        self.requests += 1
        return fail(self._loss)


@pytest.mark.parametrize(("loss", "reason"), LOSSES)
def test_a_request_is_repeated_and_then_an_outage_however_its_connection_ended(
    loss: Exception, reason: str
) -> None:
    connections, clock = LosingConnections(loss), Clock()
    signer = Signer("us-east-1", "key", "secret")
    requests = Requests(clock, connections, signer, "http://s3/mail")
    asked = requests.ask("PUT", "name", content=Content([b"a body"]))
    clock.pump([1] * ATTEMPTS)
    failure = SynchronousTestCase().failureResultOf(asked, StoreDown)
    assert reason in str(failure.value)
    assert connections.requests == ATTEMPTS


def test_a_request_is_not_lost_by_connections_that_a_firewall_has_forgotten() -> None:
    clock, server, requests = requests_of(4)
    first = [requests.ask("GET", "name") for _ in range(4)]
    for transport in server.transports:
        transport.protocol.dataReceived(OK)
    for one in first:
        SynchronousTestCase().successResultOf(one)
    asked = requests.ask("GET", "name")
    clock.pump([1] * 12)
    assert len(server.transports) == 5
    server.transports[4].protocol.dataReceived(OK)
    assert SynchronousTestCase().successResultOf(asked).text == b"hello world"


def test_a_server_that_is_busy_keeps_its_connections() -> None:
    clock, server, requests = requests_of(4)
    asked = requests.ask("GET", "name")
    protocol = server.transports[0].protocol
    protocol.dataReceived(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
    clock.advance(1)
    protocol.dataReceived(OK)
    assert SynchronousTestCase().successResultOf(asked).text == b"hello world"
    assert len(server.transports) == 1
