"""The fork server with real processes: what a worker has, how its end is told, and failures."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from gateway.processes import forks
from gateway.processes.channel import Channel
from gateway.processes.fork_server import READY, REQUESTS
from gateway.processes.forks import AGAIN_AFTER, Forked, ForkServer
from gateway.processes.spawn import WorkerProcess, spawn
from support.descriptors import free_descriptors

reactor: Any = installed

PROGRAM = """
import os, sys, time
from gateway.processes.fork_server import serve
if serve():
    fds = sorted(map(int, os.listdir("/proc/self/fd")))
    os.write(1, b"%a\\n" % fds)
    what = os.read(3, 100)
    if what == b"wait":
        time.sleep(600)
    sys.exit(int(what))
"""


class Process(ProcessProtocol):
    """A worker as its parent has it."""

    def __init__(self) -> None:
        self.output = b""
        self.reason = ""
        self.ready = Deferred[None]()
        self.over = Deferred[str]()

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: ARG002
        self.output += data
        if not self.ready.called:
            self.ready.callback(None)

    def exited(self, reason: str) -> None:
        """It has ended."""
        self.reason = reason

    def processEnded(self, reason: Any) -> None:  # noqa: ARG002
        self.over.callback(self.reason)


class ForkServerTests(TestCase):
    def setUp(self) -> Deferred[None]:
        self.starts: list[Any] = []
        self.server = ForkServer(reactor, self._start)
        self.addCleanup(self.server.stop)
        return self.server.start()

    def _start(self, process: ProcessProtocol, requests: int) -> None:
        given = {0: "w", 1: "r", 2: "r", REQUESTS: requests}
        command = [sys.executable, "-c", PROGRAM]
        environ = {"PYTHONPATH": os.pathsep.join(sys.path)}
        started = reactor.spawnProcess(process, command[0], command, env=environ, childFDs=given)
        self.starts.append(started)

    def fork(self) -> tuple[Process, Forked, socket.socket]:
        """A worker that was forked, and the other end of its descriptor 3."""
        ours, theirs = socket.socketpair()
        process, outputs = Process(), os.pipe()
        with theirs, open(os.devnull, "rb") as nothing:
            given = [nothing.fileno(), outputs[1], outputs[1], theirs.fileno(), nothing.fileno()]
            pid, pidfd = self.server.fork(given)
        os.close(outputs[1])
        worker = Forked(reactor, process, pid, pidfd, {1: outputs[0]})
        self.server.keep(worker)
        self.addCleanup(ours.close)
        return process, worker, ours

    async def test_a_worker_has_its_descriptors_and_no_others_and_its_status_is_told(self) -> None:
        for status in (0, 7):
            process, worker, line = self.fork()
            self.assertEqual(process.transport, worker)
            await process.ready
            line.send(b"%d" % status)
            self.assertEqual(await process.over, f"exit status {status}")
            # The last one is the directory that was listed.
            self.assertEqual(process.output, b"[0, 1, 2, 3, 4, 5]\n")

    async def test_a_signal_reaches_the_worker_and_is_the_reason_of_its_end(self) -> None:
        process, worker, line = self.fork()
        line.send(b"wait")
        worker.signalProcess(signal.SIGTERM)
        self.assertEqual(await process.over, "signal SIGTERM")

    async def test_workers_live_on_without_the_fork_server_and_their_end_is_seen(self) -> None:
        process, _, line = self.fork()
        await process.ready
        os.kill(self.starts[0].pid, signal.SIGKILL)
        while not process.output or self.server._is_ready:
            await _turn()
        with self.assertRaises(OSError):
            self.fork()
        line.send(b"3")
        self.assertEqual(await process.over, "status unknown")
        self.flushLoggedErrors()

    async def test_one_that_does_not_answer_is_killed(self) -> None:
        os.kill(self.starts[0].pid, signal.SIGSTOP)
        self.server._requests.settimeout(0.01)  # type: ignore[union-attr]
        with self.assertRaises(OSError):
            self.fork()
        while self.starts[0].pid is not None:
            await _turn()
        self.flushLoggedErrors()

    async def test_one_that_starts_while_it_is_stopped_ends_and_is_not_there_again(self) -> None:
        self.patch(forks, "STOP_WITHIN", 0.1)
        logged = _collect(self)
        server = ForkServer(reactor, self._start)
        server.start()
        os.kill(self.starts[-1].pid, signal.SIGSTOP)
        stopped = server.stop()
        server.childDataReceived(1, READY + b"\n")
        await stopped
        self.assertEqual(logged, [])

    def test_too_many_descriptors_are_an_error_and_harm_nothing(self) -> Deferred[None]:
        with self.assertRaises(OSError):
            self.server.fork([0] * 251)
        process, _, line = self.fork()
        line.send(b"0")
        return process.over.addCallback(lambda reason: self.assertEqual(reason, "exit status 0"))

    async def test_an_answer_that_finds_no_free_descriptor_ends_no_fork_server(self) -> None:
        with open(os.devnull, "rb") as nothing:
            given = [nothing.fileno()] * 4
            with free_descriptors(0), self.assertRaisesRegex(OSError, "Too many open files"):
                self.server.fork(given)
        process, _, line = self.fork()
        line.send(b"0")
        self.assertEqual(await process.over, "exit status 0")


class NoDescriptorsTests(SynchronousTestCase):
    def test_a_fork_server_that_cannot_be_started_for_want_of_descriptors_is_later(self) -> None:
        clock, started = Clock(), list[ProcessProtocol]()
        server = ForkServer(clock, lambda process, _: started.append(process))
        self.addCleanup(server.stop)
        with free_descriptors(1):
            self.successResultOf(server.start())
        self.assertEqual(started, [])
        clock.advance(AGAIN_AFTER)
        self.assertEqual(len(started), 1)

    def test_a_worker_that_cannot_be_started_keeps_no_descriptors(self) -> None:
        clock = Clock()
        server = ForkServer(clock, lambda *_: None)
        self.addCleanup(server.stop)
        server.start()
        process = WorkerProcess(0, Channel(clock), lambda _: None, lambda _: None)
        # Nothing of another test is closed meanwhile.
        gc.collect()
        before = os.listdir("/proc/self/fd")
        for free in range(8):
            with free_descriptors(free), self.assertRaises(OSError):
                spawn(_Full(), process, [], {}, server)
        self.assertEqual(os.listdir("/proc/self/fd"), before)


class _Full:
    """A reactor on a system that starts no more processes."""

    def spawnProcess(self, *_: Any, **__: Any) -> None:
        raise OSError("no more processes")


def _collect(case: TestCase) -> list[Any]:
    """What is logged of the fork server until the test ends."""
    found: list[Any] = []

    def take(event: Any) -> None:
        if event.get("log_namespace") == "gateway.processes.forks.ForkServer":
            found.append(event)

    globalLogPublisher.addObserver(take)
    case.addCleanup(globalLogPublisher.removeObserver, take)
    return found


def _turn() -> Deferred[None]:
    done = Deferred[None]()
    reactor.callLater(0.01, done.callback, None)
    return done
