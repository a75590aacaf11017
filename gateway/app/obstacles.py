"""Checks, before the start, whether this process can listen at an endpoint."""

from __future__ import annotations

import errno
import os
import socket
import stat

from gateway.endpoints import Endpoint

_CURES = {
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE, a UNIX socket a directory"
    " that may be written",
    errno.EADDRINUSE: "another program listens there, which ss -ltnxp shows",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EROFS: "its file system is read-only, under systemd without ReadWritePaths=",
}


def cure(error: object) -> str:
    """The cure for a failure to listen, to append to its message."""
    known = _CURES.get(getattr(error, "errno", None) or 0)
    return f" ({known})" if known else ""


def obstacle(endpoint: Endpoint) -> str:
    """The problem of an endpoint, and its cure; empty: none.  Binds no port."""
    if endpoint.path:
        return _of_socket_file(endpoint.path)
    return _of_address(endpoint.interface) if endpoint.interface else ""


def _of_socket_file(path: str) -> str:
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        return f"{directory}: no such directory; make it, or let RuntimeDirectory= of systemd do so"
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        return f"{directory}: user {os.geteuid()} may not write to it; chown it to who runs pop3gw"
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        return f"{path}: is there and is no socket; remove it, or choose another path"
    lock = lock_of(path)
    usable = os.path.isfile(lock) and os.access(lock, os.R_OK | os.W_OK, effective_ids=True)
    # A link is a lock of an older version, and a start removes it.
    if os.path.lexists(lock) and not os.path.islink(lock) and not usable:
        return (
            f"{lock}: expected a file that user {os.geteuid()} may read and write; remove it,"
            f" unless another server listens at {path}"
        )
    return ""


def lock_of(path: str) -> str:
    """The lock file of a UNIX socket."""
    return f"{path}.lock"


def _of_address(interface: str) -> str:
    try:
        family, kind, _, _, address = socket.getaddrinfo(interface, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except OSError as error:
        return f"{interface}: {error.strerror}{cure(error)}"
    return ""
