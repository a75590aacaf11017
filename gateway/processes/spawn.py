"""Start a worker process with its sockets, its channel and the pipes of its log."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.processes.channel import Channel, connect
from gateway.processes.log_pipe import Lines

CHANNEL = 3
"""The descriptor of the channel in a worker; its sockets follow."""

_NOT_FOR_WORKERS = ("POP3GW_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_")
"""Variables of the parent alone: the settings, which a worker is handed, and those of systemd."""


class WorkerProcess(ProcessProtocol):
    """A worker, as its parent has it: a ``Running``."""

    log = Logger("pop3gw.processes")
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
        self._ended(_reason(reason.value))

    def processEnded(self, reason: Failure) -> None:  # noqa: ARG002
        """All pipes are closed."""
        for lines in self._pipes.values():
            lines.finish()


def _reason(error: object) -> str:
    number = error.signal if isinstance(error, ProcessTerminated) else None
    if number is not None:
        with suppress(ValueError):
            return f"signal {signal.Signals(number).name}"
        return f"signal {number}"
    return f"exit status {getattr(error, 'exitCode', None) or 0}"


def spawn(
    reactor: Any,
    process: WorkerProcess,
    sockets: Sequence[int],
    environ: Mapping[str, str],
) -> None:
    """Start the worker; it has ``sockets`` at the descriptors after ``CHANNEL``.

    Raises ``OSError``.
    """
    here, there = socket.socketpair()
    with there, open(os.devnull, "rb") as nothing:
        for end in (here, there):
            end.setblocking(False)
        given: dict[int, Any] = {0: nothing.fileno(), 1: "r", 2: "r", CHANNEL: there.fileno()}
        given |= enumerate(sockets, CHANNEL + 1)
        # A worker finds the modules that the parent has found.
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
        kept = {name: environ[name] for name in environ if not name.startswith(_NOT_FOR_WORKERS)}
        try:
            reactor.spawnProcess(
                process,
                sys.executable,
                [sys.executable, "-P", "-X", "utf8", "-m", "gateway.app.worker"],
                env=kept | {"PYTHONPATH": paths},
                childFDs=given,
            )
        except OSError:
            here.close()
            raise
    connect(reactor, here.detach(), process.channel)
