"""The parent's side of the fork server: start it, ask it for workers, and outlive it."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.process import ProcessReader
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.processes.fork_server import MOST_DESCRIPTORS, READY
from gateway.processes.log_pipe import Lines

FORK_WITHIN = 5.0
"""Seconds for the answer to a request; the fork server is killed if it takes longer."""

READY_WITHIN = 60.0
"""Seconds in which the fork server must be ready; it is killed if it takes longer."""

STOP_WITHIN = 5.0
"""Seconds until a fork server that does not end is killed."""

AGAIN_AFTER = 5.0
"""Seconds after which a fork server that has ended is started again."""

SUPPORTED = hasattr(os, "pidfd_open") and hasattr(socket, "recv_fds")
"""Whether this platform has what it takes: Linux."""


class Exit(FileDescriptor):
    """Watches a process that the fork server can no longer report."""

    def __init__(self, reactor: Any, pidfd: int, ended: Callable[[], object]) -> None:
        super().__init__(reactor)
        self._pidfd = pidfd
        self._ended = ended
        self.startReading()  # type: ignore[no-untyped-call]

    def fileno(self) -> int:
        """Readable once the process has ended."""
        return self._pidfd

    def doRead(self) -> None:
        """It has ended."""
        self.stopReading()  # type: ignore[no-untyped-call]
        self._ended()


class Forked:
    """A worker that was forked, as the transport of its ``ProcessProtocol``."""

    def __init__(
        self, reactor: Any, process: Any, pid: int, pidfd: int, pipes: Mapping[int, int]
    ) -> None:
        """``process`` has ``exited``, too; ``pipes``: its outputs, by descriptor there."""
        self.pid = pid
        self._reactor = reactor
        self._process = process
        self._pidfd = pidfd
        self._has_ended = False
        self._open = set(pipes)
        process.makeConnection(self)
        for name, descriptor in pipes.items():
            ProcessReader(reactor, self, name, descriptor)

    def signalProcess(self, number: int) -> None:
        """Send a signal; raises ``ProcessExitedAlready``."""
        if self._has_ended:
            raise ProcessExitedAlready
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def childDataReceived(self, name: int, data: bytes) -> None:
        """It has written to a pipe."""
        self._process.childDataReceived(name, data)

    def childConnectionLost(self, name: int, _: Failure) -> None:
        """A pipe is closed."""
        self._open.discard(name)
        self._finish()

    def ended(self, reason: str) -> None:
        """It has ended; called once."""
        self._has_ended = True
        os.close(self._pidfd)
        self._process.exited(reason)
        self._finish()

    def watch(self) -> None:
        """The fork server is gone: find its end without."""
        Exit(self._reactor, self._pidfd, lambda: self.ended("status unknown"))

    def _finish(self) -> None:
        if self._has_ended and not self._open:
            self._process.processEnded(None)


class ForkServer(ProcessProtocol):
    """Forks workers; starts the process that does it again if that ends."""

    log = Logger()
    transport: Any

    def __init__(self, reactor: Any, start: Callable[[ProcessProtocol, int], None]) -> None:
        """``start`` starts the process, and gives it this socket for requests."""
        self._reactor = reactor
        self._start = start
        self._requests: socket.socket | None = None
        self._is_ready = False
        self._is_over = False
        self._is_running = False
        self._stopped: Deferred[None] | None = None
        self._waiting = Deferred[None]()
        self._late: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._workers: dict[int, Forked] = {}
        self._pipes: dict[int, Lines] = {}

    def start(self) -> Deferred[None]:
        """Start the process; fires when it can fork, or has failed."""
        waiting = self._waiting
        self._begin()
        return waiting

    def _begin(self) -> None:
        self._pipes = {1: Lines(self._told), 2: Lines(self._complain)}
        self._late = self._reactor.callLater(READY_WITHIN, self._kill)
        try:
            self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._requests.settimeout(FORK_WITHIN)
            with theirs:
                self._start(self, theirs.fileno())
        except OSError as error:
            self.log.error("cannot start the fork server: {error}", error=error.strerror)
            self._lost()

    def stop(self) -> Deferred[None]:
        """End the process; fires when it has ended."""
        self._is_over, self._is_ready = True, False
        self._answer()
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._requests is not None:
            self._requests.close()
        if not self._is_running:
            return succeed(None)
        self._late = self._reactor.callLater(STOP_WITHIN, self._kill)
        self._stopped = Deferred[None]()
        return self._stopped

    def fork(self, descriptors: Sequence[int]) -> tuple[int, int]:
        """Fork a worker with these descriptors; returns its process id and a pidfd.

        Blocks for as long as a fork takes.  Raises ``OSError``.
        """
        if not self._is_ready or self._requests is None:
            raise OSError(errno.ECHILD, "there is no fork server")
        if len(descriptors) > MOST_DESCRIPTORS:
            raise OSError(errno.EMFILE, "too many sockets for the fork server")
        try:
            socket.send_fds(self._requests, [b"fork"], descriptors)
            answer, pidfds, _, _ = socket.recv_fds(self._requests, 16, 1)
        except OSError:
            # A worker that it forks later finds its channel closed, and ends.
            self._kill()
            raise
        if not answer:
            self._is_ready = False
            raise OSError(errno.ECHILD, "the fork server has ended")
        if not pidfds:
            # The kernel drops what finds no place.  The worker finds its channel closed, and ends.
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        os.set_inheritable(pidfds[0], False)
        return int(answer), pidfds[0]

    def _kill(self) -> None:
        self._is_ready = False
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")

    def keep(self, worker: Forked) -> None:
        """Tell this worker when it has ended."""
        self._workers[worker.pid] = worker

    def connectionMade(self) -> None:
        """The process has started."""
        self._is_running = True

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It has reported something, or complains."""
        self._pipes[childFD].feed(data)

    def _told(self, lines: bytes) -> None:
        for line in lines.splitlines():
            if line == READY:
                if self._is_over:
                    # It was still starting, and ends now, or is killed.
                    continue
                self._is_ready = True
                if self._waiting.called:
                    self.log.info("the fork server is there again")
                self._answer()
                continue
            pid, _, code = line.partition(b" ")
            worker = self._workers.pop(int(pid), None)
            if worker is not None:
                worker.ended(reason_of(int(code)))

    def _complain(self, lines: bytes) -> None:
        for line in lines.decode("utf-8", "backslashreplace").splitlines():
            self.log.error("fork server: {line}", line=line)

    def processEnded(self, reason: Failure) -> None:
        """All that it has reported was read."""
        for lines in self._pipes.values():
            lines.finish()
        if not self._is_over:
            self.log.error("the fork server has ended: {why}", why=reason.getErrorMessage())
        self._is_running = False
        self._lost()
        if self._stopped is not None:
            self._stopped.callback(None)

    def _lost(self) -> None:
        self._is_ready = False
        if self._requests is not None:
            self._requests.close()
        workers, self._workers = self._workers, {}
        for worker in workers.values():
            worker.watch()
        if not self._is_over:
            self._again = self._reactor.callLater(AGAIN_AFTER, self._begin)
        self._answer()

    def _answer(self) -> None:
        if self._late is not None and self._late.active():
            self._late.cancel()
        if not self._waiting.called:
            self._waiting.callback(None)


def reason_of(code: int) -> str:
    """The reason of an end, by an exit status or the negative number of a signal."""
    if code >= 0:
        return f"exit status {code}"
    with suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
