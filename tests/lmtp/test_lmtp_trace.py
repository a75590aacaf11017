"""The header that a delivery adds, and the one that it takes away."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.lmtp.trace import ReturnPathCut, date_of, trace_header

DATE = "Thu, 29 Feb 2024 12:30:05 +0000"
PIECES = st.lists(
    st.sampled_from(
        [b"Return-Path", b"return-path:", b":", b" ", b"\t", b"\r\n", b"\r", b"a", b"Ret", b""]
    ),
    max_size=14,
)


def header(*recipients: str, **changed: Any) -> bytes:
    """A trace header, told what is usual but for what is ``changed``."""
    told: dict[str, Any] = {
        "utf8": False,
        "secure": False,
        "lhlo": "client.example.net",
        "client": "192.0.2.1",
        "name": "mail.example.org",
        "number": "4f2a",
        "date": DATE,
    }
    sender = changed.pop("sender", "s@example.net")
    return trace_header(sender, recipients, **(told | changed))


def through(pieces: list[bytes]) -> bytes:
    """What the cut leaves."""
    cut = ReturnPathCut()
    return b"".join([cut.feed(piece) for piece in pieces]) + cut.finish()


class TraceHeaderTests(SynchronousTestCase):
    def test_for_one_recipient_it_names_him(self) -> None:
        self.assertEqual(
            header("alice@example.org"),
            b"Return-Path: <s@example.net>\r\n"
            b"Delivered-To: alice@example.org\r\n"
            b"Received: from client.example.net ([192.0.2.1])\r\n"
            b"\tby mail.example.org with LMTP id 4f2a\r\n"
            b"\tfor <alice@example.org>;\r\n"
            b"\tThu, 29 Feb 2024 12:30:05 +0000\r\n",
        )

    def test_for_several_recipients_it_names_none(self) -> None:
        self.assertEqual(
            header("alice@example.org", "bob@example.org", sender=""),
            b"Return-Path: <>\r\n"
            b"Received: from client.example.net ([192.0.2.1])\r\n"
            b"\tby mail.example.org with LMTP id 4f2a;\r\n"
            b"\tThu, 29 Feb 2024 12:30:05 +0000\r\n",
        )

    def test_a_date_says_the_second_and_the_time_zone(self) -> None:
        for seconds in (0, 1_709_209_805, 1_720_000_000):
            self.assertEqual(parsedate_to_datetime(date_of(seconds)).timestamp(), seconds)

    def test_the_protocol_tells_of_tls_and_utf_8(self) -> None:
        for utf8, secure, word in (
            *((False, False, b"LMTP"), (False, True, b"LMTPS")),
            *((True, False, b"UTF8LMTP"), (True, True, b"UTF8LMTPS")),
        ):
            self.assertIn(b" with " + word + b" id ", header(utf8=utf8, secure=secure))

    def test_the_client_may_have_an_ipv6_address_or_none(self) -> None:
        self.assertIn(b"net ([IPv6:2001:db8::1])\r\n", header(client="2001:db8::1"))
        self.assertIn(b"from client.example.net\r\n\tby", header(client=""))

    def test_utf_8_is_there_only_if_smtputf8_was_asked_for(self) -> None:
        self.assertIn(
            "<jürgen@bücher.example>".encode(), header("jürgen@bücher.example", utf8=True)
        )
        self.assertTrue(header("jürgen@a", sender="ä", lhlo="ä").isascii())

    @given(st.text(), st.text(), st.text(), st.text(), st.text(), st.booleans())
    @example("a\r\nX: y", "b\r\n\r\nz", "c (d) e", "\udcff", "ä" * 2000, True)
    def test_whatever_the_client_says_it_stays_three_fields_of_short_lines(
        self, sender: str, address: str, lhlo: str, client: str, number: str, utf8: bool
    ) -> None:
        told = header(address, sender=sender, lhlo=lhlo, client=client, number=number, utf8=utf8)
        *lines, nothing = told.split(b"\r\n")
        self.assertEqual(nothing, b"")
        self.assertLess(max(map(len, lines)), 998)
        self.assertNotRegex(told.replace(b"\r\n", b""), rb"[\r\n\0]")
        parsed = message_from_bytes(told, policy=policy.compat32)
        self.assertEqual(parsed.keys(), ["Return-Path", "Delivered-To", "Received"])
        self.assertRegex(lines[2], rb"\AReceived: from [^ ()]+(?: \(\[[^ ()]+\]\))?\Z")


class ReturnPathCutTests(SynchronousTestCase):
    @given(PIECES)
    @example([b"Return-Path:", b"\r\n", b" ", b"a", b"\r", b"\n", b"Ret"])
    def test_cuts_do_not_matter(self, pieces: list[bytes]) -> None:
        whole = through([b"".join(pieces)])
        self.assertEqual(through(pieces), whole)
        self.assertTrue(b"".join(pieces).endswith(whole))
        self.assertEqual(through([whole]), whole)

    def test_fields_at_the_beginning_go_folded_or_not(self) -> None:
        rest = b"Received: x\r\nReturn-Path: <old>\r\n\r\nReturn-Path: text\r\n"
        for field in (
            b"Return-Path: <a@b>\r\n",
            b"RETURN-PATH:\r\n <a\r\n\t@b>\r\n",
            b"return-path \t: <>\r\n",
            b"Return-Path: <a>\r\nReturn-Path: <b>\r\n",
        ):
            self.assertEqual(through([field + rest]), rest, field)

    def test_all_else_stays(self) -> None:
        for text in (
            *(b"", b"R", b"Return-Path", b"Return-Path\r\n", b"Return-Path-2: x\r\n", b"\r\nx\r\n"),
            *(b" Return-Path: x\r\n", b"Return-Path" + b" " * 40 + b": x\r\n"),
        ):
            self.assertEqual(through([text]), text)

    def test_a_message_that_is_nothing_else_is_empty(self) -> None:
        self.assertEqual(through([b"Return-Path: <a>\r\n"]), b"")
        self.assertEqual(through([b"Return-Path: <a>\r\n\r\n"]), b"\r\n")
