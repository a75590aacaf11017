"""Stream transformers: where chunks are cut must not matter."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import Form
from gateway.wire.body import (
    Canonical,
    DotStuffing,
    Measure,
    TopCut,
    as_sent,
    canonical,
    has_dot_lines,
    stuffed,
)

Reader = Callable[[bytes], bytes | None]
"""A client: what it takes for the next reply after a message; None while it waits for more."""


def until_dot(lines: re.Pattern[bytes], dropped: bytes = b"") -> Reader:
    """One that ends lines so, does not see some octets, and reads up to a line of one dot."""

    def read(sent: bytes) -> bytes | None:
        at = 0
        seen = sent.translate(None, dropped)
        for end in lines.finditer(seen):
            if seen[at : end.start()] == b".":
                return seen[end.end() :]
            at = end.end()
        return None

    return read


def java_mail(sent: bytes) -> bytes | None:
    """Ends at a dot after LF and before CR, whatever follows that."""
    found = re.search(rb"(?:\A|\n)\.\r.", sent, re.S)
    return sent[found.end() :] if found else None


CLIENTS: dict[str, Reader] = {
    "to the letter": until_dot(re.compile(rb"\r\n")),
    "poplib, curl, fetchmail, mpop, getmail": until_dot(re.compile(rb"\r?\n")),
    "any number of CRs": until_dot(re.compile(rb"\r*\n")),
    "JavaMail": java_mail,
    "no CR is seen": until_dot(re.compile(rb"\n"), b"\r"),
    "LF, CR or CRLF": until_dot(re.compile(rb"\r\n|\r|\n")),
    "each CR and each LF": until_dot(re.compile(rb"[\r\n]")),
}

PIECES = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b"\0", b"\r\n.\r\n", b"", b"\r\n\r\n"])
)


def through(step: Canonical | TopCut | DotStuffing, pieces: list[bytes]) -> bytes:
    """All that comes out, with the end."""
    return b"".join([step.feed(piece) for piece in pieces]) + step.finish()


class CanonicalTests(SynchronousTestCase):
    @given(PIECES, st.booleans())
    @pytest.mark.conformance("P-1", "X-C0011")
    def test_cuts_do_not_matter_and_every_lf_has_its_cr(
        self, pieces: list[bytes], convert_cr: bool
    ) -> None:
        whole = through(Canonical(convert_cr=convert_cr), [b"".join(pieces)])
        self.assertEqual(through(Canonical(convert_cr=convert_cr), pieces), whole)
        self.assertNotRegex(whole, rb"(?<!\r)\n")
        self.assertTrue(whole == b"" or whole.endswith(b"\r\n"))
        if convert_cr:
            self.assertNotRegex(whole, rb"\r(?!\n)")

    @given(PIECES, st.booleans())
    @pytest.mark.conformance("P-2", "P-3", "P-5")
    def test_measure_counts_what_canonical_gives(self, pieces: list[bytes], cr: bool) -> None:
        whole = through(Canonical(convert_cr=cr), [b"".join(pieces)])
        counted = Measure(convert_cr=cr)
        for piece in pieces:
            counted.feed(piece)
        self.assertEqual(counted.octets, len(whole))
        if counted.form is not Form.STORED:
            self.assertEqual(whole, b"".join(pieces))
        if counted.form is Form.CLEAN:
            self.assertEqual(through(DotStuffing(), [whole]), whole + b".\r\n")

    @given(PIECES.map(b"".join), st.booleans())
    def test_no_part_of_a_message_has_its_size_but_for_a_last_line_end(
        self, stored: bytes, convert_cr: bool
    ) -> None:
        whole, _ = canonical(stored, convert_cr=convert_cr)
        for end in range(1, len(stored)):
            part, _ = canonical(stored[:end], convert_cr=convert_cr)
            if len(part) == len(whole):
                self.assertEqual(part, whole)

    @given(PIECES)
    def test_what_is_canonical_stays_as_it_is(self, pieces: list[bytes]) -> None:
        once = through(Canonical(), pieces)
        self.assertEqual(through(Canonical(), [once]), once)


class DotStuffingTests(SynchronousTestCase):
    @given(PIECES)
    @pytest.mark.conformance("P-1")
    def test_a_client_gets_back_what_was_stuffed(self, pieces: list[bytes]) -> None:
        text = through(Canonical(), pieces)
        lines = text.split(b"\r\n")
        sent = through(DotStuffing(), [text[at : at + 1] for at in range(len(text))])
        self.assertEqual(sent, through(DotStuffing(), [text]))
        *received, end, nothing = sent.split(b"\r\n")
        self.assertEqual((end, nothing), (b".", b""))
        self.assertNotIn(b".", received)
        self.assertEqual([line.removeprefix(b".") for line in received], lines[:-1])

    @given(PIECES, st.booleans())
    def test_a_message_at_once_goes_out_as_one_in_pieces(
        self, pieces: list[bytes], cr: bool
    ) -> None:
        stored = b"".join(pieces)
        text, form = canonical(stored, convert_cr=cr)
        measure = Measure(convert_cr=cr)
        measure.feed(stored)
        self.assertEqual(form, measure.form)
        self.assertEqual(text, through(Canonical(convert_cr=cr), pieces))
        known = max(form, Form.CANONICAL)
        self.assertEqual(as_sent(text, known), through(DotStuffing(), [text]))

    @given(st.lists(st.sampled_from([b"\r\n", b".", b"a"]), max_size=200).map(b"".join))
    @example(b"\n." * 30)
    @example(b"." * 30)
    @example((b"\n." + b"a" * 2500) * 30)
    @example((b"\n." + b"a" * 1500) * 60)
    def test_many_dots_are_stuffed_as_few(self, text: bytes) -> None:
        self.assertEqual(stuffed(text), text.replace(b"\n.", b"\n.."))

    def test_a_dot_line_is_one_that_a_dot_begins(self) -> None:
        self.assertTrue(has_dot_lines(b"a\r\n.b"))
        self.assertFalse(has_dot_lines(b".a\r\nb.\r\n"))


class StepTests(SynchronousTestCase):
    @given(PIECES, st.integers(0, 3) | st.none(), st.booleans())
    @example([b"hello", b"\r", b".\r\n", b"+OK injected"], None, False)
    @example([b"\n", b"\r", b".", b"\r", b"\n"], None, False)
    @example([b"\r", b"\r", b".", b"\r", b"."], 1, False)
    def test_no_client_loses_step_whatever_ends_its_lines(
        self, pieces: list[bytes], lines: int | None, convert_cr: bool
    ) -> None:
        text = through(Canonical(convert_cr=convert_cr), pieces)
        if lines is not None:
            text = through(TopCut(lines), [text])
        sent = through(DotStuffing(), [text]) + b"+OK next\r\n"
        for name, client in CLIENTS.items():
            self.assertEqual((client(sent) or b"").strip(), b"+OK next", (name, sent))

    def test_a_lone_cr_is_changed_only_before_a_dot(self) -> None:
        self.assertEqual(through(Canonical(), [b"a\rb\r\r", b".c\r"]), b"a\rb\r\r\n.c\r\r\n")


class TopCutTests(SynchronousTestCase):
    @given(PIECES, st.integers(0, 4))
    @pytest.mark.conformance("P-4")
    def test_cuts_do_not_matter(self, pieces: list[bytes], lines: int) -> None:
        text = through(Canonical(), pieces)
        octets = [text[at : at + 1] for at in range(len(text))]
        self.assertEqual(through(TopCut(lines), octets), through(TopCut(lines), [text]))
