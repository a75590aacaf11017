"""Names of bodies, and questions that are asked together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import StoreDown
from gateway.store.cluster.batch import MOST, Batch
from gateway.store.cluster.bodies.keys import find_key, new_key, object_name, time_of


class KeyTests(SynchronousTestCase):
    @given(now=st.floats(0, 2**47 / 1000))
    def test_a_key_tells_its_time_and_its_object_tells_the_key(self, now: float) -> None:
        key = new_key(now)
        self.assertLess(abs(time_of(key) - now), 0.002)
        self.assertEqual(find_key(object_name(key)), key)

    def test_keys_are_in_the_order_of_time_and_differ_at_one_time(self) -> None:
        keys = [new_key(now) for now in (1.0, 2.0, 1_800_000_000.0)]
        self.assertEqual(keys, sorted(keys))
        self.assertEqual(len({new_key(1.0) for _ in range(100)}), 100)

    @given(st.text())
    def test_no_other_name_is_one_of_ours(self, name: str) -> None:
        key = find_key(name)
        self.assertTrue(key is None or object_name(key) == name)

    def test_nor_is_the_same_key_in_another_spelling(self) -> None:
        name = object_name(new_key(1.0))
        for other in (name.upper(), f"00/{name[3:]}x", f"{name[:3]}{{{name[3:]}}}", name[3:]):
            self.assertIsNone(find_key(other))


class BatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.asked: list[list[int]] = []
        self.held: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.batch: Batch[int, int] = Batch(self.run_later, self.ask)
        self.down = False

    def run_later(self, work: Callable[[], Any]) -> Deferred[Any]:
        self.held.append((work, Deferred()))
        return self.held[-1][1]

    def ask(self, keys: Sequence[int]) -> dict[int, int]:
        self.asked.append(sorted(keys))
        return {key: 10 * key for key in keys if key % 2}

    def answer(self) -> None:
        """The database answers one question."""
        work, answer = self.held.pop(0)
        if self.down:
            answer.errback(StoreDown("away"))
        else:
            answer.callback(work())

    def test_what_comes_while_a_question_waits_is_asked_together(self) -> None:
        first = self.batch.find(1)
        rest = [self.batch.find(key) for key in (2, 3, 3, 1)]
        self.answer()
        self.assertEqual(self.successResultOf(first), 10)
        self.answer()
        # 1 is asked again: its value may have changed since the first question.
        self.assertEqual([self.successResultOf(one) for one in rest], [None, 30, 30, 10])
        self.assertEqual((self.asked, self.held), ([[1], [1, 2, 3]], []))

    def test_a_question_has_a_limit_and_the_rest_follows(self) -> None:
        found = [self.batch.find(key) for key in range(MOST + 5)]
        while self.held:
            self.answer()
        for one in found:
            self.successResultOf(one)
        self.assertEqual([len(keys) for keys in self.asked], [1, MOST, 4])

    def test_a_failure_fails_all_that_wait_and_the_next_question_is_asked(self) -> None:
        found = [self.batch.find(key) for key in (1, 2, 3, 1)]
        self.down = True
        self.answer()
        for one in found:
            self.failureResultOf(one, StoreDown)
        self.assertEqual(self.held, [])
        self.down = False
        again = self.batch.find(5)
        self.answer()
        self.assertEqual(self.successResultOf(again), 50)
