"""Answers of S3, or of a proxy before it, that are longer than anybody needs."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import GatewayError, MailboxUnusable, MessageUnreadable
from gateway.s3.requests import LONGEST_ERROR, Missing
from gateway.store.cluster.bodies.blobs import LONGEST_HEAD, Blobs
from gateway.store.cluster.bodies.keys import new_key
from played_server import requests_of

PIECE = b" " * 1000

LENGTHS = [
    b"",  # until the connection ends
    b"Content-Length: %d\r\n" % 10**9,
]

DENIED = b"<Error><Code>AccessDenied</Code>"

NOT_THERE = b"<Error><Code>NoSuchKey</Code>"


class EndlessAnswerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.server, requests = requests_of(2)
        self.blobs = Blobs(requests)

    def say(self, *pieces: bytes) -> None:
        """What the server says on its last connection."""
        for piece in pieces:
            self.server.transports[-1].protocol.dataReceived(piece)

    def say_more_than(self, octets: int) -> None:
        """More of an answer: the connection is open until it is too much."""
        transport = self.server.transports[-1]
        for _ in range(octets // len(PIECE)):
            self.assertFalse(transport.aborted)
            self.say(PIECE)
        self.say(PIECE)
        self.assertTrue(transport.aborted)

    def read(self) -> Deferred[Any]:
        """Ask for a body."""
        return self.blobs.read(new_key(), 0, 100)

    def test_an_error_without_end_is_the_error_that_its_begin_says(self) -> None:
        for status, text, kind, said in (
            (b"403 Forbidden", DENIED, MailboxUnusable, "status 403 AccessDenied; check the keys"),
            (b"403 Forbidden", b"<html>", MailboxUnusable, "status 403; check the keys"),
            (b"404 Not Found", NOT_THERE, Missing, "status 404 NoSuchKey"),
        ):
            for length in LENGTHS:
                asked = self.read()
                self.say(b"HTTP/1.1 %s\r\n%s\r\n" % (status, length), text)
                self.say_more_than(LONGEST_ERROR - len(text))
                error: GatewayError = self.failureResultOf(asked, kind).value
                self.assertIn(said, str(error))
                self.assertFalse(self.clock.getDelayedCalls())
        # None of their connections is used again.
        self.assertEqual(len(self.server.transports), 6)

    def test_a_server_that_is_busy_and_says_so_without_end_is_asked_again(self) -> None:
        asked = self.read()
        self.say(b"HTTP/1.1 503 Slow Down\r\n\r\n")
        self.say_more_than(LONGEST_ERROR)
        self.clock.advance(1)
        self.assertEqual(len(self.server.transports), 2)
        self.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100)
        self.assertEqual(self.successResultOf(asked).whole, b"x" * 100)

    def test_a_body_without_end_is_read_no_further_than_its_message(self) -> None:
        for length in (5_000, LONGEST_HEAD + 5_000):
            for most in (0, LONGEST_HEAD):
                asked = self.blobs.head(new_key(), length, most)
                self.say(b"HTTP/1.1 200 OK\r\n\r\n")
                self.say_more_than(length)
                error: GatewayError = self.failureResultOf(asked, MessageUnreadable).value
                self.assertRegex(str(error), f"expected {length} octets, found more$")
