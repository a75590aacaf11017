"""Postfix's policy service on a transport: a fake line, store, directory and clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.directory.memory import MemoryDirectory
from gateway.errors import DirectoryDown
from gateway.events import Event, QuotaDecided, QuotaExceeded
from gateway.mailboxes.recipients import Recipients
from gateway.model import Account, Limits
from gateway.net.postfix_policy import AHEAD, PolicyFactory, PolicyOptions, PolicyProtocol
from gateway.quota.postfix_policy import Answers
from gateway.store.memory import MemoryStore
from harness import Line

ALICE, FULL, BARRED, AWAY = (f"{name}@example.org" for name in ("alice", "full", "barred", "away"))
NEED_QUOTES = ("e.@example.org", "a..b@example.org", '"q q"@example.org')
DUNNO = b"action=DUNNO\n\n"
NOTHING_ASKED = b"request=smtpd_access_policy\nprotocol_state=MAIL\n\n"


def ask(recipient: str, size: int = 10, state: str = "RCPT") -> bytes:
    """A question."""
    return (
        f"request=smtpd_access_policy\nprotocol_state={state}\nrecipient={recipient}\n"
        f"recipient_count=1\nsize={size}\n\n"
    ).encode()


class SlowDirectory(MemoryDirectory):
    """One that answers when the test says so, if it is to."""

    slow = False

    def __init__(self) -> None:
        accounts = {
            BARRED: Account(name=BARRED, mailbox=BARRED, gets_mail=False),
            AWAY: Account(name=AWAY, mailbox=AWAY, host="there.example.org"),
        }
        super().__init__(dict.fromkeys((ALICE, FULL, *NEED_QUOTES), "x"), accounts)
        self.asked: list[tuple[str, Deferred[Account | None]]] = []

    def recipient(self, address: str) -> Deferred[Account | None]:
        if not self.slow:
            return super().recipient(address)
        answer: Deferred[Account | None] = Deferred()
        self.asked.append((address, answer))
        return answer

    def go(self) -> None:
        """Answer the first question."""
        address, answer = self.asked.pop(0)
        super().recipient(address).chainDeferred(answer)


def in_memory() -> MemoryStore:
    """A store with the mailboxes."""
    store = MemoryStore()
    for name in (ALICE, *NEED_QUOTES):
        store.add(name)
    store.add(FULL).deliver(b"x" * 100)
    return store


class Wire:
    """A service and one connection to it."""

    def __init__(
        self,
        *,
        answers: Answers = Answers(),
        allows: Callable[[str], bool] = lambda _: True,
        store: Any = None,
    ) -> None:
        """``store``: with the mailboxes; None: one in memory."""
        self.clock = Clock()
        self.directory = SlowDirectory()
        recipients = Recipients(
            self.directory,
            store or in_memory(),
            lambda _: Limits(octets=90),
            hosts={"here.example.org"},
            emit=self._took,
        )
        self.lacking: list[tuple[str, int]] = []
        self.decisions: list[str] = []
        self.factory = PolicyFactory(
            recipients,
            PolicyOptions(allows, answers),
            admission=LocalAdmission(
                lambda: self.clock, limits=ConnectionLimits(2, setting="policy.connections")
            ),
            clock=self.clock,
        )
        self.line, self.protocol = self.connect()

    def _took(self, event: Event) -> None:
        if isinstance(event, QuotaDecided):
            assert event.service == "policy"
            self.decisions.append(event.decision)
            return
        assert isinstance(event, QuotaExceeded)
        self.lacking.append((event.account.name, event.octets))

    def connect(self) -> tuple[Line, PolicyProtocol]:
        """One more connection."""
        line, protocol = Line("192.0.2.1"), self.factory.buildProtocol(None)
        protocol.makeConnection(line)
        return line, protocol

    def send(self, *octets: bytes) -> bytes:
        """What came back by now."""
        self.protocol.dataReceived(b"".join(octets))
        return self.read()

    def read(self) -> bytes:
        data = self.line.value()
        self.line.clear()
        return data

    def drop(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionLost()))


class AnswerTests(SynchronousTestCase):
    def wire(self, **more: Any) -> Wire:
        return Wire(store=self.make_store(), **more)

    def make_store(self) -> Any:
        return in_memory()

    def test_each_question_gets_what_is_known_of_its_mailbox(self) -> None:
        wire = self.wire(answers=Answers(over=452, unknown="reject"))
        self.assertEqual(wire.send(ask(ALICE)), DUNNO)
        self.assertIn(b"452 4.2.2", wire.send(ask(FULL)))
        self.assertIn(b"552 5.2.3", wire.send(ask(ALICE, 91, "END-OF-MESSAGE")))
        self.assertIn(b"550 5.1.1", wire.send(ask("nobody@example.org")))
        self.assertIn(b"550 5.2.1", wire.send(ask(BARRED)))
        for one in (AWAY, "no address"):
            self.assertEqual(wire.send(ask(one)), DUNNO)
        self.assertEqual(wire.send(NOTHING_ASKED), DUNNO)

    def test_a_local_part_that_needs_quotes_is_found_with_quotes_and_without(self) -> None:
        wire = self.wire(answers=Answers(unknown="reject"))
        for local in ("e.", '"e."', "e.+x", '"e.+x y"', "a..b", '"a..b+"', '"q q"', "q q", "q q+x"):
            self.assertEqual(wire.send(ask(f"{local}@example.org")), DUNNO, local)
        for local in ("e..", '"e.."', '".e"', "q r", "qq", '"alice@example.org"'):
            self.assertIn(b"550 5.1.1", wire.send(ask(f"{local}@example.org")), local)

    def test_who_leaves_unknown_recipients_to_postfix_leaves_it_disabled_ones_too(self) -> None:
        wire = self.wire()
        for one in (BARRED, "nobody@example.org"):
            self.assertEqual(wire.send(ask(one)), DUNNO)

    def test_a_mailbox_without_room_is_told_of_and_none_for_which_a_message_is_too_large(
        self,
    ) -> None:
        wire = self.wire()
        wire.send(ask(ALICE, 90), ask(ALICE, 91), ask(FULL, 7), NOTHING_ASKED)
        self.assertEqual(wire.lacking, [(FULL, 7)])
        self.assertEqual(wire.decisions, ["FINE", "LARGER_THAN_QUOTA", "OVER"])

    def test_trouble_is_no_answer_and_the_line_is_closed(self) -> None:
        wire = self.wire()
        wire.directory.slow = True
        wire.send(ask(ALICE), ask(ALICE))
        wire.directory.asked.pop()[1].errback(DirectoryDown("away"))
        self.assertEqual(wire.read(), b"")
        self.assertTrue(wire.line.disconnecting)
        self.assertEqual(wire.directory.asked, [])
        wire.drop()
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_an_internal_error_gets_no_reply_either(self) -> None:
        wire = self.wire()
        wire.directory.recipient = lambda _: fail(ZeroDivisionError())  # type: ignore[method-assign]
        self.assertEqual(wire.send(ask(ALICE)), b"")
        self.assertTrue(wire.line.disconnecting)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_what_is_no_question_ends_the_connection(self) -> None:
        wire = self.wire()
        self.assertEqual(wire.send(b"GET / HTTP/1.1\n\n", ask(ALICE)), b"")
        self.assertTrue(wire.line.aborted)
        self.assertEqual(wire.send(ask(ALICE)), b"")


@pytest.mark.usefixtures("engines")
@pytest.mark.xdist_group("cluster")
class ClusterAnswerTests(Waits, AnswerTests):
    def make_store(self) -> Any:
        bench = ClusterBench(self)
        for name in (ALICE, *NEED_QUOTES):
            bench.add(name)
        bench.deliver(b"x" * 98 + b"\r\n", bench.add(FULL))
        return bench.store


class PipelineTests(SynchronousTestCase):
    def test_answers_come_in_the_order_of_the_questions_and_one_is_asked_at_a_time(self) -> None:
        wire = Wire()
        wire.directory.slow = True
        self.assertEqual(wire.send(ask(FULL), ask(ALICE), ask(FULL)[:9]), b"")
        self.assertEqual(len(wire.directory.asked), 1)
        wire.directory.go()
        self.assertIn(b"552 5.2.2", wire.read())
        wire.directory.go()
        self.assertEqual(wire.read(), DUNNO)
        self.assertEqual(wire.directory.asked, [])
        wire.send(ask(FULL)[9:])
        self.assertEqual([address for address, _ in wire.directory.asked], [FULL])

    def test_a_thousand_questions_in_one_piece_need_no_stack(self) -> None:
        wire = Wire()
        for question in (NOTHING_ASKED, ask(ALICE)):
            self.assertEqual(wire.send(question * 1000), DUNNO * 1000)
        self.assertFalse(wire.line.disconnecting)

    def test_a_client_that_is_gone_is_asked_about_no_more(self) -> None:
        wire = Wire()
        wire.directory.slow = True
        wire.send(ask(ALICE) * 3)
        wire.drop()
        wire.directory.go()
        self.assertEqual(wire.directory.asked, [])
        self.assertEqual(wire.read(), b"")
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_a_client_that_never_reads_gets_no_answers_and_is_dropped(self) -> None:
        wire = Wire()
        wire.protocol.pauseProducing()
        self.assertEqual(wire.send(ask(ALICE)), b"")
        wire.protocol.resumeProducing()
        self.assertEqual(wire.read(), DUNNO)
        wire.protocol.pauseProducing()
        question = ask(ALICE)
        for _ in range(AHEAD // len(question) + 1):
            self.assertEqual(wire.send(question), b"")
        self.assertTrue(wire.line.aborted)


class DoorTests(SynchronousTestCase):
    def test_a_network_that_may_not_ask_is_not_heard(self) -> None:
        wire = Wire(allows=lambda _: False)
        self.assertTrue(wire.line.aborted)
        self.assertEqual(wire.send(ask(ALICE)), b"")
        wire.drop()
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_one_connection_too_many_is_not_heard_and_takes_no_place(self) -> None:
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        wire, sessions = Wire(), []
        wire.connect()
        for _ in range(2):
            line, protocol = wire.connect()
            self.assertTrue(line.aborted)
            sessions.append(protocol.connection.id)
            protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(
            [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn],
            [
                f"connection_refused: from=192.0.2.1 protocol=policy session={session}"
                ' reason="2 connections are open (policy.connections)"'
                for session in sessions
            ],
        )
        wire.drop()
        line, protocol = wire.connect()
        protocol.dataReceived(ask(ALICE))
        self.assertEqual(line.value(), DUNNO)

    def test_who_asks_nothing_for_an_hour_is_closed(self) -> None:
        wire = Wire()
        wire.clock.advance(3000)
        wire.send(ask(ALICE))
        wire.clock.advance(3599)
        self.assertFalse(wire.line.aborted)
        wire.clock.advance(1)
        self.assertTrue(wire.line.aborted)


class EndTests(SynchronousTestCase):
    def test_what_is_being_asked_is_answered_and_then_all_go(self) -> None:
        wire = Wire()
        idle, protocol = wire.connect()
        wire.directory.slow = True
        wire.send(ask(ALICE), ask(FULL))
        drained = wire.factory.drain(10)
        self.assertEqual((idle.disconnecting, wire.line.disconnecting), (True, False))
        wire.directory.go()
        self.assertEqual((wire.read(), wire.line.disconnecting), (DUNNO, True))
        self.assertEqual(wire.directory.asked, [])
        for ending in (wire.protocol, protocol):
            ending.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(drained)
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_what_takes_too_long_is_dropped(self) -> None:
        wire = Wire()
        wire.directory.slow = True
        wire.send(ask(ALICE))
        drained = wire.factory.drain(10)
        wire.clock.advance(10)
        self.successResultOf(drained)
        self.assertTrue(wire.line.aborted)
        self.assertEqual(wire.read(), b"")
