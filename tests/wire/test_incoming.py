"""Where a message ends, and where it does not."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.body import Canonical, DotStuffing
from gateway.wire.incoming import DotUnstuffing
from gateway.wire.lines import LineBuffer

PARTS = st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"a", b"\0", b"\n.\r\n", b""])
PIECES = st.lists(PARTS, max_size=30)
NO_ENDS = (b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n")


def through(pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    """The content, and what follows its end; None when there is no end."""
    step, content = DotUnstuffing(), b""
    for number, piece in enumerate(pieces):
        content += step.feed(piece)
        if step.surplus is not None:
            rest = piece[len(piece) - step.surplus :]
            return content, rest + b"".join(pieces[number + 1 :])
    return content, None


def by_lines(data: bytes) -> tuple[bytes, bytes | None]:
    """The same as RFC 5321 section 4.5.2 puts it."""
    content = b""
    *lines, tail = data.split(b"\r\n")
    for number, line in enumerate(lines):
        if line == b".":
            return content, b"\r\n".join([*lines[number + 1 :], tail])
        content += line.removeprefix(b".") + b"\r\n"
    return content + tail, None


class DotUnstuffingTests(SynchronousTestCase):
    @given(PIECES)
    @example([b"\r\n", b".", b"\r", b"\n", b"a"])
    @example([b"\r\n", b".", b"\r", b"\r", b"\n"])
    def test_cuts_do_not_matter(self, pieces: list[bytes]) -> None:
        self.assertEqual(through(pieces), through([b"".join(pieces)]))

    @given(PIECES)
    def test_only_a_line_of_one_dot_between_crlfs_ends_a_message(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces) + b"\r\n.\r\n"
        self.assertEqual(through([data]), by_lines(data))

    @given(PIECES, st.binary(max_size=5))
    def test_what_was_stuffed_comes_back(self, pieces: list[bytes], after: bytes) -> None:
        step = Canonical()
        text = b"".join([step.feed(piece) for piece in pieces]) + step.finish()
        stuffing = DotStuffing()
        sent = stuffing.feed(text) + stuffing.finish()
        self.assertEqual(through([sent + after]), (text, after))

    def test_nothing_that_only_looks_like_the_end_is_one(self) -> None:
        for no_end in NO_ENDS:
            content, rest = through([b"a" + no_end + b"b\r\n.\r\nQUIT\r\n"])
            self.assertEqual(rest, b"QUIT\r\n", no_end)
            # A dot after CRLF is one that the client has stuffed; all else is there.
            self.assertEqual(content, b"a" + no_end.replace(b"\r\n.", b"\r\n") + b"b\r\n", no_end)
            self.assertEqual(through([b"a" + no_end + b"b"])[1], None, no_end)

    def test_a_message_may_be_empty(self) -> None:
        self.assertEqual(through([b".\r\nQUIT"]), (b"", b"QUIT"))

    def test_it_holds_back_no_more_than_a_dot_and_a_cr(self) -> None:
        step = DotUnstuffing()
        self.assertEqual(step.feed(b"a" * 100_000), b"a" * 100_000)
        self.assertEqual(step.feed(b"\r\n.\r"), b"\r\n")


class LineBufferTests(SynchronousTestCase):
    def test_octets_can_be_taken_between_lines_and_given_back(self) -> None:
        buffer = LineBuffer()
        buffer.feed(b"one\r\nabcdefQUIT\r\n")
        self.assertEqual(buffer.take_line(100), b"one")
        self.assertEqual(buffer.take(4), b"abcd")
        self.assertEqual(buffer.take(4), b"efQU")
        buffer.give_back(2)
        self.assertEqual(buffer.take_line(100), b"QUIT")
        self.assertEqual(buffer.take(4), b"")
