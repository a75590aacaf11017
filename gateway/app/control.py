"""The control socket: operators' commands ask the running server there.

It is the UNIX socket ``control`` in the state directory, for the server's user and root.  A client
sends one line of JSON, ``{"ask": "reload"}``, and gets one line of JSON.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.endpoints import LONGEST_PATH
from gateway.errors import LedgerUnusable
from gateway.events import ReloadEnded
from gateway.operations.control import LARGEST, NAME
from gateway.state.leader import LeaderLock

Reload = Callable[[], "Deferred[ReloadEnded]"]

IDLE = 10.0
"""Seconds for a client to send its line."""


class _Control(Protocol):
    """One client, which asks once."""

    log = Logger("pop3gw.control")

    def __init__(self, reactor: Any, reload: Reload) -> None:
        self._reload = reload
        self._reactor = reactor
        self._line = b""
        self._late: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Wait for its line."""
        assert self.transport is not None
        self._late = self._reactor.callLater(IDLE, self.transport.loseConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """It is gone."""
        self._wait_no_more()

    def _wait_no_more(self) -> None:
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()

    def dataReceived(self, data: bytes) -> None:
        """Answer the first line, and nothing after it."""
        if self._late is None:
            return
        self._line += data
        if b"\n" in self._line or len(self._line) > LARGEST:
            self._wait_no_more()
            self._asked(self._line.partition(b"\n")[0])

    def _asked(self, line: bytes) -> None:
        try:
            asked = json.loads(line)["ask"]
        except (ValueError, LookupError, TypeError, RecursionError):
            asked = None
        if asked == "reload":
            self._reload().addCallback(lambda ended: self._answer(ended._asdict()))
        else:
            self._answer({"error": 'expected {"ask": "reload"}'})

    def _answer(self, answer: object) -> None:
        assert self.transport is not None
        self.transport.write(json.dumps(answer).encode() + b"\n")
        self.transport.loseConnection()


class _ControlFactory(ServerFactory):
    noisy = False

    def __init__(self, reactor: Any, reload: Reload) -> None:
        self._reactor = reactor
        self._reload = reload

    def buildProtocol(self, addr: object) -> _Control:  # noqa: ARG002
        """One client's protocol."""
        return _Control(self._reactor, self._reload)


class ControlSocket(Service):
    """Listens on the control socket while the server runs.

    Of several servers with one state directory the first has the socket: a lock says so, which
    the kernel gives back when its process ends.
    """

    log = Logger("pop3gw.control")

    def __init__(self, reactor: Any, state_dir: str, reload: Reload) -> None:
        self._reactor = reactor
        self._path = os.path.join(state_dir, NAME)
        self._reload = reload
        self._lock = LeaderLock(f"{self._path}.lock")
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """Listen; without it the server runs as well, and the log says so."""
        Service.startService(self)
        try:
            self._port = self._listen()
        except (LedgerUnusable, CannotListenError, OSError, ValueError) as error:
            self._lock.give_back()
            reason = getattr(error, "socketError", error)
            self.log.warn(
                "no control socket, reload by SIGHUP: path={path} reason={reason}",
                path=self._path,
                reason=reason,
            )

    def _listen(self) -> IListeningPort:
        if len(os.fsencode(self._path)) > LONGEST_PATH:
            raise ValueError(f"the path has more than {LONGEST_PATH} octets")
        if not self._lock.take():
            raise ValueError("another server has this state directory")
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(self._path).st_mode):
                raise ValueError("it is there and is no socket")
            # Whoever listened there has ended.
            os.unlink(self._path)
        factory = _ControlFactory(self._reactor, self._reload)
        port: IListeningPort = self._reactor.listenUNIX(self._path, factory, mode=0o600)
        return port

    def stopService(self) -> Deferred[None]:
        """No more clients; one that waits still gets its answer."""
        Service.stopService(self)
        port, self._port = self._port, None
        stopped = maybeDeferred(lambda: None if port is None else port.stopListening())
        return stopped.addCallback(self._leave, port is not None)

    def _leave(self, _: object, listened: bool) -> None:
        if listened:
            with suppress(OSError):
                os.unlink(self._path)
            self._lock.give_back()
