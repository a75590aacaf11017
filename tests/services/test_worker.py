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
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from gateway.errors import Overloaded
from gateway.services.outlet import Outlet
from gateway.services.turns import TURN
from gateway.services.worker import Worker


class Turns:
    """A reactor that takes its turns, and lets time pass, when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Callable[[], object]] = []
        self.callFromThread = self.calls.append

    def seconds(self) -> float:
        return self.now

    def callLater(self, seconds: float, call: Callable[[], object]) -> None:
        assert seconds == 0
        self.calls.append(call)

    def turn(self) -> None:
        calls, self.calls[:] = list(self.calls), []
        for call in calls:
            call()


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
        turns, answers = Turns(), []
        worker = Worker(turns, "test", threads=1, queue=10)

        def answered(number: int) -> None:
            answers.append(number)
            turns.now += TURN / 2

        for number in range(5):
            worker.run(lambda number=number: number).addCallback(answered)
        worker.stop()
        seen = []
        while turns.calls:
            turns.turn()
            seen.append(list(answers))
        self.assertEqual(seen, [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]])

    def test_a_failure_is_answered_too(self) -> Deferred[None]:
        worker = self.worker(1, 1)

        def answered(_: object) -> None:
            self.assertEqual(worker.outstanding, 0)

        failing = self.assertFailure(worker.run(lambda: 1 // 0), ZeroDivisionError)
        return failing.addCallback(answered)


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
