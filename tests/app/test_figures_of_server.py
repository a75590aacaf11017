"""The figures of a server, whichever of its processes are asked, hang or end."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from channels import Ends
from gateway.app.server.figures import ANSWER_WITHIN, EVERY, QUESTION, ServerFigures
from gateway.app.server.questions import Questions, SingleProcess
from gateway.observe.figures import Figures, Snapshot

REFUSED = ["pop3gw_connections_refused_total", "pop3"]


def refused(snapshot: Snapshot) -> float:
    """How many connections were refused."""
    return sum(value for key, value in snapshot if key == REFUSED)


class Worker:
    """A worker at the other end of a channel."""

    def __init__(self, clock: Clock) -> None:
        self.ends = Ends(clock)
        self.count = 0
        self.hangs = False
        self.ends.worker.handle(QUESTION, self.answer)

    def answer(self, _: object) -> Any:
        """As a worker answers."""
        return Deferred() if self.hangs else [[REFUSED, self.count]]


class ServerFiguresTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.workers = {number: Worker(self.clock) for number in (0, 1)}
        self.server = ServerFigures(
            self.clock,
            Figures(),
            lambda: {number: one.ends.parent for number, one in self.workers.items()},
            now=self.clock.seconds,
        )
        for one in self.workers.values():
            self.server.join(one.ends.parent)

    def turn(self) -> None:
        """Let all channels say what they have to say."""
        for _ in range(4):
            for one in self.workers.values():
                one.ends.turn()

    def asked(self) -> float:
        """The sum, now."""
        asked = self.server.snapshot()
        self.turn()
        return refused(self.successResultOf(asked))

    def replace(self, number: int) -> None:
        """A worker is killed, and another one takes its place."""
        gone = self.workers.pop(number)
        gone.ends.end()
        self.server.leave(gone.ends.parent)
        self.workers[number] = Worker(self.clock)
        self.server.join(self.workers[number].ends.parent)

    def test_it_is_the_sum_of_all_workers(self) -> None:
        self.workers[0].count, self.workers[1].count = 3, 4
        self.assertEqual(self.asked(), 7)

    def test_a_sum_does_not_go_down_when_a_worker_is_replaced(self) -> None:
        self.workers[0].count, self.workers[1].count = 3, 4
        self.assertEqual(self.asked(), 7)
        self.replace(1)
        self.assertEqual(self.asked(), 7)
        self.workers[1].count = 2
        self.assertEqual(self.asked(), 9)

    def test_what_was_counted_since_the_last_look_is_all_that_a_killed_worker_takes_with_it(
        self,
    ) -> None:
        self.server.start()
        self.workers[1].count = 5
        self.clock.advance(EVERY)
        self.turn()
        self.workers[1].count = 6
        self.replace(1)
        self.assertEqual(self.asked(), 5)
        self.server.stop()

    def test_a_worker_that_ends_in_order_tells_all_that_it_has_counted(self) -> None:
        self.assertEqual(self.asked(), 0)
        self.workers[1].ends.worker.tell(QUESTION, [[REFUSED, 8]])
        self.turn()
        self.replace(1)
        self.assertEqual(self.asked(), 8)

    def test_a_worker_that_hangs_counts_as_it_last_answered_and_holds_nobody_up(self) -> None:
        self.workers[0].count, self.workers[1].count = 3, 4
        self.assertEqual(self.asked(), 7)
        self.workers[0].count, self.workers[1].hangs = 5, True
        asked = self.server.snapshot()
        self.turn()
        self.assertNoResult(asked)
        self.clock.advance(ANSWER_WITHIN)
        self.assertEqual(refused(self.successResultOf(asked)), 9)

    def test_who_asks_at_once_gets_one_answer_of_each_worker(self) -> None:
        answers: list[object] = []
        self.workers[0].ends.worker.handle(QUESTION, lambda _: answers.append(1) or [])
        asked = [self.server.snapshot() for _ in range(20)]
        self.turn()
        for one in asked:
            self.successResultOf(one)
        self.assertEqual(len(answers), 1)

    def test_the_last_hour_is_counted_by_minutes_over_all_workers(self) -> None:
        key = ["pop3gw_deliveries_total"]
        counts = iter(range(1, 100))
        self.workers[0].ends.worker.handle(QUESTION, lambda _: [[key, next(counts)]])
        self.server.start()
        for _ in range(9):
            self.clock.advance(EVERY)
            self.turn()
        asked = self.server.history()
        self.turn()
        rows = self.successResultOf(asked)
        self.assertEqual([(row["began"], row["deliveries"]) for row in rows], [(0, 6), (60, 4)])
        self.server.stop()

    def test_a_figure_that_cannot_be_read_once_ends_neither_answers_nor_the_history(self) -> None:
        figures, key = Figures(), "pop3gw_deliveries_total"
        server = ServerFigures(self.clock, figures, now=self.clock.seconds)

        def readings() -> Any:
            if self.clock.seconds() == EVERY:
                raise RuntimeError("dictionary changed size during iteration")
            return []

        figures.read("parts", readings)
        server.start()
        self.clock.advance(EVERY)
        self.failureResultOf(server.snapshot(), RuntimeError)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        figures.add(key)
        for _ in range(6):
            self.clock.advance(EVERY)
        figures.add(key)
        rows = self.successResultOf(server.history())
        self.assertEqual([row["deliveries"] for row in rows], [1, 1])
        server.stop()

    def test_a_single_process_answers_for_itself(self) -> None:
        figures, questions = Figures(), Questions()
        figures.add(*REFUSED, by=2)
        observer = ServerFigures(self.clock, figures, now=self.clock.seconds).observer(questions)
        observer.start()
        processes = SingleProcess(questions)
        asked = self.successResultOf(processes.ask_parent("figures"))
        self.assertEqual(refused(asked), 2)
        (row,) = self.successResultOf(processes.ask_parent("history"))
        self.assertEqual((row["logins"], row["failed"]), (0, {}))
        observer.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
