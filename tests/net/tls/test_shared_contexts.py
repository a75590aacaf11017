"""TLS contexts that workers share: which generation a listener gets, and how often."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from gateway.net.tls.shared_contexts import SharedContexts


class SharedContextsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.shared = SharedContexts(["a", "b"], generations=3)
        self.asked: list[int] = []
        self.shared.ask = self.asked.append

    def test_each_listener_has_one_in_each_generation(self) -> None:
        seen = []
        for generation in range(3):
            self.shared.advance(generation)
            seen += [self.shared.make("a"), self.shared.make("b")]
        self.assertEqual(len(set(map(id, seen))), 6)
        self.assertEqual(self.asked, [])

    def test_a_second_one_has_keys_of_its_own_and_asks_for_the_next_generation(self) -> None:
        self.shared.advance(0)
        first = self.shared.make("a")
        second = self.shared.make("a")
        self.assertIsNot(first, second)
        self.assertEqual(self.asked, [0])

    def test_after_the_last_generation_none_is_asked_for(self) -> None:
        self.shared.advance(2)
        self.shared.make("a")
        self.shared.make("a")
        self.shared.advance(3)
        self.shared.make("a")
        self.assertEqual(self.asked, [])

    def test_a_worker_that_starts_late_begins_with_the_present_generation(self) -> None:
        self.shared.advance(2)
        self.shared.advance(1)
        self.assertIsNot(self.shared.make("a"), None)
        self.assertEqual(self.asked, [], "what was before is gone, and nothing is left")

    def test_a_listener_that_nobody_knew_has_keys_of_its_own(self) -> None:
        self.shared.advance(0)
        self.assertIsNot(self.shared.make("new"), self.shared.make("new"))
        self.assertEqual(self.asked, [])

    def test_without_a_fork_there_are_none_to_share(self) -> None:
        alone = SharedContexts()
        alone.ask = self.asked.append
        alone.advance(0)
        self.assertIsNot(alone.make("a"), alone.make("a"))
        self.assertEqual(self.asked, [])
