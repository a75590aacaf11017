"""A command in a network namespace of its own, some of whose ports are reachable from outside.

``python namespace_forward.py OUTER:INNER ... -- COMMAND``: connections to the loopback port OUTER
out here go to INNER in there. Says ``ports answer`` once each takes connections. When it ends, at
SIGTERM or with the process that started it, the command and all that it started have ended too,
and with them the namespace, which has no name.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from twisted.internet import reactor  # type: ignore[attr-defined]
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ReactorNotRunning
from twisted.internet.protocol import ProcessProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.portforward import ProxyFactory
from twisted.python import log
from twisted.python.failure import Failure

HOST = "127.0.0.1"
GRACE = 5.0
"""Seconds that the command has to end by itself."""
CLONE_NEWNET = 0x4000_0000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def call(name: str, *arguments: int) -> None:
    """A function of the C library, whose failure is an OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*(ctypes.c_ulong(argument) for argument in arguments)):
        raise OSError(ctypes.get_errno(), name)


def enter_namespace() -> None:
    """A new network of which only the loopback interface is up."""
    call("unshare", CLONE_NEWNET)
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


@inlineCallbacks
def until_answering(ports: Iterable[int]) -> Generator[Deferred[Any], Any, None]:
    """Say so when every port in the namespace takes connections."""
    for port in ports:
        while True:
            try:
                protocol = yield connectProtocol(
                    TCP4ClientEndpoint(reactor, HOST, port), Protocol()
                )
            except ConnectError:
                yield deferLater(reactor, 0.02)
            else:
                protocol.transport.loseConnection()
                break
    print("ports answer", flush=True)


class Command(ProcessProtocol):
    """The command, whose output is ours; when it ends, so do we."""

    def processEnded(self, _reason: Failure) -> None:
        with contextlib.suppress(ReactorNotRunning):
            reactor.stop()


def end_children(command: int) -> None:
    """Ask the command to end, then kill what is left of it; orphans are our children too."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(command, signal.SIGTERM)
    end = time.monotonic() + GRACE
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < end:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        while True:
            for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
            os.waitpid(-1, 0)


def main(arguments: list[str]) -> None:
    """See above."""
    call("prctl", PR_SET_PDEATHSIG, signal.SIGTERM)
    call("prctl", PR_SET_CHILD_SUBREAPER, 1)
    split = arguments.index("--")
    pairs = [tuple(map(int, pair.split(":"))) for pair in arguments[:split]]
    for outer, inner in pairs:
        # A socket stays in the namespace where it was made.
        reactor.listenTCP(outer, ProxyFactory(HOST, inner), interface=HOST)
    enter_namespace()
    # Should we be killed, the command at least is told to end.
    command = ["setpriv", "--pdeathsig", "TERM", *arguments[split + 1 :]]
    process = reactor.spawnProcess(
        Command(), command[0], command, env=None, childFDs={0: "w", 1: 1, 2: 2}
    )
    pid = process.pid
    until_answering(inner for _, inner in pairs).addErrback(log.err)
    reactor.run()
    end_children(pid)


if __name__ == "__main__":
    main(sys.argv[1:])
