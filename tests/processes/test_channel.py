"""The channel between the parent and a worker."""

from __future__ import annotations

import os
import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, gatherResults, inlineCallbacks
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from channels import Ends
from gateway.errors import AskFailed, Overloaded, PeerGone, StoreDown, TookTooLong
from gateway.processes.channel import MOST_OWED, MOST_WAITING, Channel, connect

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class ChannelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ends = Ends(self.clock)

    def test_a_question_gets_its_answer(self) -> None:
        self.ends.parent.handle("double", lambda body: body * 2)
        self.assertEqual(self.ends.answer(self.ends.worker.ask("double", 21)), 42)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_both_ends_may_ask(self) -> None:
        self.ends.worker.handle("name", lambda _: "worker 1")
        self.assertEqual(self.ends.answer(self.ends.parent.ask("name")), "worker 1")

    def test_an_answer_that_comes_later_does_not_hold_up_others(self) -> None:
        slow: Deferred[str] = Deferred()
        self.ends.parent.handle("slow", lambda _: slow)
        self.ends.parent.handle("fast", lambda _: "fast")
        first, second = self.ends.worker.ask("slow"), self.ends.worker.ask("fast")
        self.assertEqual(self.ends.answer(second), "fast")
        self.assertNoResult(first)
        slow.callback("slow")
        self.assertEqual(self.ends.answer(first), "slow")

    def test_messages_arrive_in_the_order_in_which_they_were_sent(self) -> None:
        seen: list[int] = []
        self.ends.parent.handle("count", seen.append)
        for number in range(5):
            self.ends.worker.tell("count", number)
        self.ends.turn()
        self.assertEqual(seen, [0, 1, 2, 3, 4])

    def test_one_turn_of_the_reactor_is_one_write(self) -> None:
        for number in range(100):
            self.ends.worker.tell("count", number)
        self.ends.parent.handle("count", lambda _: None)
        self.assertEqual(self.ends.to_parent.written, [])
        self.ends.turn()
        self.assertEqual(len(self.ends.to_parent.written), 1)

    def test_what_is_sent_before_the_channel_is_connected_waits(self) -> None:
        early = Channel(self.clock)
        early.tell("beat", 1)
        line = StringTransport()
        early.makeConnection(line)
        self.assertEqual(line.value(), b'{"tell":"beat","body":1}\n')

    def test_an_error_of_ours_is_told_by_its_text(self) -> None:
        self.ends.parent.handle("open", lambda _: fail(StoreDown("disk full")))
        with self.assertRaisesRegex(AskFailed, "disk full"):
            self.ends.answer(self.ends.worker.ask("open"))

    def test_a_fault_is_logged_and_its_text_stays_in_the_process(self) -> None:
        def fault(_: object) -> None:
            raise ValueError("secret")

        self.ends.parent.handle("open", fault)
        with self.assertRaisesRegex(AskFailed, "internal error"):
            self.ends.answer(self.ends.worker.ask("open"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_fault_in_a_note_is_logged_and_the_channel_goes_on(self) -> None:
        def fault(_: object) -> None:
            raise ValueError

        self.ends.parent.handle("note", fault)
        self.ends.worker.tell("note")
        self.ends.turn()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertFalse(self.ends.worker.is_lost)

    def test_a_question_that_nobody_knows_fails(self) -> None:
        with self.assertRaisesRegex(AskFailed, "weather: no such message"):
            self.ends.answer(self.ends.worker.ask("weather"))

    def test_a_question_without_an_answer_fails_in_time_and_a_late_answer_is_ignored(self) -> None:
        slow: Deferred[str] = Deferred()
        self.ends.parent.handle("slow", lambda _: slow)
        asked = self.ends.worker.ask("slow", within=2)
        self.ends.turn()
        self.clock.advance(2)
        with self.assertRaisesRegex(TookTooLong, "slow: no answer within 2 s"):
            self.ends.answer(asked)
        slow.callback("late")
        self.ends.turn()
        self.assertFalse(self.ends.worker.is_lost)

    def test_the_end_of_the_peer_fails_every_question(self) -> None:
        self.ends.parent.handle("slow", lambda _: Deferred())
        asked = [self.ends.worker.ask("slow") for _ in range(3)]
        self.ends.turn()
        self.ends.end()
        for one in asked:
            self.failureResultOf(one, PeerGone)
        self.failureResultOf(self.ends.worker.ask("slow"), PeerGone)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_end_of_the_peer_is_told_once(self) -> None:
        told: list[str] = []
        self.ends.worker.at_loss(lambda: told.append("before"))
        self.ends.end()
        self.ends.worker.at_loss(lambda: told.append("after"))
        self.assertEqual(told, ["before", "after"])

    def test_notes_to_a_peer_that_is_gone_are_lost(self) -> None:
        self.ends.end()
        self.ends.worker.tell("beat")
        self.assertEqual(self.ends.to_parent.written, [])

    def test_an_answer_to_a_peer_that_is_gone_is_lost(self) -> None:
        slow: Deferred[str] = Deferred()
        self.ends.parent.handle("slow", lambda _: slow)
        asked = self.ends.worker.ask("slow")
        self.ends.turn()
        self.ends.end()
        self.failureResultOf(asked, PeerGone)
        slow.callback("nobody reads it")

    def test_a_close_sends_what_waits(self) -> None:
        seen: list[str] = []
        self.ends.parent.handle("last", seen.append)
        self.ends.worker.tell("last", "words")
        closed = self.ends.worker.close()
        self.assertNoResult(closed)
        self.ends.turn()
        self.successResultOf(closed)
        self.assertEqual(seen, ["words"])
        self.assertTrue(self.ends.parent.is_lost)

    def test_a_close_hands_over_what_waits_for_a_peer_that_does_not_read_now(self) -> None:
        self.ends.to_parent.stop_reading()
        self.ends.worker.tell("last", "words")
        self.ends.worker.close()
        self.assertEqual(self.ends.to_parent.written, [b'{"tell":"last","body":"words"}\n'])

    def test_a_close_is_over_at_once_if_the_peer_is_gone(self) -> None:
        self.ends.end()
        self.successResultOf(self.ends.worker.close())

    def test_what_a_peer_that_does_not_read_can_do_without_is_dropped(self) -> None:
        self.ends.to_parent.stop_reading()
        piece = "x" * 2**20
        for _ in range(10):
            self.ends.worker.offer("note", piece)
        self.failureResultOf(self.ends.worker.ask("question", piece), Overloaded)
        self.ends.turn()
        self.assertEqual(self.ends.to_parent.written, [])
        seen: list[str] = []
        self.ends.parent.handle("note", seen.append)
        self.ends.to_parent.read_again()
        self.ends.turn()
        self.assertEqual(len(seen), MOST_WAITING // 2**20 - 1)

    def test_what_is_told_a_peer_that_does_not_read_arrives_whatever_is_dropped(self) -> None:
        self.ends.to_parent.stop_reading()
        piece, seen = "x" * 2**20, list[int]()
        self.ends.parent.handle("count", seen.append)
        for number in range(5):
            self.ends.worker.offer("note", piece)
            self.ends.worker.tell("count", number)
        self.ends.parent.handle("note", lambda _: None)
        self.ends.to_parent.read_again()
        self.ends.turn()
        self.assertEqual(seen, [0, 1, 2, 3, 4])

    def test_a_peer_that_does_not_read_costs_bounded_memory(self) -> None:
        self.ends.to_parent.stop_reading()
        piece, told = "x" * 2**20, 0
        while not self.ends.worker.is_lost:
            self.ends.worker.tell("note", piece)
            told += 1
        # To go on without one of them would be worse than the end.
        self.assertEqual(told, MOST_OWED // 2**20)
        self.assertEqual(self.ends.to_parent.written, [])

    def test_octets_that_are_no_message_end_the_channel(self) -> None:
        for octets in (
            b"x\n",
            b"[]\n",
            b"{}\n",
            b'{"ask":1}\n',
            b'{"ask":[],"name":"n"}\n',
            b"\xff\n",
        ):
            ends = Ends(self.clock)
            ends.parent.dataReceived(octets)
            self.assertTrue(ends.parent.is_lost, octets)
            self.assertEqual(len(self.flushLoggedErrors()), 1)

    @given(st.lists(JSON), st.lists(st.integers(1, 50)))
    def test_where_the_stream_is_cut_does_not_matter(
        self, bodies: list[Any], cuts: list[int]
    ) -> None:
        clock = Clock()
        sender, line = Channel(clock), StringTransport()
        sender.makeConnection(line)
        for body in bodies:
            sender.tell("note", body)
        clock.advance(0)
        stream, receiver, seen = line.value(), Channel(clock), list[Any]()
        receiver.handle("note", seen.append)
        receiver.makeConnection(StringTransport())
        for cut in cuts:
            receiver.dataReceived(stream[:cut])
            stream = stream[cut:]
        receiver.dataReceived(stream)
        self.assertEqual(seen, bodies)


class SocketTests(TestCase):
    @inlineCallbacks
    def test_two_ends_of_a_socket_pair_are_a_channel(self) -> Any:
        here, there = socket.socketpair()
        ends = [Channel(reactor), Channel(reactor)]
        for end, one in zip(ends, (here, there), strict=True):
            connect(reactor, one.detach(), end)
        ends[0].handle("pid", lambda _: os.getpid())
        answers = yield gatherResults([ends[1].ask("pid") for _ in range(1000)])
        self.assertEqual(answers, [os.getpid()] * 1000)
        lost = [Deferred[None](), Deferred[None]()]
        for end, waiting in zip(ends, lost, strict=True):
            end.at_loss(lambda waiting=waiting: waiting.callback(None))
        ends[0].close()
        yield gatherResults(lost)
        self.failureResultOf(ends[1].ask("pid"), PeerGone)
