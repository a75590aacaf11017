"""How often a session asks whether its messages are still there."""

from __future__ import annotations

from array import array
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import MessageGone, StoreDown
from gateway.events import Event
from gateway.model import Form, cause_of
from gateway.store.cluster.bodies.ahead import Memory
from gateway.store.cluster.bodies.keys import Where
from gateway.store.cluster.bodies.whole import WholeBody
from gateway.store.cluster.maildrop import AWAY, TRUSTED, ClusterMaildrop, Means
from gateway.store.cluster.snapshots import KEY, Snapshot
from gateway.store.cluster.sql.rows import Packed, State
from gateway.testing.store_contract import ALICE, run_now

EPOCH, LAYOUT = 3, 7


class Body(WholeBody):
    """An open body."""

    is_open = True

    def close(self) -> None:
        """Close it."""
        self.is_open = False


class Asked:
    """Questions by key, of which a test has the answers."""

    def __init__(self, answer: Any) -> None:
        self.keys: list[Any] = []
        self.answer = answer

    def find(self, key: Any) -> Deferred[Any]:
        """Ask."""
        self.keys.append(key)
        if isinstance(self.answer, Deferred):
            return self.answer
        if isinstance(self.answer, Exception):
            return fail(self.answer)
        return succeed(self.answer)


class LookedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.layouts, self.shown = Asked((EPOCH, LAYOUT)), Asked(answer=True)
        self.opened: list[Body] = []
        self.asked: list[int] = []
        self.has_all = False
        self.events: list[Event] = []
        self.headers = Asked(None)
        parts: Any = (self, Memory(lambda: True), None, self.layouts, self.shown, self.headers)
        means = Means(self.clock.seconds, run_now, *parts, mark_read=False, emit=self.events.append)
        numbers = array("q", [number for uid in (1, 2, 3) for number in (uid, 40)])
        numbers.byteswap()
        state = State(9, EPOCH, 1, LAYOUT, 4)
        keys = b"".join(uid.to_bytes(KEY, "big") for uid in (1, 2, 3))
        packed = Packed(state, numbers.tobytes(), keys, {})
        self.maildrop = ClusterMaildrop("alice", Snapshot(packed), means, cause_of(ALICE))

    def open(self, where: Where, _: object) -> Deferred[Body]:
        self.asked.append(where.body.int)
        self.opened.append(Body(b"0123456789", Form.STORED))
        return succeed(self.opened[-1])

    def read_now(self, where: Where) -> WholeBody | None:
        return WholeBody(b"on the disk", where.form) if self.is_on_disk(where) else None

    def is_on_disk(self, _: Where) -> bool:
        return self.has_all

    def retrieve(self, index: int = 0) -> None:
        self.successResultOf(self.maildrop.retrieve(index))

    def test_a_session_asks_once_in_a_second_for_all_of_its_messages(self) -> None:
        for index in (0, 1, 2, 0, 1):
            self.retrieve(index)
        self.clock.advance(TRUSTED - 0.1)
        self.retrieve()
        self.assertEqual(self.layouts.keys, [9])
        self.clock.advance(0.1)
        self.retrieve()
        self.assertEqual(self.layouts.keys, [9, 9])
        self.assertEqual(self.shown.keys, [])

    def test_a_message_that_was_fetched_ahead_is_read_without_waiting_within_that_second(
        self,
    ) -> None:
        self.retrieve(0)
        self.assertIsNone(self.maildrop.small_message(1))
        self.retrieve(1)
        self.assertEqual(self.maildrop.small_message(2), (b"0123456789", Form.STORED))
        self.assertIsNone(self.maildrop.small_message(2))
        self.retrieve(0)
        self.retrieve(1)
        self.clock.advance(TRUSTED)
        self.assertIsNone(self.maildrop.small_message(2))
        self.retrieve(2)
        self.assertEqual(self.layouts.keys, [9, 9])

    def test_a_message_is_asked_for_before_those_that_are_fetched_ahead(self) -> None:
        for index in (0, 1, 0, 1):
            self.retrieve(index)
        self.assertEqual(self.asked, [1, 2, 3, 1, 2, 3])

    def test_a_message_on_the_disk_is_read_without_waiting_and_none_is_fetched_ahead(self) -> None:
        self.retrieve(0)
        self.retrieve(1)
        _, _, ahead = self.opened
        self.has_all = True
        self.assertEqual(self.maildrop.small_message(0), (b"on the disk", Form.STORED))
        self.assertEqual(self.maildrop.small_message(1), (b"on the disk", Form.STORED))
        self.assertEqual(len(self.opened), 3)
        self.assertFalse(ahead.is_open)
        self.clock.advance(TRUSTED)
        self.assertIsNone(self.maildrop.small_message(2))

    def test_once_a_message_went_away_each_is_asked_for(self) -> None:
        for layout in ((EPOCH, LAYOUT + 1), (EPOCH + 1, LAYOUT), None):
            self.shown.keys.clear()
            self.layouts.answer = layout
            self.retrieve(0)
            self.retrieve(2)
            self.assertEqual(self.shown.keys, [(9, 1), (9, 3)])

    def test_a_message_that_is_gone_is_not_sent_though_its_body_is_there(self) -> None:
        self.layouts.answer, self.shown.answer = (EPOCH, LAYOUT + 1), None
        self.failureResultOf(self.maildrop.retrieve(1), MessageGone)
        self.assertEqual([body.is_open for body in self.opened], [False])

    def test_while_the_database_is_away_a_session_waits_for_it_once_and_asks_again(self) -> None:
        self.layouts.answer = away = Deferred()
        first = self.maildrop.retrieve(0)
        self.assertNoResult(first)
        away.errback(StoreDown("away"))
        self.successResultOf(first)
        self.layouts.answer = away = Deferred()
        for index in (1, 2, 0):
            self.retrieve(index)
        self.assertEqual(self.layouts.keys, [9, 9])
        # It fails again, and the session still waits for nothing.
        away.errback(StoreDown("away"))
        self.layouts.answer = back = Deferred()
        self.retrieve(1)
        self.retrieve(2)
        self.assertEqual(self.layouts.keys, [9, 9, 9])
        back.callback((EPOCH, LAYOUT))
        self.retrieve(1)
        self.assertEqual(self.layouts.keys, [9, 9, 9])

    def test_a_session_that_was_idle_waits_for_the_answer_again(self) -> None:
        self.layouts.answer = StoreDown("away")
        self.retrieve(0)
        self.clock.advance(AWAY)
        self.layouts.answer, self.shown.answer = (EPOCH, LAYOUT + 1), None
        self.failureResultOf(self.maildrop.retrieve(1), MessageGone)

    def test_once_the_database_is_back_a_message_that_went_away_is_not_sent(self) -> None:
        self.layouts.answer = StoreDown("away")
        self.retrieve(0)
        self.layouts.answer, self.shown.answer = (EPOCH, LAYOUT + 1), None
        # It asks, and learns that something went away.
        self.retrieve(1)
        self.failureResultOf(self.maildrop.retrieve(1), MessageGone)

    def test_a_header_is_read_from_the_message_while_the_database_is_away(self) -> None:
        self.headers.answer = self.layouts.answer = away = Deferred()
        first = self.maildrop.retrieve_header(0)
        self.assertNoResult(first)
        self.layouts.answer = Deferred()
        away.errback(StoreDown("away"))
        # It does not wait a second time.
        self.assertEqual(self.successResultOf(first).content, b"0123456789")
        for index in (1, 2):
            self.successResultOf(self.maildrop.retrieve_header(index))
        self.assertEqual(len(self.headers.keys), 1)
        self.assertEqual(len(self.layouts.keys), 1)
