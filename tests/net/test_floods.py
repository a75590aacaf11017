"""Clients that send without waiting for replies: nobody else waits for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.directory.memory import MemoryDirectory
from gateway.lmtp.profile import Profile
from gateway.mailboxes.recipients import Recipients
from gateway.model import Limits, Listing
from gateway.net.fair_turns import TURN, FairTurns
from gateway.net.lmtp_factory import LMTPFactory, LMTPOptions
from gateway.net.postfix_policy import PolicyFactory, PolicyOptions
from gateway.pop3.capabilities import Line as PopLine
from gateway.pop3.profile import Profile as PopProfile
from gateway.pop3.session import Session
from gateway.store.memory import MemoryStore
from harness import ALICE, SECRET, Client, Line, Ticking, Wire

IN_A_TURN = int(TURN / Ticking.tick) + 2
"""Looks at the clock that a turn has room for; the last one ends it."""

LOGIN = b"USER %b\r\nPASS %b\r\n" % (ALICE.encode(), SECRET.encode())


class FloodTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Ticking()

    def flood(self, protocol: Any, line: Line, command: bytes, reply: bytes) -> None:
        """Of a thousand commands a few are answered in each turn, and in the end all."""
        line.clear()
        protocol.dataReceived(command * 1000)
        self.assertLessEqual(line.value().count(reply), IN_A_TURN)
        answered = line.value().count(reply)
        while answered < 1000:
            self.clock.turn()
            now = line.value().count(reply)
            self.assertGreater(now, answered)
            self.assertLessEqual(now - answered, IN_A_TURN)
            answered = now
        self.assertEqual(answered, 1000)

    def client(self, *, login: bool) -> Client:
        """A client of a server with three messages."""
        client = Client(Wire(clock=self.clock), "127.0.0.1", secure=False)
        if login:
            client.protocol.dataReceived(LOGIN)
            while client.line.value().count(b"+OK") < 3:
                self.clock.turn()
        return client

    def test_commands_before_login(self) -> None:
        for command, reply in ((b"CAPA\r\n", b"\r\n.\r\n"), (b"NOOP\r\n", b"-ERR")):
            wire = Wire(clock=self.clock, profile=PopProfile(refused_in_a_row=10**6))
            client = Client(wire, "127.0.0.1", secure=False)
            self.flood(client.protocol, client.line, command, reply)

    def test_commands_after_login(self) -> None:
        for command, reply in (
            (b"NOOP\r\n", b"+OK"),
            (b"UIDL\r\n", b"\r\n.\r\n"),
            (b"RETR 1\r\n", b"\r\n.\r\n"),
            (b"TOP 2 1\r\n", b"\r\n.\r\n"),
        ):
            client = self.client(login=True)
            self.flood(client.protocol, client.line, command, reply)

    def test_lmtp(self) -> None:
        store = MemoryStore()
        store.add(ALICE)
        recipients = Recipients(MemoryDirectory({ALICE: "x"}), store, lambda _: Limits())
        factory = LMTPFactory(
            recipients,
            store,
            LMTPOptions(Profile(name="mail.example.org"), allows=lambda _: True),
            clock=self.clock,
        )
        envelope = b"MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nRSET\r\n"
        for command, reply in ((b"NOOP\r\n", b"250 "), (envelope, b"250 2.1.5")):
            line, protocol = Line("127.0.0.1"), factory.buildProtocol(None)
            protocol.makeConnection(line)
            protocol.dataReceived(b"LHLO client\r\n")
            self.flood(protocol, line, command, reply)

    def test_the_policy_service(self) -> None:
        store = MemoryStore()
        store.add(ALICE)
        recipients = Recipients(MemoryDirectory({ALICE: "x"}), store, lambda _: Limits())
        factory = PolicyFactory(recipients, PolicyOptions(allows=lambda _: True), clock=self.clock)
        line, protocol = Line("127.0.0.1"), factory.buildProtocol(None)
        protocol.makeConnection(line)
        question = b"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=%b\n\n"
        self.flood(protocol, line, question % ALICE.encode(), b"action=DUNNO")

    def test_whoever_reads_again_waits_like_all_who_have_much_to_do(self) -> None:
        one, other = self.client(login=True), self.client(login=True)
        other.wire.factory.turns = one.wire.factory.turns
        for client in (one, other):
            client.line.clear()
            client.protocol.dataReceived(b"NOOP\r\n" * 1000)
        other.protocol.pauseProducing()
        self.clock.turn()
        before = other.line.value()
        other.protocol.resumeProducing()
        self.assertEqual(other.line.value(), before)
        self.clock.turn()
        self.clock.turn()
        self.assertGreater(len(other.line.value()), len(before))

    def test_a_login_does_not_wait_for_ten_floods(self) -> None:
        wire = Wire(clock=self.clock)
        floods = [Client(wire, "127.0.0.1", secure=False) for _ in range(10)]
        for client in floods:
            client.protocol.dataReceived(b"CAPA\r\n" * 10_000)
        late = Client(wire, "127.0.0.1", secure=False)
        late.protocol.dataReceived(LOGIN)
        self.clock.turn()
        self.clock.turn()
        self.assertEqual(late.line.value().count(b"+OK"), 3)
        late.protocol.dataReceived(b"STAT\r\n")
        self.clock.turn()
        self.assertTrue(late.line.value().endswith(b"+OK 3 58\r\n"), late.line.value())
        self.assertGreater(min(client.protocol._session.backlog for client in floods), 0)

    def test_what_a_client_has_sent_in_one_piece_is_answered_in_order_over_many_turns(self) -> None:
        client = self.client(login=True)
        client.line.clear()
        numbers = [str(number % 3 + 1).encode() for number in range(500)]
        client.protocol.dataReceived(b"".join(b"LIST %b\r\n" % number for number in numbers))
        while self.clock.calls and client.line.value().count(b"\r\n") < 500:
            self.clock.turn()
        answered = [line.split()[1] for line in client.line.value().splitlines()]
        self.assertEqual(answered, numbers)

    def test_a_listing_that_is_interrupted_between_two_pieces_goes_on_by_itself(self) -> None:
        for tick in (TURN / 8, TURN / 4, TURN / 2, TURN):
            client = self.client(login=True)
            for command in (b"LIST\r\n", b"UIDL\r\n", b"RETR 1\r\n", b"CAPA\r\n"):
                client.line.clear()
                self.clock.tick = tick
                client.protocol.dataReceived(command)
                for _ in range(9):
                    self.clock.turn()
                self.assertTrue(client.line.value().endswith(b"\r\n.\r\n"), (tick, command))
            self.clock.tick = Ticking.tick

    def test_quit_behind_very_many_commands_gets_its_reply_in_order(self) -> None:
        client = self.client(login=True)
        client.protocol.dataReceived(b"DELE 1\r\n" + b"NOOP\r\n" * 500 + b"QUIT\r\n")
        while not client.line.disconnecting:
            self.clock.turn()
        self.assertEqual(len(client.wire.mailbox.messages), 2)

    def test_a_line_that_drops_between_two_turns_leaves_nothing_behind(self) -> None:
        client = self.client(login=True)
        client.protocol.dataReceived(b"NOOP\r\n" * 1000)
        client.hang_up()
        self.clock.turn()
        self.assertEqual(len(client.wire.factory._sessions), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_server_that_stops_lets_what_has_arrived_be_answered(self) -> None:
        client = self.client(login=True)
        client.line.clear()
        client.protocol.dataReceived(b"NOOP\r\n" * 100)
        client.wire.factory.drain(10)
        while not client.line.disconnecting:
            self.clock.turn()
        self.assertEqual(client.line.value().count(b"+OK"), 100)


class QueueTests(SynchronousTestCase):
    def test_each_queue_has_a_piece_of_its_work_done_in_every_turn(self) -> None:
        clock = Ticking()
        turns, done = FairTurns(lambda: clock), list[str]()

        def work(name: str, put: Callable[[Callable[[], None]], None]) -> Callable[[], None]:
            def longer_than_a_turn() -> None:
                done.append(name)
                clock.pass_(2 * TURN)
                if len(done) < 20:
                    put(work(name, put))

            return longer_than_a_turn

        turns.take(lambda: clock.pass_(10 * TURN))
        for name, put in (("late", turns.later), ("login", turns.take)):
            put(work(name, put))
            put(work(name, put))
        for _ in range(3):
            clock.turn()
            self.assertEqual(sorted(done), ["late", "login"])
            done.clear()


class InterruptionTests(SynchronousTestCase):
    def test_a_session_takes_no_further_command_once_it_is_interrupted(self) -> None:
        session = Session(PopProfile(), PopLine(trusted=True))
        session.receive(b"CAPA\r\n" * 9)
        looks: list[bool] = []

        def third() -> bool:
            looks.append(len(looks) == 2)
            return looks[-1]

        self.assertIsNone(session.next_action(third))
        self.assertEqual(session.data_to_send().count(b"\r\n.\r\n"), 3)
        self.assertIsNone(session.next_action())
        self.assertEqual(session.data_to_send().count(b"\r\n.\r\n"), 6)

    def test_a_long_listing_with_marks_is_made_a_piece_at_a_time(self) -> None:
        session = Session(PopProfile(), PopLine(trusted=True))
        uids = [f"{number:07}" for number in range(20_000)]
        session.logged_in(Listing([9] * len(uids), uids))
        session.data_to_send()
        session.receive(b"DELE 2\r\nDELE 20000\r\nRSET\r\nDELE 3\r\nUIDL\r\nSTAT\r\n")
        reply, pieces = b"", 0
        while session.has_more:
            self.assertIsNone(session.next_action(lambda: True))
            piece = session.data_to_send()
            self.assertLess(len(piece), 64 * 1024)
            reply += piece
            pieces += 1
        self.assertGreater(pieces, 10)
        _, _, listing = reply.partition(b"follows.\r\n")
        listing, _, last = listing.partition(b".\r\n")
        expected = [b"%d %b" % (at, uid.encode()) for at, uid in enumerate(uids, 1) if at != 3]
        self.assertEqual(listing.splitlines(), expected)
        self.assertEqual(last, b"+OK 19999 %d\r\n" % (9 * 19_999))
