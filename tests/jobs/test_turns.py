"""Loops over all mailboxes, in turns with other work."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.jobs.turns import PIECE, drain, in_turns, merged, without


class TurnsTests(SynchronousTestCase):
    def test_a_loop_over_many_items_leaves_the_reactor_its_turns_and_misses_none(self) -> None:
        clock, seen = Clock(), list[int]()

        async def loop() -> None:
            async for item in in_turns(range(3 * PIECE), clock):
                seen.append(item)

        done = Deferred.fromCoroutine(loop())
        self.assertEqual(len(seen), PIECE)
        # This clock goes on with what is due until nothing is.
        clock.advance(0)
        self.successResultOf(done)
        self.assertEqual(seen, list(range(3 * PIECE)))

    def test_names_of_two_sorted_lists_are_merged_each_once(self) -> None:
        self.assertEqual(
            merged(["a", "c", "d"], ["b", "c", "\u00e9"]), ["a", "b", "c", "d", "\u00e9"]
        )
        self.assertEqual(merged([], ["a"]), ["a"])

    def test_names_without_some_others_stay_in_their_order(self) -> None:
        some = [f"{number}" for number in range(3 * PIECE + 1)]
        self.assertEqual(without(some, ["b", some[-1], "a", some[0]]), ["b", "a"])

    def test_what_is_drained_is_empty(self) -> None:
        held: tuple[dict[str, int], list[int]] = {"a": 1, "b": 2}, [1, 2, 3]
        drain(*held)
        self.assertEqual(held, ({}, []))
