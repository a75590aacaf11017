"""HTTP to S3, octet by octet: what is asked, and what is made of each answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.s3.answers import Collector, Lost, Response
from gateway.s3.connection import LONGEST_HEAD, SHORT, Content
from gateway.s3.transport import KEPT, Connections
from played_server import Server

HEAD = b"GET /mail/name HTTP/1.1\r\n\r\n"

WITHIN = 10.0
"""Seconds for each request of these tests."""

MOST = 10**6
"""More octets than any of their answers has."""


class Lab:
    """Connections to a server that the test plays."""

    def __init__(self, most: int = 2) -> None:
        self.clock, self.server, self.case = Clock(), Server(), SynchronousTestCase()
        self.connections = Connections(self.clock, self.server, "s3", most=most)

    def ask(self, content: Content | None = None, within: float = WITHIN) -> Deferred[Response]:
        """Send a request."""
        return self.connections.ask(HEAD, content or Content(), within)

    def answer(self, *pieces: bytes, on: int = -1) -> None:
        """Octets of the server."""
        for piece in pieces:
            self.server.transports[on].protocol.dataReceived(piece)

    def hang_up(self, reason: Exception, on: int = -1) -> None:
        """The connection ends."""
        self.server.transports[on].protocol.connectionLost(Failure(reason))

    def response(self, asked: Deferred[Response]) -> Response:
        """The answer, whose head is here."""
        found: Response = self.case.successResultOf(asked)
        return found

    def text(self, response: Response, most: int = MOST) -> bytes:
        """The body, which is here."""
        found: bytes = self.case.successResultOf(Collector(response, most).whole)
        return found

    def lost(self, deferred: Deferred[Any]) -> str:
        """Why there is no whole answer."""
        return str(self.case.failureResultOf(deferred, Lost).value)


def split(text: bytes, cuts: Sequence[int]) -> list[bytes]:
    """In pieces."""
    ends = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(ends)]


FORMS = {
    "interim with a length": b"HTTP/1.1 104 Wait\r\nContent-Length: 4\r\n\r\nabcd"
    b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
    "length": b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 11\r\n\r\nhello world',
    "spaces": b"HTTP/1.1 200 OK\r\nContent-Length: \t11 \t\r\n\r\nhello world",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
}


@given(form=st.sampled_from(sorted(FORMS)), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(form: str, cuts: list[int]) -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(*split(FORMS[form], cuts))
    response = lab.response(asked)
    assert response.status == 200
    assert response.length == (-1 if form == "chunks" else 11)
    assert b"x" not in response.headers
    assert lab.text(response) == b"hello world"
    lab.ask()
    assert len(lab.server.transports) == 1
    assert lab.server.transports[0].value() == HEAD * 2


SECOND = (
    b'HTTP/1.1 404 Not Found\r\nETag: "2"\r\nContent-Length: 5\r\n\r\nother',
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\not",
    b"and what is no HTTP",
)


@given(
    st.sampled_from(sorted(FORMS)),
    st.sampled_from(SECOND),
    st.lists(st.integers(0, 10**6), max_size=3),
)
def test_what_follows_an_answer_in_its_segment_changes_nothing_of_it(
    form: str, more: bytes, cuts: list[int]
) -> None:
    lab = Lab()
    asked = lab.ask()
    *pieces, last = split(FORMS[form], cuts)
    lab.answer(*pieces, last + more)
    response = lab.response(asked)
    assert response.status == 200
    assert response.headers.get(b"etag") == (b'"1"' if form == "length" else None)
    assert lab.text(response) == b"hello world"
    assert lab.server.transports[0].aborted


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_ends_with_its_head_whatever_length_it_says(status: int) -> None:
    lab = Lab()
    lab.ask()
    lab.answer(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status)
    asked = lab.ask()
    lab.answer(FORMS["length"])
    assert lab.response(asked).whole == b"hello world"
    assert len(lab.server.transports) == 1


def test_a_trailer_changes_no_field_of_the_head() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(FORMS["chunks"][:-2] + b'ETag: "2"\r\n\r\n')
    response = lab.response(asked)
    assert b"etag" not in response.headers
    assert lab.text(response) == b"hello world"


def test_a_change_to_another_protocol_is_a_lost_request() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n..."
    )
    assert lab.lost(asked) == "expected HTTP, found a change to another protocol"
    assert lab.server.transports[0].aborted


def test_a_body_that_ends_with_its_connection_is_whole() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(b"HTTP/1.0 503 Busy\r\n\r\nlater")
    collected = Collector(lab.response(asked), MOST).whole
    lab.case.assertNoResult(collected)
    lab.hang_up(ConnectionDone())
    assert lab.case.successResultOf(collected) == b"later"


CUT_SHORT = [
    b"",
    b"HTTP/1.1 200 OK\r\nContent-",
    b"HTTP/1.1 100 Continue\r\n\r\n",
]


@pytest.mark.parametrize("text", CUT_SHORT)
@pytest.mark.parametrize("reason", [ConnectionDone(), ConnectionLost()])
def test_a_connection_that_ends_before_the_head_is_a_lost_request(
    text: bytes, reason: Exception
) -> None:
    lab = Lab()
    asked = lab.ask()
    if text:
        lab.answer(text)
    lab.hang_up(reason)
    assert type(reason).__name__ in lab.lost(asked)


BODIES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
]


@pytest.mark.parametrize("text", BODIES)
def test_a_body_that_is_cut_short_is_lost_and_not_shorter(text: bytes) -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(text)
    collected = Collector(lab.response(asked), MOST).whole
    lab.hang_up(ConnectionDone())
    assert "ConnectionDone" in lab.lost(collected)


@given(st.lists(st.integers(0, 10**6), max_size=5), st.sampled_from([b"", *SECOND]))
def test_a_long_body_ends_after_as_many_octets_as_its_head_says(
    cuts: list[int], more: bytes
) -> None:
    lab = Lab()
    asked = lab.ask()
    body = bytes(range(256)) * (SHORT // 256) + b"end"
    *pieces, last = split(body, cuts)
    lab.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (SHORT + 3))
    collected = Collector(lab.response(asked), MOST).whole
    lab.answer(*pieces)
    lab.case.assertNoResult(collected)
    lab.answer(last + more)
    assert lab.case.successResultOf(collected) == body
    assert lab.server.transports[0].aborted == bool(more)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_short_body_is_an_answer_when_all_of_it_is_here(cut: int) -> None:
    lab = Lab()
    asked, text = lab.ask(), FORMS["length"]
    lab.answer(text[:-cut])
    lab.case.assertNoResult(asked)
    lab.answer(text[-cut:])
    assert lab.response(asked).whole == b"hello world"
    assert not lab.server.transports[0].aborted


def test_a_short_rest_of_a_body_is_passed_on_as_it_comes() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\nhe")
    response = lab.response(asked)
    assert response.whole is None
    collected = Collector(response, MOST).whole
    lab.answer(b"llo")
    assert lab.case.successResultOf(collected) == b"hello"


def test_a_short_body_that_comes_slowly_has_the_time_again_with_each_piece() -> None:
    lab = Lab()
    asked, text = lab.ask(), FORMS["length"]
    lab.answer(text[:-3])
    for number in (-3, -2):
        lab.clock.advance(WITHIN - 1)
        lab.answer(text[number : number + 1])
    lab.case.assertNoResult(asked)
    lab.clock.advance(WITHIN - 1)
    lab.answer(text[-1:])
    assert lab.response(asked).whole == b"hello world"


def test_a_short_body_that_is_cut_or_stops_is_a_lost_request() -> None:
    lab = Lab()
    cut, stopped = lab.ask(), lab.ask()
    for number in range(2):
        lab.answer(FORMS["length"][:-1], on=number)
    lab.hang_up(ConnectionDone(), on=0)
    assert "ConnectionDone" in lab.lost(cut)
    lab.clock.advance(WITHIN)
    assert lab.lost(stopped) == "no answer within 10 seconds"
    assert lab.server.transports[1].aborted


@pytest.mark.parametrize(
    "text", [b"+OK POP3 ready\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"\0" * 50]
)
def test_what_is_no_http_closes_the_connection_and_is_a_lost_request(text: bytes) -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(text)
    assert "expected HTTP" in lab.lost(asked)
    assert lab.server.transports[0].aborted


def test_a_head_without_an_end_is_not_kept_in_memory() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(
        b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"y" * 1000 + b"\r\n"] * (LONGEST_HEAD // 1000 + 1)
    )
    assert "more than 65536 octets of no body" in lab.lost(asked)


@pytest.mark.parametrize("begin", [b"5;x=", b"0\r\nX: "])
def test_an_extension_or_a_trailer_without_an_end_is_not_kept_in_memory(begin: bytes) -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n")
    collected = Collector(lab.response(asked), MOST).whole
    lab.answer(begin, *[b"y" * 1000] * (LONGEST_HEAD // 1000))
    lab.case.assertNoResult(collected)
    lab.answer(b"y" * 1000)
    assert "octets of no body" in lab.lost(collected)
    assert lab.server.transports[0].aborted


def test_the_frames_of_many_chunks_are_no_head_that_is_too_long() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    collected = Collector(lab.response(asked), MOST).whole
    for _ in range(LONGEST_HEAD // 500):
        lab.answer(b"1;x=" + b"y" * 500, b"\r\n", b"z\r\n")
    lab.answer(b"0\r\n\r\n")
    assert lab.case.successResultOf(collected) == b"z" * (LONGEST_HEAD // 500)


def test_a_server_that_is_silent_is_left_after_the_time_limit() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.clock.advance(WITHIN - 0.1)
    lab.case.assertNoResult(asked)
    lab.clock.advance(0.1)
    assert lab.lost(asked) == "no answer within 10 seconds"
    assert lab.server.transports[0].aborted


def test_a_time_limit_that_the_size_of_a_request_made_is_said_in_whole_seconds() -> None:
    lab = Lab()
    asked = lab.ask(within=10.0017)
    lab.clock.advance(10.0017)
    assert lab.lost(asked) == "no answer within 10 seconds"


@implementer(IStreamClientEndpoint)
class Silent:
    """An endpoint that never connects: its name is looked up without end, for instance."""

    def __init__(self) -> None:
        self.is_given_up = False

    def connect(self, _: object) -> Deferred[Any]:
        """Wait until nobody wants it any more."""

        def give_up(_: object) -> None:
            self.is_given_up = True

        return Deferred(give_up)


def test_a_connection_that_does_not_come_about_is_a_lost_request_after_the_time_limit() -> None:
    lab, silent = Lab(), Silent()
    lab.connections = Connections(lab.clock, silent, "s3", most=2)
    asked = lab.ask()
    lab.clock.advance(WITHIN - 0.1)
    lab.case.assertNoResult(asked)
    lab.clock.advance(0.1)
    assert lab.lost(asked) == "no connection within 10 seconds"
    assert silent.is_given_up


def test_each_request_of_a_connection_has_its_own_time_limit() -> None:
    lab = Lab()
    lab.ask()
    lab.clock.advance(WITHIN - 1)
    lab.answer(FORMS["length"])
    second = lab.ask()
    lab.clock.advance(WITHIN - 1)
    lab.answer(FORMS["length"])
    assert lab.response(second).status == 200
    third = lab.connections.ask(HEAD, Content(), 2.0)
    lab.clock.advance(2.0)
    assert lab.lost(third) == "no answer within 2 seconds"
    assert [one.aborted for one in lab.server.transports] == [True]
    assert not lab.clock.getDelayedCalls()


def test_the_time_limit_is_over_once_the_head_of_a_long_answer_is_here() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (SHORT + 1))
    lab.clock.advance(WITHIN + 1)
    assert not lab.clock.getDelayedCalls()
    collected = Collector(lab.response(asked), MOST).whole
    lab.answer(b"x" * (SHORT + 1))
    assert lab.case.successResultOf(collected) == b"x" * (SHORT + 1)


NOT_KEPT = [
    b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
]


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("text", NOT_KEPT)
def test_a_connection_is_not_used_again_if_its_server_ends_it_or_says_too_much(
    text: bytes, last: int
) -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(*split(text, [len(text) - last]))
    assert lab.response(asked).status in (200, 204)
    assert lab.server.transports[0].aborted
    lab.ask()
    assert len(lab.server.transports) == 2


def test_an_answer_to_no_request_closes_the_connection() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(FORMS["length"])
    lab.response(asked)
    lab.answer(FORMS["length"])
    assert lab.server.transports[0].aborted
    # Twisted reports the end later.
    again = lab.ask()
    assert len(lab.server.transports) == 2
    lab.hang_up(ConnectionDone(), on=0)
    lab.answer(FORMS["length"])
    assert lab.text(lab.response(again)) == b"hello world"


def test_connections_are_kept_up_to_a_number_and_for_a_while() -> None:
    lab = Lab(most=2)
    for _ in range(3):
        lab.ask()
    for number in range(3):
        lab.answer(FORMS["length"], on=number)
    assert [one.aborted for one in lab.server.transports] == [True, False, False]
    lab.clock.advance(KEPT + 1)
    lab.ask()
    assert [one.aborted for one in lab.server.transports] == [True, True, True, False]


def test_closing_ends_those_that_are_kept() -> None:
    lab = Lab()
    lab.ask()
    lab.answer(FORMS["length"])
    lab.connections.close()
    assert lab.server.transports[0].aborted


def test_a_connection_that_was_in_use_at_the_closing_is_not_kept() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.connections.close()
    lab.answer(FORMS["length"])
    assert lab.text(lab.response(asked)) == b"hello world"
    assert lab.server.transports[0].aborted


def test_a_fresh_connection_leaves_none_that_may_be_lost() -> None:
    lab = Lab()
    for _ in range(2):
        lab.ask()
    for number in range(2):
        lab.answer(FORMS["length"], on=number)
    lab.connections.ask(HEAD, Content(), WITHIN, fresh=True)
    assert [one.aborted for one in lab.server.transports] == [True, True, False]


def test_there_is_room_until_all_connections_that_are_kept_are_busy() -> None:
    lab = Lab(most=2)
    assert lab.connections.has_room()
    asked = [lab.ask()]
    assert lab.connections.has_room()
    asked.append(lab.ask())
    assert not lab.connections.has_room()
    lab.answer(FORMS["length"], on=0)
    assert lab.connections.has_room()
    lab.ask()
    assert not lab.connections.has_room()
    lab.hang_up(ConnectionLost(), on=1)
    lab.lost(asked[1])
    assert lab.connections.has_room()


def test_a_connection_that_cannot_be_made_takes_no_room() -> None:
    @implementer(IStreamClientEndpoint)
    class Refused:
        def connect(self, _: object) -> Deferred[Any]:
            return fail(ConnectionRefusedError())

    connections = Connections(Clock(), Refused(), "s3", most=1)
    case = SynchronousTestCase()
    for _ in range(3):
        assert connections.has_room()
        case.failureResultOf(connections.ask(HEAD, Content(), WITHIN), ConnectionRefusedError)


def test_a_server_is_not_read_while_nobody_takes_what_it_sends() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhello" % (SHORT + 5))
    transport = lab.server.transports[0]
    assert transport.producerState == "paused"
    collected = Collector(lab.response(asked), MOST).whole
    assert transport.producerState == "producing"
    lab.answer(b"x" * SHORT)
    assert lab.case.successResultOf(collected) == b"hello" + b"x" * SHORT


def test_the_first_octets_of_a_body_close_the_connection_after_them() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100)
    assert lab.text(lab.response(asked), 60) == b"x" * 60
    assert lab.server.transports[0].aborted


def test_a_connection_is_not_kept_where_its_last_octets_are_not_wanted() -> None:
    lab = Lab()
    asked = lab.ask()
    lab.answer(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\n")
    collected = Collector(lab.response(asked), 4).whole
    lab.answer(b"hello")
    assert lab.case.successResultOf(collected) == b"hell"
    assert lab.server.transports[0].aborted
    lab.ask()
    assert len(lab.server.transports) == 2


def test_a_request_that_is_cancelled_closes_its_connection_and_is_not_a_lost_one() -> None:
    lab = Lab()
    asked = lab.ask()
    asked.cancel()
    lab.case.failureResultOf(asked, CancelledError)
    assert lab.server.transports[0].aborted
    assert not lab.clock.getDelayedCalls()


def test_a_large_content_is_written_as_the_connection_takes_it() -> None:
    lab = Lab()
    pieces = [bytes([number]) * 50_000 for number in range(3)]
    asked = lab.ask(Content(pieces))
    transport: Any = lab.server.transports[0]
    assert transport.value() == HEAD
    for _ in range(4):
        transport.producer.resumeProducing()
    assert transport.value() == HEAD + b"".join(pieces)
    assert transport.producer is None
    lab.answer(FORMS["length"])
    assert lab.text(lab.response(asked)) == b"hello world"
    lab.ask()
    assert len(lab.server.transports) == 1


def test_a_refusal_before_all_is_sent_ends_the_connection() -> None:
    lab = Lab()
    asked = lab.ask(Content([b"x" * 70_000]))
    lab.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    assert lab.response(asked).status == 403
    assert lab.server.transports[0].aborted
