"""Everything but content: RFC 2033, RFC 5321 section 4 and the extensions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway import errors
from gateway.lmtp import envelope, replies
from gateway.lmtp.actions import Begin, Recipient, StartTLS, Write
from gateway.lmtp.profile import Profile
from gateway.lmtp.refusals import refusal_of
from gateway.lmtp.replies import Reply
from lmtp_harness import PATIENT, Shell, codes, split

ALICE, BOB = b"alice@example.org", b"bob@example.org"


def recipients(shell: Shell) -> list[str]:
    """The addresses that were asked about."""
    return [action.address for action in shell.actions if isinstance(action, Recipient)]


class GreetingTests(SynchronousTestCase):
    def test_the_server_speaks_first_and_says_lmtp(self) -> None:
        shell = Shell(Profile(name="mail.example.org"))
        self.assertRegex(shell.greeting, rb"\A220 mail\.example\.org .*LMTP.*\r\n\Z")

    def test_a_name_that_is_none_cannot_be_configured(self) -> None:
        for name in ("", "a b", "a\r\nb", "ä"):
            with self.assertRaises(ValueError):
                Profile(name=name)

    def test_lhlo_lists_the_extensions(self) -> None:
        shell = Shell(Profile(name="mail.example.org", max_size=1000))
        first, *lines = shell.send(b"lhlo client").splitlines()
        self.assertEqual(first, b"250-mail.example.org")
        self.assertEqual(
            {line[4:] for line in lines},
            {
                *(b"PIPELINING", b"ENHANCEDSTATUSCODES", b"8BITMIME", b"SMTPUTF8", b"CHUNKING"),
                b"SIZE 1000",
            },
        )
        self.assertEqual([line[:4] for line in lines], [b"250-"] * 5 + [b"250 "])

    def test_without_a_limit_the_size_is_0(self) -> None:
        shell = Shell(Profile(max_size=0))
        self.assertIn(b"250 SIZE 0\r\n", shell.send(b"LHLO client"))
        self.assertEqual(
            codes(shell.send(b"MAIL FROM:<> SIZE=99999999999999999999")), ["250 2.1.0"]
        )

    def test_helo_and_ehlo_are_refused(self) -> None:
        shell = Shell()
        self.assertEqual(codes(shell.send(b"HELO a", b"EHLO a", b"EHLO")), ["500 5.5.1"] * 3)

    def test_lhlo_needs_a_name_and_mail_needs_lhlo(self) -> None:
        shell = Shell()
        sent = shell.send(b"MAIL FROM:<>", b"LHLO", b"MAIL FROM:<>", b"LHLO a", b"MAIL FROM:<>")
        wanted = ["503 5.5.1", "501 5.5.4", "503 5.5.1", "250", "250 2.1.0"]
        self.assertEqual(codes(sent), wanted)


class SmallCommandTests(SynchronousTestCase):
    def test_noop_rset_vrfy_help_and_quit_are_as_in_smtp(self) -> None:
        shell = Shell()
        sent = shell.send(b"NOOP", b"noop x y", b"RSET", b"VRFY a", b"HELP", b"HELP MAIL", b"QUIT ")
        wanted = ["250 2.0.0", "250 2.0.0", "250 2.0.0", "252 2.0.0"]
        self.assertEqual(codes(sent), [*wanted, "214 2.0.0", "214 2.0.0", "221 2.0.0"])
        self.assertTrue(shell.closed)

    def test_arguments_where_none_belong_and_none_where_some_do_are_refused(self) -> None:
        shell = Shell(PATIENT)
        for line in (b"RSET x", b"QUIT x", b"DATA x", b"STARTTLS x", b"VRFY", b"MAIL", b"RCPT"):
            self.assertEqual(codes(shell.send(line)), ["501 5.5.4"], line)

    def test_what_is_no_command_is_refused(self) -> None:
        shell = Shell(PATIENT)
        for line, code in (
            *((b"XYZZY", "500 5.5.1"), (b"", "500 5.5.1"), (b"EXPN a", "500 5.5.1")),
            *((b"NOOP \xff", "500 5.5.2"), (b"NOOP \0", "500 5.5.2")),
            *((b"NOOP " + b"x" * 3000, "500 5.5.2"), ("RſET".encode(), "500 5.5.1")),
        ):
            self.assertEqual(codes(shell.send(line)), [code], line)

    def test_a_command_may_be_longer_than_512_octets(self) -> None:
        shell = Shell()
        self.assertEqual(codes(shell.send(b"NOOP " + b"x" * 2000)), ["250 2.0.0"])

    def test_after_quit_whatever_was_pipelined_is_dropped(self) -> None:
        shell = Shell()
        self.assertEqual(codes(shell.send(b"QUIT", b"NOOP")), ["221 2.0.0"])
        self.assertEqual(shell.send(b"NOOP"), b"")
        self.assertEqual(shell.session.backlog, 0)

    def test_too_many_refused_commands_in_a_row_close_the_session(self) -> None:
        shell = Shell(Profile(refused_in_a_row=3))
        sent = shell.send(b"GET /", b"NOOP", b"GET /", b"Host: a", b"", b"NOOP")
        wanted = ["500 5.5.1", "250 2.0.0", "500 5.5.1", "500 5.5.1", "421 4.7.0"]
        self.assertEqual(codes(sent), wanted)
        self.assertTrue(shell.closed)

    def test_what_one_refusal_makes_of_a_group_of_commands_closes_nothing(self) -> None:
        unknown = errors.UnknownRecipient()
        shell = Shell(Profile(max_size=10), refuse={ALICE.decode(): unknown})
        rcpt = [b"RCPT TO:<" + ALICE + b">"] * 30
        sent = codes(shell.send(b"LHLO a", b"MAIL FROM:<> SIZE=11", *rcpt, b"DATA"))
        self.assertEqual(sent, ["250", "552 5.3.4", *["503 5.5.1"] * 31])
        sent = codes(shell.send(b"MAIL FROM:<>", *rcpt, b"DATA", b"NOOP"))
        self.assertEqual(sent, ["250 2.1.0", *["550 5.1.1"] * 30, "503 5.5.1", "250 2.0.0"])


class EnvelopeTests(SynchronousTestCase):
    def test_the_envelope_reaches_the_shell(self) -> None:
        shell = Shell()
        sent = shell.send(
            b"LHLO a",
            b"MAIL FROM:<s@example.net> SIZE=100 BODY=8BITMIME SMTPUTF8",
            "RCPT TO:<jürgen+detail@bücher.example>".encode(),
            b"rcpt to: <" + ALICE + b"> ",
            b"DATA",
        )
        self.assertEqual(codes(sent), ["250", "250 2.1.0", "250 2.1.5", "250 2.1.5", "354"])
        addresses = ("jürgen+detail@bücher.example", ALICE.decode())
        self.assertEqual(
            shell.actions,
            [
                Recipient(addresses[0], 100, 0),
                Recipient(addresses[1], 100, 1),
                Begin("s@example.net", addresses, True),
            ],
        )

    def test_a_refused_recipient_takes_no_place(self) -> None:
        shell = Shell(refuse={"x@y": errors.UnknownRecipient()})
        shell.begin_mail(ALICE, b"x@y", BOB)
        places = [action.place for action in shell.actions if isinstance(action, Recipient)]
        self.assertEqual(places, [0, 1, 1])

    def test_the_null_sender_is_accepted_and_no_null_recipient(self) -> None:
        shell = Shell()
        self.assertEqual(codes(shell.begin_mail(ALICE, b"", sender=b""))[1:], [
            *("250 2.1.0", "250 2.1.5", "553 5.1.3")
        ])  # fmt: skip
        shell.send(b"DATA")
        self.assertEqual(shell.envelope.sender, "")

    def test_quoted_local_parts_are_understood_and_one_with_the_bare_form(self) -> None:
        for sent, meant in (
            (rb'<"alice"@example.org>', "alice@example.org"),
            (rb'<"al\ice"@example.org>', "alice@example.org"),
            (rb'<"a b>,<"@example.org>', '"a b>,<"@example.org'),
            (rb'<"a\"\\"@example.org>', r'"a\"\\"@example.org'),
            (rb'<"a..b"@example.org>', '"a..b"@example.org'),
            (rb'<""@example.org>', '""@example.org'),
            (b"<a..b@example.org>", "a..b@example.org"),
            (b"<@relay.example,@[192.0.2.1]:alice@example.org>", "alice@example.org"),
            (b"<alice@[IPv6:2001:db8::1]>", "alice@[IPv6:2001:db8::1]"),
            (b"<Postmaster>", "Postmaster"),
        ):
            shell = Shell()
            shell.send(b"LHLO a", b"MAIL FROM:<>")
            self.assertEqual(codes(shell.send(b"RCPT TO:" + sent)), ["250 2.1.5"], sent)
            self.assertEqual(recipients(shell), [meant])

    def test_what_is_no_address_is_refused(self) -> None:
        shell = Shell(PATIENT)
        shell.send(b"LHLO a")
        bad = (
            *(b"<a b@c>", b"<a@b", b"a@b", b"<@a:>", b"<a@b@c>", b'<"a@b>', b"<@b>", b"<a@>"),
            *(b"<a(b)@c>", b"<" + b"x" * 600 + b"@c>", "<a\u2028@b>".encode()),
        )
        for path in bad:
            self.assertEqual(codes(shell.send(b"MAIL FROM:" + path)), ["553 5.1.7"], path)
        shell.send(b"MAIL FROM:<>")
        for path in bad:
            self.assertEqual(codes(shell.send(b"RCPT TO:" + path)), ["553 5.1.3"], path)
        for line in (b"RCPT <a@b>", b"RCPT FROM:<a@b>", b"RCPT TO"):
            self.assertEqual(codes(shell.send(line)), ["501 5.5.4"], line)
        self.assertEqual(recipients(shell), [])

    def test_parameters_that_are_unknown_or_wrong_are_refused(self) -> None:
        shell = Shell(PATIENT)
        shell.send(b"LHLO a")
        for text, code in (
            *((b" RET=HDRS", "555 5.5.4"), (b" AUTH=<>", "555 5.5.4"), (b"SIZE=1", "501 5.5.4")),
            *((b" SIZE=", "501 5.5.4"), (b" SIZE=x", "501 5.5.4"), (b" SIZE=-1", "501 5.5.4")),
            *((b" SIZE=1 size=1", "501 5.5.4"), (b" SIZE=" + b"1" * 21, "501 5.5.4")),
            *((b" BODY=BINARYMIME", "501 5.5.4"), (b" SMTPUTF8=1", "501 5.5.4")),
            *((b" SIZE", "501 5.5.4"), (b" BODY", "501 5.5.4"), (b" \xc2\xa0", "501 5.5.4")),
        ):
            self.assertEqual(codes(shell.send(b"MAIL FROM:<>" + text)), [code], text)
        sent = shell.send(b"MAIL FROM:<> body=7bit", b"RCPT TO:<a@b> NOTIFY=NEVER")
        self.assertEqual(codes(sent), ["250 2.1.0", "555 5.5.4"])

    def test_an_address_outside_ascii_needs_smtputf8(self) -> None:
        shell = Shell()
        address = "<ä@example.org>".encode()
        sent = shell.send(
            b"LHLO a", b"MAIL FROM:" + address, b"MAIL FROM:<>", b"RCPT TO:" + address
        )
        self.assertEqual(codes(sent)[1:], ["553 5.6.7", "250 2.1.0", "553 5.6.7"])

    def test_commands_out_of_place_are_refused(self) -> None:
        shell = Shell()
        sent = shell.send(b"LHLO a", b"RCPT TO:<a@b>", b"DATA", b"MAIL FROM:<>", b"MAIL FROM:<>")
        self.assertEqual(codes(sent)[1:], ["503 5.5.1", "503 5.5.1", "250 2.1.0", "503 5.5.1"])

    def test_data_without_an_accepted_recipient_is_refused_and_the_lines_are_commands(self) -> None:
        shell = Shell(refuse={ALICE.decode(): errors.UnknownRecipient()})
        shell.begin_mail(ALICE)
        self.assertEqual(codes(shell.send(b"DATA")), ["503 5.5.1"])
        self.assertEqual(codes(shell.send(b"Subject: x", b"", b".")), ["500 5.5.1"] * 3)

    def test_rset_and_lhlo_end_a_transaction(self) -> None:
        for line in (b"RSET", b"LHLO a"):
            shell = Shell()
            shell.begin_mail(ALICE)
            sent = codes(shell.send(line, b"DATA", b"MAIL FROM:<>", b"DATA"))
            self.assertEqual(sent[1:], ["503 5.5.1", "250 2.1.0", "503 5.5.1"])

    def test_too_many_recipients_are_put_off(self) -> None:
        shell = Shell(Profile(max_recipients=2))
        self.assertEqual(
            codes(shell.begin_mail(ALICE, BOB, ALICE))[-2:], ["250 2.1.5", "452 4.5.3"]
        )
        shell.send(b"DATA")
        self.assertEqual(codes(shell.send(b"x", b".")), ["250 2.0.0"] * 2)

    @given(st.text(max_size=20))
    def test_any_text_quoted_is_a_path_or_refused_and_what_comes_out_goes_in(
        self, text: str
    ) -> None:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        try:
            address, rest = envelope.path(f'<"{quoted}"@example.org> SIZE=1')
        except ValueError:
            self.assertRegex(text, "[\x00-\x1f\x7f-\x9f\u2028\u2029]")
            return
        self.assertEqual(rest, " SIZE=1")
        self.assertEqual(envelope.path(f"<{address}>"), (address, ""))


class FormsTests(SynchronousTestCase):
    def test_an_address_is_the_same_with_quotes_and_without(self) -> None:
        for address, others in (
            *(("alice@e", []), ("a.b@e", []), ("Postmaster", []), ("jürgen@e", [])),
            *(("e.@e", ['"e."@e']), ('"e."@e', ["e.@e"]), ("a..b", ['"a..b"'])),
            *((".e@e", ['".e"@e']), ('"a..b"@e', ["a..b@e"]), ('"a b"@e', ["a b@e"])),
            *(("a b@e", ['"a b"@e']), (r'"a\"b"@e', ['a"b@e']), ('a"b@e', [r'"a\"b"@e'])),
            *((r'"a\\b"@e', [r"a\b@e"]), (r"a\b@e", [r'"a\\b"@e']), ('"jür gen"@e', ["jür gen@e"])),
        ):
            self.assertEqual(envelope.forms(address), [address, *others])

    def test_quotes_stay_where_the_address_would_be_another_one_without_them(self) -> None:
        for local in ('""', '"a@b"', '" alice"', '"alice "', '"a  b"', '"a\t"'):
            self.assertEqual(envelope.forms(f"{local}@e"), [f"{local}@e"])


class DetailTests(SynchronousTestCase):
    def test_quotes_are_no_part_of_what_stands_before_the_delimiter(self) -> None:
        for address, delimiter, users in (
            ("alice+x@e", "+", "alice@e"),
            ('"alice+x y"@e', "+", "alice@e"),
            ('"al ice+x y"@e', "+", '"al ice"@e'),
            (r'"al\"ice+x"@e', "+", r'"al\"ice"@e'),
            (r'"al\\+x y"@e', "+", r'"al\\"@e'),
            ('"a@b+c d"@e', "+", '"a@b"@e'),
            ("al..ice+x@e", "+", "al..ice@e"),
            ("alice-x+y@e", "-", "alice@e"),
            ("alice+x", "+", "alice"),
            *(("+x@e", "+", None), ('"+x y"@e', "+", None), ("alice@e", "+", None)),
            *(("alice+x@e", "", None), ('"', "+", None), ("a@b+c", "+", None)),
        ):
            self.assertEqual(envelope.without_detail(address, delimiter), users, address)

    @given(st.text(), st.text(min_size=1))
    def test_whatever_a_local_part_says_it_can_be_written(self, local: str, detail: str) -> None:
        self.assertEqual(envelope.bare(envelope.written(local)), local)
        address = envelope.written(f"{local}+{detail}") + "@e"
        users = envelope.without_detail(address, "+")
        user = local.partition("+")[0]
        if users is None:
            self.assertEqual(user, "")
        else:
            self.assertEqual(envelope.bare(users.removesuffix("@e")), user)


class RefusalTests(SynchronousTestCase):
    def test_every_error_has_its_codes_at_rcpt_and_after_the_dot(self) -> None:
        for error, code in (
            (errors.UnknownRecipient, "550 5.1.1"),
            (errors.RecipientBarred, "550 5.2.1"),
            (errors.RefusedByPolicy, "550 5.7.1"),
            (errors.OverQuota, "452 4.2.2"),
            (errors.LargerThanQuota, "552 5.2.3"),
            (errors.HomedElsewhere, "451 4.3.5"),
            (errors.NoRoom, "452 4.3.1"),
            (errors.StoreDown, "451 4.3.0"),
            (errors.DirectoryDown, "451 4.3.0"),
            (errors.Overloaded, "451 4.3.0"),
            (errors.TookTooLong, "451 4.3.0"),
            (errors.DirectoryMisconfigured, "451 4.3.5"),
            (errors.NoSuchMailbox, "451 4.3.5"),
            (errors.MailboxUnusable, "451 4.3.5"),
            (errors.BadMailboxName, "451 4.3.5"),
            (ZeroDivisionError, "451 4.3.0"),
        ):
            why = {ALICE.decode(): error("c4nary")}
            sent = Shell(refuse=why).begin_mail(ALICE)
            self.assertEqual(codes(sent)[-1], code, error)
            self.assertNotIn(b"c4nary", sent)
            shell = Shell(commits=why)
            shell.begin_mail(ALICE, BOB)
            shell.send(b"DATA")
            self.assertEqual(codes(shell.send(b"x", b".")), [code, "250 2.0.0"], error)

    def test_mail_for_a_full_mailbox_bounces_if_the_profile_says_so(self) -> None:
        profile = Profile(over_quota="bounce")
        self.assertEqual(refusal_of(errors.OverQuota(), profile)[:2], (552, "5.2.2"))
        self.assertEqual(refusal_of(errors.LargerThanQuota(), profile)[:2], (552, "5.2.3"))
        self.assertEqual(refusal_of(errors.HomedElsewhere(), profile)[0], 451)

    def test_mail_for_a_mailbox_elsewhere_bounces_if_the_profile_says_so(self) -> None:
        profile = Profile(elsewhere="bounce")
        self.assertEqual(refusal_of(errors.HomedElsewhere(), profile)[:2], (550, "5.1.6"))
        self.assertEqual(refusal_of(errors.OverQuota(), profile)[0], 452)
        self.assertEqual(refusal_of(errors.MailboxUnusable(), profile)[0], 451)

    def test_every_reply_has_an_enhanced_code_of_its_class_but_a_3xx(self) -> None:
        for name, reply in vars(replies).items():
            if isinstance(reply, Reply):
                kind = str(reply.code)[0]
                wanted = "" if kind == "3" else rf"{kind}\.\d\.\d"
                self.assertRegex(reply.status, rf"\A{wanted}\Z", name)
                self.assertRegex(reply.line, rb"\A\d{3} [ -~]+\r\n\Z")
                self.assertLessEqual(len(reply.line), 512)

    def test_nothing_of_what_the_client_sends_comes_back(self) -> None:
        shell = Shell(PATIENT, refuse={"c4nary@a": errors.UnknownRecipient()})
        shell.send(b"LHLO c4nary")
        for line in (
            *(b"LHLO c4nary", b"c4nary", b"NOOP c4nary", b"VRFY c4nary", b"MAIL FROM:c4nary"),
            *(b"MAIL FROM:<c4nary@a> C4NARY=1", b"MAIL FROM:<c4nary@a>", b"RCPT TO:<c4nary@a>"),
        ):
            self.assertNotIn(b"c4nary", shell.send(line).lower(), line)

    def test_a_piece_of_content_does_not_show_in_a_log(self) -> None:
        self.assertEqual(repr(Write(b"c4nary")), "Write(6 octets)")


class StartTLSTests(SynchronousTestCase):
    def test_starttls_is_offered_and_begins_anew_without_what_came_in_clear(self) -> None:
        shell = Shell(can_start_tls=True)
        self.assertIn(b"250-STARTTLS\r\n", shell.send(b"LHLO evil"))
        self.assertEqual(codes(shell.send(b"STARTTLS", b"MAIL FROM:<evil@a>")), ["220 2.0.0"])
        self.assertEqual(shell.actions, [StartTLS()])
        self.assertTrue(shell.session.secure)
        self.assertEqual(codes(shell.send(b"MAIL FROM:<>", b"STARTTLS")), ["503 5.5.1"] * 2)
        self.assertNotIn(b"STARTTLS", shell.send(b"LHLO client"))

    def test_starttls_that_cannot_be_is_refused(self) -> None:
        self.assertEqual(codes(Shell().send(b"STARTTLS")), ["502 5.5.1"])
        self.assertEqual(codes(Shell(secure=True).send(b"STARTTLS")), ["503 5.5.1"])
        shell = Shell(can_start_tls=True)
        shell.begin_mail(ALICE)
        self.assertEqual(codes(shell.send(b"STARTTLS")), ["503 5.5.1"])


class EndTests(SynchronousTestCase):
    def test_an_idle_client_is_told_so(self) -> None:
        shell = Shell()
        shell.session.idle()
        self.assertEqual(codes(shell.pump()), ["421 4.4.2"])
        self.assertTrue(shell.closed)

    def test_when_the_server_stops_clients_are_told_so(self) -> None:
        shell = Shell()
        shell.session.dismiss()
        self.assertEqual(codes(shell.pump()), ["421 4.3.2"])
        self.assertTrue(shell.closed)

    def test_while_an_answer_is_owed_nothing_more_is_parsed(self) -> None:
        shell = Shell(deaf=(Recipient,))
        sent = shell.begin_mail(ALICE, BOB)
        self.assertEqual(codes(sent), ["250", "250 2.1.0"])
        self.assertGreater(shell.session.backlog, 0)
        shell.session.accepted()
        self.assertEqual(codes(shell.pump()), ["250 2.1.5"])
        shell.session.refused(errors.UnknownRecipient())
        self.assertEqual(codes(shell.pump()), ["550 5.1.1"])

    def test_a_client_that_takes_no_replies_is_not_read_from_without_end(self) -> None:
        session = Shell(PATIENT).session
        session.receive(b"NOOP\r\n" * 100_000)
        self.assertIsNone(session.next_action())
        self.assertGreater(session.backlog, 0)
        self.assertLess(session.output.length, 200_000)
        self.assertGreater(session.taken, 0)

    def test_replies_of_several_lines_count_as_one(self) -> None:
        self.assertEqual(len(split(Shell().send(b"LHLO a", b"NOOP"))), 2)
