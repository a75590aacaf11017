"""Start a worker process with its sockets, its channel and the pipes of its log."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.processes.channel import Channel, connect
from gateway.processes.fork_server import REQUESTS
from gateway.processes.forks import SUPPORTED, Forked, ForkServer, reason_of
from gateway.processes.log_pipe import Lines

CHANNEL = 3
"""The descriptor of the channel in a worker; its sockets follow."""

FORK = "fork"
"""The argument with which the program of workers is a fork server; names of listeners follow."""

_NOT_FOR_WORKERS = ("POP3GW_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_")
"""Variables of the parent alone: the settings, which a worker is handed, and those of systemd."""


class WorkerProcess(ProcessProtocol):
    """A worker, as its parent has it: a ``Running``."""

    log = Logger()
    transport: Any

    def __init__(
        self,
        number: int,
        channel: Channel,
        pass_on: Callable[[bytes], object],
        ended: Callable[[str], None],
    ) -> None:
        """``pass_on`` takes lines of its log; ``ended`` is called with the reason of its end."""
        self.channel = channel
        self.pid = 0
        """Its process id."""
        self._number = number
        self._ended = ended
        self._pipes = {1: Lines(pass_on), 2: Lines(self._complain)}

    def connectionMade(self) -> None:
        """The process has started."""
        self.pid = int(self.transport.pid)

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(number)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It has written to standard output, its log, or to standard error."""
        self._pipes[childFD].feed(data)

    def _complain(self, lines: bytes) -> None:
        for line in lines.decode("utf-8", "backslashreplace").splitlines():
            self.log.error("worker {number}: {line}", number=self._number + 1, line=line)

    def processExited(self, reason: Failure) -> None:
        """It has ended; a program that it started may still have its pipes."""
        self.exited(_reason(reason.value))

    def exited(self, reason: str) -> None:
        """It has ended, for this reason."""
        self._ended(reason)

    def processEnded(self, reason: Failure) -> None:  # noqa: ARG002
        """All pipes are closed."""
        for lines in self._pipes.values():
            lines.finish()


def _reason(error: object) -> str:
    number = error.signal if isinstance(error, ProcessTerminated) else None
    return reason_of(getattr(error, "exitCode", None) or 0 if number is None else -number)


def spawn(
    reactor: Any,
    process: WorkerProcess,
    sockets: Sequence[int],
    environ: Mapping[str, str],
    fork_server: ForkServer | None = None,
) -> None:
    """Start the worker; it has ``sockets`` at the descriptors after ``CHANNEL``.

    It is forked if there is a fork server, else started by exec.  Raises ``OSError``.
    """
    if fork_server is not None:
        with suppress(OSError):
            with _channel_ends(reactor, process) as (there, nothing):
                _fork(reactor, process, [nothing, there, *sockets], fork_server)
            return
    with _channel_ends(reactor, process) as (there, nothing):
        given: dict[int, Any] = {0: nothing, 1: "r", 2: "r", CHANNEL: there}
        given |= enumerate(sockets, CHANNEL + 1)
        execute(reactor, process, [], given, environ)


@contextmanager
def _channel_ends(reactor: Any, process: WorkerProcess) -> Iterator[tuple[int, int]]:
    """The worker's end of its channel, and no input; if all goes well, ours is connected."""
    here, there = socket.socketpair()
    with here, there, open(os.devnull, "rb") as nothing:
        for end in (here, there):
            end.setblocking(False)
        yield there.fileno(), nothing.fileno()
        connect(reactor, here.detach(), process.channel)


def _fork(
    reactor: Any, process: WorkerProcess, given: Sequence[int], fork_server: ForkServer
) -> None:
    """``given``: its input, its channel and its sockets."""
    pipes: dict[int, tuple[int, int]] = {}
    try:
        for name in (1, 2):
            pipes[name] = os.pipe()
        pid, pidfd = fork_server.fork([given[0], pipes[1][1], pipes[2][1], *given[1:]])
    except OSError:
        for ours, _ in pipes.values():
            os.close(ours)
        raise
    finally:
        for _, theirs in pipes.values():
            os.close(theirs)
    outputs = {name: pipe[0] for name, pipe in pipes.items()}
    fork_server.keep(Forked(reactor, process, pid, pidfd, outputs))


def execute(
    reactor: Any,
    process: ProcessProtocol,
    arguments: Sequence[str],
    given: Mapping[int, Any],
    environ: Mapping[str, str],
) -> None:
    """Start the program of workers by exec, with these descriptors.  Raises ``OSError``."""
    # A worker finds the modules that the parent has found.
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    kept = {name: environ[name] for name in environ if not name.startswith(_NOT_FOR_WORKERS)}
    reactor.spawnProcess(
        process,
        sys.executable,
        [sys.executable, "-P", "-X", "utf8", "-m", "gateway.app.worker", *arguments],
        env=kept | {"PYTHONPATH": paths},
        childFDs=dict(given),
    )


def fork_server_of(
    reactor: Any, environ: Mapping[str, str], arguments: Sequence[str]
) -> ForkServer | None:
    """A fork server, if the platform has what it takes."""

    def start(process: ProcessProtocol, requests: int) -> None:
        with open(os.devnull, "rb") as nothing:
            given = {0: nothing.fileno(), 1: "r", 2: "r", REQUESTS: requests}
            execute(reactor, process, [FORK, *arguments], given, environ)

    return ForkServer(reactor, start) if SUPPORTED else None
