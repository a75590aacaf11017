"""Postfix's policy protocol."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import RequestMalformed
from gateway.model import Limits, Usage
from gateway.quota.postfix_policy import (
    DUNNO,
    LARGEST,
    LONGEST_LINE,
    MOST_LINES,
    Answers,
    Request,
    Requests,
    Room,
    Unsaid,
    decide,
    reply,
)

START = b"request=smtpd_access_policy\n"

POSTFIX = b"""\
request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
client_address=192.0.2.1
client_name=mail.example.net
helo_name=mail.example.net
sender=bob@example.net
recipient=alice@example.org
recipient_count=0
queue_id=
instance=123.456.7
size=12345
sasl_username=
ccert_subject=caf+C3+A9
stress=
an_attribute_of_the_future=with = in it

"""
"""As Postfix sends it."""

LINES = st.sampled_from(
    [
        *(b"\n", b"\n\n", b"request=smtpd_access_policy\n", b"request=other\n", b"size=", b"5"),
        *(b"=\n", b"name\n", b"\0", b"\r\n", b"recipient=a@b\n", b"\xff=\xfe\n", b"x" * 3000),
    ]
)
STREAMS = st.lists(LINES | st.binary(max_size=20), max_size=30)


def parsed(*pieces: bytes) -> list[Request | str]:
    """All requests in what arrives, and why it ended, if it did."""
    requests, found = Requests(), []
    for piece in pieces:
        requests.feed(piece)
        try:
            while (request := requests.take_request()) is not None:
                found.append(request)
        except RequestMalformed as error:
            return [*found, str(error)]
    return found


def request(**attributes: str) -> Request:
    """A request, at RCPT for alice unless said otherwise."""
    return Request({"protocol_state": "RCPT", "recipient": "alice@example.org"} | attributes)


class GrammarTests(SynchronousTestCase):
    def refused(self, data: bytes, reason: str) -> None:
        """It is not understood, and never again anything else."""
        requests = Requests()
        requests.feed(data)
        for more in (b"", POSTFIX, b"\n"):
            error = self.assertRaises(RequestMalformed, requests.take_request)
            self.assertIn(reason, str(error))
            requests.feed(more)

    def test_a_request_of_postfix_is_understood(self) -> None:
        (found,) = parsed(POSTFIX)
        assert isinstance(found, Request)
        self.assertEqual(found.recipient, "alice@example.org")
        self.assertEqual(found.size, 12345)
        self.assertEqual(found["sender"], "bob@example.net")
        self.assertEqual(found["an_attribute_of_the_future"], "with = in it")
        self.assertEqual(found["never_heard_of"], "")

    def test_a_connection_has_many_requests(self) -> None:
        self.assertEqual(len(parsed(POSTFIX * 3)), 3)

    def test_one_request_says_nothing_about_the_next(self) -> None:
        _, second = parsed(POSTFIX + START + b"\n")
        self.assertEqual(second, Request({"request": "smtpd_access_policy"}))

    def test_of_two_values_the_last_counts(self) -> None:
        (found,) = parsed(START + b"size=1\nsize=2\n\n")
        assert isinstance(found, Request)
        self.assertEqual(found.size, 2)

    def test_what_is_no_number_is_zero(self) -> None:
        for text in ("", "many", "-1", "１", "1 "):
            self.assertEqual(request(size=text).size, 0)
        self.assertEqual(request().size, 0)

    def test_a_line_without_a_name_or_an_equals_sign_is_refused(self) -> None:
        for line in (b"name\n", b"=value\n", b"\r\n", b"GET / HTTP/1.1\n"):
            self.refused(START + line + b"\n", "expected name=value")

    def test_nul_is_refused(self) -> None:
        for line in (b"na\0me=value\n", b"name=val\0ue\n"):
            self.refused(START + line, "expected name=value")

    def test_another_kind_of_request_is_refused(self) -> None:
        self.refused(b"request=junk\n\n", "found 'junk'")
        self.refused(b"\n", "found ''")

    def test_requests_before_a_malformed_one_are_given_out(self) -> None:
        first, why = parsed(POSTFIX + b"junk\n\n")
        self.assertIsInstance(first, Request)
        self.assertIn("found b'junk'", str(why))

    def test_lines_attributes_and_requests_have_a_largest_size(self) -> None:
        name = b"name="
        fits = name + b"x" * (LONGEST_LINE - len(name) - 1) + b"\n"
        self.assertEqual(len(parsed(START + fits + b"\n")), 1)
        self.refused(fits.replace(b"\n", b"x\n"), "longer than")
        self.refused(b"x" * LONGEST_LINE, "longer than")
        self.assertEqual(len(parsed(START + b"a=b\n" * (MOST_LINES - 1) + b"\n")), 1)
        self.refused(START + b"a=b\n" * MOST_LINES, "attributes")
        self.refused(START + fits * (LARGEST // LONGEST_LINE), "octets")

    @given(STREAMS, st.data())
    def test_no_octets_crash_it_and_cuts_do_not_matter(
        self, pieces: list[bytes], data: st.DataObject
    ) -> None:
        whole = b"".join(pieces)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
        edges = [0, *cuts, len(whole)]
        cut = [whole[start:end] for start, end in pairwise(edges)]
        self.assertEqual(parsed(*cut), parsed(whole))
        self.assertEqual(parsed(*(bytes([octet]) for octet in whole)), parsed(whole))

    @given(
        st.dictionaries(
            st.from_regex(r"[a-z_]{1,20}", fullmatch=True),
            st.text(
                st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=50
            ),
        )
    )
    def test_what_was_sent_is_what_is_read(self, attributes: dict[str, str]) -> None:
        attributes["request"] = "smtpd_access_policy"
        text = "".join(f"{name}={value}\n" for name, value in attributes.items())
        self.assertEqual(parsed(text.encode() + b"\n"), [Request(attributes)])


class RecipientTests(SynchronousTestCase):
    def test_addresses_of_all_kinds_are_recipients(self) -> None:
        for address in (
            "alice@example.org",
            "alice+lists@example.org",
            '"alice smith"@example.org',
            r'"a\"b@c"@example.org',
            "jörg@müller.example",
            "a@[192.0.2.1]",
            "a..b@example.org",
            # Of these Postfix has taken off the quotes.
            *("e.@example.org", "alice smith@example.org", 'a"b@example.org', "a(b)@example.org"),
        ):
            self.assertEqual(request(recipient=address).recipient, address)

    def test_what_is_no_address_is_none(self) -> None:
        for text in (
            "",
            "alice",
            "@example.org",
            "alice@",
            "a@b c",
            "a@b@c",
            "a@b,c",
            "<a@b>",
            "\udcff@b",
        ):
            self.assertIsNone(request(recipient=text).recipient)

    def test_only_rcpt_and_the_end_of_a_message_ask_of_a_mailbox(self) -> None:
        for state in ("RCPT", "END-OF-MESSAGE"):
            self.assertTrue(request(protocol_state=state, recipient_count="1").recipient)
        for state in ("CONNECT", "EHLO", "HELO", "MAIL", "DATA", "VRFY", "ETRN", "rcpt", ""):
            self.assertIsNone(request(protocol_state=state, recipient_count="1").recipient)
        self.assertIsNone(Request({"recipient": "a@b"}).recipient)

    def test_the_end_of_a_message_for_several_asks_nothing(self) -> None:
        end = {"protocol_state": "END-OF-MESSAGE"}
        self.assertIsNone(request(**end, recipient="", recipient_count="2").recipient)
        self.assertIsNone(request(**end, recipient_count="2").recipient)
        self.assertIsNotNone(request(**end).recipient)

    @given(st.text())
    def test_no_text_crashes_it(self, text: str) -> None:
        self.assertIn(request(recipient=text, size=text).recipient, (text, None))


class DecisionTests(SynchronousTestCase):
    ROOM = Room(Usage(90, 1), Limits(octets=100, grace_octets=20))
    FULL = Room(Usage(100, 1), Limits(octets=100, grace_octets=20))

    def decided(self, found: Room | Unsaid, answers: Answers, **attributes: str) -> str | None:
        """What is said about alice."""
        return decide(request(**attributes), found, answers)

    def test_a_mailbox_with_room_is_no_reason_for_an_opinion(self) -> None:
        self.assertEqual(self.decided(self.ROOM, Answers(), size="30"), DUNNO)
        self.assertEqual(self.decided(Room(Usage(), Limits()), Answers(), size="9999"), DUNNO)

    def test_a_full_mailbox_is_answered_as_configured(self) -> None:
        for over, begins in ((552, "552 5.2.2 "), (452, "452 4.2.2 ")):
            for found, size in ((self.FULL, "1"), (self.FULL, ""), (self.ROOM, "31")):
                action = self.decided(found, Answers(over=over), size=size)  # type: ignore[arg-type]
                assert action is not None
                self.assertTrue(action.startswith(begins), action)

    def test_a_message_larger_than_the_quota_is_refused_for_good(self) -> None:
        for found in (self.ROOM, self.FULL):
            action = self.decided(found, Answers(over=452), size="121")
            assert action is not None
            self.assertTrue(action.startswith("552 5.2.3 "), action)

    def test_the_true_size_counts_at_the_end_of_the_message(self) -> None:
        end = {"protocol_state": "END-OF-MESSAGE", "recipient_count": "1"}
        self.assertEqual(self.decided(self.ROOM, Answers(), size="30", **end), DUNNO)
        self.assertNotEqual(self.decided(self.ROOM, Answers(), size="31", **end), DUNNO)

    def test_no_recipient_is_no_opinion_whatever_was_found(self) -> None:
        for found in (self.FULL, *Unsaid):
            for attributes in ({"recipient": ""}, {"recipient": "?"}, {"protocol_state": "MAIL"}):
                answers = Answers(unknown="reject")
                self.assertEqual(self.decided(found, answers, **attributes), DUNNO)

    def test_an_unknown_user_is_answered_as_configured(self) -> None:
        self.assertEqual(self.decided(Unsaid.UNKNOWN, Answers()), DUNNO)
        action = self.decided(Unsaid.UNKNOWN, Answers(unknown="reject"))
        assert action is not None
        self.assertTrue(action.startswith("550 5.1.1 "), action)
        self.assertEqual(self.decided(Unsaid.BARRED, Answers()), DUNNO)
        action = self.decided(Unsaid.BARRED, Answers(unknown="reject"))
        assert action is not None
        self.assertTrue(action.startswith("550 5.2.1 "), action)

    def test_an_address_that_no_mailbox_can_have_is_refused_before_a_bounce_would_be_sent(
        self,
    ) -> None:
        for address in ("@example.org", "a\x01@example.org", "a@b c", "\udcff@example.org"):
            for unknown, begins in (("reject", "550 5.1.1 "), ("dunno", DUNNO)):
                answers = Answers(unknown=unknown)  # type: ignore[arg-type]
                action = self.decided(Unsaid.NOT_ASKED, answers, recipient=address)
                assert action is not None
                self.assertTrue(action.startswith(begins), address)
        for address in ("postmaster", "user@far.example@example.org"):
            action = self.decided(Unsaid.NOT_ASKED, Answers(unknown="reject"), recipient=address)
            self.assertEqual(action, DUNNO)

    def test_a_mailbox_elsewhere_is_no_reason_for_an_opinion(self) -> None:
        self.assertEqual(self.decided(Unsaid.NOT_ASKED, Answers(unknown="reject")), DUNNO)

    def test_trouble_gets_no_reply(self) -> None:
        self.assertIsNone(self.decided(Unsaid.TROUBLE, Answers(unknown="reject")))

    @given(
        st.builds(Usage, octets=st.integers(0, 9), messages=st.integers(0, 9)),
        st.builds(Limits, octets=st.none() | st.integers(0, 9)),
        st.integers(0, 20),
        st.sampled_from([452, 552]),
    )
    def test_every_reply_is_one_line_of_ascii_without_the_mailboxs_figures(
        self, usage: Usage, limits: Limits, size: int, over: int
    ) -> None:
        found = Room(usage, limits)
        action = self.decided(found, Answers(over=over), size=str(size))  # type: ignore[arg-type]
        assert action is not None
        sent = reply(action)
        self.assertTrue(sent.startswith(b"action="))
        self.assertTrue(sent.endswith(b"\n\n"))
        self.assertEqual(sent.count(b"\n"), 2)
        text = action.partition(" ")[2].partition(" ")[2]
        self.assertFalse(any(map(str.isdigit, text)), action)
