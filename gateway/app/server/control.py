"""The control socket: operators' commands ask the running server there, by HTTP.

It is the UNIX socket ``control`` in the state directory, for the server's user and root.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from gateway.app.server.unix_sockets import UnixSocket
from gateway.operations.server.control import NAME

CONTROL = "control"
"""The key of this socket among those that the parent hands to its workers."""


class ControlSocket:
    """Listens on the control socket while the server runs.

    Of several servers with one state directory the first has the socket.
    """

    log = Logger()

    def __init__(self, reactor: Any, state_dir: str) -> None:
        self._reactor = reactor
        self._socket = UnixSocket(reactor, os.path.join(state_dir, NAME), 0o600)
        self._port: IListeningPort | None = None

    def listen(self, factory: Any) -> IListeningPort | None:
        """Listen; None: it cannot, the log says why, and the server runs as well without."""
        try:
            self._port = self._socket.listen_now(factory)
        except (CannotListenError, OSError) as error:
            reason = getattr(error, "socketError", error)
            if getattr(reason, "errno", None) == errno.EADDRINUSE:
                reason = "another server has this state directory"
            self.log.warn(
                "no control socket, reload by SIGHUP: path={path} reason={reason}",
                path=self._socket.path,
                reason=reason,
            )
        return self._port

    def close(self) -> Deferred[Any]:
        """No more clients; one that waits still gets its answer."""
        port, self._port = self._port, None
        return succeed(None) if port is None else maybeDeferred(port.stopListening)
