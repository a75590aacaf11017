"""Bodies of which the answer does not say how long they are: a proxy sends chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import GatewayError, MessageUnreadable, StoreDown
from gateway.model import Form
from gateway.store.cluster.bodies.blobs import LONGEST_HEAD, Blobs
from gateway.store.cluster.bodies.body import Bodies
from gateway.store.cluster.bodies.keys import Where
from played_server import requests_of

KEY = UUID(int=7)

TEXT = b"hello world"

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

PART = b"HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n\r\n"

END = b"0\r\n\r\n"


def chunk(text: bytes) -> bytes:
    """Octets as a proxy sends them."""
    return b"%x\r\n%s\r\n" % (len(text), text)


class UnsaidLengthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.server, requests = requests_of(2)
        self.blobs = Blobs(requests)

    def answer(self, *pieces: bytes) -> None:
        """What the server says, piece by piece."""
        for piece in pieces:
            self.server.transports[-1].protocol.dataReceived(piece)

    def open(self) -> Deferred[Any]:
        """A body of as many octets as ``TEXT`` has."""
        bodies = Bodies(self.clock, self.blobs, 10.0)
        return bodies.open(Where(KEY, len(TEXT), Form.CLEAN), lambda: fail(StoreDown()))

    def read(self, body: Any) -> bytes:
        """All of a body that is here."""
        pieces = []
        while piece := self.successResultOf(body.read()):
            pieces.append(piece)
        return b"".join(pieces)

    def fails(self, asked: Callable[[], Deferred[Any]], *said: bytes) -> GatewayError:
        """The error of what is asked, if the server says this."""
        deferred = asked()
        self.answer(*said)
        error: GatewayError = self.failureResultOf(deferred, GatewayError).value
        return error

    def test_a_body_in_chunks_is_read_in_whatever_pieces_it_comes(self) -> None:
        whole = HEAD + chunk(TEXT) + END
        for said in (
            [whole],
            [HEAD, chunk(TEXT[:4]), chunk(TEXT[4:]), END],
            [HEAD, whole[len(HEAD) :]],
        ):
            opening = self.open()
            self.answer(*said)
            self.assertEqual(self.read(self.successResultOf(opening)), TEXT)
            checked = self.blobs.check(KEY, len(TEXT))
            self.answer(*said)
            self.successResultOf(checked)

    def test_a_body_that_is_short_may_be_whole_the_next_time(self) -> None:
        short = HEAD, chunk(TEXT[:-1]), END
        for asked in (self.open, lambda: self.blobs.check(KEY, len(TEXT))):
            self.assertIsInstance(self.fails(asked, b"".join(short)), StoreDown)
        self.assertIsInstance(
            self.fails(lambda: self.blobs.check(KEY, len(TEXT)), *short), StoreDown
        )

    def test_an_answer_that_has_no_body_is_no_empty_message(self) -> None:
        said = b"HTTP/1.1 204 No Content\r\nContent-Length: %d\r\n\r\n" % len(TEXT)
        for asked in (self.open, lambda: self.blobs.check(KEY, len(TEXT))):
            self.assertIsInstance(self.fails(asked, said), StoreDown)

    def test_the_rest_of_a_body_that_is_short_is_asked_for(self) -> None:
        opening = self.open()
        self.answer(HEAD, chunk(TEXT[:4]), END)
        body = self.successResultOf(opening)
        self.assertEqual(self.successResultOf(body.read()), TEXT[:4])
        self.assertIn(b"range:bytes=4-10\r\n", self.server.transports[-1].value())
        self.answer(PART + chunk(TEXT[4:]) + END)
        self.assertEqual(self.read(body), TEXT[4:])

    def test_a_whole_body_in_place_of_its_rest_is_not_taken_for_that(self) -> None:
        opening = self.open()
        self.answer(HEAD, chunk(TEXT[:4]), END, HEAD + chunk(TEXT[4:]) + END)
        body = self.successResultOf(opening)
        self.assertEqual(self.successResultOf(body.read()), TEXT[:4])
        self.failureResultOf(body.read(), StoreDown)

    def test_a_body_that_is_longer_is_damaged_and_no_octet_too_many_is_sent(self) -> None:
        long = HEAD, chunk(TEXT), chunk(b"!"), END
        check = self.blobs.check
        self.assertIsInstance(self.fails(self.open, b"".join(long)), MessageUnreadable)
        self.assertIsInstance(self.fails(lambda: check(KEY, len(TEXT)), *long), MessageUnreadable)
        opening = self.open()
        self.answer(HEAD, chunk(TEXT[:4]), chunk(TEXT[4:] + b"!"), END)
        body = self.successResultOf(opening)
        self.assertEqual(self.successResultOf(body.read()), TEXT[:4])
        self.failureResultOf(body.read(), MessageUnreadable)

    def test_a_large_body_is_counted_to_its_end(self) -> None:
        large = b"x" * (LONGEST_HEAD + 5)
        head = self.blobs.head(KEY, len(large))
        self.answer(HEAD, chunk(large[:-1]), chunk(large[-1:]), END)
        self.assertEqual(self.successResultOf(head), large[:LONGEST_HEAD])
        check = self.fails(lambda: self.blobs.check(KEY, len(large)), HEAD, chunk(large[1:]), END)
        self.assertIsInstance(check, StoreDown)
