"""What the processes of a server answer to each other."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from channels import Ends
from gateway.app.server.questions import ParentProcesses, Questions, SingleProcess, WorkerProcesses
from gateway.errors import AskFailed, PeerGone


class SingleProcessTests(SynchronousTestCase):
    """A server of one process."""

    def setUp(self) -> None:
        self.questions = Questions()
        self.processes = SingleProcess(self.questions)

    def test_its_answer_is_the_answer_of_each_and_of_the_parent(self) -> None:
        self.questions.answer("sum", lambda numbers: succeed(sum(numbers)))
        self.assertEqual(self.successResultOf(self.processes.ask_each("sum", (1, 2))), [3])
        self.assertEqual(self.successResultOf(self.processes.ask_parent("sum", (1, 2))), 3)

    def test_values_come_as_through_a_channel(self) -> None:
        kept = {"names": ("a", "b")}
        self.questions.answer("names", lambda _: kept)
        answer = self.successResultOf(self.processes.ask_parent("names"))
        self.assertEqual(answer, {"names": ["a", "b"]})

    def test_a_question_that_nobody_answers_fails(self) -> None:
        self.failureResultOf(self.processes.ask_each("weather"), AskFailed)


class Workers:
    """Workers with channels in memory."""

    def __init__(self, clock: Clock, count: int) -> None:
        self.ends = [Ends(clock) for _ in range(count)]
        self.questions = [Questions() for _ in self.ends]
        self.processes = [
            WorkerProcesses(ends.worker, questions)
            for ends, questions in zip(self.ends, self.questions, strict=True)
        ]

    def ask_all(self, name: str, body: object = None) -> Deferred[dict[int, Any]]:
        """As ``Supervisor.ask_all``."""
        asked = [ends.parent.ask(name, body) for ends in self.ends]
        answers = DeferredList(asked, consumeErrors=True)
        return answers.addCallback(
            lambda results: {number: one for number, (good, one) in enumerate(results) if good}
        )

    def ask_everyone(self, name: str, body: object = None) -> Deferred[list[Any]]:
        """As ``Supervisor.ask_everyone``."""

        def whole(answers: dict[int, Any]) -> list[Any]:
            if len(answers) < len(self.ends):
                raise AskFailed("no answer of a worker")
            return list(answers.values())

        return self.ask_all(name, body).addCallback(whole)


class WorkerTests(SynchronousTestCase):
    """Two workers and their parent."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.workers = Workers(self.clock, 2)
        self.of_parent = Questions()
        self.parent = ParentProcesses(self.workers, self.of_parent)
        for number, ends in enumerate(self.workers.ends):
            self.parent.serve(ends.parent)
            self.workers.questions[number].answer("number", lambda _, number=number: number)

    def answer(self, asked: Deferred[Any]) -> Any:
        """What the processes have answered."""
        self.turn()
        return self.successResultOf(asked)

    def turn(self) -> None:
        """All messages arrive."""
        for _ in range(3):
            for ends in self.workers.ends:
                ends.turn()

    def test_a_worker_gets_the_answers_of_all_workers(self) -> None:
        self.assertEqual(self.answer(self.workers.processes[1].ask_each("number")), [0, 1])

    def test_the_parent_gets_them_too(self) -> None:
        self.assertEqual(self.answer(self.parent.ask_each("number")), [0, 1])

    def test_a_worker_that_cannot_answer_is_left_out(self) -> None:
        self.workers.questions[0].answer("odd", lambda number: number % 2 == 1)
        self.assertEqual(self.answer(self.workers.processes[1].ask_each("odd", 3)), [True])

    def test_who_asks_everyone_gets_no_answer_without_that_of_each(self) -> None:
        for asker in (self.workers.processes[1], self.parent):
            self.assertEqual(self.answer(asker.ask_everyone("number")), [0, 1])
        self.workers.questions[0].answer("odd", lambda number: number % 2 == 1)
        for asker in (self.workers.processes[1], self.parent):
            asked = asker.ask_everyone("odd", 3)
            self.turn()
            said = str(self.failureResultOf(asked, AskFailed).value)
            self.assertEqual(said, "no answer of a worker")

    def test_a_worker_gets_the_answer_of_the_parent(self) -> None:
        self.of_parent.answer("twice", lambda number: 2 * number)
        self.assertEqual(self.answer(self.workers.processes[0].ask_parent("twice", 4)), 8)
        self.assertEqual(self.answer(self.parent.ask_parent("twice", 4)), 8)

    def test_a_parent_that_is_gone_is_no_answer(self) -> None:
        self.workers.ends[0].end()
        self.failureResultOf(self.workers.processes[0].ask_parent("twice", 4), PeerGone)
