"""After login: the listing, marks, QUIT."""

from __future__ import annotations

import re

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import MessageGone, StoreDown
from gateway.model import Reason
from gateway.store.memory import MemoryStore
from gateway.testing.retention_store_contract import Trail
from harness import ALICE, MESSAGES, Wire

BAD_NUMBERS = (b"0", b"4", b"-1", b"+1", b"1x", b"x", b"1.0", b"0x1", b"99999999999999999999")
BAD_NUMBERS += (b"1_0", b"4294967297", "\uff11".encode(), b"1,2", b"*", b"00")


class ListingTests(SynchronousTestCase):
    @pytest.mark.conformance("X-V0004", "O-C0017", "O-C0015", "X-N4")
    def test_stat_is_count_and_octets_and_nothing_else(self) -> None:
        total = sum(map(len, MESSAGES))
        self.assertEqual(Wire().login().send(b"STAT"), b"+OK 3 %d\r\n" % total)

    @pytest.mark.conformance("X-V0005", "O-C0011", "O-C0020", "O-C0021", "X-N5", "O-V0003")
    def test_list_has_number_and_exact_size_of_every_message_from_1_on(self) -> None:
        client = Wire().login()
        wanted = [b"%d %d" % (number, len(text)) for number, text in enumerate(MESSAGES, 1)]
        self.assertEqual(client.lines(b"LIST"), wanted)

    @pytest.mark.conformance("O-C0019", "X-V0005", "O-V0003")
    def test_list_of_one_message_is_one_line(self) -> None:
        self.assertEqual(Wire().login().send(b"LIST 2"), b"+OK 2 %d\r\n" % len(MESSAGES[1]))

    @pytest.mark.conformance("O-C0037", "O-C0038", "X-C0007", "O-V0007")
    def test_uidl_has_number_and_id_of_every_message_in_increasing_order(self) -> None:
        lines = Wire().login().lines(b"UIDL")
        self.assertEqual([line.split()[0] for line in lines], [b"1", b"2", b"3"])
        for line in lines:
            self.assertRegex(line, rb"\A\d+ \d{1,70}\Z")
        ids = [int(line.split()[1]) for line in lines]
        self.assertEqual(ids, sorted(set(ids)))

    @pytest.mark.conformance("O-C0036", "O-V0007", "P-17")
    def test_uidl_of_one_message_is_one_line_and_says_the_same(self) -> None:
        client = Wire().login()
        self.assertEqual(client.send(b"UIDL 2"), b"+OK " + client.lines(b"UIDL")[1] + b"\r\n")

    @pytest.mark.conformance("O-C0020", "O-C0006")
    def test_an_empty_maildrop_has_empty_listings(self) -> None:
        client = Wire([]).login()
        self.assertEqual(client.send(b"STAT"), b"+OK 0 0\r\n")
        for command in (b"LIST", b"UIDL"):
            self.assertRegex(client.send(command), rb"\A\+OK [^\r\n]+\r\n\.\r\n\Z")

    @pytest.mark.conformance("O-V0002", "O-C0006")
    def test_no_line_of_a_listing_begins_with_a_dot(self) -> None:
        client = Wire().login()
        for command in (b"LIST", b"UIDL", b"CAPA", b"LANG"):
            self.assertEqual([line for line in client.lines(command) if line[:1] == b"."], [])

    @pytest.mark.conformance("O-C0006")
    def test_a_listing_of_many_slices_comes_whole(self) -> None:
        client = Wire([b""] * 30_000).login()
        self.assertEqual(len(client.lines(b"UIDL")), 30_000)
        self.assertEqual(len(client.lines(b"LIST")), 30_000)
        client.send(b"DELE 7")
        self.assertEqual(len(client.lines(b"LIST")), 29_999)

    @pytest.mark.conformance("P-14", "O-V0004", "O-C0024", "O-C0032")
    def test_a_message_number_is_digits_from_1_to_the_last_message(self) -> None:
        client = Wire().login()
        for number in BAD_NUMBERS:
            for form in (b"LIST %b", b"UIDL %b", b"RETR %b", b"DELE %b", b"TOP %b 0"):
                client.send(b"NOOP")
                command = form % number
                self.assertRegex(client.send(command), rb"\A-ERR [^\r\n]+\r\n\Z", command)
        self.assertTrue(client.send(b"STAT").startswith(b"+OK 3 "))

    def test_leading_zeros_change_nothing(self) -> None:
        client = Wire().login()
        self.assertEqual(client.send(b"LIST 002"), client.send(b"LIST 2"))

    @pytest.mark.conformance("O-V0004", "O-C0024", "O-C0032")
    def test_a_missing_argument_or_one_too_many_is_refused(self) -> None:
        client = Wire().login()
        for line in (b"RETR", b"DELE", b"TOP", b"TOP 1", b"RETR 1 2", b"DELE 1 2", b"TOP 1 2 3"):
            self.assertTrue(client.send(line).startswith(b"-ERR "), line)
        client.send(b"NOOP")
        for line in (b"LIST 1 2", b"UIDL 1 2", b"STAT 1", b"RSET 1", b"NOOP 1", b"QUIT 1"):
            self.assertTrue(client.send(line).startswith(b"-ERR "), line)

    @pytest.mark.conformance("O-C0013")
    def test_a_command_may_come_again_and_again(self) -> None:
        client = Wire().login()
        for command in (b"STAT", b"LIST", b"UIDL", b"RETR 2", b"TOP 2 1", b"NOOP", b"RSET"):
            self.assertEqual(client.send(command), client.send(command))


class MarkTests(SynchronousTestCase):
    @pytest.mark.conformance("O-C0026", "P-15", "O-V0006")
    def test_a_marked_message_is_gone_from_every_command_until_rset(self) -> None:
        client = Wire().login()
        before = [client.send(command) for command in (b"STAT", b"LIST", b"UIDL")]
        references = (b"LIST 2", b"UIDL 2", b"RETR 2", b"TOP 2 0", b"DELE 2")
        self.assertTrue(client.send(b"DELE 2").startswith(b"+OK "))
        for command in references:
            self.assertTrue(client.send(command).startswith(b"-ERR "), command)
        left = len(MESSAGES[0]) + len(MESSAGES[2])
        self.assertEqual(client.send(b"STAT"), b"+OK 2 %d\r\n" % left)
        self.assertEqual([line.split()[0] for line in client.lines(b"LIST")], [b"1", b"3"])
        self.assertEqual([line.split()[0] for line in client.lines(b"UIDL")], [b"1", b"3"])
        self.assertTrue(client.send(b"RSET").startswith(b"+OK "))
        self.assertEqual([client.send(command) for command in (b"STAT", b"LIST", b"UIDL")], before)
        for command in references:
            self.assertTrue(client.send(command).startswith(b"+OK "), command)

    @pytest.mark.conformance("O-C0027", "O-C0029")
    def test_noop_always_succeeds(self) -> None:
        self.assertTrue(Wire().login().send(b"NOOP").startswith(b"+OK "))
        self.assertTrue(Wire([]).login().send(b"NOOP").startswith(b"+OK "))

    @pytest.mark.conformance("P-16")
    def test_dele_touches_nothing_before_quit(self) -> None:
        wire = Wire()
        client = wire.login()
        client.send(b"DELE 1")
        self.assertEqual(len(wire.mailbox.messages), 3)
        self.assertTrue(client.send(b"QUIT").startswith(b"+OK "))
        self.assertEqual(len(wire.mailbox.messages), 2)

    @pytest.mark.conformance("O-C0030")
    def test_quit_removes_what_is_marked_and_nothing_else(self) -> None:
        wire = Wire()
        client = wire.login()
        client.send(b"DELE 1", b"DELE 2", b"RSET", b"DELE 3")
        self.assertTrue(client.send(b"QUIT").startswith(b"+OK "))
        self.assertTrue(client.closed)
        self.assertEqual(list(wire.mailbox.messages.values()), list(MESSAGES[:2]))

    @pytest.mark.conformance("P-16")
    def test_a_dropped_connection_removes_nothing(self) -> None:
        wire = Wire()
        client = wire.login()
        client.send(b"DELE 1")
        client.hang_up()
        self.assertEqual(len(wire.mailbox.messages), 3)

    def test_what_was_fetched_is_read_after_quit_and_after_a_dropped_line(self) -> None:
        for end in ("quit", "drop"):
            wire = Wire()
            client = wire.login()
            client.message(b"RETR 2")
            client.message(b"TOP 1 100")
            if end == "quit":
                client.send(b"QUIT")
            client.hang_up()
            self.assertEqual(set(wire.mailbox.read), {2})


class _Broken:
    """A maildrop of the memory store with one method that fails, or waits."""

    def __init__(self, **answers: object) -> None:
        self._store = MemoryStore()
        mailbox = self._store.add("alice@example.org")
        for message in MESSAGES:
            mailbox.deliver(message)
        self.mailbox = mailbox
        self._answers = answers

    def open(self, account: object, mind: object) -> Deferred[object]:
        def broken(opened: tuple[object, object]) -> tuple[object, object]:
            maildrop = opened[0]
            for name, answer in self._answers.items():
                setattr(maildrop, name, lambda *_, answer=answer: answer)
            return opened

        return self._store.open(account, mind).addCallback(broken)  # type: ignore[arg-type]


class UpdateTests(SynchronousTestCase):
    @pytest.mark.conformance("X-V0006", "P-16")
    def test_a_failure_in_quit_says_so_and_closes_and_removes_nothing_unmarked(self) -> None:
        store = _Broken(finish=fail(StoreDown("one is still there")))
        client = Wire(store=store).login()
        client.send(b"DELE 1")
        self.assertRegex(client.send(b"QUIT"), rb"\A-ERR \[SYS/TEMP\] [^\r\n]+\r\n\Z")
        self.assertTrue(client.closed)
        self.assertEqual(len(store.mailbox.messages), 3)

    def test_what_quit_removes_is_audited_with_the_session_and_its_address(self) -> None:
        trail = Trail()
        store = MemoryStore(audit=trail)
        store.add(ALICE).deliver(MESSAGES[0])
        with capturedLogs() as events:
            client = Wire(store=store).login(host="192.0.2.7", secure=True)
            client.send(b"DELE 1", b"QUIT")
            client.hang_up()
        (line,) = trail.lines
        (session,) = set(re.findall(r"\bsession[ =](\w+)", "\n".join(map(formatEvent, events))))
        self.assertEqual(line.cause, Reason(session=session, client="192.0.2.7"))

    def test_where_the_audit_cannot_be_written_quit_fails_and_removes_nothing(self) -> None:
        trail = Trail()
        trail.fails = True
        store = MemoryStore(audit=trail)
        mailbox = store.add(ALICE)
        mailbox.deliver(MESSAGES[0])
        client = Wire(store=store).login()
        client.send(b"DELE 1")
        self.assertRegex(client.send(b"QUIT"), rb"\A-ERR \[SYS/TEMP\] [^\r\n]+\r\n\Z")
        self.assertEqual(len(mailbox.messages), 1)

    @pytest.mark.conformance("P-16")
    def test_quit_is_answered_when_the_removal_is_done_and_not_before(self) -> None:
        finishing: Deferred[None] = Deferred()
        client = Wire(store=_Broken(finish=finishing)).login()
        client.send(b"DELE 1")
        self.assertEqual(client.send(b"QUIT", b"NOOP"), b"")
        finishing.callback(None)
        self.assertRegex(client.read(), rb"\A\+OK [^\r\n]+\r\n\Z")

    @pytest.mark.conformance("P-21")
    def test_a_message_that_is_gone_has_no_code_and_a_store_that_is_down_has_sys_temp(self) -> None:
        client = Wire(store=_Broken(retrieve=fail(MessageGone("1")))).login()
        self.assertRegex(client.send(b"RETR 1"), rb"\A-ERR [^\[\r\n]+\r\n\Z")
        client = Wire(store=_Broken(retrieve=fail(StoreDown("disk")))).login()
        self.assertRegex(client.send(b"RETR 1"), rb"\A-ERR \[SYS/TEMP\] [^\r\n]+\r\n\Z")

    def test_what_could_not_be_sent_is_not_deleted_unless_it_is_gone(self) -> None:
        for error, status in ((MessageGone("1"), b"+OK"), (StoreDown("disk"), b"-ERR")):
            client = Wire(store=_Broken(retrieve=fail(error))).login()
            self.assertTrue(client.send(b"RETR 1").startswith(b"-ERR"))
            self.assertTrue(client.send(b"DELE 1").startswith(status))

    @pytest.mark.conformance("O-C0029")
    def test_noop_of_one_session_is_answered_while_another_waits(self) -> None:
        slow = Wire(store=_Broken(retrieve=Deferred()))
        waiting, other = slow.login(), slow.login()
        self.assertEqual(waiting.send(b"RETR 1"), b"")
        self.assertTrue(other.send(b"NOOP").startswith(b"+OK "))

    def test_a_fault_of_ours_is_sys_temp_on_the_wire_and_a_traceback_in_the_log(self) -> None:
        client = Wire(store=_Broken(retrieve=fail(ZeroDivisionError("s3cret path")))).login()
        answer = client.send(b"RETR 1")
        self.assertTrue(answer.startswith(b"-ERR [SYS/TEMP] "))
        self.assertNotIn(b"s3cret", answer)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class SnapshotTests(SynchronousTestCase):
    @pytest.mark.conformance("X-C0004", "P-17")
    def test_what_comes_and_goes_after_login_changes_no_listing(self) -> None:
        wire = Wire()
        client = wire.login()
        commands = (b"STAT", b"LIST", b"UIDL")
        before = [client.send(command) for command in commands]
        wire.mailbox.deliver(b"late\r\n")
        del wire.mailbox.messages[1]
        self.assertEqual([client.send(command) for command in commands], before)

    @pytest.mark.conformance("X-C0004", "P-18")
    def test_a_vanished_message_is_an_error_to_retr_and_top_and_others_are_fine(self) -> None:
        wire = Wire()
        client = wire.login()
        del wire.mailbox.messages[1]
        for command in (b"RETR 1", b"TOP 1 0"):
            self.assertRegex(client.send(command), rb"\A-ERR [^\r\n]+\r\n\Z")
        self.assertEqual(client.message(b"RETR 2"), MESSAGES[1])

    @pytest.mark.conformance("X-N3")
    def test_two_sessions_of_one_user_are_both_in(self) -> None:
        wire = Wire()
        for client in (wire.login(), wire.login()):
            self.assertTrue(client.send(b"STAT").startswith(b"+OK 3 "))

    @pytest.mark.conformance("X-C0008", "O-C0040", "X-C0009", "O-C0041")
    def test_ids_are_not_used_again_and_copies_have_their_own(self) -> None:
        wire = Wire([b"same\r\n", b"same\r\n"])
        client = wire.login()
        ids = [line.split()[1] for line in client.lines(b"UIDL")]
        self.assertEqual(len(set(ids)), 2)
        client.send(b"DELE 2", b"QUIT")
        wire.mailbox.deliver(b"same\r\n")
        again = [line.split()[1] for line in wire.login().lines(b"UIDL")]
        self.assertEqual(again[0], ids[0])
        self.assertGreater(int(again[1]), int(ids[1]))
