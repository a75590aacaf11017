"""How a server with workers is started: as root, as a daemon, with --auth, with a log file."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_log import SESSIONS, ToFile, in_order, serve
from test_process import Client, Rooted, ends_well, login, outcome, rooted
from test_workers_process import READY, WORKERS, clients_of_each, start, workers

import gateway
import twisted
from gateway.net.tls.certificates import make_certificate
from programs import need
from servers import USER, Gateway, fill, refuses_connections, until_listening
from sockets import readable

__all__ = ["rooted"]

pytestmark = pytest.mark.interop


class RootedWorkers(Rooted):
    """With two workers, by a Python that any user may run."""

    def __init__(self) -> None:
        super().__init__()
        self.config.write_text(self.config.read_text() + WORKERS)

    @property
    def command(self) -> list[str]:
        """How it is started."""
        _, *arguments = super().command
        paths = ":".join(str(Path(one.__file__ or "").parents[1]) for one in (gateway, twisted))
        return ["env", f"PYTHONPATH={paths}", "/usr/bin/python3", *arguments]


@pytest.fixture
def workers_of_root() -> Iterator[Rooted]:
    """A gateway that root starts; ended with the test."""
    need(root=True)
    server = RootedWorkers()
    yield server
    if server.process is not None:
        server.stop(signal.SIGKILL)
    shutil.rmtree(server.directory)


def test_a_python_that_the_user_may_not_run_ends_the_start(workers_of_root: Rooted) -> None:
    closed = workers_of_root.directory / "closed"
    closed.mkdir(mode=0o700)
    os.symlink("/usr/bin/python3", closed / "python3")
    command = [
        str(closed / "python3") if word == "/usr/bin/python3" else word
        for word in workers_of_root.command
    ]
    status, output = outcome(command, workers_of_root.directory)
    assert status == 1
    nobody = pwd.getpwnam("nobody").pw_uid
    assert output == (
        f"{closed}/python3: user {nobody} may not read it: processes.workers; install Python and"
        " pop3gw where that user may read them\n"
    )


def test_workers_run_as_the_user_and_can_never_be_root_again(workers_of_root: Rooted) -> None:
    nobody = str(pwd.getpwnam("nobody").pw_uid)
    start(workers_of_root)
    with login(workers_of_root) as client:
        assert client.ask("STAT").startswith(b"+OK 0 ")
    for pid in workers(workers_of_root).values():
        (ids,) = re.findall(r"Uid:\s+(.*)", Path(f"/proc/{pid}/status").read_text())
        assert set(ids.split()) == {nobody}
    ends_well(workers_of_root)


def test_workers_are_not_root_where_the_parent_may_become_it_again(workers_of_root: Rooted) -> None:
    nobody = str(pwd.getpwnam("nobody").pw_uid)
    at = workers_of_root.command.index("--uid")
    command = [*workers_of_root.command[:at], "--euid", *workers_of_root.command[at:]]
    workers_of_root.start(command, READY)
    for pid in workers(workers_of_root).values():
        for ids in re.findall(r"[UG]id:\s+(.*)", Path(f"/proc/{pid}/status").read_text()):
            assert len(set(ids.split())) == 1
        assert f"Uid:\t{nobody}\t" in Path(f"/proc/{pid}/status").read_text()
    with login(workers_of_root) as client:
        assert client.ask("STAT").startswith(b"+OK 0 ")
    ends_well(workers_of_root)


def test_a_key_that_only_root_may_read_ends_the_start(workers_of_root: Rooted) -> None:
    server = workers_of_root
    certificate, key = server.directory / "root.pem", server.directory / "root.key"
    make_certificate(str(certificate), str(key))
    with open(server.config, "a") as file:
        file.write(f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')
    words = f"{key}: user {pwd.getpwnam('nobody').pw_uid} may not read it: tls.key; chgrp it to"
    for extra in ([], ["--check"]):
        status, output = outcome([*server.command, *extra], server.directory)
        assert status == 1
        (line,) = output.splitlines()
        assert words in line


def test_the_key_of_a_single_process_may_be_roots_alone(rooted: Rooted) -> None:
    certificate, key = rooted.directory / "root.pem", rooted.directory / "root.key"
    make_certificate(str(certificate), str(key))
    with open(rooted.config, "a") as file:
        file.write(f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')
    rooted.run()
    login(rooted).__exit__()
    ends_well(rooted)


class Many(ToFile):
    """One with workers that logs to a file."""

    def __init__(self, directory: Path) -> None:
        Gateway.__init__(self, directory, WORKERS)


def test_the_log_file_has_every_line_of_the_workers_whole(tmp_path: Path) -> None:
    gateway = Many(tmp_path)
    fill(gateway.maildir, [])
    serve(gateway)
    log = (tmp_path / "pop3gw.log").read_text()
    assert in_order("\n".join(line for line in log.splitlines() if " ended: " not in line))
    assert len(re.findall("session_end: end=quit ", log)) == SESSIONS


class Daemon(Many):
    """One in the background."""

    @property
    def command(self) -> list[str]:
        """Without ``-n``, with a file of its process id."""
        pidfile = f"--pidfile={self.directory}/pid"
        return [
            pidfile if word == "--pidfile=" else word for word in super().command if word != "-n"
        ]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Ended with the test."""
    server = Daemon(tmp_path)
    fill(server.maildir, [])
    yield server
    if (tmp_path / "pid").exists():
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def wait_until(daemon: Daemon, words: str) -> str:
    """The log, once it has these words."""
    end = time.monotonic() + 60
    file = daemon.directory / "pop3gw.log"
    while words not in (text := file.read_text()):
        assert time.monotonic() < end, text
        time.sleep(0.05)
    return text


def test_a_daemon_serves_rotates_its_log_and_ends_with_its_workers(daemon: Daemon) -> None:
    subprocess.run(daemon.command, cwd=daemon.directory, check=True, timeout=60)
    until_listening(daemon.plain)
    log = wait_until(daemon, READY.decode())
    pids = [int(pid) for pid in re.findall(r"ready: pid=(\d+)", log)]
    watches = [os.pidfd_open(pid) for pid in pids]
    parent = int((daemon.directory / "pid").read_text())
    with Client(daemon.connect()) as client:
        client.log_in().ask("QUIT")
    wait_until(daemon, "end=quit user=")
    os.kill(parent, signal.SIGUSR1)
    while not (daemon.directory / "pop3gw.log.1").exists():
        time.sleep(0.01)
    with Client(daemon.connect()) as client:
        client.log_in().ask("QUIT")
    wait_until(daemon, "end=quit user=")
    watches.append(os.pidfd_open(parent))
    os.kill(parent, signal.SIGTERM)
    for watch in watches:
        assert readable(watch, 30)
        os.close(watch)
    assert "stopped" in wait_until(daemon, "Server Shut Down.")
    assert not (daemon.directory / "pid").exists()


class WithAuth(Gateway):
    """Passwords are those of a checker that ``--auth`` describes."""

    @property
    def command(self) -> list[str]:
        """With twistd's ``--auth``."""
        return [*super().command, "--auth", f"memory:{USER}:from the command line"]


def test_checkers_of_the_command_line_work_in_every_worker(tmp_path: Path) -> None:
    server = WithAuth(tmp_path, WORKERS)
    fill(server.maildir, [])
    start(server)
    with Client(server.connect()) as client:
        assert client.ask(f"USER {USER}", "PASS wonderland").startswith(b"-ERR [AUTH]")
    for _ in range(8):
        with Client(server.connect()) as client:
            client.log_in("from the command line")
    ends_well(server)


def test_check_finds_faults_without_starting_workers(tmp_path: Path) -> None:
    server = Gateway(tmp_path, WORKERS)
    assert outcome([*server.command, "--check"], tmp_path)[0] == 0
    (tmp_path / "key.pem").unlink()
    status, output = outcome([*server.command, "--check"], tmp_path)
    assert status == 1
    assert "key.pem: no such file" in output
    status, output = outcome(server.command, tmp_path)
    assert status == 1
    assert "key.pem: no such file" in output
    assert "worker" not in output


OF_NO_USE = """\
import sys
from attrs import evolve
from gateway.errors import ConfigError
from gateway.store.maildir.kind import MAILDIR

def make(own, parts):
    if sys.argv[0].endswith("worker.py"):
        raise ConfigError(["store.kind: of no use in a worker"])
    return MAILDIR.make(own, parts)

KIND = evolve(MAILDIR, make=make)
"""


def test_where_no_worker_can_serve_the_server_says_why_and_fails(tmp_path: Path) -> None:
    (tmp_path / "of_no_use.py").write_text(OF_NO_USE)
    settings = f'{WORKERS}[store]\nkind = "of_no_use.KIND"\npath = "mail/{{name}}"\n'
    server = Gateway(tmp_path, settings)
    command = ["env", f"PYTHONPATH={tmp_path}", *server.command]
    status, output = outcome(command, tmp_path)
    assert status == 1
    assert "cannot serve: store.kind: of no use in a worker\n" in output
    assert "no worker can serve: stopping\n" in output
    assert "Traceback" not in output
    assert output.count(" started: pid=") == 2
    refuses_connections(server.plain)


def test_a_change_of_the_root_directory_is_refused(tmp_path: Path) -> None:
    server = Gateway(tmp_path, WORKERS)
    *twistd, plugin, config, path = server.command
    status, output = outcome([*twistd, "--chroot", "/", plugin, config, path], tmp_path)
    assert status == 1
    assert (
        output == "--chroot: expected none with processes.workers > 1: workers start from Python\n"
    )


def test_with_one_worker_there_is_one_process(tmp_path: Path) -> None:
    server = Gateway(tmp_path, "[processes]\nworkers = 1\n")
    fill(server.maildir, [])
    server.run()
    assert server.process is not None
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    assert children == ""
    assert "pop3gw.processes" not in server.log
    ends_well(server)


def test_signals_to_all_processes_are_the_parents_to_handle(tmp_path: Path) -> None:
    server = Gateway(tmp_path, WORKERS)
    fill(server.maildir, [])
    start(server)
    for pid in workers(server).values():
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(pid, number)
    for client in clients_of_each(server).values():
        assert client.ask("NOOP").startswith(b"+OK")
    assert " ended: " not in server.log
    ends_well(server)


def test_a_worker_that_is_told_to_stop_drains_and_is_replaced(tmp_path: Path) -> None:
    server = Gateway(tmp_path, WORKERS)
    fill(server.maildir, [])
    start(server)
    victim = workers(server)[1]
    os.kill(victim, signal.SIGTERM)
    server.wait_for(b" ready: pid=", times=3)
    assert f"worker 1 ended: pid={victim} reason=exit status 0 restart_in=0 s" in server.log
    for _ in range(8):
        with login(server) as client:
            assert client.ask("QUIT").startswith(b"+OK")
    ends_well(server)
