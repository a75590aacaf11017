"""Before login: greeting, USER and PASS, what is refused and how."""

from __future__ import annotations

import re

import pytest
from twisted.trial.unittest import SynchronousTestCase

from gateway.pop3.actions import HangUp, Login, Step
from gateway.pop3.capabilities import Line
from gateway.pop3.profile import Profile
from gateway.pop3.session import COMMANDS, Session
from gateway.pop3.texts import LANGUAGES, SETS
from harness import ALICE, SECRET, Wire, plain

ONLY_AFTER_LOGIN = (b"STAT", b"LIST", b"UIDL", b"RETR 1", b"TOP 1 0", b"DELE 1", b"NOOP", b"RSET")


class GreetingTests(SynchronousTestCase):
    @pytest.mark.conformance("X-C0002", "O-C0001", "O-C0002", "O-C0007", "X-V0012", "P-24")
    def test_the_server_speaks_first_and_offers_no_apop(self) -> None:
        greeting = Wire().connect().greeting
        self.assertRegex(greeting, rb"\A\+OK [^<\r\n]+\r\n\Z")

    @pytest.mark.conformance("O-C0043")
    def test_a_client_that_speaks_before_the_greeting_is_understood(self) -> None:
        # The octets are there before connectionMade's reply has left the machine.
        session = Session(Profile(), Line(trusted=True))
        session.receive(b"USER a\r\n")
        self.assertIsNone(session.next_action())
        self.assertEqual(session.data_to_send().count(b"+OK "), 2)

    def test_a_greeting_of_the_administrator_is_sent_as_it_is(self) -> None:
        wire = Wire(greeting="mail.example.org ready")
        self.assertEqual(wire.connect().greeting, b"+OK mail.example.org ready\r\n")

    @pytest.mark.conformance("X-C0001", "P-24")
    def test_every_text_makes_a_status_line_of_at_most_512_octets_and_is_no_response_code(
        self,
    ) -> None:
        for texts in [*SETS.values(), *(texts for _, texts in LANGUAGES.values())]:
            for key, text in texts.items():
                self.assertLessEqual(len(b"-ERR [SYS/TEMP] %b\r\n" % text), 512, key)
                self.assertNotRegex(text, rb"[\r\n]|^\[")
            self.assertNotIn(b"<", texts["greeting"])

    def test_every_set_of_texts_has_every_text(self) -> None:
        keys = set(SETS["neutral"])
        for texts in [*SETS.values(), *(texts for _, texts in LANGUAGES.values())]:
            self.assertEqual(set(texts), keys)


class UserPassTests(SynchronousTestCase):
    @pytest.mark.conformance("O-C0042", "O-C0044", "O-C0046")
    def test_user_and_pass_take_one_argument_and_come_in_this_order(self) -> None:
        client = Wire().connect()
        for command in (b"USER", b"USER a b", b"PASS", b"PASS x"):
            self.assertRegex(client.send(command), rb"\A-ERR [^\r\n]+\r\n\Z")
        self.assertTrue(client.log_in().startswith(b"+OK "))

    @pytest.mark.conformance("X-V0008", "X-V0009", "P-11")
    def test_user_answers_alike_for_those_who_exist_and_those_who_do_not(self) -> None:
        client = Wire().connect()
        answers = {client.send(b"USER " + name) for name in (ALICE.encode(), b"nobody", b"x" * 200)}
        self.assertEqual(len(answers), 1)
        self.assertTrue(answers.pop().startswith(b"+OK "))

    @pytest.mark.conformance("P-11")
    def test_a_wrong_password_and_an_unknown_name_are_refused_alike(self) -> None:
        client = Wire().connect()
        wrong = client.log_in(password="wrong")
        self.assertEqual(wrong, client.log_in(name="nobody", password="wrong"))
        self.assertTrue(wrong.startswith(b"-ERR [AUTH] "))

    @pytest.mark.conformance("X-V0010", "P-11")
    def test_without_tls_user_is_refused_alike_for_all_names(self) -> None:
        client = Wire().connect("192.0.2.1")
        answers = {client.send(b"USER " + name) for name in (ALICE.encode(), b"nobody")}
        self.assertEqual(len(answers), 1)
        self.assertRegex(answers.pop(), rb"\A-ERR [^\[]")

    def test_without_tls_no_password_is_taken_by_any_command(self) -> None:
        client = Wire().connect("192.0.2.1")
        commands = (b"PASS " + SECRET.encode(), b"AUTH PLAIN " + plain(), b"AUTH LOGIN")
        for command in commands:
            self.assertTrue(client.send(command).startswith(b"-ERR "), command)
        self.assertEqual(client.send(b"STAT")[:4], b"-ERR")

    def test_over_tls_anyone_may_send_a_password(self) -> None:
        client = Wire().connect("192.0.2.1", secure=True)
        self.assertTrue(client.log_in().startswith(b"+OK "))

    @pytest.mark.conformance("X-V0011", "P-12")
    def test_spaces_are_part_of_a_password_at_its_end_too(self) -> None:
        wire = Wire(passwords={ALICE: " a b  c "})
        self.assertTrue(wire.connect().log_in(password=" a b  c ").startswith(b"+OK "))
        for close in ("a b  c ", " a b  c", " a b c "):
            self.assertTrue(wire.connect().log_in(password=close).startswith(b"-ERR [AUTH]"))

    @pytest.mark.conformance("O-C0047", "P-10")
    def test_pass_needs_a_good_user_right_before(self) -> None:
        client = Wire().connect()
        for between in ((b"CAPA",), (b"NOOP",), (b"PASS wrong",), (b"USER",), (b"XYZZY",)):
            client.send(b"USER " + ALICE.encode(), *between)
            self.assertEqual(client.send(b"PASS " + SECRET.encode())[:6], b"-ERR S", between)

    @pytest.mark.conformance("O-C0045")
    def test_after_user_another_user_counts_or_quit(self) -> None:
        client = Wire().connect()
        client.send(b"USER nobody")
        self.assertTrue(client.log_in().startswith(b"+OK "))
        client = Wire().connect()
        client.send(b"USER nobody")
        self.assertTrue(client.send(b"QUIT").startswith(b"+OK "))
        self.assertTrue(client.closed)

    @pytest.mark.conformance("X-C0005", "O-C0010", "P-8")
    def test_after_a_failed_login_the_client_may_try_again_or_quit(self) -> None:
        client = Wire().connect()
        client.log_in(password="wrong")
        self.assertTrue(client.log_in().startswith(b"+OK "))
        client = Wire().connect()
        client.log_in(password="wrong")
        self.assertTrue(client.send(b"QUIT").startswith(b"+OK "))

    @pytest.mark.conformance("P-12")
    def test_a_name_counts_in_any_case_and_in_any_form_that_saslprep_makes_one(self) -> None:
        wire = Wire(passwords={"jürgen": "x"})
        wire.store.add("jürgen")
        for name in ("JÜRGEN", "ju\u0308rgen", "jür\u00adgen"):
            self.assertTrue(wire.connect().log_in(name, "x").startswith(b"+OK "), name)

    def test_a_name_that_is_not_utf_8_or_prohibited_is_refused(self) -> None:
        client = Wire().connect()
        for name in (b"\xff", b"\xc3", b"a\x07b", "\u0627\u0031".encode()):
            self.assertTrue(client.send(b"USER " + name).startswith(b"-ERR "), name)

    @pytest.mark.conformance("P-24")
    def test_nothing_of_what_the_client_sends_comes_back_in_a_reply(self) -> None:
        client = Wire().connect()
        for command in (
            b"USER <c4nary>",
            b"PASS c4nary",
            b"c4nary",
            b"AUTH c4nary",
            b"STAT c4nary",
        ):
            self.assertNotIn(b"c4nary", client.send(command).lower())

    def test_an_empty_password_never_reaches_a_directory(self) -> None:
        client = Wire(passwords={ALICE: ""}).connect()
        for command in (b"PASS", b"PASS "):
            client.send(b"USER " + ALICE.encode())
            self.assertRegex(client.send(command), rb"\A-ERR [^\[]")

    def test_what_a_session_asks_for_shows_no_secret(self) -> None:
        self.assertNotIn("c4nary", repr(Login(b"alice", b"c4nary")))
        self.assertNotIn("c4nary", repr(Step("PLAIN", b"c4nary", True)))

    def test_a_closed_session_takes_nothing_in(self) -> None:
        session = Session(Profile(), Line(trusted=True))
        session.receive(b"QUIT\r\n")
        self.assertIsInstance(session.next_action(), HangUp)
        session.receive(b"CAPA\r\n")
        self.assertIsNone(session.next_action())
        self.assertEqual(session.backlog, 0)

    def test_user_and_pass_can_be_switched_off(self) -> None:
        client = Wire(profile=Profile(user_pass=False)).connect()
        self.assertTrue(client.send(b"USER a").startswith(b"-ERR "))
        self.assertNotIn(b"USER", client.lines(b"CAPA"))
        self.assertTrue(client.send(b"AUTH PLAIN " + plain()).startswith(b"+OK "))


class StateTests(SynchronousTestCase):
    @pytest.mark.conformance(
        *("X-C0003", "O-C0008", "O-C0016", "O-C0018", "O-V0005", "O-C0025"),
        *("O-C0028", "O-C0033", "O-C0035"),
    )
    def test_before_login_every_command_for_after_it_is_refused(self) -> None:
        for command in ONLY_AFTER_LOGIN:
            client = Wire().connect()
            self.assertRegex(client.send(command), rb"\A-ERR [^\r\n]+\r\n\Z")
            self.assertFalse(client.closed)

    @pytest.mark.conformance("P-25")
    def test_a_second_login_is_refused_by_every_command_and_the_first_stays(self) -> None:
        client = Wire().login()
        commands = (b"USER a", b"PASS x", b"AUTH PLAIN " + plain(), b"AUTH", b"STLS", b"UTF8")
        for command in (*commands, b"APOP a b"):
            self.assertTrue(client.send(command).startswith(b"-ERR "), command)
        self.assertTrue(client.send(b"STAT").startswith(b"+OK 3 "))

    @pytest.mark.conformance("X-V0012", "O-V0008")
    def test_apop_is_refused(self) -> None:
        answer = Wire().connect().send(b"APOP alice c4c9334bac560ecc979e58001b3e22fb")
        self.assertTrue(answer.startswith(b"-ERR "))

    @pytest.mark.conformance("X-C0006", "O-C0031", "X-V0007")
    def test_every_command_of_rfc_1939_is_there_but_apop(self) -> None:
        wanted = b"USER PASS QUIT STAT LIST RETR DELE NOOP RSET TOP UIDL".split()
        self.assertEqual([name for name in wanted if name not in COMMANDS], [])

    @pytest.mark.conformance("X-V0001")
    def test_causes_can_be_told_apart_by_their_texts(self) -> None:
        client = Wire().connect()
        answers = [client.send(line) for line in (b"XYZZY", b"STAT", b"USER", b"PASS x", b"")]
        self.assertEqual(len(set(answers)), len(answers))

    @pytest.mark.conformance("O-C0012")
    def test_quit_before_login_says_goodbye_and_removes_nothing(self) -> None:
        wire = Wire()
        client = wire.connect()
        self.assertTrue(client.send(b"QUIT").startswith(b"+OK "))
        self.assertTrue(client.closed)
        self.assertEqual(len(wire.mailbox.messages), 3)

    def test_after_quit_whatever_was_pipelined_is_dropped(self) -> None:
        client = Wire().connect()
        self.assertEqual(client.send(b"QUIT", b"CAPA", b"CAPA").count(b"\r\n"), 1)


class RefusedInARowTests(SynchronousTestCase):
    def test_too_many_refused_commands_close_the_session(self) -> None:
        client = Wire(profile=Profile(refused_in_a_row=3)).connect()
        self.assertEqual([client.send(b"GET /")[:4] for _ in range(3)], [b"-ERR"] * 3)
        self.assertTrue(client.closed)

    def test_failed_logins_count_too(self) -> None:
        client = Wire(profile=Profile(refused_in_a_row=3)).connect()
        for _ in range(3):
            self.assertFalse(client.closed)
            self.assertTrue(client.log_in(password="wrong").startswith(b"-ERR "))
        self.assertTrue(client.closed)

    def test_the_last_reply_keeps_the_code_of_a_failed_login(self) -> None:
        client = Wire(profile=Profile(refused_in_a_row=2)).connect()
        replies = [client.log_in(password="wrong") for _ in range(2)]
        self.assertEqual([reply[:12] for reply in replies], [b"-ERR [AUTH] "] * 2)
        self.assertTrue(client.closed)

    def test_an_accepted_command_after_login_begins_the_count_anew(self) -> None:
        client = Wire(profile=Profile(refused_in_a_row=3)).login()
        for _ in range(5):
            client.send(b"RETR 9", b"RETR 9", b"NOOP")
        self.assertFalse(client.closed)

    def test_before_login_an_accepted_command_does_not(self) -> None:
        client = Wire(profile=Profile(refused_in_a_row=3)).connect()
        for _ in range(3):
            client.send(b"XYZZY", b"CAPA")
        self.assertTrue(client.closed)


class WordsTests(SynchronousTestCase):
    @pytest.mark.conformance("X-N1", "O-C0004")
    def test_words_may_be_split_by_any_run_of_spaces_and_tabs(self) -> None:
        client = Wire().login()
        self.assertEqual(client.send(b"LIST\t1"), client.send(b"LIST 1"))
        self.assertEqual(client.message(b"RETR   1"), client.message(b"RETR 1"))
        self.assertEqual(client.message(b"TOP \t 1  0"), client.message(b"TOP 1 0"))

    def test_keywords_count_in_any_case(self) -> None:
        client = Wire().login()
        self.assertTrue(client.send(b"sTaT").startswith(b"+OK 3 "))

    @pytest.mark.conformance("O-C0003")
    def test_eight_bit_and_control_characters_are_refused_and_survived(self) -> None:
        client = Wire().login()
        for line in (b"STAT\x80", b"LIST \xef\xbc\x91", b"NO\x00OP", b"NOOP\x0b", b"\xff\xfe"):
            self.assertRegex(client.send(line), rb"\A-ERR [^\r\n]+\r\n\Z")
        self.assertTrue(client.send(b"NOOP").startswith(b"+OK "))

    @pytest.mark.conformance("P-23")
    def test_a_lone_lf_ends_a_line_and_a_lone_cr_does_not(self) -> None:
        client = Wire().login()
        self.assertEqual(client.send_octets(b"NOOP\nNOOP\r\n").count(b"+OK"), 2)
        self.assertEqual(client.send_octets(b"NOOP\rNOOP\r\n").count(b"-ERR"), 1)

    @pytest.mark.conformance("O-C0014", "O-C0005", "O-V0001")
    def test_every_line_gets_one_answer_the_empty_one_too(self) -> None:
        client = Wire().login()
        for line in (b"", b" ", b"\t", b"NOOP", b"XYZZY", b"STAT 1", b"LIST 99", b"DELE 1"):
            self.assertRegex(client.send(line), rb"\A(\+OK|-ERR) [^\r\n]+\r\n\Z")

    @pytest.mark.conformance("O-C0014")
    def test_pipelined_commands_are_answered_in_their_order(self) -> None:
        client = Wire().connect()
        answers = client.send(
            *(b"CAPA", b"USER " + ALICE.encode(), b"PASS " + SECRET.encode(), b"STAT"),
            *(b"LIST 2", b"XYZZY", b"RETR 1", b"DELE 1", b"STAT", b"QUIT"),
        )
        marks = re.findall(rb"^(\+OK \d [\d]+|-ERR|Subject: one|\+OK Good)", answers, re.M)
        self.assertEqual(
            marks, [b"+OK 3 58", b"+OK 2 30", b"-ERR", b"Subject: one", b"+OK 2 35", b"+OK Good"]
        )


class LineLimitTests(SynchronousTestCase):
    @pytest.mark.conformance("X-N2")
    def test_an_argument_may_be_as_long_as_the_line_allows(self) -> None:
        client = Wire().connect()
        self.assertTrue(client.send(b"USER " + b"a" * 200).startswith(b"+OK "))
        self.assertTrue(client.send(b"USER " + b"a" * 505).startswith(b"+OK "))
        self.assertTrue(client.send(b"USER " + b"a" * 506).startswith(b"-ERR "))

    @pytest.mark.conformance("X-N2", "O-C0014")
    def test_the_tail_of_a_line_that_is_too_long_is_no_command(self) -> None:
        client = Wire().connect()
        answer = client.send_octets(b"USER " + b"a" * 2000)
        answer += client.send_octets(b"CAPA" * 1000)
        self.assertEqual(answer, b"")
        answer = client.send_octets(b"x\r\nNOOP\r\n")
        self.assertEqual(answer.count(b"\r\n"), 2)
        self.assertFalse(client.closed)

    @pytest.mark.conformance("X-E0006", "X-E0007")
    def test_the_limit_is_what_the_profile_says_and_255_octets_where_rfc_2449_holds(self) -> None:
        for limit in (40, 47, 255, 512, 1024):
            client = Wire(profile=Profile(command_limit=limit)).connect()
            fits = b"USER " + b"a" * (limit - 7)
            self.assertTrue(client.send(fits).startswith(b"+OK "), limit)
            self.assertTrue(client.send(fits + b"a").startswith(b"-ERR "), limit)
        client = Wire().connect()
        client.lines(b"CAPA")
        self.assertTrue(client.send(b"USER " + b"a" * 248).startswith(b"+OK "))
