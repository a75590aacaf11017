"""DATA and BDAT: what becomes a message, for whom, and what is said about it."""

from __future__ import annotations

import tracemalloc

from twisted.trial.unittest import SynchronousTestCase

from gateway import errors
from gateway.lmtp.actions import Abort, Begin, Finish, HangUp, Recipient, StartTLS, Write
from gateway.lmtp.profile import Profile
from lmtp_harness import Shell, codes

ALICE, BOB, CAROL = b"alice@example.org", b"bob@example.org", b"carol@example.org"
TEXT = b"Subject: x\r\n\r\n.dot\r\nlast\r\n"
STUFFED = b"Subject: x\r\n\r\n..dot\r\nlast\r\n.\r\n"
FULL = {BOB.decode(): errors.OverQuota()}


def ready(*recipients: bytes, **scripted: object) -> Shell:
    """A shell in the middle of a transaction."""
    shell = Shell(**scripted)  # type: ignore[arg-type]
    shell.begin_mail(*(recipients or (ALICE,)))
    return shell


def content(shell: Shell) -> list[bytes]:
    """What was delivered."""
    return [data for _, data in shell.messages]


class DataTests(SynchronousTestCase):
    def test_a_message_is_delivered_as_it_was_before_its_dots_were_stuffed(self) -> None:
        shell = ready()
        self.assertEqual(codes(shell.send(b"DATA")), ["354"])
        self.assertEqual(codes(shell.send_octets(STUFFED)), ["250 2.0.0"])
        self.assertEqual(shell.messages, [(ALICE.decode(), TEXT)])

    def test_there_is_one_reply_for_each_accepted_recipient_in_the_order_of_rcpt(self) -> None:
        shell = Shell(commits=FULL, refuse={"x@y": errors.UnknownRecipient()})
        sent = shell.begin_mail(ALICE, b"x@y", BOB, CAROL)
        self.assertEqual(codes(sent)[2:], ["250 2.1.5", "550 5.1.1", "250 2.1.5", "250 2.1.5"])
        shell.send(b"DATA")
        self.assertEqual(codes(shell.send_octets(STUFFED)), ["250 2.0.0", "452 4.2.2", "250 2.0.0"])

    def test_an_address_given_twice_gets_two_replies(self) -> None:
        shell = ready(ALICE, BOB, ALICE, commits=FULL)
        shell.send(b"DATA")
        self.assertEqual(codes(shell.send_octets(STUFFED)), ["250 2.0.0", "452 4.2.2", "250 2.0.0"])
        self.assertEqual(shell.envelope.recipients, (ALICE.decode(), BOB.decode(), ALICE.decode()))

    def test_a_reply_goes_out_as_soon_as_it_and_all_before_it_are_known(self) -> None:
        shell = ready(ALICE, BOB, CAROL, slow=True, commits=FULL)
        shell.send(b"DATA")
        self.assertEqual(shell.send_octets(STUFFED + b"NOOP\r\n"), b"")
        self.assertEqual(codes(shell.deliver(1)), [])
        self.assertEqual(codes(shell.deliver(0)), ["250 2.0.0", "452 4.2.2"])
        self.assertEqual(codes(shell.pump()), [])
        self.assertEqual(codes(shell.deliver(2) + shell.pump()), ["250 2.0.0", "250 2.0.0"])

    def test_an_answer_about_a_recipient_comes_once(self) -> None:
        shell = ready(ALICE, BOB, slow=True)
        shell.send(b"DATA")
        shell.send_octets(STUFFED)
        shell.deliver(1)
        self.assertRaises(KeyError, shell.session.delivered, 1)

    def test_the_next_message_may_follow_at_once(self) -> None:
        shell = Shell()
        mail = b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n" + STUFFED
        sent = codes(shell.send_octets(b"LHLO a\r\n" + mail + mail + b"QUIT\r\n"))
        one = ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]
        self.assertEqual(sent, ["250", *one, *one, "221 2.0.0"])
        self.assertEqual(content(shell), [TEXT, TEXT])
        counts = shell.session.counts
        self.assertEqual((counts.messages, counts.delivered, counts.octets), (2, 2, 2 * len(TEXT)))

    def test_after_a_message_data_needs_another_mail(self) -> None:
        shell = ready()
        shell.send(b"DATA", b"x", b".")
        self.assertEqual(codes(shell.send(b"DATA")), ["503 5.5.1"])

    def test_an_empty_message_is_one(self) -> None:
        shell = ready()
        self.assertEqual(codes(shell.send(b"DATA", b".")), ["354", "250 2.0.0"])
        self.assertEqual(content(shell), [b""])

    def test_text_lines_may_be_of_any_length(self) -> None:
        shell = ready()
        shell.send(b"DATA")
        line = b"x" * 300_000 + b"\r\n"
        self.assertEqual(codes(shell.send_octets(line + b".\r\n")), ["250 2.0.0"])
        self.assertEqual(content(shell), [line])

    def test_pieces_are_small_even_if_every_octet_is_a_line_end(self) -> None:
        shell = ready()
        shell.send(b"DATA")
        shell.send_octets(b"\n" * 300_000 + b"\r\n.\r\n")
        # The harness asserts the size of each.
        self.assertEqual(content(shell), [b"\r\n" * 300_001])

    def test_where_the_store_takes_no_content_data_gets_one_reply_and_may_come_again(self) -> None:
        shell = ready(ALICE, BOB, begin=errors.NoRoom())
        self.assertEqual(codes(shell.send(b"DATA", b"NOOP")), ["452 4.3.1", "250 2.0.0"])
        shell.begin = None
        self.assertEqual(codes(shell.send(b"DATA", b".")), ["354", "250 2.0.0", "250 2.0.0"])

    def test_when_the_disk_is_full_the_rest_is_read_and_every_recipient_is_told(self) -> None:
        shell = ready(ALICE, BOB, write_fails=(10, errors.NoRoom()))
        shell.send(b"DATA")
        self.assertEqual(shell.send_octets(b"x" * 20), b"")
        self.assertEqual((shell.aborted, shell.content), (1, None))
        self.assertEqual(shell.send(b"RSET", b"x" * 100_000), b"")
        self.assertEqual(codes(shell.send(b".", b"NOOP")), ["452 4.3.1"] * 2 + ["250 2.0.0"])
        self.assertEqual(shell.messages, [])

    def test_a_write_that_fails_at_the_very_end_is_told_too(self) -> None:
        shell = ready(write_fails=(10, errors.StoreDown()))
        shell.send(b"DATA")
        self.assertEqual(codes(shell.send_octets(STUFFED)), ["451 4.3.0"])
        self.assertEqual(shell.aborted, 1)


class SmugglingTests(SynchronousTestCase):
    def test_only_crlf_dot_crlf_ends_a_message(self) -> None:
        smuggled = b"MAIL FROM:<evil@a>\r\nRCPT TO:<b@c>\r\nDATA\r\nevil\r\n"
        for no_end in (b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r"):
            shell = ready()
            shell.send(b"DATA")
            sent = shell.send_octets(b"a" + no_end + smuggled + b".\r\nQUIT\r\n")
            self.assertEqual(codes(sent), ["250 2.0.0", "221 2.0.0"], no_end)
            (text,) = content(shell)
            self.assertTrue(text.endswith(smuggled), no_end)
            self.assertEqual(len([a for a in shell.actions if isinstance(a, Begin)]), 1)

    def test_a_lone_lf_is_stored_as_the_line_end_that_retr_makes_of_it(self) -> None:
        shell = ready()
        shell.send(b"DATA")
        shell.send_octets(b"a\n.\r\nb\rc\n..d\r\n.\r\n")
        self.assertEqual(content(shell), [b"a\r\n.\r\nb\rc\r\n..d\r\n"])


class SizeTests(SynchronousTestCase):
    def test_a_message_that_says_it_is_too_large_is_refused_at_mail(self) -> None:
        shell = Shell(Profile(max_size=100))
        sent = shell.send(b"LHLO a", b"MAIL FROM:<> SIZE=101", b"MAIL FROM:<> SIZE=100")
        self.assertEqual(codes(sent)[1:], ["552 5.3.4", "250 2.1.0"])

    def test_dots_and_the_end_do_not_count(self) -> None:
        for limit, code in ((len(TEXT), "250 2.0.0"), (len(TEXT) - 1, "552 5.3.4")):
            shell = ready(profile=Profile(max_size=limit))
            shell.send(b"DATA")
            self.assertEqual(codes(shell.send_octets(STUFFED)), [code])

    def test_a_message_that_grows_too_large_is_read_to_its_end_and_refused(self) -> None:
        shell = ready(ALICE, BOB, profile=Profile(max_size=1000))
        shell.send(b"DATA")
        self.assertEqual(shell.send_octets(b"x" * 900), b"")
        self.assertEqual(shell.send_octets(b"x" * 900), b"")
        self.assertEqual((shell.aborted, shell.content), (1, None))
        self.assertEqual(codes(shell.send(b"", b".", b"NOOP")), ["552 5.3.4"] * 2 + ["250 2.0.0"])
        self.assertEqual(shell.messages, [])

    def test_what_is_not_wanted_takes_no_memory(self) -> None:
        shell = ready(profile=Profile(max_size=1000))
        shell.send(b"DATA")
        piece = b"x" * 65_536
        shell.send_octets(piece)
        tracemalloc.start()
        for _ in range(200):
            shell.send_octets(piece)
        self.assertLess(tracemalloc.get_traced_memory()[1], 2_000_000)
        tracemalloc.stop()

    def test_chunks_that_would_be_too_large_together_are_refused_and_read(self) -> None:
        shell = ready(ALICE, BOB, profile=Profile(max_size=10))
        sent = shell.send_octets(
            b"BDAT 8\r\n" + b"x" * 8 + b"BDAT 3\r\nabcBDAT 1 LAST\r\nzNOOP\r\n"
        )
        wanted = ["250 2.0.0", "552 5.3.4", "552 5.3.4", "552 5.3.4", "250 2.0.0"]
        self.assertEqual(codes(sent), wanted)
        self.assertEqual((shell.aborted, shell.messages), (1, []))

    def test_a_first_chunk_that_is_too_large_never_reaches_the_store(self) -> None:
        shell = ready(profile=Profile(max_size=10))
        self.assertEqual(codes(shell.send_octets(b"BDAT 11 LAST\r\nabcdefghijk")), ["552 5.3.4"])
        self.assertFalse([a for a in shell.actions if not isinstance(a, Recipient)])

    def test_line_ends_that_are_added_count(self) -> None:
        shell = ready(profile=Profile(max_size=10))
        self.assertEqual(codes(shell.send_octets(b"BDAT 9 LAST\r\n" + b"\n" * 9)), ["552 5.3.4"])


class ChunkTests(SynchronousTestCase):
    def test_every_chunk_gets_one_reply_and_the_last_one_for_each_recipient(self) -> None:
        shell = ready(ALICE, BOB, commits=FULL)
        sent = shell.send_octets(b"BDAT 3\r\nabcBDAT 2\r\n\r\nBDAT 1 LAST\r\nxNOOP\r\n")
        wanted = ["250 2.0.0", "250 2.0.0", "250 2.0.0", "452 4.2.2", "250 2.0.0"]
        self.assertEqual(codes(sent), wanted)
        self.assertEqual(sent.splitlines()[0], b"250 2.0.0 3 octets")

    def test_chunks_are_not_unstuffed_and_may_be_cut_in_a_line_end(self) -> None:
        shell = ready()
        shell.send_octets(b"BDAT 12\r\n0123\r\n.\r\nabcBDAT 1\r\n\rbdat 5 last\r\n\n..x\n")
        self.assertEqual(content(shell), [b"0123\r\n.\r\nabc\r\n..x\r\n"])

    def test_a_last_line_without_an_end_gets_one(self) -> None:
        shell = ready()
        self.assertEqual(codes(shell.send_octets(b"BDAT 3 LAST\r\nabc")), ["250 2.0.0"])
        self.assertEqual(content(shell), [b"abc\r\n"])

    def test_an_empty_last_chunk_ends_a_message(self) -> None:
        shell = ready()
        sent = shell.send_octets(b"BDAT 3\r\nabcBDAT 0\r\nBDAT 0 LAST\r\n")
        self.assertEqual(codes(sent), ["250 2.0.0"] * 3)
        self.assertEqual(content(shell), [b"abc\r\n"])
        shell.begin_mail(ALICE)
        self.assertEqual(codes(shell.send(b"BDAT 0 LAST")), ["250 2.0.0"])
        self.assertEqual(content(shell)[1:], [b""])

    def test_without_an_accepted_recipient_the_last_chunk_gets_no_reply(self) -> None:
        refuse = {ALICE.decode(): errors.UnknownRecipient()}
        shell = ready(ALICE, refuse=refuse)
        self.assertEqual(
            codes(shell.send_octets(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")), ["250 2.0.0"]
        )
        shell = ready(ALICE, refuse=refuse)
        sent = shell.send_octets(b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
        self.assertEqual(codes(sent), ["503 5.5.1", "250 2.0.0"])

    def test_where_mail_was_refused_the_chunks_are_read_all_the_same(self) -> None:
        shell = Shell(Profile(max_size=10))
        group = (
            b"MAIL FROM:<> SIZE=11\r\nRCPT TO:<a@b>\r\nBDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n"
        )
        refused = ["552 5.3.4", "503 5.5.1", "503 5.5.1"]
        sent = codes(shell.send_octets(b"LHLO a\r\n" + group + group + b"NOOP\r\n"))
        self.assertEqual(sent, ["250", *refused, *refused, "250 2.0.0"])

    def test_however_the_next_mail_is_refused_its_last_chunk_gets_no_reply(self) -> None:
        for mail in (b"MAIL FROM:<j\xfcrgen@b>", b"mail FROM:<" + b"j" * 3000 + b"@b>", b"MAIL"):
            shell = Shell()
            shell.send(b"LHLO a", b"MAIL FROM:<s@b>", b"RCPT TO:<" + ALICE + b">")
            self.assertEqual(codes(shell.send_octets(b"BDAT 1 LAST\r\nx")), ["250 2.0.0"])
            sent = shell.send_octets(mail + b"\r\nRCPT TO:<x@y>\r\nBDAT 3 LAST\r\nabcNOOP\r\n")
            self.assertEqual(codes(sent)[1:], ["503 5.5.1", "250 2.0.0"], mail)

    def test_after_the_last_chunk_a_chunk_is_refused_and_read(self) -> None:
        shell = ready()
        sent = shell.send_octets(
            b"BDAT 1 LAST\r\nxBDAT 6 LAST\r\nQUIT\r\nBDAT 6\r\nQUIT\r\nDATA\r\n"
        )
        self.assertEqual(codes(sent), ["250 2.0.0", "503 5.5.1", "503 5.5.1", "503 5.5.1"])
        shell.send(b"RSET")
        shell.begin_mail(ALICE)
        self.assertEqual(codes(shell.send_octets(b"BDAT 1 LAST\r\nx")), ["250 2.0.0"])

    def test_data_after_a_chunk_is_refused_until_rset(self) -> None:
        shell = ready(ALICE, BOB)
        sent = shell.send_octets(b"BDAT 1\r\nxDATA\r\nDATA\r\nBDAT 1\r\nxRCPT TO:<a@b>\r\n")
        self.assertEqual(codes(sent), ["250 2.0.0", *["503 5.5.1"] * 4])
        self.assertEqual((shell.aborted, shell.content), (1, None))
        self.assertEqual(codes(shell.send_octets(b"BDAT 1 LAST\r\nx")), ["503 5.5.1"] * 2)
        self.assertEqual(codes(shell.send(b"RSET", b"MAIL FROM:<>")), ["250 2.0.0", "250 2.1.0"])
        self.assertEqual(shell.messages, [])

    def test_rset_lhlo_and_quit_between_chunks_leave_no_message(self) -> None:
        for line in (b"RSET", b"LHLO a"):
            shell = ready()
            shell.send_octets(b"BDAT 1\r\nx")
            self.assertEqual(len(codes(shell.send(line, b"NOOP"))), 2)
            self.assertEqual((shell.aborted, shell.messages), (1, []))
        shell = ready()
        shell.send_octets(b"BDAT 1\r\nxQUIT\r\n")
        self.assertEqual((shell.closed, shell.messages), (True, []))

    def test_after_a_failed_chunk_the_others_are_read_and_get_the_same_reply(self) -> None:
        for scripted in ({"begin": errors.NoRoom()}, {"write_fails": (0, errors.NoRoom())}):
            shell = ready(ALICE, BOB, **scripted)
            sent = shell.send_octets(
                b"BDAT 6\r\nQUIT\r\nBDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"
            )
            self.assertEqual(codes(sent), ["452 4.3.1"] * 4 + ["250 2.0.0"])
            self.assertEqual(shell.content, None)

    def test_a_chunk_whose_size_cannot_be_told_closes_the_session(self) -> None:
        for text in (b"", b"x", b"-1", b"1 FIRST", b"1 LAST x", b"9" * 21, b"\xff", "٣".encode()):
            shell = ready()
            sent = shell.send(b"BDAT " + text, b"MAIL FROM:<evil@a>")
            self.assertEqual(codes(sent), ["421 4.5.4"], text)
            self.assertTrue(shell.closed)


class GivingUpTests(SynchronousTestCase):
    def test_recipients_that_are_waited_for_are_put_off(self) -> None:
        shell = ready(ALICE, BOB, CAROL, slow=True)
        shell.send(b"DATA")
        shell.send_octets(STUFFED)
        shell.deliver(1)
        shell.session.give_up(errors.TookTooLong())
        self.assertEqual(codes(shell.pump()), ["451 4.3.0", "250 2.0.0", "451 4.3.0", "421 4.3.0"])
        shell.session.delivered(0)
        self.assertEqual(shell.pump(), b"")
        self.assertEqual(shell.session.counts.refused, 2)

    def test_whatever_is_waited_for_the_session_ends_and_late_answers_do_nothing(self) -> None:
        session = Shell().session
        for kind, answers in (
            (Recipient, [session.accepted, session.refused]),
            (Begin, [session.begun, session.begin_failed]),
            (Write, [session.written, session.write_failed]),
            (Abort, [session.aborted]),
            (StartTLS, [session.secured]),
        ):
            for answer in answers:
                shell = Shell(deaf=(kind,), can_start_tls=True)
                shell.begin_mail(ALICE)
                shell.send_octets(b"BDAT 1\r\nxRSET\r\nSTARTTLS\r\n")
                self.assertIsInstance(shell.actions[-1], kind)
                shell.session.give_up(errors.TookTooLong())
                self.assertEqual(codes(shell.pump()), ["421 4.3.0"])
                self.assertIsInstance(shell.actions[-1], HangUp)
                count = len(shell.actions)
                late = getattr(shell.session, answer.__name__)
                late(
                    *(
                        [errors.NoRoom()]
                        if "fail" in late.__name__ or late.__name__ == "refused"
                        else []
                    )
                )
                self.assertEqual(shell.pump(), b"")
                self.assertEqual(len(shell.actions), count)

    def test_after_a_message_that_was_finished_giving_up_says_nothing_of_it(self) -> None:
        shell = ready()
        shell.send(b"DATA", b".")
        shell.deaf = (Begin,)
        self.assertEqual(shell.actions[-1], Finish())
        shell.begin_mail(ALICE)
        shell.send(b"DATA")
        shell.session.give_up(errors.TookTooLong())
        self.assertEqual(codes(shell.pump()), ["421 4.3.0"])
