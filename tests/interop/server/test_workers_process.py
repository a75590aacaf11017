"""A server with two worker processes, as an administrator meets it."""

from __future__ import annotations

import os
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from test_process import Client, deliver, ends_well, login, message_files

from gateway.processes.supervision import SHOW_STACKS
from servers import PASSWORD, USER, Gateway, fill, free_port, refuses_connections
from sockets import readable

pytestmark = pytest.mark.interop

WORKERS = "[processes]\nworkers = 2\n"
READY = b" info ready: "


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    server = Gateway(tmp_path, WORKERS)
    fill(tmp_path / "mail" / USER, [b"Subject: 1\r\n\r\none\r\n"])
    yield server
    if server.process is not None:
        server.stop(signal.SIGKILL)


def start(server: Gateway) -> Gateway:
    """Start it; returns once both workers serve."""
    server.start(server.command, READY)
    return server


def workers(server: Gateway) -> dict[int, int]:
    """The process id of each worker, as of now."""
    found = re.findall(r"worker (\d) ready: pid=(\d+)", server.log)
    return {int(number): int(pid) for number, pid in found}


def server_of(server: Gateway, line: socket.socket) -> int:
    """The worker at the other end of a connection."""
    link = f"socket:[{inode_of(line.getpeername()[1], line.getsockname()[1])}]"
    for pid in workers(server).values():
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.readlink(file) == link:
                    return pid
    raise AssertionError("no worker has the other end")


def inode_of(local: int, remote: int) -> str:
    """The inode of the socket with these loopback ports."""
    ends = (f"0100007F:{local:04X}", f"0100007F:{remote:04X}")
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = row.split()
        if (fields[1], fields[2]) == ends:
            return fields[9]
    raise AssertionError(f"no connection between {local} and {remote}")


def clients_of_each(server: Gateway) -> dict[int, Client]:
    """A client that is logged in at each worker."""
    found: dict[int, Client] = {}
    while len(found) < 2:
        client = login(server)
        if found.setdefault(server_of(server, client.line), client) is not client:
            client.__exit__()
    return found


def test_both_workers_serve_clients_and_every_id_is_unique(gateway: Gateway) -> None:
    start(gateway)
    for client in clients_of_each(gateway).values():
        assert client.ask("STAT") == b"+OK 1 19\r\n"
        assert client.ask("QUIT").startswith(b"+OK")
    for _ in range(20):
        with login(gateway) as client:
            client.ask("QUIT")
    ends_well(gateway)
    ids = re.findall(r"session_end: end=quit .* session=(\w+)", gateway.log)
    assert len(ids) == len(set(ids)) >= 22
    assert gateway.log.count("listener secure at") == 1
    assert len(re.findall(r"worker \d ended: pid=\d+ reason=exit status 0\n", gateway.log)) == 2


def test_all_services_are_served(tmp_path: Path) -> None:
    lmtp, policy, http = f"{tmp_path}/lmtp", free_port(), free_port()
    server = Gateway(
        tmp_path,
        f'{WORKERS}[lmtp]\nendpoint = "unix:{lmtp}"\n'
        f'[policy]\nendpoint = "tcp:{policy}:interface=127.0.0.1"\n'
        f'[http]\nendpoint = "tcp:{http}:interface=127.0.0.1"\ntoken = "t0ken"\n',
    )
    fill(tmp_path / "mail" / USER, [])
    start(server)
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(30)
            line.connect(lmtp)
            with Client(line) as client:
                assert client.greeting.startswith(b"220 ")
                reply = client.ask("LHLO test")
                while reply[3:4] == b"-":
                    reply = client.read()
                assert client.ask("MAIL FROM:<>", f"RCPT TO:<{USER}>").startswith(b"250")
                assert client.ask("DATA").startswith(b"354")
                assert client.ask("Subject: x\r\n\r\nx\r\n.").startswith(b"250")
        with socket.create_connection(("127.0.0.1", policy), timeout=30) as line:
            line.sendall(
                f"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient={USER}\n\n".encode()
            )
            assert line.recv(100).startswith(b"action=")
        request = urllib.request.Request(f"http://127.0.0.1:{http}/v1/quota/{USER}")
        request.add_header("Authorization", "Bearer t0ken")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        with login(server) as client:
            assert client.ask("STAT").startswith(b"+OK 1 ")
    finally:
        server.stop()
    assert not os.path.exists(lmtp)


def test_a_killed_worker_loses_its_own_sessions_only_and_is_replaced(gateway: Gateway) -> None:
    start(gateway)
    both = clients_of_each(gateway)
    (victim, lost), (_, kept) = both.items()
    os.kill(victim, signal.SIGKILL)
    assert lost.read() == b""
    gateway.wait_for(b" ready: pid=", times=3)
    assert f"ended: pid={victim} reason=signal SIGKILL restart_in=0 s" in gateway.log
    assert kept.ask("NOOP").startswith(b"+OK")
    for client in clients_of_each(gateway).values():
        assert client.ask("NOOP").startswith(b"+OK")
    ends_well(gateway)


def test_a_worker_that_ends_in_order_tells_all_that_it_has_counted(gateway: Gateway) -> None:
    port, token = free_port(), "a-token-of-the-test"
    with open(gateway.config, "a") as file:
        file.write(f'[http]\nendpoint = "tcp:{port}:interface=127.0.0.1"\ntoken = "{token}"\n')
    both = clients_of_each(start(gateway))
    for client in both.values():
        assert client.ask("RETR 1").startswith(b"+OK")
        client.block()
    for number, pid in enumerate(both):
        # The sessions are counted at their end, and so after the parent asked last.
        os.kill(pid, signal.SIGTERM)
        gateway.wait_for(b" ready: pid=", times=3 + number)
    metrics = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
    metrics.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(metrics, timeout=30) as answer:
        assert b'pop3gw_retrieved_messages_total{command="RETR"} 2.0\n' in answer.read()
    ends_well(gateway)


def test_the_queue_of_a_worker_that_died_is_served_by_its_replacement(gateway: Gateway) -> None:
    start(gateway)
    victim = workers(gateway)[1]
    os.kill(victim, signal.SIGSTOP)
    # Half of them wait at the worker that accepts nobody.
    lines = [gateway.connect() for _ in range(16)]
    os.kill(victim, signal.SIGKILL)
    for line in lines:
        with Client(line) as client:
            assert client.log_in().ask("QUIT").startswith(b"+OK")
    ends_well(gateway)


def test_a_worker_that_hangs_is_killed_and_replaced(gateway: Gateway) -> None:
    with open(gateway.config, "a") as file:
        file.write("hang_timeout = 3\n")
    start(gateway)
    victim = workers(gateway)[2]
    os.kill(victim, signal.SIGSTOP)
    gateway.wait_for(b" ready: pid=", times=3)
    assert f"worker 2 killed: pid={victim}: it did not respond for 3 s" in gateway.log
    assert workers(gateway)[2] != victim
    ends_well(gateway)


def test_the_signal_before_the_end_of_a_hanging_worker_shows_its_stacks(gateway: Gateway) -> None:
    start(gateway)
    os.kill(workers(gateway)[1], SHOW_STACKS)
    gateway.wait_for(b"worker 1:   File ")
    gateway.wait_for(b" in main\n")
    with login(gateway) as client:
        assert client.ask("QUIT").startswith(b"+OK")
    ends_well(gateway)


def test_the_death_of_the_parent_ends_the_workers_after_their_commits(gateway: Gateway) -> None:
    deliver(gateway.maildir, range(2, 601))
    start(gateway)
    watches = [os.pidfd_open(pid) for pid in workers(gateway).values()]
    with login(gateway) as client:
        client.write(*(f"DELE {number}" for number in range(1, 601)))
        assert all(client.read().startswith(b"+OK") for _ in range(600))
        client.write("QUIT")
        while len(message_files(gateway.maildir)) == 600:
            pass
        gateway.send(signal.SIGKILL)
        assert client.read().startswith(b"+OK")
    assert message_files(gateway.maildir) == []
    assert gateway.process is not None
    gateway.process.wait()
    for ended in watches:
        assert readable(ended, 30)
        os.close(ended)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", gateway.plain))


def test_a_port_that_is_in_use_is_an_error(gateway: Gateway, tmp_path: Path) -> None:
    start(gateway)
    second = tmp_path / "second"
    second.mkdir()
    other = Gateway(second, WORKERS)
    other.config.write_text(
        other.config.read_text().replace(f":{other.plain}:", f":{gateway.plain}:")
    )
    other.start(other.command, b"Address already in use")
    assert other.process is not None
    assert other.process.wait(30) == 1
    assert "listeners.plain: " in other.log
    assert "Traceback" not in other.log
    ends_well(gateway)


def test_a_second_signal_closes_what_is_left(gateway: Gateway) -> None:
    start(gateway)
    with login(gateway):
        gateway.send(signal.SIGTERM)
        gateway.send(signal.SIGTERM)
        ends_well(gateway, signalled=True)


def test_what_was_retrieved_and_marked_is_removed_by_whichever_worker(gateway: Gateway) -> None:
    start(gateway)
    with login(gateway) as client:
        assert client.ask("DELE 1", "QUIT").startswith(b"+OK")
    assert message_files(gateway.maildir) == []
    with login(gateway) as client:
        assert client.ask("STAT") == b"+OK 0 0\r\n"
    assert PASSWORD not in gateway.log
    ends_well(gateway)


def test_new_clients_of_a_worker_that_hangs_are_served_by_the_other(tmp_path: Path) -> None:
    server = Gateway(tmp_path, "[processes]\nworkers = 2\nhang_timeout = 600\n")
    fill(server.maildir, [])
    start(server)
    hanging = workers(server)[1]
    os.kill(hanging, signal.SIGSTOP)
    lines = [server.connect() for _ in range(16)]
    for line in lines:
        with Client(line) as client:
            assert client.log_in().ask("QUIT").startswith(b"+OK")
    assert "worker 1 does not serve: worker 2 accepts its clients" in server.log
    os.kill(hanging, signal.SIGCONT)
    for client in clients_of_each(server).values():
        assert client.ask("NOOP").startswith(b"+OK")
    assert " killed: " not in server.log
    ends_well(server)


def test_a_worker_that_hangs_at_the_end_does_not_keep_the_server(tmp_path: Path) -> None:
    server = Gateway(tmp_path, f"{WORKERS}[limits]\ndrain_timeout = 1\n")
    fill(server.maildir, [])
    start(server)
    hanging = workers(server)[1]
    os.kill(hanging, signal.SIGSTOP)
    ends_well(server)
    assert f"worker 1 killed: pid={hanging}: its work was not finished in time" in server.log
    assert f"worker 1 ended: pid={hanging} reason=signal SIGKILL\n" in server.log
    refuses_connections(server.plain)
