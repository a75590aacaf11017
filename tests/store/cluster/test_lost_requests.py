"""Requests to S3 of which the connection is lost, by an agent that loses each."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived
from twisted.web.iweb import IAgent
from zope.interface import implementer

from gateway.errors import StoreDown
from gateway.store.cluster.requests import ATTEMPTS, Requests
from gateway.store.cluster.signing import Signer
from gateway.store.cluster.transport import Content

_ENDED = [Failure(ConnectionDone())]

LOSSES = [
    (ConnectionRefusedError(), "ConnectionRefusedError"),
    (RequestTransmissionFailed(_ENDED), "ConnectionDone"),  # while the request was sent
    (ResponseNeverReceived(_ENDED), "ConnectionDone"),
    (ResponseFailed(_ENDED), "ConnectionDone"),
]


@implementer(IAgent)
class LosingAgent:
    """Loses each request in the same way."""

    def __init__(self, loss: Exception) -> None:
        self._loss = loss
        self.requests = 0

    def request(self, *_: Any) -> Deferred[Any]:
        """Lose it."""
        self.requests += 1
        return fail(self._loss)


@pytest.mark.parametrize(("loss", "reason"), LOSSES)
def test_a_request_is_repeated_and_then_an_outage_however_its_connection_ended(
    loss: Exception, reason: str
) -> None:
    agent, clock = LosingAgent(loss), Clock()
    requests = Requests(clock, agent, Signer("us-east-1", "key", "secret"), "http://s3/mail")
    asked = requests.ask("PUT", "name", content=Content([b"a body"]))
    clock.pump([1] * ATTEMPTS)
    failure = SynchronousTestCase().failureResultOf(asked, StoreDown)
    assert reason in str(failure.value)
    assert agent.requests == ATTEMPTS
