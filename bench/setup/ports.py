"""Loopback ports for servers that are started for a while."""

from __future__ import annotations

import contextlib
import random
import socket
from itertools import cycle, islice


class Ports:
    """Some ports, each of which is given away by one process at a time.

    They lie below the range from which the kernel takes ports for outgoing connections: between
    here and the server's start nothing holds the port, nor while the server is down for a moment.
    A name in the kernel's abstract space keeps other runs from it.
    """

    def __init__(self, some: range) -> None:
        """``some``: below 32,768."""
        # One that ends as 995 says that TLS is spoken there, and a listener would have to say how.
        ports = [port for port in random.sample(some, len(some)) if port % 1000 != 995]
        self._ports = cycle(ports)
        self._marks: dict[int, socket.socket] = {}

    def free(self) -> int:
        """One that nothing listens on just now, and another each time."""
        for port in islice(self._ports, 30_000):
            with socket.socket() as probe, contextlib.suppress(OSError):
                if port not in self._marks:
                    mark = socket.socket(socket.AF_UNIX)
                    mark.bind(f"\0pop3gw-test-port-{port}")
                    self._marks[port] = mark
                probe.bind(("127.0.0.1", port))
                return port
        raise OSError("all ports are taken: by other runs of these tests?")
