"""Worker processes resume each other's TLS sessions, and outlive the process that forks them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from test_process import ends_well
from test_workers_process import clients_of_each, inode_of, start, workers

from certificates import Pair
from servers import Gateway, fill
from sockets import readable

pytestmark = pytest.mark.interop

OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    server = Gateway(tmp_path, "[processes]\nworkers = 2\nhang_timeout = 60\n")
    fill(server.maildir, [])
    yield server
    if server.process is not None:
        server.stop(signal.SIGKILL)


class Client:
    """A client with TLS that keeps its session of each version."""

    def __init__(self, server: Gateway) -> None:
        self.server = server
        self.pids = list(workers(server).values())
        self.sessions: dict[ssl.TLSVersion, ssl.SSLSession | None] = {OLD: None, NEW: None}
        self.contexts = {version: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for version in (OLD, NEW)}
        for version, context in self.contexts.items():
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.minimum_version = context.maximum_version = version

    def visit(self, pid: int) -> list[bool]:
        """Connect to this worker; whether the sessions of TLS 1.2 and 1.3 were resumed."""
        found = []
        for version, context in self.contexts.items():
            with (
                self._line(pid) as line,
                context.wrap_socket(line, session=self.sessions[version]) as wrapped,
            ):
                wrapped.sendall(b"QUIT\r\n")
                while wrapped.recv(1000):
                    pass
                self.sessions[version] = wrapped.session
                found.append(bool(wrapped.session_reused))
        return found

    def _line(self, pid: int) -> socket.socket:
        while True:
            line = socket.create_connection(("127.0.0.1", self.server.tls), timeout=30)
            ports = line.getpeername()[1], line.getsockname()[1]
            # Its inode is 0 until it is accepted.
            while (found := holder_of(inode_of(*ports), self.pids)) is None:
                pass
            if found == pid:
                return line
            line.close()


def holder_of(inode: str, pids: Iterable[int]) -> int | None:
    """Which of these processes has the socket."""
    for pid in pids:
        with contextlib.suppress(OSError):
            links = (os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd"))
            if f"socket:[{inode}]" in links:
                return pid
    return None


def fork_server(server: Gateway) -> int:
    """The process id of the fork server."""
    worker = workers(server)[1]
    status = Path(f"/proc/{worker}/status").read_text()
    (parent,) = re.findall(r"^PPid:\s+(\d+)$", status, re.M)
    assert b"\0fork\0" in Path(f"/proc/{parent}/cmdline").read_bytes()
    return int(parent)


BOTH, NEITHER = [True, True], [False, False]


def test_a_session_is_resumed_at_the_other_worker_and_at_its_replacement(gateway: Gateway) -> None:
    start(gateway)
    first, second = (workers(gateway)[number] for number in (1, 2))
    client = Client(gateway)
    assert client.visit(first) == NEITHER
    assert client.visit(second) == client.visit(first) == client.visit(second) == BOTH
    os.kill(first, signal.SIGKILL)
    gateway.wait_for(b"worker 1 ready: pid=", times=2)
    assert f"worker 1 ended: pid={first} reason=signal SIGKILL restart_in=0 s" in gateway.log
    third = workers(gateway)[1]
    client.pids.append(third)
    assert client.visit(third) == client.visit(second) == BOTH


def test_a_new_certificate_ends_old_sessions_and_new_ones_are_resumed(gateway: Gateway) -> None:
    start(gateway)
    first, second = (workers(gateway)[number] for number in (1, 2))
    client, other = Client(gateway), Client(gateway)
    assert client.visit(first) == other.visit(second) == NEITHER
    Pair(gateway.directory, "cert", "localhost")
    (gateway.directory / "cert.key").rename(gateway.directory / "key.pem")
    gateway.send(signal.SIGHUP)
    gateway.wait_for(b"reloaded the configuration: ")
    gateway.wait_for(b"renewed ticket keys: generation=1")
    assert client.visit(second) == other.visit(first) == NEITHER
    assert client.visit(first) == other.visit(second) == BOTH
    os.kill(first, signal.SIGKILL)
    gateway.wait_for(b"worker 1 ready: pid=", times=2)
    client.pids.append(workers(gateway)[1])
    assert client.visit(client.pids[-1]) == BOTH
    gateway.send(signal.SIGHUP)
    gateway.wait_for(b"reloaded the configuration: ", times=2)
    assert client.visit(second) == BOTH, "nothing has changed"


def test_workers_outlive_the_fork_server_and_are_replaced_without_and_with_a_new_one(
    gateway: Gateway,
) -> None:
    start(gateway)
    old = fork_server(gateway)
    both = clients_of_each(gateway)
    os.kill(old, signal.SIGKILL)
    gateway.wait_for(b"the fork server has ended: ")
    for client in both.values():
        assert client.ask("NOOP").startswith(b"+OK")
    (victim, _), (other, kept) = both.items()
    os.kill(victim, signal.SIGKILL)
    gateway.wait_for(b" ready: pid=", times=3)
    assert f"ended: pid={victim} reason=status unknown restart_in=0 s" in gateway.log
    gateway.wait_for(b"the fork server is there again")
    assert kept.ask("NOOP").startswith(b"+OK")
    os.kill(other, signal.SIGKILL)
    gateway.wait_for(b" ready: pid=", times=4)
    for client in clients_of_each(gateway).values():
        assert client.ask("QUIT").startswith(b"+OK")
    # One was started without it, and the other by it.
    parents = {
        int(re.findall(r"^PPid:\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.M)[0])
        for pid in workers(gateway).values()
    }
    assert gateway.process is not None
    assert gateway.process.pid in parents
    assert len(parents) == 2
    ends_well(gateway)


def test_the_fork_server_ends_with_the_parent(gateway: Gateway) -> None:
    start(gateway)
    watch = os.pidfd_open(fork_server(gateway))
    ends_well(gateway)
    assert readable(watch, 30)
    os.close(watch)
