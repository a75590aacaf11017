"""A body whose server is slow, without one."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import StoreDown
from gateway.model import Form
from gateway.s3.answers import Lost
from gateway.store.cluster.bodies.body import StreamedBody


class Response:
    """An answer of which a test sends the octets, and its connection."""

    def __init__(self) -> None:
        self.receiver: Any = None
        self.is_open = True

    def deliver(self, receiver: Any) -> None:
        """Octets may come."""
        self.receiver = receiver

    def resume(self) -> None:
        """It is read on."""

    def stop(self) -> None:
        """The connection is closed."""
        self.is_open = False


class SlowServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.opened: list[tuple[int, Deferred[Any]]] = []
        self.response: Any = Response()
        self.body = StreamedBody(self.response, self.open_at, 10, Form.CLEAN, self.clock, 5.0)

    def open_at(self, start: int) -> Deferred[Any]:
        self.opened.append((start, Deferred()))
        return self.opened[-1][1]

    def test_a_stalled_body_fails_and_its_connection_is_closed(self) -> None:
        self.response.receiver.arrived(b"1234")
        self.assertEqual(self.successResultOf(self.body.read()), b"1234")
        rest = self.body.read()
        self.clock.advance(5.0)
        self.failureResultOf(rest, StoreDown)
        self.assertFalse(self.response.is_open)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_each_reading_has_its_own_time(self) -> None:
        for piece in (b"1", b"2", b"3"):
            reading = self.body.read()
            self.clock.advance(4.0)
            self.response.receiver.arrived(piece)
            self.assertEqual(self.successResultOf(reading), piece)
        rest = self.body.read()
        self.clock.advance(4.9)
        self.assertNoResult(rest)
        self.clock.advance(0.1)
        self.failureResultOf(rest, StoreDown)
        self.body.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_connection_that_comes_after_the_failure_is_closed_too(self) -> None:
        rest = self.body.read()
        self.response.receiver.ended(Lost("reset"))
        self.clock.advance(5.0)
        self.failureResultOf(rest, StoreDown)
        ((start, opening),) = self.opened
        self.assertEqual(start, 0)
        late = Response()
        opening.callback(late)
        self.assertFalse(late.is_open)
        self.assertEqual(len(self.opened), 1)
