"""Sessions that an operator ends, as their clients meet it."""

from __future__ import annotations

from test_lmtp import LHLO, MAIL, RCPT, TEXT
from test_lmtp import Wire as LMTPWire
from test_timeouts import _Slow
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import StoreDown
from gateway.events import Event, LMTPSessionEnded, LoginSucceeded, POP3SessionEnded
from gateway.model import OpenSession
from gateway.net.sessions import SessionFactory
from harness import ALICE, SECRET, Client
from harness import Wire as POP3Wire
from lmtp_harness import codes

TOLD = rb"\A-ERR \[SYS/TEMP\] [^\r\n]+\r\n\Z"
LOGIN = b"USER " + ALICE.encode(), b"PASS " + SECRET.encode()
LONG = (b"x" * 70 + b"\r\n") * 50_000


def kick(factory: SessionFactory) -> list[bool]:
    """End all sessions; whether each has ended at once."""
    return [ended for _, ended in factory.kick(lambda _: True, "uid 0")]


def state(factory: SessionFactory) -> str:
    """What the only session does."""
    (shown,) = factory.open_sessions()
    return shown.state


class POP3Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Event] = []

    def wire(self, *messages: bytes, waits_in: str = "") -> POP3Wire:
        """A server; its store answers one question later."""
        if not waits_in:
            return POP3Wire(messages or (b"one\r\n", b"two\r\n"), emit=self.events.append)
        self.store = _Slow(waits_in)
        return POP3Wire(store=self.store, emit=self.events.append)

    def end(self, client: Client) -> tuple[str, str]:
        """How the session ended, and why."""
        client.hang_up()
        (event,) = [one for one in self.events if isinstance(one, POP3SessionEnded)]
        self.assertEqual(client.wire.factory.open_count, 0)
        return event.end, event.reason

    def test_a_session_is_told_and_closed_before_login_and_after(self) -> None:
        for lines in ((), (b"AUTH PLAIN",), (b"USER a",), LOGIN, (*LOGIN, b"DELE 1")):
            self.events.clear()
            wire = self.wire()
            client = wire.connect()
            client.send(*lines)
            self.assertEqual(kick(wire.factory), [True])
            self.assertRegex(client.read(), rb"\A-ERR [^\r\n]+\r\n\Z")
            self.assertTrue(client.closed)
            self.assertEqual(self.end(client), ("kicked", "by uid 0"))
            self.assertEqual(len(wire.mailbox.messages), 2)

    def test_a_kicked_client_may_log_in_again_at_once(self) -> None:
        wire = self.wire()
        wire.login()
        kick(wire.factory)
        self.assertTrue(wire.connect().log_in().startswith(b"+OK"))

    def test_a_login_under_way_is_answered_and_its_maildrop_given_back(self) -> None:
        wire = self.wire(waits_in="open")
        client = wire.connect()
        client.send(*LOGIN)
        self.assertEqual(state(wire.factory), "logging in")
        (shown,) = wire.factory.open_sessions()
        self.assertEqual((shown.user, shown.method), (ALICE, "PASS"))
        self.assertEqual(kick(wire.factory), [True])
        self.assertRegex(client.read(), TOLD)
        self.store.answer.callback(None)
        self.assertEqual(self.store.given_back, 1)
        self.assertEqual([one for one in self.events if isinstance(one, LoginSucceeded)], [])
        self.assertEqual(self.end(client), ("kicked", "by uid 0"))

    def test_a_commit_is_finished_and_answered_first(self) -> None:
        wire = self.wire(waits_in="finish")
        client = wire.login()
        client.send(b"DELE 1", b"QUIT")
        self.assertEqual(state(wire.factory), "removing")
        self.assertEqual(kick(wire.factory), [False])
        self.assertEqual(client.read(), b"")
        self.store.answer.callback(None)
        self.assertTrue(client.read().startswith(b"+OK"))
        self.assertEqual(self.end(client)[0], "quit")

    def test_a_fetch_that_has_sent_nothing_is_refused(self) -> None:
        wire = self.wire(waits_in="retrieve")
        client = wire.login()
        client.send(b"RETR 1")
        self.assertEqual(kick(wire.factory), [True])
        self.assertRegex(client.read(), TOLD)
        self.store.answer.errback(StoreDown())
        self.assertEqual(self.end(client), ("kicked", "by uid 0"))

    def test_half_a_reply_is_followed_by_no_line(self) -> None:
        for command in (b"RETR 1", b"LIST"):
            self.events.clear()
            wire = self.wire(LONG, *[b"x\r\n"] * 20_000)
            client = wire.login()
            client.protocol.pauseProducing()
            client.send(command)
            self.assertEqual(kick(wire.factory), [True])
            self.assertTrue(client.line.aborted)
            self.assertNotIn(b"-ERR", client.read())
            self.assertEqual(self.end(client), ("kicked", "by uid 0"))

    def test_only_who_is_meant_is_kicked(self) -> None:
        wire = self.wire()
        first, second = wire.connect("192.0.2.1"), wire.connect("192.0.2.2")
        wire.factory.kick(lambda one: one.host == "192.0.2.2", "uid 0")
        self.assertEqual((first.closed, second.closed), (False, True))

    def test_octets_and_state_are_told(self) -> None:
        wire = self.wire(b"12345\r\n")
        client = wire.login()
        client.send(b"RETR 1")
        (shown,) = wire.factory.open_sessions()
        expected = OpenSession(
            shown.id, "pop3", ALICE, "127.0.0.1", "", False, shown.since, ALICE, "PASS", "",
            "logged in", 7,
        )  # fmt: skip
        self.assertEqual(shown, expected)


class LMTPTests(SynchronousTestCase):
    def test_a_client_is_told_to_come_again(self) -> None:
        events: list[Event] = []
        wire = LMTPWire(emit=events.append)
        client = wire.client()
        client.send(LHLO, MAIL, RCPT)
        self.assertEqual(kick(wire.factory), [True])
        self.assertEqual(codes(client.read()), ["421 4.3.2"])
        client.drop()
        (end,) = [one for one in events if isinstance(one, LMTPSessionEnded)]
        self.assertEqual((end.end, end.reason), ("kicked", "by uid 0"))

    def test_a_message_that_is_coming_in_is_dropped_and_nothing_stays_open(self) -> None:
        wire = LMTPWire()
        client = wire.client()
        client.begin()
        client.send(TEXT)
        self.assertEqual(state(wire.factory), "receiving")
        self.assertEqual(kick(wire.factory), [True])
        self.assertEqual(codes(client.read()), ["421 4.3.2"])
        client.drop()
        self.assertEqual((wire.mail(), wire.store.open), ([], []))

    def test_a_delivery_is_finished_and_answered_first(self) -> None:
        wire = LMTPWire("commit")
        client = wire.client()
        client.begin()
        client.send(TEXT, b".\r\n")
        self.assertEqual(state(wire.factory), "delivering")
        self.assertEqual(kick(wire.factory), [False])
        wire.store.go("commit")
        self.assertEqual(codes(client.read()), ["250 2.0.0", "421 4.3.2"])
        client.drop()
        self.assertEqual(wire.mail(), [TEXT])
