"""UNIX sockets at a path, which one server has at a time, whatever the last one left there."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import Any, cast

from attrs import frozen
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.app.obstacles import lock_of
from gateway.flock import locked


class _Port(unix.Port):
    """Has the lock of its path for as long as it listens."""

    lock: int
    """The descriptor that holds it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remove the socket, where its directory still lets this user, and close it."""
        # What root has bound, the user of the server may not remove.  The next start does.
        with suppress(OSError):
            os.unlink(self._bindPath)
        tcp.Port.connectionLost(self, reason)
        os.close(self.lock)


@implementer(IStreamServerEndpoint)
@frozen
class UnixSocket:
    """A socket at a path.

    Twisted's lock is a link that names a process id.  After a crash any process may have that id,
    in a container the next server itself, and no start gets by.  This one is a file's ``flock``,
    which the kernel takes back when its process ends.
    """

    _reactor: Any
    path: str
    _mode: int
    _backlog: int = 50

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """Listen; fails with ``CannotListenError`` or ``OSError``."""
        return execute(self.listen_now, protocolFactory)

    def listen_now(self, factory: Any) -> IListeningPort:
        """The same, and raises these."""
        place, flags = lock_of(self.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        if os.path.islink(place):
            # Twisted's, of an older version.  Its server, if it still runs, answers below.
            os.unlink(place)
        lock = locked(os.open(place, flags, 0o600))
        if lock is None:
            raise self._taken()
        try:
            self._remove_dead()
            path = os.fsencode(self.path)
            port: Any = _Port(path, factory, self._backlog, self._mode, self._reactor)
            port.lock = lock
            port.startListening()
        except BaseException:
            os.close(lock)
            raise
        return cast(IListeningPort, port)

    def _remove_dead(self) -> None:
        """Remove the socket of a server that has ended; raises if it may not have."""
        try:
            is_socket = stat.S_ISSOCK(os.lstat(self.path).st_mode)
        except FileNotFoundError:
            return
        if not is_socket:
            raise FileExistsError(errno.EEXIST, "is there and is no socket", self.path)
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            try:
                client.connect(self.path)
            except ConnectionRefusedError:
                os.unlink(self.path)
                return
            except BlockingIOError:
                # Somebody listens, with a full queue.
                pass
        raise self._taken()

    def _taken(self) -> CannotListenError:
        reason = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        return CannotListenError(None, self.path, reason)
