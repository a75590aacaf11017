"""The fork server: a process that has imported everything, and forks workers for the parent.

A worker starts at once, shares memory with the others, and has the same TLS contexts.  This side
runs in the fork server; ``gateway.processes.forks`` is the side of the parent.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import selectors
import signal
import socket
from collections.abc import Sequence

REQUESTS = 3
"""The descriptor of the socket with requests, in the fork server."""

MOST_DESCRIPTORS = 250
"""Descriptors that a worker can be handed; the kernel passes 253 in one message."""

_HIGHEST = 2**20
"""Descriptors are below this, whatever the limit."""

READY = b"ready"


def serve() -> bool:
    """Fork a worker for each request, and write the process id and status of each that ends.

    Returns True in each worker, with the descriptors of its request as 0, 1, 2 and so on; and
    False in the fork server when the parent is gone.
    """
    # The end of the parent is its end.  Blocked, not ignored: a worker must not miss one.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    # What is there now stays as it is: workers share it for longer.
    gc.collect()
    gc.freeze()
    requests = socket.socket(fileno=REQUESTS)
    requests.setblocking(True)
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        _report(READY)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    status = os.waitpid(key.data, 0)[1]
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _report(b"%d %d" % (key.data, os.waitstatus_to_exitcode(status)))
                    continue
                request, descriptors, _, _ = socket.recv_fds(requests, 16, MOST_DESCRIPTORS)
                if not request:
                    return False
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    requests.detach()
                    _become_worker(descriptors)
                    return True
                watch = os.pidfd_open(pid)
                selector.register(watch, selectors.EVENT_READ, pid)
                socket.send_fds(requests, [b"%d" % pid], [watch])
                for descriptor in descriptors:
                    os.close(descriptor)


def _report(line: bytes) -> None:
    os.write(1, line + b"\n")


def _become_worker(descriptors: Sequence[int]) -> None:
    """Have these descriptors, in their order from 0 on, and no others."""
    count = len(descriptors)
    # None of them may be in the place of another.
    apart = [fcntl.fcntl(one, fcntl.F_DUPFD, count) for one in descriptors]
    for place, descriptor in enumerate(apart):
        os.dup2(descriptor, place)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.closerange(count, limit if 0 < limit < _HIGHEST else _HIGHEST)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
