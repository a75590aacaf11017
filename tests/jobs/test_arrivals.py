"""Mail that arrives in mailboxes that retention does not know, told with few questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import StoreDown
from gateway.jobs.arrivals import MOST, PIECE, REST, Arrivals
from gateway.model import LastScan

EVERY = 3600.0


class ArrivalsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[list[str]] = []
        self.answers: list[Deferred[dict[str, LastScan]]] = []
        self.told: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.refused: set[str] = set()
        self.arrivals = Arrivals(
            self,  # type: ignore[arg-type]
            self.tell,
            lambda name, error: self.failures.append((name, str(error))),
            clock=self.clock,
            every=EVERY,
        )

    def find_scans(self, mailboxes: Sequence[str]) -> Deferred[dict[str, LastScan]]:
        """As a state does."""
        self.asked.append([*mailboxes])
        self.answers.append(Deferred())
        return self.answers[-1]

    async def tell(self, mailbox: str) -> None:
        """As the job does."""
        if mailbox in self.refused:
            raise StoreDown("full")
        self.told.append(mailbox)

    def answer(self, **policies: str) -> None:
        """Answer the question that was asked last."""
        scans = {name: LastScan(text, None, 0.0, 1) for name, text in policies.items()}
        self.answers[-1].callback(scans)

    def deliver(self, *mailboxes: str, policy: str = "any 1d") -> None:
        """A message for each."""
        for mailbox in mailboxes:
            self.arrivals.delivered(mailbox, policy)

    def test_what_is_new_or_has_another_policy_is_told(self) -> None:
        self.deliver("a")
        self.deliver("b", "c", "b")
        self.answer(a="any 1d")
        self.assertEqual(self.asked, [["a"], ["b", "c"]])
        self.answer(b="any 2d")
        self.assertEqual(self.told, ["b", "c"])
        self.deliver("d", policy="")
        self.answer()
        self.assertEqual(self.told, ["b", "c"])

    def test_a_busy_mailbox_costs_one_question_in_a_round(self) -> None:
        for _ in range(2):
            self.deliver("a")
            self.answer(a="any 1d")
            self.deliver(*["a"] * 100)
            self.clock.advance(EVERY)
        self.assertEqual(self.asked, [["a"]] * 2)

    def test_a_change_of_policy_is_asked_about_at_once(self) -> None:
        self.deliver("a")
        self.answer(a="any 1d")
        self.deliver("a", policy="any 2d")
        self.answer(a="any 1d")
        self.assertEqual(self.told, ["a"])

    def test_deliveries_to_very_many_wait_for_one_question_after_the_other(self) -> None:
        names = [f"u{number}" for number in range(MOST + 500)]
        self.deliver("a", *names)
        while len(self.answers) < 1000 and not self.answers[-1].called:
            self.answer()
        self.assertEqual(self.told, ["a", *names[:MOST]])
        self.assertLessEqual(max(map(len, self.asked)), PIECE)
        # The last of them are remembered.
        self.deliver(names[MOST - 1])
        self.assertTrue(self.answers[-1].called)
        self.deliver("a")
        self.assertFalse(self.answers[-1].called)

    def test_after_a_failure_the_next_delivery_asks_again(self) -> None:
        self.deliver("a")
        self.answers[-1].errback(StoreDown("down"))
        # Not at once: each failure is a line in the log.
        for _ in range(100):
            self.deliver("a")
        self.assertEqual(self.asked, [["a"]])
        self.clock.advance(REST)
        self.refused.add("a")
        self.deliver("b")
        self.answer()
        self.assertEqual((self.told, self.failures), (["b"], [("", "down"), ("a", "full")]))
        self.refused.clear()
        self.deliver("a", "b")
        self.clock.advance(REST)
        self.deliver("b")
        self.assertEqual(self.asked[1:], [["a", "b"]])
        self.deliver("a")
        self.answer()
        self.assertEqual(self.told, ["b", "a"])

    def test_a_mailbox_that_was_forgotten_is_asked_about_again(self) -> None:
        self.deliver("a", "b")
        self.answer(a="any 1d")
        self.answer(b="any 1d")
        self.arrivals.forget_one("a")
        self.deliver("a", "b")
        self.answer()
        self.assertEqual((self.asked, self.told), ([["a"], ["b"], ["a"]], ["a"]))

    def test_the_end_waits_until_all_is_told_and_takes_no_more(self) -> None:
        self.deliver("a", "b")
        ended: Deferred[Any] = self.arrivals.stop()
        self.deliver("c")
        self.answer()
        self.assertNoResult(ended)
        self.answer()
        self.successResultOf(ended)
        self.assertEqual(self.told, ["a", "b"])
        self.successResultOf(self.arrivals.stop())

    def test_the_end_waits_for_no_more_once_something_cannot_be_told(self) -> None:
        self.deliver("a")
        self.answer(a="any 1d")
        self.deliver("b")
        self.deliver("c", "d", "e")
        ended: Deferred[Any] = self.arrivals.stop()
        self.refused |= {"b", "c", "d"}
        self.answer()
        self.successResultOf(ended)
        self.assertEqual(self.failures, [("b", "full")])
