"""Messages that are fetched before a session asks for them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import StoreDown
from gateway.model import Form
from gateway.store.cluster.bodies.ahead import DEEPEST, MOST, MOST_EACH, Ahead, Memory
from gateway.store.cluster.bodies.whole import WholeBody


class Body:
    """An open body."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        """Close it."""
        self.closed += 1


def plenty(most: int = MOST) -> Memory:
    """Octets, and as many requests as anybody wants."""
    return Memory(lambda: True, most)


class Lab:
    """A session of a mailbox with messages of some sizes."""

    def __init__(self, sizes: list[int], memory: Memory | None = None) -> None:
        self.sizes = sizes
        self.ahead = Ahead(memory or plenty())
        self.asked: list[tuple[int, Deferred[Any]]] = []
        self.on_disk: set[int] = set()

    def open(self, index: int) -> Deferred[Any] | None:
        """Ask for a message."""
        if index in self.on_disk:
            return None
        self.asked.append((index, Deferred()))
        return self.asked[-1][1]

    def read(self, index: int) -> Deferred[Any] | None:
        """What ``RETR`` does; the message, if it was fetched."""
        taken = self.ahead.take(index)
        self.ahead.follow(index, self.sizes, self.open)
        return taken

    @property
    def fetched(self) -> list[int]:
        """What was asked for so far."""
        return [index for index, _ in self.asked]


class AheadTests(SynchronousTestCase):
    def test_a_session_that_reads_in_order_has_the_next_message_fetched(self) -> None:
        lab = Lab([10] * 3)
        self.assertIsNone(lab.read(0))
        self.assertEqual(lab.fetched, [])
        self.assertIsNone(lab.read(1))
        self.assertEqual(lab.fetched, [2])
        taken, body = lab.read(2), Body()
        lab.asked[0][1].callback(body)
        self.assertIs(self.successResultOf(taken), body)
        self.assertEqual(lab.fetched, [2])
        lab.ahead.close()
        self.assertEqual(body.closed, 0)

    def test_the_longer_a_session_reads_in_order_the_more_is_fetched(self) -> None:
        lab = Lab([10] * 50)
        for index in range(20):
            lab.read(index)
            due = min(index, DEEPEST) if index else 0
            self.assertEqual(lab.fetched, list(range(2, index + due + 1)))

    def test_messages_that_a_session_passes_over_are_closed_and_later_ones_stay(self) -> None:
        memory = plenty(1000)
        lab = Lab([10] * 50, memory)
        for index in range(5):
            lab.read(index)
        self.assertEqual(lab.fetched, [2, 3, 4, 5, 6, 7, 8])
        bodies = {index: Body() for index, _ in lab.asked}
        for index, opened in lab.asked:
            opened.callback(bodies[index])
        self.assertIs(self.successResultOf(lab.read(7)), bodies[7])
        self.assertEqual([one for one in bodies if bodies[one].closed], [5, 6])
        self.assertEqual(memory.left, 990)
        self.assertIs(self.successResultOf(lab.read(8)), bodies[8])
        self.assertEqual(lab.fetched[-1], 9)

    def test_where_there_is_no_room_only_the_next_message_is_fetched(self) -> None:
        room = [False]
        lab = Lab([10] * 50, Memory(lambda: room[0]))
        for index in range(5):
            lab.read(index)
        self.assertEqual(lab.fetched, [2, 3, 4, 5])
        room[0] = True
        lab.read(5)
        self.assertEqual(lab.fetched, [2, 3, 4, 5, 6, 7, 8, 9, 10])

    def test_a_session_holds_no_more_than_the_largest_message(self) -> None:
        half = MOST_EACH // 2
        lab = Lab([half] * 50)
        for index in range(5):
            lab.read(index)
        self.assertEqual(lab.fetched, [2, 3, 4, 5, 6])

    def test_messages_at_hand_are_passed_over_and_those_after_them_fetched(self) -> None:
        lab = Lab([10] * 50)
        lab.on_disk = {5, 6, 8, 20}
        for index in range(4):
            self.assertEqual(lab.read(index) is None, index < 2)
        self.assertEqual(lab.fetched, [2, 3, 4])
        lab.read(4)
        lab.ahead.follow(5, lab.sizes, lab.open)
        lab.ahead.follow(6, lab.sizes, lab.open)
        self.assertEqual(lab.fetched, [2, 3, 4, 7, 9, 10, 11, 12])
        self.assertIsNotNone(lab.read(7))

    def test_a_message_that_was_fetched_and_came_from_elsewhere_is_closed(self) -> None:
        memory = plenty(1000)
        lab = Lab([10] * 9, memory)
        for index in range(3):
            lab.read(index)
        body = Body()
        self.assertEqual([index for index, _ in lab.asked], [2, 3, 4])
        lab.asked[1][1].callback(body)
        lab.ahead.follow(3, lab.sizes, lab.open)
        self.assertEqual(body.closed, 1)
        self.assertEqual(lab.fetched, [2, 3, 4, 5, 6])
        self.assertEqual(memory.left, 970)

    def test_half_of_the_memory_is_for_the_next_message_of_each_session(self) -> None:
        memory = plenty(100)
        first, second = Lab([10] * 50, memory), Lab([10] * 50, memory)
        for index in range(9):
            first.read(index)
        self.assertEqual(memory.left, 50)
        for index in range(9):
            second.read(index)
        self.assertEqual(second.fetched, [2, 3, 4, 5, 6, 7, 8, 9])

    def test_after_a_message_could_not_be_fetched_it_begins_with_one_again(self) -> None:
        lab = Lab([10] * 50)
        for index in range(4):
            lab.read(index)
        self.assertEqual(lab.fetched, [2, 3, 4, 5, 6])
        for _, opened in lab.asked[2:]:
            opened.errback(StoreDown("S3 is away"))
        for index in (4, 5, 6):
            self.assertIsNone(self.successResultOf(lab.read(index)))
        self.assertEqual(lab.fetched, [2, 3, 4, 5, 6, 7, 8, 9])

    def test_only_what_is_here_as_a_whole_is_taken_at_once(self) -> None:
        memory = plenty(10)
        lab = Lab([10] * 4, memory)
        lab.read(0)
        lab.read(1)
        (_, coming), whole = lab.asked[0], WholeBody(b"0123456789", Form.CLEAN)
        self.assertIsNone(lab.ahead.take_whole(2))
        coming.callback(whole)
        self.assertIsNone(lab.ahead.take_whole(1))
        self.assertIs(lab.ahead.take_whole(2), whole)
        self.assertIsNone(lab.ahead.take_whole(2))
        self.assertEqual(memory.left, 10)

    def test_a_body_that_still_comes_is_not_taken_at_once(self) -> None:
        lab = Lab([10] * 3)
        lab.read(0)
        lab.read(1)
        lab.asked[0][1].callback(Body())
        self.assertIsNone(lab.ahead.take_whole(2))
        self.assertIsNotNone(lab.read(2))

    def test_a_session_that_jumps_fetches_nothing_and_closes_what_it_had(self) -> None:
        lab, body = Lab([10] * 9), Body()
        lab.read(0)
        lab.read(1)
        self.assertIsNone(lab.read(7))
        lab.asked[0][1].callback(body)
        self.assertEqual(body.closed, 1)
        self.assertEqual(lab.fetched, [2])

    def test_what_was_fetched_in_vain_is_closed_at_the_end_whenever_it_comes(self) -> None:
        for is_early in (True, False):
            lab, body = Lab([10] * 3), Body()
            lab.read(0)
            lab.read(1)
            if is_early:
                lab.asked[0][1].callback(body)
            lab.ahead.close()
            if not is_early:
                lab.asked[0][1].callback(body)
            lab.ahead.close()
            self.assertEqual(body.closed, 1)

    def test_a_session_that_ended_while_it_waited_for_a_message_fetches_no_other(self) -> None:
        memory = plenty(10)
        lab = Lab([10] * 4, memory)
        lab.read(0)
        lab.read(1)
        self.assertIsNotNone(lab.ahead.take(2))
        lab.ahead.close()
        # The message is here, and the session goes on with it.
        lab.ahead.follow(2, lab.sizes, lab.open)
        self.assertEqual(lab.fetched, [2])
        self.assertEqual(memory.left, 10)

    def test_a_message_that_could_not_be_fetched_is_opened_when_it_is_read(self) -> None:
        lab = Lab([10] * 3)
        lab.read(0)
        lab.read(1)
        lab.asked[0][1].errback(StoreDown("S3 is away"))
        self.assertIsNone(self.successResultOf(lab.read(2)))

    def test_a_large_message_is_not_fetched(self) -> None:
        lab = Lab([10, 10, MOST_EACH + 1])
        lab.read(0)
        lab.read(1)
        self.assertEqual(lab.fetched, [])

    def test_all_sessions_together_hold_no_more_than_the_memory_takes(self) -> None:
        memory = plenty(25)
        labs = [Lab([10] * 3, memory) for _ in range(3)]
        for lab in labs:
            lab.read(0)
            lab.read(1)
        self.assertEqual([lab.fetched for lab in labs], [[2], [2], []])
        labs[0].ahead.close()
        again = Lab([10] * 3, memory)
        again.read(0)
        again.read(1)
        self.assertEqual(again.fetched, [2])


@given(st.lists(st.integers(0, 5), max_size=20))
def test_whatever_a_session_reads_it_closes_and_gives_back_all(reads: list[int]) -> None:
    memory = plenty(100)
    lab = Lab([10] * 6, memory)
    taken, bodies = [], []
    for index in reads:
        found = lab.read(index)
        if found is not None:
            taken.append(found)
    lab.ahead.close()
    for _, opened in lab.asked:
        bodies.append(Body())
        opened.callback(bodies[-1])
    kept = [SynchronousTestCase().successResultOf(one) for one in taken]
    assert [body.closed for body in bodies] == [int(body not in kept) for body in bodies]
    assert memory.left == 100
