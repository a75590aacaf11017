"""The bounded pool, and writing to a socket that is full."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from gateway.errors import Overloaded
from gateway.services.outlet import Outlet
from gateway.services.turns import TURN
from gateway.services.worker import LONG, LOOK, Worker


class Reactor(Clock):
    """Takes its turns, and lets time pass, when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.next: list[Callable[[], object]] = []
        """For the next turn."""
        self._called = threading.Event()
        self.spent = 0.0
        """Seconds of a processor's time."""

    def callLater(self, seconds: float, call: Callable[[], object], *_: Any, **__: Any) -> Any:
        if seconds:
            return super().callLater(seconds, call)
        return self.next.append(call)

    def callFromThread(self, call: Callable[[], object]) -> None:
        self.next.append(call)
        self._called.set()

    def turn_when_called(self) -> None:
        self._called.wait()
        self.turn()

    def turn(self) -> None:
        calls, self.next[:] = list(self.next), []
        for call in calls:
            call()

    def look(self, *, busy: bool) -> None:
        """Let time pass until the next look; ``busy``: the processor was, all the while."""
        self.spent += LOOK if busy else 0
        self.advance(LOOK)


class Job:
    """Work that goes on until it is told not to."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._go = threading.Event()

    def __call__(self) -> None:
        self._begun.set()
        self._go.wait()

    def end(self) -> None:
        self._go.set()

    def wait_until_begun(self) -> None:
        self._begun.wait()

    @property
    def is_begun(self) -> bool:
        return self._begun.is_set()


class WorkerTests(TestCase):
    def worker(self, threads: int, queue: int) -> Worker:
        worker = Worker(reactor, "test", threads=threads, queue=queue)
        self.addCleanup(worker.stop)
        return worker

    def test_work_is_done_on_another_thread_and_answered_here(self) -> Deferred[None]:
        here = threading.get_ident()

        def answered(ident: int) -> None:
            self.assertNotEqual(ident, here)
            self.assertEqual(threading.get_ident(), here)

        return self.worker(1, 1).run(threading.get_ident).addCallback(answered)

    def test_what_is_too_much_is_refused_at_once_and_the_rest_is_done(self) -> Deferred[None]:
        worker, go = self.worker(1, 2), threading.Event()
        taken = [worker.run(lambda number=number: go.wait() and number) for number in range(3)]
        refused = self.failureResultOf(worker.run(go.wait))
        self.assertTrue(refused.check(Overloaded))
        go.set()

        def answered(numbers: list[int]) -> None:
            self.assertEqual(numbers, [0, 1, 2])
            self.assertEqual(worker.outstanding, 0)

        return gatherResults(taken).addCallback(answered)

    def test_many_answers_at_once_leave_the_reactor_its_turns(self) -> None:
        reactor, answers = Reactor(), []
        worker = Worker(reactor, "test", threads=1, queue=10)

        def answered(number: int) -> None:
            answers.append(number)
            reactor.rightNow += TURN / 2

        for number in range(5):
            worker.run(lambda number=number: number).addCallback(answered)
        worker.stop()
        seen = []
        while len(answers) < 5:
            reactor.turn()
            seen.append(list(answers))
        self.assertEqual(seen, [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]])

    def test_a_failure_is_answered_too(self) -> Deferred[None]:
        worker = self.worker(1, 1)

        def answered(_: object) -> None:
            self.assertEqual(worker.outstanding, 0)

        failing = self.assertFailure(worker.run(lambda: 1 // 0), ZeroDivisionError)
        return failing.addCallback(answered)


class WidthTests(SynchronousTestCase):
    """How many threads are at work."""

    def begin(self, jobs: int, threads: int = 3) -> None:
        self.reactor = Reactor()
        self.worker = Worker(
            self.reactor, "test", threads=threads, queue=10, spent=lambda: self.reactor.spent
        )
        self.jobs = [Job() for _ in range(jobs)]
        self.addCleanup(self.end)
        self.answered: list[Job] = []
        for job in self.jobs:
            done = self.worker.run(job)
            done.addCallback(lambda _, job=job: self.answered.append(job))
        self.jobs[0].wait_until_begun()

    def end(self) -> None:
        for job in self.jobs:
            job.end()
        self.worker.stop()

    def begun(self, number: int) -> list[bool]:
        """Whether each is begun, once so many are."""
        for job in self.jobs[:number]:
            job.wait_until_begun()
        return [job.is_begun for job in self.jobs]

    def test_while_the_processor_is_busy_one_thread_does_it_all(self) -> None:
        self.begin(2)
        for _ in range(int(LONG / LOOK) - 1):
            self.reactor.look(busy=True)
        self.assertEqual(self.begun(1), [True, False])

    def test_while_threads_only_wait_others_join_them_up_to_the_limit(self) -> None:
        self.begin(4)
        self.reactor.look(busy=False)
        self.assertEqual(self.begun(2), [True, True, False, False])
        for _ in range(20):
            self.reactor.look(busy=False)
        self.assertEqual(self.begun(3), [True, True, True, False])

    def test_what_comes_later_finds_as_many_threads_as_were_of_use(self) -> None:
        self.begin(2)
        self.reactor.look(busy=False)
        self.begun(2)
        self.jobs[1].end()
        self.reactor.look(busy=False)
        self.jobs.append(Job())
        self.worker.run(self.jobs[2])
        self.assertEqual(self.begun(3), [True, True, True])

    def test_there_are_fewer_again_when_the_processor_is_busy(self) -> None:
        self.begin(2)
        self.reactor.look(busy=False)
        self.begun(2)
        self.reactor.look(busy=True)
        self.jobs[1].end()
        self.reactor.turn_when_called()
        self.jobs.append(Job())
        self.worker.run(self.jobs[2])
        self.assertEqual(self.begun(2), [True, True, False])

    def test_nobody_waits_for_long_because_the_processor_is_busy(self) -> None:
        self.begin(2)
        for _ in range(int(LONG / LOOK) + 2):
            self.reactor.look(busy=True)
        self.assertEqual(self.begun(2), [True, True])

    def test_what_is_done_is_told_while_other_work_goes_on(self) -> None:
        self.begin(2)
        self.jobs[0].end()
        self.jobs[1].wait_until_begun()
        self.assertEqual((self.reactor.next, self.answered), ([], []))
        self.reactor.look(busy=True)
        self.assertEqual(self.answered, self.jobs[:1])

    def test_what_is_done_together_is_told_at_once_and_nobody_looks_any_more(self) -> None:
        self.begin(2)
        for job in self.jobs:
            job.end()
        self.reactor.turn_when_called()
        self.assertEqual(self.answered, self.jobs)
        self.reactor.look(busy=False)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_worker_that_is_stopped_looks_no_more(self) -> None:
        self.begin(1)
        self.end()
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class Writing(Protocol):
    """Writes a lot through an outlet, more than a socket takes at once."""

    pieces = [bytes([number]) * 300_000 for number in range(40)]  # noqa: RUF012

    def connectionMade(self) -> None:
        outlet = Outlet(self.transport)
        for piece in self.pieces:
            outlet.write(piece)
        transport: Any = self.transport
        transport.loseConnection()


class OutletTests(TestCase):
    def test_what_a_full_socket_does_not_take_follows_in_order(self) -> Deferred[None]:
        def read(port: int) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                data = b""
                while piece := client.recv(1 << 20):
                    data += piece
            return data

        def listening(port: Any) -> Deferred[None]:
            self.addCleanup(port.stopListening)
            reading = deferToThread(read, port.getHost().port)
            wanted = b"".join(Writing.pieces)
            return reading.addCallback(lambda data: self.assertTrue(data == wanted))

        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        return endpoint.listen(Factory.forProtocol(Writing)).addCallback(listening)
