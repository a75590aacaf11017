"""The control socket: operators' commands ask the running server there, by HTTP.

It is the UNIX socket ``control`` in the state directory, for the server's user and root.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from gateway.endpoints import LONGEST_PATH
from gateway.errors import LedgerUnusable
from gateway.operations.server.control import NAME
from gateway.state.leader import LeaderLock

CONTROL = "control"
"""The key of this socket among those that the parent hands to its workers."""


class ControlSocket:
    """Listens on the control socket while the server runs.

    Of several servers with one state directory the first has the socket: a lock says so, which
    the kernel gives back when its process ends.
    """

    log = Logger()

    def __init__(self, reactor: Any, state_dir: str) -> None:
        self._reactor = reactor
        self._path = os.path.join(state_dir, NAME)
        self._lock = LeaderLock(f"{self._path}.lock")
        self._port: IListeningPort | None = None

    def listen(self, factory: Any) -> IListeningPort | None:
        """Listen; None: it cannot, the log says why, and the server runs as well without."""
        try:
            self._port = self._listen(factory)
        except (LedgerUnusable, CannotListenError, OSError, ValueError) as error:
            self._lock.give_back()
            reason = getattr(error, "socketError", error)
            self.log.warn(
                "no control socket, reload by SIGHUP: path={path} reason={reason}",
                path=self._path,
                reason=reason,
            )
        return self._port

    def _listen(self, factory: Any) -> IListeningPort:
        if len(os.fsencode(self._path)) > LONGEST_PATH:
            raise ValueError(f"the path has more than {LONGEST_PATH} octets")
        if not self._lock.take():
            raise ValueError("another server has this state directory")
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(self._path).st_mode):
                raise ValueError("it is there and is no socket")
            # Whoever listened there has ended.
            os.unlink(self._path)
        port: IListeningPort = self._reactor.listenUNIX(self._path, factory, mode=0o600)
        return port

    def close(self) -> Deferred[None]:
        """No more clients; one that waits still gets its answer."""
        port, self._port = self._port, None
        stopped = maybeDeferred(lambda: None if port is None else port.stopListening())
        return stopped.addCallback(self._leave, port is not None)

    def _leave(self, _: object, listened: bool) -> None:
        if listened:
            with suppress(OSError):
                os.unlink(self._path)
            self._lock.give_back()
