"""LMTP on a transport: the real factory, session and reception; a fake line, store and clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.directory.memory import MemoryDirectory
from gateway.errors import NoRoom, StoreDown
from gateway.events import MessageDelivered, QuotaExceeded
from gateway.lmtp.profile import Profile
from gateway.mailboxes.recipients import Recipients, admit
from gateway.model import Account, Limits, Usage
from gateway.net.lmtp_factory import LMTPFactory, LMTPOptions
from gateway.net.lmtp_protocol import DELIVERIES
from gateway.net.timeouts import Timeouts
from gateway.observe.log import emit_to_log, logged_events
from gateway.store.memory import MemoryIncoming, MemoryStore
from harness import Line
from lmtp_harness import codes

ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@example.org"
TEXT = b"Subject: x\r\n\r\nhello\r\n"
LHLO = b"LHLO client.example.net\r\n"
MAIL = b"MAIL FROM:<s@example.net>\r\n"
RCPT = b"RCPT TO:<alice@example.org>\r\n"
PARTS = ("receive", "write", "commit", "close")


class SlowIncoming(MemoryIncoming):
    """One whose answers the test gives."""

    def __init__(self, store: SlowStore) -> None:
        super().__init__(store)
        self._slow = store
        self.is_closed = False

    def write(self, data: bytes) -> Deferred[None]:
        assert not self.is_closed, "written to after its end"
        return self._slow.answer("write", lambda: super(SlowIncoming, self).write(data))

    def commit(self, account: Account, limits: Limits) -> Deferred[None]:
        assert not self.is_closed, "committed after its end"
        return self._slow.answer(
            "commit", lambda: super(SlowIncoming, self).commit(account, limits)
        )

    def close(self) -> Deferred[None]:
        assert not self.is_closed, "closed twice"
        self.is_closed = True
        return self._slow.answer("close", lambda: succeed(None))


class SlowStore(MemoryStore):
    """A store that answers late what it is told to; it knows what is still open."""

    def __init__(self, *slow: str) -> None:
        super().__init__(admit=admit)
        self.slow = set(slow)
        self.waiting: list[tuple[str, Callable[[], Deferred[Any]], Deferred[Any]]] = []
        self.made: list[SlowIncoming] = []
        self.receivers: list[str] = []
        """For whom each message was begun."""

    def answer(self, what: str, work: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """Now, or when ``go`` is called."""
        if what not in self.slow:
            return work()
        answer: Deferred[Any] = Deferred()
        self.waiting.append((what, work, answer))
        return answer

    def go(self, what: str, error: Exception | None = None, *, place: int = 0) -> None:
        """Answer one question of that kind."""
        found = [one for one in self.waiting if one[0] == what][place]
        self.waiting.remove(found)
        (found[1]() if error is None else fail(error)).chainDeferred(found[2])

    def receive(self, account: Account) -> Deferred[MemoryIncoming]:
        self.receivers.append(account.name)

        def made() -> Deferred[MemoryIncoming]:
            self.mailbox_of(account)
            self.made.append(SlowIncoming(self))
            return succeed(self.made[-1])

        return self.answer("receive", made)

    def prepare(self, account: Account) -> Deferred[None]:
        return self.answer("prepare", lambda: super(SlowStore, self).prepare(account))

    def usage(self, account: Account) -> Deferred[Usage]:
        return self.answer("usage", lambda: super(SlowStore, self).usage(account))

    @property
    def open(self) -> list[SlowIncoming]:  # type: ignore[override]
        """What was not closed."""
        return [one for one in self.made if not one.is_closed]


class Wire:
    """A server before a store with three mailboxes."""

    def __init__(self, *slow: str, limits: Mapping[str, Limits] | None = None, **more: Any) -> None:
        self.clock = Clock()
        self.store = SlowStore(*slow)
        people = more.pop("people", (ALICE, BOB, CAROL))
        for name in people:
            self.store.add(name)
        given = limits or {}
        recipients = Recipients(
            MemoryDirectory(dict.fromkeys(people, "x")),
            self.store,
            lambda account: given.get(account.name, Limits()),
            emit=more.get("emit", emit_to_log),
        )
        self.factory = LMTPFactory(
            recipients,
            self.store,
            LMTPOptions(
                more.pop("profile", Profile(name="mail.example.org")),
                allows=more.pop("allows", lambda _: True),
                timeouts=Timeouts(stall=50, work=20),
                now=lambda: 1_700_000_000,
            ),
            admission=LocalAdmission(
                lambda: self.clock,
                limits=ConnectionLimits(more.pop("connections", 100), setting="lmtp.connections"),
            ),
            clock=self.clock,
            **more,
        )

    def client(self, host: str = "192.0.2.1") -> Client:
        """A new connection, its greeting read."""
        return Client(self, host)

    def mail(self, name: str = ALICE) -> list[bytes]:
        """What is in a mailbox, without the trace header."""
        found = self.store.mailboxes[name].messages.values()
        return [content[content.index(b"Subject:") :] for content in found]


class Client:
    """The far end."""

    def __init__(self, wire: Wire, host: str) -> None:
        self.wire = wire
        self.line = Line(host)
        self.protocol = wire.factory.buildProtocol(None)
        self.protocol.makeConnection(self.line)
        self.greeting = self.read()

    def send(self, *pieces: bytes) -> list[str]:
        """Send these in one piece; the codes that came back by now."""
        if not self.line.disconnecting:
            self.protocol.dataReceived(b"".join(pieces))
        return codes(self.read())

    def read(self) -> bytes:
        data = self.line.value()
        self.line.clear()
        return data

    def begin(self, *people: str) -> list[str]:
        """Everything up to the 354."""
        named = [b"RCPT TO:<" + name.encode() + b">\r\n" for name in people or (ALICE,)]
        return self.send(LHLO, MAIL, *named, b"DATA\r\n")

    def drop(self) -> None:
        """The line is down."""
        self.protocol.connectionLost(Failure(ConnectionLost()))


class Case(SynchronousTestCase):
    def end(self, wire: Wire) -> None:
        """Nothing is open, nobody is there, no timer runs and nothing was unforeseen."""
        self.assertEqual(wire.store.open, [])
        self.assertEqual(len(wire.factory._sessions), 0)
        self.assertEqual(wire.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def logged(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        return events


class FullTests(Case):
    def test_a_mailbox_without_room_is_reported_with_the_size_of_the_message(self) -> None:
        lacking: list[tuple[str, int]] = []
        events = logged_events()
        events.subscribe(
            {QuotaExceeded: lambda event: lacking.append((event.account.name, event.octets))}
        )
        limits = {ALICE: Limits(octets=1000), BOB: Limits(octets=1000)}
        wire = Wire(limits=limits, emit=events.emit)
        for name in (ALICE, BOB):
            wire.store.mailboxes[name].deliver(b"x" * 900)
        client = wire.client()
        sized = b"MAIL FROM:<s@example.net> SIZE=500\r\n"
        self.assertEqual(client.send(LHLO, sized, RCPT)[-1], "452 4.2.2")
        self.assertEqual(lacking, [(ALICE, 500)])
        client.send(b"RSET\r\n")
        client.begin(BOB, BOB)
        self.assertEqual(client.send(TEXT, b"." * 2 + b"x" * 100, b"\r\n.\r\n"), ["452 4.2.2"] * 2)
        self.assertEqual([name for name, _ in lacking], [ALICE, BOB])
        self.assertGreater(lacking[1][1], 100)
        too_large = b"MAIL FROM:<s@example.net> SIZE=5000\r\n"
        self.assertEqual(client.send(too_large, RCPT)[-1], "552 5.2.3")
        self.assertEqual(len(lacking), 2)
        client.drop()
        self.end(wire)


class OrderTests(Case):
    def test_each_recipient_has_its_own_reply_in_the_order_of_rcpt(self) -> None:
        wire = Wire("commit")
        client = wire.client()
        client.begin(ALICE, BOB, CAROL)
        self.assertEqual(client.send(TEXT, b".\r\nNOOP\r\n"), [])
        wire.store.go("commit", place=2)
        wire.store.go("commit", NoRoom("full"), place=1)
        self.assertEqual(codes(client.read()), [])
        wire.store.go("commit")
        self.assertEqual(codes(client.read()), ["250 2.0.0", "452 4.3.1", "250 2.0.0", "250 2.0.0"])
        self.assertEqual([len(wire.mail(name)) for name in (ALICE, BOB, CAROL)], [1, 0, 1])
        client.drop()
        self.end(wire)

    def test_a_message_to_many_is_delivered_to_some_at_once_and_leaves_room_to_others(self) -> None:
        people = [f"u{number}@example.org" for number in range(2 * DELIVERIES + 20)]
        wire = Wire("commit", people=people)
        client = wire.client()
        client.begin(*people)
        client.send(TEXT, b".\r\n")
        replies, most = list[str](), 0
        while wire.store.waiting:
            most = max(most, len(wire.store.waiting))
            wire.store.go("commit")
            replies += codes(client.read())
        self.assertEqual(most, DELIVERIES)
        self.assertEqual(replies, ["250 2.0.0"] * len(people))
        self.assertTrue(all(wire.mail(name) == [TEXT] for name in people))
        client.drop()
        self.end(wire)

    def test_who_is_gone_amid_deliveries_to_many_sends_again_what_was_not_begun(self) -> None:
        people = [f"u{number}@example.org" for number in range(2 * DELIVERIES)]
        wire = Wire("commit", people=people)
        client = wire.client()
        client.begin(*people)
        client.send(TEXT, b".\r\n")
        client.drop()
        while wire.store.waiting:
            wire.store.go("commit")
        self.assertEqual(sum(bool(wire.mail(name)) for name in people), DELIVERIES)
        self.end(wire)

    def test_who_is_named_twice_gets_the_message_once_and_two_replies(self) -> None:
        wire = Wire()
        client = wire.client()
        client.begin(ALICE, BOB, ALICE)
        self.assertEqual(client.send(TEXT, b".\r\n"), ["250 2.0.0"] * 3)
        self.assertEqual(wire.mail(), [TEXT])
        client.drop()
        self.end(wire)

    def test_a_message_that_was_sent_along_with_the_one_before_is_another_and_stays_open(
        self,
    ) -> None:
        wire = Wire("commit")
        client = wire.client()
        client.begin()
        chunk = b"BDAT %d LAST\r\n" % len(TEXT)
        self.assertEqual(client.send(TEXT, b".\r\n", MAIL, RCPT, chunk, TEXT[:9]), [])
        wire.store.go("commit")
        self.assertEqual(codes(client.read()), ["250 2.0.0", "250 2.1.0", "250 2.1.5"])
        client.send(TEXT[9:])
        wire.store.go("commit")
        self.assertEqual(codes(client.read()), ["250 2.0.0"])
        self.assertEqual(wire.mail(), [TEXT, TEXT])
        client.drop()
        self.end(wire)

    def test_replies_of_more_than_a_slice_all_come_out_at_once(self) -> None:
        wire = Wire()
        client = wire.client()
        count = 20_000
        self.assertEqual(client.send(b"NOOP\r\n" * count), ["250 2.0.0"] * count)

    def test_a_hook_that_fails_keeps_nobody_from_reading_that_the_message_is_there(self) -> None:
        def fails(_: object) -> None:
            raise ZeroDivisionError

        events = logged_events()
        events.subscribe({MessageDelivered: fails})
        wire = Wire(emit=events.emit)
        client = wire.client()
        client.begin()
        client.protocol.dataReceived(TEXT + b".\r\n")
        self.assertEqual(wire.mail(), [TEXT])
        self.assertEqual(codes(client.read()), ["250 2.0.0"])
        client.drop()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.end(wire)


class LostLineTests(Case):
    def test_a_line_that_drops_in_any_phase_leaves_nothing_open(self) -> None:
        limited = {ALICE: Limits(octets=10**6)}
        for at, limits in product(range(len(PARTS) + 1), ({}, limited)):
            room = "usage" if limits else "prepare"
            wire = Wire(*PARTS, room, limits=limits)
            client = wire.client()
            client.send(LHLO, MAIL, RCPT, b"DATA\r\n", TEXT, b".\r\n")
            steps = [room, "receive", "write"]
            for step in steps[:at]:
                wire.store.go(step)
            if at >= 3:
                client.send(TEXT, b".\r\n")
            if at == 4:
                wire.store.go("write")
            client.drop()
            while wire.store.waiting:
                # Until all is closed: a server that stops waits for that.
                self.assertEqual(len(wire.factory._sessions), 1, at)
                wire.store.go(wire.store.waiting[0][0])
            self.end(wire)
            self.assertEqual(len(wire.mail()), int(at == 4), at)

    def test_what_was_begun_and_not_ended_is_nowhere(self) -> None:
        wire = Wire()
        client = wire.client()
        client.begin()
        client.send(TEXT)
        self.assertEqual(len(wire.store.open), 1)
        client.drop()
        self.end(wire)
        self.assertEqual(wire.mail(), [])


class TroubleTests(Case):
    def test_a_failed_write_is_the_reply_for_each_recipient(self) -> None:
        wire = Wire()
        client = wire.client()
        client.begin(ALICE, BOB)
        wire.store.slow = {"write"}
        client.send(TEXT)
        wire.store.go("write", NoRoom("full"))
        self.assertEqual(client.send(TEXT, b".\r\n", MAIL), ["452 4.3.1"] * 2 + ["250 2.1.0"])
        client.drop()
        self.end(wire)

    def test_a_begin_that_fails_closes_what_was_open_and_data_may_come_again(self) -> None:
        wire = Wire("write")
        client = wire.client()
        client.begin()
        wire.store.go("write", StoreDown("gone"))
        self.assertEqual(wire.store.open, [])
        self.assertEqual([code[:3] for code in codes(client.read())][-1], "451")
        wire.store.slow.clear()
        self.assertEqual(client.send(b"DATA\r\n"), ["354"])
        self.assertEqual(client.send(TEXT, b".\r\n"), ["250 2.0.0"])
        client.drop()
        self.end(wire)

    def test_a_mailbox_that_failed_a_message_for_all_is_not_the_one_to_receive_it_again(
        self,
    ) -> None:
        for phase in ("receive", "write", "commit"):
            wire = Wire(phase)
            client = wire.client()
            client.begin(ALICE, BOB)
            if phase == "commit":
                client.send(TEXT, b".\r\n")
                wire.store.go("commit", StoreDown("gone"), place=1)
            wire.store.go(phase, StoreDown("gone"))
            client.drop()
            wire.store.slow.clear()
            again = wire.client()
            again.begin(ALICE, BOB)
            self.assertEqual(again.send(TEXT, b".\r\n"), ["250 2.0.0"] * 2)
            self.assertEqual(wire.store.receivers, [ALICE, BOB], phase)
            again.drop()
            self.end(wire)

    def test_a_store_that_breaks_at_commit_is_trouble_for_one_recipient_only(self) -> None:
        wire = Wire()
        client = wire.client()
        client.begin(ALICE, BOB)
        (incoming,) = wire.store.made
        commit = incoming.commit

        def broken(account: Account, limits: Limits) -> Deferred[None]:
            if account.name == ALICE:
                raise ZeroDivisionError
            return commit(account, limits)

        incoming.commit = broken  # type: ignore[method-assign]
        self.assertEqual(client.send(TEXT, b".\r\n"), ["451 4.3.0", "250 2.0.0"])
        client.drop()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.end(wire)

    def test_one_who_is_full_at_the_end_is_refused_and_the_others_are_not(self) -> None:
        wire = Wire(limits={BOB: Limits(octets=10_000, messages=0)})
        client = wire.client()
        self.assertEqual(client.begin(ALICE, BOB)[-3:], ["250 2.1.5", "452 4.2.2", "354"])
        self.assertEqual(client.send(TEXT, b".\r\n"), ["250 2.0.0"])
        client.drop()
        self.end(wire)


class TimeTests(Case):
    def test_a_write_that_takes_too_long_ends_the_session_and_its_late_answer_is_harmless(
        self,
    ) -> None:
        wire = Wire()
        client = wire.client()
        client.begin()
        wire.store.slow = {"write"}
        self.assertEqual(client.send(TEXT, b".\r\n"), [])
        wire.clock.advance(19)
        self.assertEqual(client.read(), b"")
        wire.clock.advance(1)
        self.assertEqual(codes(client.read()), ["421 4.3.0"])
        self.assertTrue(client.line.disconnecting)
        client.drop()
        wire.store.go("write")
        self.assertEqual(wire.mail(), [])
        self.end(wire)

    def test_a_commit_that_times_out_gets_one_reply_and_may_still_deliver(self) -> None:
        wire = Wire("commit")
        client = wire.client()
        client.begin(ALICE, BOB)
        client.send(TEXT, b".\r\n")
        wire.store.go("commit", place=1)
        wire.clock.advance(20)
        self.assertEqual(codes(client.read()), ["451 4.3.0", "250 2.0.0", "421 4.3.0"])
        wire.store.go("commit")
        self.assertEqual(client.read(), b"")
        self.assertEqual(wire.mail(), [TEXT])
        client.drop()
        self.end(wire)

    def test_a_silent_client_is_sent_away_even_within_a_message(self) -> None:
        wire = Wire(profile=Profile(idle_timeout=30))
        client = wire.client()
        client.begin()
        client.send(TEXT)
        wire.clock.advance(30)
        self.assertEqual(codes(client.read()), ["421 4.4.2"])
        client.drop()
        self.assertEqual(wire.mail(), [])
        self.end(wire)

    def test_a_client_that_never_reads_is_not_read_from_and_then_dropped(self) -> None:
        wire = Wire()
        client = wire.client()
        client.protocol.pauseProducing()
        for _ in range(10):
            if client.line.producerState == "producing":
                client.protocol.dataReceived(b"NOOP\r\n" * 10_000)
        self.assertEqual(client.line.producerState, "paused")
        self.assertLess(client.protocol._session.backlog, 400_000)
        wire.clock.advance(50)
        self.assertTrue(client.line.aborted)
        client.drop()
        self.end(wire)

    def test_a_client_that_is_faster_than_the_store_waits_and_is_heard_again(self) -> None:
        wire = Wire()
        client = wire.client()
        client.begin()
        wire.store.slow = {"write"}
        line = b"x" * 998 + b"\r\n"
        client.send(line * 400)
        self.assertEqual(client.line.producerState, "paused")
        wire.store.slow.clear()
        wire.store.go("write")
        self.assertEqual(client.line.producerState, "producing")
        self.assertEqual(client.send(b".\r\n"), ["250 2.0.0"])
        client.drop()
        self.end(wire)


class DrainTests(Case):
    def drain(self, wire: Wire) -> list[None]:
        drained: list[None] = []
        wire.factory.drain(10).addCallback(drained.append)
        return drained

    def test_idle_sessions_go_at_once_and_a_message_that_is_coming_in_is_finished(self) -> None:
        wire = Wire("commit")
        idle, named, busy = wire.client(), wire.client(), wire.client()
        named.send(LHLO, MAIL, RCPT)
        busy.begin()
        busy.send(TEXT)
        drained = self.drain(wire)
        for gone in (idle, named):
            self.assertEqual(codes(gone.read()), ["421 4.3.2"])
            gone.drop()
        self.assertEqual(busy.send(b".\r\n"), [])
        wire.store.go("commit")
        self.assertEqual(codes(busy.read()), ["250 2.0.0", "421 4.3.2"])
        self.assertEqual(drained, [])
        busy.drop()
        self.assertEqual(drained, [None])
        self.assertEqual(wire.mail(), [TEXT])
        self.end(wire)

    def test_a_message_that_never_ends_is_dropped_in_bounded_time(self) -> None:
        wire = Wire()
        client = wire.client()
        client.begin()
        drained = self.drain(wire)
        wire.clock.advance(10)
        self.assertEqual(drained, [None])
        self.assertTrue(client.line.aborted)
        client.drop()
        self.end(wire)


class DoorTests(Case):
    def test_a_network_that_may_not_deliver_is_rejected(self) -> None:
        wire = Wire(allows=lambda host: host != "198.51.100.1")
        client = wire.client("198.51.100.1")
        self.assertEqual(codes(client.greeting), ["554 5.7.1"])
        self.assertTrue(client.line.disconnecting)
        client.protocol.dataReceived(LHLO)
        client.drop()
        self.end(wire)

    def test_too_many_connections_are_trouble_that_passes_and_bounce_no_mail(self) -> None:
        wire = Wire(connections=1)
        first, second = wire.client(), wire.client()
        self.assertEqual(codes(second.greeting), ["421 4.3.2"])
        second.drop()
        first.drop()
        third = wire.client()
        self.assertEqual(codes(third.greeting), ["220"])
        third.drop()
        self.end(wire)

    def test_a_unix_socket_has_no_address(self) -> None:
        wire = Wire()
        protocol = wire.factory.buildProtocol(None)
        line = StringTransport(peerAddress=object())
        protocol.makeConnection(line)
        protocol.dataReceived(LHLO + MAIL + RCPT + b"DATA\r\n" + TEXT + b".\r\n")
        self.assertEqual(codes(line.value())[-1], "250 2.0.0")
        (content,) = wire.store.mailboxes[ALICE].messages.values()
        self.assertIn(b"Received: from client.example.net\r\n", content)
        protocol.connectionLost(Failure(ConnectionLost()))
        self.end(wire)

    def test_a_name_that_a_client_gives_itself_writes_no_fields_into_the_log(self) -> None:
        wire, events = Wire(), self.logged()
        client = wire.client()
        client.send(b"LHLO x messages=9 delivered=9\r\n")
        client.drop()
        (said,) = re.findall(r' lhlo="(.*)" messages=0 ', "\n".join(map(formatEvent, events)))
        self.assertEqual(said, "x messages=9 delivered=9")
        self.end(wire)
