"""Header fields of untrusted messages are one line of printable text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.header_fields import LONGEST, decoded, header_fields, message_id

NAMES = ("From", "Subject", "Date", "Message-ID")

HEADS = st.lists(
    st.sampled_from(
        [
            *(b"Subject: ", b"subject:", b"From:", b"\r\n", b"\n", b" ", b"\t", b"x", b":"),
            *(b"=?utf-8?b?", b"=?utf-8?q?", b"=?bogus?q?", b"=?utf-16?b?", b"?=", b"=C3=BC"),
            *(b"w6k=", b"\xff", "ü".encode(), b"\0", b"\x1b[31m", "‮".encode()),
        ]
    )
    | st.binary(max_size=5),
    max_size=30,
).map(b"".join)


class HeaderFieldsTests(SynchronousTestCase):
    def test_the_first_field_of_each_name_is_found_whatever_its_case(self) -> None:
        head = (
            b"Received: x\r\n\tby y\r\nSUBJECT: one\r\n two\r\nSubject: again\r\n"
            b"message-id : <1@example.org>\r\n\r\nFrom: body@example.org\r\n"
        )
        self.assertEqual(
            header_fields(head, NAMES), {"Subject": "one two", "Message-ID": "<1@example.org>"}
        )

    def test_encoded_words_and_utf_8_are_read(self) -> None:
        cases = {
            "=?utf-8?q?Gr=C3=BC=C3=9Fe?= an =?iso-8859-1?b?5A==?=": "Grüße an ä",
            "=?utf-8?b?w6k=?=\t=?utf-8?b?w6k=?=": "éé",
            "Grüße": "Grüße",
            "=?bogus?q?=E4?=": "ä",
            "=?utf-8?b?broken!?=": "=?utf-8?b?broken!?=",
        }
        for raw, text in cases.items():
            self.assertEqual(decoded(raw.encode()), text)

    def test_markup_stays_text_and_control_characters_go(self) -> None:
        self.assertEqual(decoded(b"<script>alert(1)</script>"), "<script>alert(1)</script>")
        self.assertEqual(decoded(b"a\x1b[31m\0b"), "a�[31m�b")
        self.assertEqual(decoded("a‮b".encode()), "a�b")
        self.assertEqual(decoded(b"=?utf-8?q?a=0D=0AX-Evil:_1?="), "a X-Evil: 1")

    def test_a_field_has_a_longest_length(self) -> None:
        text = decoded(b"x" * 100_000)
        self.assertEqual(len(text), LONGEST)
        self.assertTrue(text.endswith("…"))

    @given(HEADS)
    def test_no_header_can_crash_it_or_break_a_line(self, head: bytes) -> None:
        for text in header_fields(head, NAMES).values():
            self.assertTrue(text.isprintable())
            self.assertLessEqual(len(text), LONGEST)


class MessageIdTests(SynchronousTestCase):
    """The Message-ID alone, for deliveries."""

    def test_it_is_found_in_any_case_folded_or_as_the_first_field(self) -> None:
        for head in (
            b"Message-ID: <1@x>\r\n\r\n",
            b"A: b\r\nMESSAGE-id :<1@x> (comment)\r\n",
            b"A: b\r\nmessage-id:\r\n\t<1@x>\r\nC: d\r\n\r\nbody",
        ):
            self.assertEqual(message_id(head), "<1@x>", head)

    def test_an_empty_one_takes_nothing_of_the_next_field_and_the_body_is_not_read(self) -> None:
        for head in (
            b"Message-ID:\r\nSubject: x\r\n\r\n",
            b"A: b\r\n\r\nMessage-ID: <1@x>\r\n",
            b"X-Message-ID: <1@x>\r\n\r\n",
            b"Message-ID: \xff\r\n\r\n",
            b"",
        ):
            self.assertEqual(message_id(head), "", head)
