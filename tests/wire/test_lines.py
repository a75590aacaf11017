"""Lines, base64 and what waits to be sent."""

from __future__ import annotations

import base64 as python

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire import base64
from gateway.wire.lines import TOO_LONG, LineBuffer, LineTooLong
from gateway.wire.outgoing import SLICE, Outgoing

PIECES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"abcdefgh", b""]))


def lines(pieces: list[bytes], limit: int = 6) -> list[bytes | LineTooLong]:
    """All lines that these pieces make."""
    buffer, found = LineBuffer(), []
    for piece in pieces:
        buffer.feed(piece)
        while (line := buffer.take_line(limit)) is not None:
            found.append(line)
    return found


class LineBufferTests(SynchronousTestCase):
    @given(PIECES)
    @pytest.mark.conformance("P-23")
    def test_cuts_do_not_matter_and_no_line_is_over_the_limit(self, pieces: list[bytes]) -> None:
        found = lines(pieces)
        self.assertEqual(found, lines([b"".join(pieces)]))
        for line in found:
            if isinstance(line, bytes):
                self.assertLess(len(line), 6)
                self.assertNotIn(b"\n", line)

    @given(st.lists(st.binary(max_size=30)))
    def test_it_never_holds_more_than_a_line(self, pieces: list[bytes]) -> None:
        buffer = LineBuffer()
        for piece in pieces:
            buffer.feed(piece)
            while buffer.take_line(10) is not None:
                pass
            self.assertLess(len(buffer), 10)

    def test_a_long_line_is_reported_once_and_its_tail_is_dropped(self) -> None:
        self.assertEqual(lines([b"a" * 9, b"b" * 9, b"\r\nok\r\n"]), [TOO_LONG, b"ok"])

    def test_clear_forgets_what_waits(self) -> None:
        buffer = LineBuffer()
        buffer.feed(b"one\r\ntwo\r\n")
        buffer.take_line(100)
        buffer.clear()
        self.assertIsNone(buffer.take_line(100))
        self.assertFalse(buffer.starts_with(b"TWO"))


class Base64Tests(SynchronousTestCase):
    @given(st.binary())
    def test_there_and_back(self, octets: bytes) -> None:
        self.assertEqual(base64.decode(base64.encode(octets)), octets)
        self.assertEqual(base64.encode(octets), python.b64encode(octets))

    def test_anything_but_exact_base64_is_refused(self) -> None:
        for text in (b"=AAA", b"AAA=BBB", b"AAAA====", b"AAAA=", b"QR==", b"A", b"AA", b"AA\n="):
            with self.assertRaises(ValueError, msg=text):
                base64.decode(text)


class OutgoingTests(SynchronousTestCase):
    @given(st.lists(st.integers(0, 3 * SLICE), max_size=6))
    def test_slices_make_up_what_was_put_and_none_is_too_large(self, sizes: list[int]) -> None:
        outgoing = Outgoing()
        pieces = [bytes([65 + at]) * size for at, size in enumerate(sizes)]
        for piece in pieces:
            outgoing.put(piece)
        self.assertEqual(outgoing.length, sum(sizes))
        taken = []
        while data := outgoing.take():
            self.assertLessEqual(len(data), SLICE)
            taken.append(data)
        self.assertEqual(b"".join(taken), b"".join(pieces))
        self.assertEqual(outgoing.length, 0)
