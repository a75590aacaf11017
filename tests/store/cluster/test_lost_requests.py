"""Requests to S3 of which the connection is lost, or never comes about."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import StoreDown
from gateway.store.cluster.requests import ATTEMPTS, Requests
from gateway.store.cluster.signing import Signer
from gateway.store.cluster.transport import Connections, Content, Lost

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

    def ask(self, *_: Any) -> Deferred[Any]:
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
