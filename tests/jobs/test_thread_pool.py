"""The bounded pool, and writing to a socket that is full."""

from __future__ import annotations

import gc
import socket
import threading
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from gateway.errors import Overloaded
from gateway.jobs.thread_pool import LATE, LOOK, ThreadPool, Width
from gateway.net.direct_writer import DirectWriter
from gateway.net.fair_turns import TURN


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
        assert self._called.wait(20), "nobody has called"
        self._called.clear()
        self.turn()

    def turn(self) -> None:
        calls, self.next[:] = list(self.next), []
        for call in calls:
            call()

    def pass_time(self, seconds: float, *, busy: bool) -> None:
        """``busy``: the processor was, all the while."""
        self.spent += seconds if busy else 0
        self.advance(seconds)


class Job:
    """Work that goes on until it is told not to."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._go = threading.Event()
        self.thread = 0
        """Whose it is."""

    def __call__(self) -> None:
        self.thread = threading.get_ident()
        self._begun.set()
        self._go.wait()

    def end(self) -> None:
        self._go.set()

    def wait_until_begun(self) -> None:
        assert self._begun.wait(20), "nobody does it"


class SlowThread(threading.Thread):
    """A thread that begins when it is told to."""

    def start(self) -> None:
        pass

    def begin(self) -> None:
        super().start()


class WorkerTests(TestCase):
    def worker(self, threads: int, queue: int) -> ThreadPool:
        worker = ThreadPool(reactor, "test", threads=threads, queue=queue)
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
        worker = ThreadPool(reactor, "test", threads=1, queue=10)

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


class ThreadTests(SynchronousTestCase):
    """Who does it, and when it is told."""

    def begin(self, jobs: int, **how: int) -> None:
        self.reactor = Reactor()
        self.worker = ThreadPool(
            self.reactor,
            "test",
            **({"threads": 3, "queue": 10} | how),
            spent=lambda: self.reactor.spent,
        )
        self.answered: list[Job] = []
        self.jobs = [self.run_one() for _ in range(jobs)]
        self.addCleanup(self.end)
        self.jobs[0].wait_until_begun()

    def run_one(self) -> Job:
        job = Job()
        self.worker.run(job).addCallback(lambda _: self.answered.append(job))
        return job

    def end(self) -> None:
        for job in self.jobs:
            job.end()
        self.worker.stop()

    @property
    def threads(self) -> int:
        """How many threads have done what is begun by now."""
        return len({job.thread for job in self.jobs if job.thread})

    def go_through(self, *, busy: bool) -> None:
        """End each job before the next look, and wait for the one after it."""
        for job, after in pairwise(self.jobs):
            self.reactor.pass_time(LOOK * 0.6, busy=busy)
            job.end()
            after.wait_until_begun()

    def test_while_the_processor_is_busy_one_thread_does_all_that_is_short(self) -> None:
        self.begin(8)
        self.go_through(busy=True)
        self.assertEqual(self.threads, 1)

    def test_where_work_waits_for_something_else_threads_wait_side_by_side(self) -> None:
        self.begin(2)
        self.reactor.pass_time(LOOK, busy=False)
        self.jobs[1].wait_until_begun()
        self.assertEqual(self.threads, 2)

    def test_long_work_keeps_nobody_from_what_is_short_however_busy_the_processor_is(self) -> None:
        self.begin(2)
        self.reactor.pass_time(LOOK, busy=True)
        self.jobs[1].wait_until_begun()
        self.assertEqual(self.threads, 2)

    def test_short_work_does_not_wait_for_long_however_busy_the_processor_is(self) -> None:
        self.begin(2 * int(LATE / LOOK), queue=40)
        self.go_through(busy=True)
        # The last one goes on: only a second thread can begin this.
        self.jobs.append(self.run_one())
        self.jobs[-1].wait_until_begun()
        self.assertEqual(self.threads, 2)

    def test_a_thread_that_is_of_no_more_use_leaves_though_work_waits(self) -> None:
        self.begin(2, threads=2)
        self.reactor.pass_time(LOOK, busy=False)
        self.jobs += [self.run_one() for _ in range(3)]
        self.jobs[1].wait_until_begun()
        self.reactor.pass_time(LOOK / 2, busy=True)
        for ended, begun in ((0, 2), (1, 3)):
            self.jobs[ended].end()
            self.jobs[begun].wait_until_begun()
        self.reactor.pass_time(LOOK / 2, busy=True)
        self.jobs[2].end()
        self.reactor.turn_when_called()
        self.jobs[3].end()
        self.jobs[4].wait_until_begun()
        self.assertEqual(self.jobs[4].thread, self.jobs[3].thread)

    def test_the_thread_that_worked_last_is_the_one_that_works_next(self) -> None:
        self.begin(2, least=2)
        self.jobs[1].wait_until_begun()
        for job in self.jobs:
            job.end()
            self.reactor.turn_when_called()
        last = self.jobs[-1].thread
        for _ in range(3):
            self.jobs.append(self.run_one())
            self.jobs[-1].wait_until_begun()
            self.assertEqual(self.jobs[-1].thread, last)
            self.jobs[-1].end()
            self.reactor.turn_when_called()

    def test_an_idle_thread_keeps_nothing_of_its_work(self) -> None:
        self.begin(1)
        self.jobs[0].end()
        self.reactor.turn_when_called()
        job = weakref.ref(self.jobs.pop())
        self.answered.clear()
        gc.collect()
        self.assertIsNone(job())

    def test_the_least_number_of_threads_begins_at_once(self) -> None:
        self.begin(3, least=2)
        self.jobs[1].wait_until_begun()
        self.assertEqual(self.threads, 2)

    def test_more_threads_join_those_that_work_and_fewer_leave_a_longer_queue(self) -> None:
        pool = ThreadPool(Reactor(), "test", threads=1, queue=1)
        self.addCleanup(pool.stop)
        gate, begun = threading.Event(), threading.Event()
        self.addCleanup(gate.set)
        first, second = pool.run(lambda: gate.wait(20)), pool.run(begun.set)
        self.failureResultOf(pool.run(begun.set), Overloaded)
        self.assertFalse(begun.is_set())
        pool.configure(threads=2, queue=1, least=2)
        self.assertTrue(begun.wait(20))
        pool.configure(threads=1, queue=3)
        third = [pool.run(begun.set) for _ in range(2)]
        self.failureResultOf(pool.run(begun.set), Overloaded)
        for one in (first, second, *third):
            self.assertNoResult(one)

    def slow_pool(self, **more: int) -> ThreadPool:
        self.reactor, self.slow = Reactor(), list[SlowThread]()

        def make(**how: Any) -> SlowThread:
            self.slow.append(SlowThread(**how))
            return self.slow[-1]

        return ThreadPool(self.reactor, "test", threads=3, queue=10, make_thread=make, **more)

    def test_no_thread_is_started_beside_one_that_has_not_begun(self) -> None:
        pool = self.slow_pool(least=3)
        answers = [pool.run(lambda: 1)]
        self.reactor.pass_time(LOOK, busy=False)
        self.assertEqual(len(self.slow), 1)
        answers.append(pool.run(lambda: 2))
        self.assertEqual(len(self.slow), 2)
        self.slow[0].begin()
        self.reactor.turn_when_called()
        # It has done the work of both, and is idle; the other one still comes for some.
        answers.append(pool.run(lambda: 3))
        self.assertEqual(len(self.slow), 2)
        self.slow[1].begin()
        self.reactor.turn_when_called()
        pool.stop()
        self.assertEqual([self.successResultOf(answer) for answer in answers], [1, 2, 3])

    def test_work_is_done_though_a_thread_that_becomes_idle_finds_the_pool_stopped(self) -> None:
        idle, go = threading.Event(), threading.Event()

        class HeldReactor(Reactor):
            """Holds a thread that has nothing to do, just before it waits."""

            def callFromThread(self, call: Callable[[], object]) -> None:
                super().callFromThread(call)
                idle.set()
                assert go.wait(20)

        reactor = HeldReactor()
        pool = ThreadPool(reactor, "test", threads=1, queue=10)
        first = pool.run(lambda: 1)
        assert idle.wait(20)
        second = pool.run(lambda: 2)
        stopping = threading.Thread(target=pool.stop)
        stopping.start()
        while not pool._stopped:
            pass
        go.set()
        stopping.join(20)
        self.assertFalse(stopping.is_alive())
        while reactor.next:
            reactor.turn()
        self.assertEqual([self.successResultOf(one) for one in (first, second)], [1, 2])

    def test_where_no_thread_can_start_work_waits_until_one_can(self) -> None:
        can_start = False

        class Refused(threading.Thread):
            def start(self) -> None:
                if not can_start:
                    raise RuntimeError("can't start new thread")
                super().start()

        reactor = Reactor()
        pool = ThreadPool(reactor, "test", threads=2, queue=10, make_thread=Refused)
        with capturedLogs() as captured:
            answer = pool.run(lambda: 1)
            reactor.pass_time(LOOK, busy=False)
        self.assertEqual(len(captured), 1)
        self.assertNoResult(answer)
        can_start = True
        reactor.pass_time(LOOK, busy=False)
        pool.stop()
        reactor.turn_when_called()
        self.assertEqual(self.successResultOf(answer), 1)

    def test_work_for_which_a_thread_comes_is_no_reason_for_more_threads(self) -> None:
        pool = self.slow_pool()
        pool.run(lambda: 1)
        self.reactor.pass_time(LOOK, busy=False)
        pool.run(lambda: 2)
        self.assertEqual(len(self.slow), 1)
        self.reactor.pass_time(LOOK, busy=False)
        self.assertEqual(len(self.slow), 2)
        for one in self.slow:
            one.begin()
        pool.stop()

    def test_answers_are_delivered_while_other_work_runs(self) -> None:
        self.begin(2)
        self.jobs[0].end()
        self.jobs[1].wait_until_begun()
        self.assertEqual((self.reactor.next, self.answered), ([], []))
        self.reactor.pass_time(LOOK, busy=True)
        self.assertEqual(self.answered, self.jobs[:1])

    def test_answers_of_the_last_work_are_delivered_at_once_and_the_timer_stops(self) -> None:
        self.begin(2)
        for job in self.jobs:
            job.end()
        self.reactor.turn_when_called()
        self.assertEqual(self.answered, self.jobs)
        self.reactor.pass_time(LOOK, busy=False)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_at_the_end_all_threads_do_what_is_left_and_nothing_more_is_taken(self) -> None:
        self.begin(3)
        stopping = threading.Thread(target=self.worker.stop)
        stopping.start()
        for job in self.jobs:
            job.wait_until_begun()
        self.assertEqual(self.threads, 3)
        for _ in range(2):
            self.failureResultOf(self.worker.run(Job()), Overloaded)
        for job in self.jobs:
            job.end()
        stopping.join()
        self.assertEqual(self.reactor.getDelayedCalls(), [])


SEEN = st.lists(st.tuples(*[st.booleans()] * 3, st.integers(0, 20)), max_size=40)


class WidthTests(SynchronousTestCase):
    """How many of them may be at work."""

    def test_one_joins_where_work_waits_while_nobody_computes_and_one_goes_where_it_is_busy(
        self,
    ) -> None:
        width = Width(1, 3)
        found = []
        for busy, waiting in [(False, False), *[(False, True)] * 3, *[(True, True)] * 3]:
            width.seen(busy=busy, waiting=waiting, late=False, long=0)
            found.append(width.allowed)
        self.assertEqual(found, [1, 2, 3, 3, 2, 1, 1])

    def test_those_with_long_work_do_not_count(self) -> None:
        width = Width(1, 3)
        for long, allowed in ((1, 2), (2, 3), (3, 3), (0, 1)):
            width.seen(busy=True, waiting=True, late=False, long=long)
            self.assertEqual(width.allowed, allowed)

    def test_one_joins_where_work_has_waited_for_too_long_however_busy_it_is(self) -> None:
        width = Width(1, 3)
        width.seen(busy=True, waiting=True, late=True, long=0)
        self.assertEqual(width.allowed, 2)

    @given(st.integers(1, 5), st.integers(0, 11), SEEN)
    def test_there_is_always_one_and_never_one_too_many(
        self, least: int, more: int, seen: list[tuple[bool, bool, bool, int]]
    ) -> None:
        width = Width(least, least + more)
        for busy, waiting, late, long in seen:
            width.seen(busy=busy, waiting=waiting, late=late, long=long)
            self.assertTrue(least <= width.allowed <= least + more)
        width.open()
        width.seen(busy=True, waiting=True, late=False, long=0)
        self.assertEqual(width.allowed, least + more)


class Writing(Protocol):
    """Writes a lot through an outlet, more than a socket takes at once."""

    pieces = [bytes([number]) * 300_000 for number in range(40)]  # noqa: RUF012

    def connectionMade(self) -> None:
        outlet = DirectWriter(self.transport)
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
