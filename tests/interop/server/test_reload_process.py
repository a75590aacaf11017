"""A running server takes another configuration: SIGHUP and ``pop3gw reload``."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_process import Client, ends_well, login

import ldap_people
from gateway.directory import passwd_entries
from servers import PASSWORD, USER, Gateway, Slapd, fill, free_port

pytestmark = pytest.mark.interop

RELOADED, FAILED = b"reloaded the configuration: ", b"reload failed, "


class Reloaded(Gateway):
    """A gateway with a configuration that tests change."""

    def __init__(self, directory: Path, settings: str = "") -> None:
        super().__init__(directory, settings)
        self.base = self.config.read_text().removesuffix(f"{settings}\n")
        fill(self.maildir, [b"Subject: 1\r\n\r\none\r\n"])

    def write(self, settings: str) -> None:
        """Other settings beside those of the listeners and of the mail."""
        self.config.write_text(f"{self.base}{settings}\n")

    def hang_up(self, settings: str, said: bytes = RELOADED) -> str:
        """Other settings and SIGHUP; the line of the log that answers it."""
        self.write(settings)
        before = self.log.count(said.decode())
        self.send(signal.SIGHUP)
        self.wait_for(said, times=before + 1)
        return [line for line in self.log.splitlines() if said.decode() in line][-1]

    def reload(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``pop3gw reload``."""
        program = Path(sys.executable).with_name("pop3gw")
        return subprocess.run(
            [program, "reload", "-c", self.config, *arguments],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Reloaded]:
    server = Reloaded(tmp_path)
    yield server
    if server.process is not None:
        server.stop(signal.SIGKILL)


def greeted(server: Gateway) -> Client:
    """A client that has its greeting."""
    return Client(server.connect())


def refused(server: Gateway, password: str = PASSWORD, user: str = USER) -> bytes:
    """The reply to a login that fails."""
    with greeted(server) as client:
        reply = client.ask(f"USER {user}", f"PASS {password}")
    assert reply.startswith(b"-ERR"), reply
    return reply


def accepted(server: Gateway, password: str = PASSWORD, user: str = USER) -> None:
    """Somebody can log in."""
    with greeted(server) as client:
        reply = client.ask(f"USER {user}", f"PASS {password}")
    assert reply.startswith(b"+OK"), reply


def test_limits_and_profile_change_and_an_open_session_stays_and_counts(gateway: Reloaded) -> None:
    gateway.run()
    with login(gateway) as open_session:
        line = gateway.hang_up(
            '[limits]\nsessions_per_user = 1\n[pop3]\ngreeting = "Hello."\nimplementation = "x"\n'
        )
        assert "changed=pop3.greeting,pop3.implementation,limits.sessions_per_user" in line
        assert b"[SYS/TEMP]" in refused(gateway)
        with greeted(gateway) as client:
            assert client.greeting == b"+OK Hello.\r\n"
            assert client.ask("CAPA").startswith(b"+OK")
            assert b"IMPLEMENTATION x\r\n" in client.block()
        assert open_session.ask("NOOP").startswith(b"+OK")
        assert open_session.ask("RETR 1").startswith(b"+OK")
        open_session.block()
        assert open_session.ask("QUIT").startswith(b"+OK")
    accepted(gateway)
    ends_well(gateway)


def test_wrong_passwords_of_before_count_for_a_new_throttle(gateway: Reloaded) -> None:
    gateway.run()
    for password in ("one", "two"):
        assert b"[AUTH]" in refused(gateway, password)
    gateway.hang_up("[throttle]\nrefuse_after = 2\n")
    assert b"[SYS/TEMP]" in refused(gateway)
    ends_well(gateway)


def test_a_bad_file_keeps_everything_and_the_log_has_all_that_is_wrong(gateway: Reloaded) -> None:
    gateway.run()
    gateway.hang_up('[pop3]\ngreeting = "First."\n')
    line = gateway.hang_up(
        '[pop3]\ngreeting = "Second."\nidle_timeout = "x"\n[limits]\nconnections = 0\n', FAILED
    )
    for wrong in ("pop3.idle_timeout: expected a number", "limits.connections: expected 1 to"):
        assert f"{gateway.config}:" in line
        assert wrong in line
    line = gateway.hang_up('[pop3\ngreeting = "Third."\n', FAILED)
    assert "not TOML" in line
    with greeted(gateway) as client:
        assert client.greeting == b"+OK First.\r\n"
    accepted(gateway)
    assert "Traceback" not in gateway.log
    ends_well(gateway)


def test_a_part_that_cannot_be_built_keeps_everything_too(gateway: Reloaded) -> None:
    gateway.run()
    mechanism = '[ntlm]\nprovider = "winbind"\nhelper = ["/no/such/program"]\n'
    line = gateway.hang_up(f'[pop3]\ngreeting = "New."\n{mechanism}', FAILED)
    assert "ntlm.helper: no program /no/such/program" in line
    with greeted(gateway) as client:
        assert client.greeting != b"+OK New.\r\n"
        assert client.ask("CAPA").startswith(b"+OK")
        assert b"NTLM" not in client.block()
    accepted(gateway)
    ends_well(gateway)


def test_what_needs_a_restart_is_named_and_keeps_its_value(gateway: Reloaded) -> None:
    more = f'[listeners.more]\nendpoint = "tcp:{free_port()}:interface=127.0.0.1"\ntls = "stls"\n'
    gateway.run()
    line = gateway.hang_up(
        f'{more}[lmtp]\nendpoint = "unix:{gateway.directory}/lmtp"\n[log]\nsessions = false\n'
    )
    assert " warn reload: " in line
    assert "changed=log.sessions needs_restart=listeners.more,lmtp.endpoint" in line
    assert not (gateway.directory / "lmtp").exists()
    accepted(gateway)
    ends_well(gateway)
    assert "method=PASS" not in gateway.log


def test_old_and_new_values_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    address = f'[http]\nendpoint = "tcp:{free_port()}:interface=127.0.0.1"\n'
    server = Reloaded(tmp_path, f'{address}token = "t"\n').run()
    assert isinstance(server, Reloaded)
    # The API would stay at its port, and be open to all.
    line = server.hang_up("", FAILED)
    assert "http.token: expected a token" in line
    assert "(until a restart the old values stay of http.endpoint)" in line
    ends_well(server)


def test_another_passwd_file_is_taken_and_cached_passwords_are_forgotten(
    gateway: Reloaded,
) -> None:
    other = gateway.directory / "others"
    passwd_entries.put(str(other), "bob@example.org", b"builder", "SSHA256")
    gateway.run()
    accepted(gateway)
    with greeted(gateway) as early:
        gateway.base = gateway.base.replace('file = "accounts"', f'file = "{other}"')
        assert "changed=directory.file" in gateway.hang_up("")
        # It was connected before, and logs in to the new directory.
        reply = early.ask("USER bob@example.org", "PASS builder")
        assert reply.startswith(b"+OK")
    assert b"[AUTH]" in refused(gateway)
    ends_well(gateway)


def test_quotas_change_at_rcpt_also_for_a_connection_that_is_open(tmp_path: Path) -> None:
    lmtp = f'[lmtp]\nendpoint = "unix:{tmp_path}/lmtp"\n'
    server = Reloaded(tmp_path, lmtp).run()
    assert isinstance(server, Reloaded)
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(30)
        line.connect(f"{tmp_path}/lmtp")
        client = Client(line)
        client.write("LHLO here")
        while client.read()[3:4] == b"-":
            pass
        asked = ("MAIL FROM:<>", f"RCPT TO:<{USER}>")
        assert client.ask(*asked).startswith(b"250")
        assert client.ask("RSET").startswith(b"250")
        line_of_log = server.hang_up(f'{lmtp}[quota.domains."example.org"]\noctets = "1"\n')
        assert "changed=quota.domains.example.org" in line_of_log
        assert client.ask(*asked).startswith(b"452 4.2.2")
        client.file.close()
    ends_well(server)


def test_retention_begins_and_ends_while_the_server_runs(gateway: Reloaded) -> None:
    (message,) = (gateway.maildir / "new").iterdir()
    os.utime(message, (1_600_000_000, 1_600_000_000))
    gateway.run()
    line = gateway.hang_up('[retention]\nenabled = true\npolicy = "unread 60d"\ncheck_every = 1\n')
    assert "changed=retention.enabled,retention.policy,retention.check_every" in line
    gateway.wait_for(b"retention removed 1 messages, 0 left")
    with login(gateway) as client:
        assert client.ask("STAT") == b"+OK 0 0\r\n"
        gateway.hang_up("")
        assert client.ask("QUIT").startswith(b"+OK")
    ends_well(gateway)


def connections_to(port: int) -> set[str]:
    """The local ends of established connections to a loopback port."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[2] == f"0100007F:{port:04X}" and row[3] == "01"}


def test_ldap_servers_change_and_connections_that_fit_are_kept(tmp_path: Path) -> None:
    people = {USER: PASSWORD}
    places = [tmp_path / name for name in ("one", "two", "gateway")]
    for place in places:
        place.mkdir()
    first, second = Slapd(places[0], people).run(), Slapd(places[1], {USER: "other"}).run()
    plain = {"start_tls": False, "ca_file": None}
    uris = [f"ldap://127.0.0.1:{one.plain}" for one in (first, second)]
    server = Reloaded(places[2], ldap_people.settings(first, **plain, uris=uris[:1])).run()
    assert isinstance(server, Reloaded)
    try:
        accepted(server)
        kept = connections_to(first.plain)
        assert kept
        # One more server: the connections to the first stay, and so does nothing else open.
        both = ldap_people.settings(first, **plain, uris=uris)
        assert "changed=ldap.uris" in server.hang_up(both)
        accepted(server)
        assert kept <= connections_to(first.plain)
        # Only the other one, which has another password: the cached one is good no more.
        assert "changed=ldap.uris" in server.hang_up(
            ldap_people.settings(first, **plain, uris=uris[1:])
        )
        assert connections_to(first.plain) == set()
        assert b"[AUTH]" in refused(server)
        accepted(server, "other")
        # A wrong service password is a wrong configuration for those who log in, not for a reload.
        server.hang_up(ldap_people.settings(first, **plain, uris=uris[1:], bind_password="no"))
        assert b"[SYS/PERM]" in refused(server, "another")
        ends_well(server)
    finally:
        for one in (first, second):
            one.stop(signal.SIGKILL)


def test_the_command_prints_what_changed_and_what_waits(gateway: Reloaded) -> None:
    gateway.run()
    gateway.wait_for(b"ready")
    done = gateway.reload()
    assert (done.returncode, done.stdout, done.stderr) == (0, "changed: nothing\n", "")
    gateway.write('[limits]\nconnections = 7\n[lmtp]\nendpoint = "tcp:24"\n')
    done = gateway.reload("--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["changed"]) == (3, ["limits.connections"])
    assert (said["restart"], said["problems"]) == (["lmtp.endpoint"], [])
    gateway.write("[limits]\nconnections = 0\n[log]\ncounts = -1\n")
    done = gateway.reload()
    assert (done.returncode, done.stdout) == (1, "")
    for key in ("limits.connections", "log.counts"):
        assert f"{key}: expected" in done.stderr
    ends_well(gateway)
    done = gateway.reload()
    assert done.returncode == 1
    assert "is the server running" in done.stderr


def test_the_control_socket_of_a_killed_server_is_taken_over_and_that_of_a_living_one_is_not(
    tmp_path: Path, gateway: Reloaded
) -> None:
    gateway.run()
    gateway.wait_for(b"ready")
    gateway.stop(signal.SIGKILL)
    assert (tmp_path / "control").is_socket()
    assert "is the server running" in gateway.reload().stderr
    again, second = Reloaded(tmp_path), None
    try:
        again.run()
        again.wait_for(b"ready")
        assert again.reload().returncode == 0
        second = Reloaded(tmp_path).run()
        second.wait_for(b"no control socket, reload by SIGHUP")
        assert "another server has this state directory" in second.log
        ends_well(second)
        assert (tmp_path / "control").is_socket()
        ends_well(again)
    finally:
        for server in filter(None, (again, second)):
            if server.process is not None and server.process.poll() is None:
                server.stop(signal.SIGKILL)


def test_two_signals_at_once_and_one_during_the_drain_harm_nothing(gateway: Reloaded) -> None:
    gateway.run()
    with login(gateway) as client:
        gateway.write("[limits]\nsessions_per_user = 2\n")
        for _ in range(5):
            gateway.send(signal.SIGHUP)
        gateway.wait_for(b"changed=limits.sessions_per_user")
        client.ask("STAT")
        gateway.send(signal.SIGTERM)
        gateway.wait_for(b"stopping: at most")
        gateway.send(signal.SIGHUP)
    assert gateway.process is not None
    gateway.process.wait(60)
    assert "Traceback" not in gateway.log
    assert gateway.log.count("changed=limits.sessions_per_user") == 1


def test_all_workers_take_a_reload_or_none_and_one_that_comes_later_has_it(tmp_path: Path) -> None:
    workers = "[processes]\nworkers = 2\n"
    server = Reloaded(tmp_path, workers)
    try:
        server.start(server.command, b" info ready: ")
        hello = f'{workers}[pop3]\ngreeting = "Hello."\n'
        mechanism = '[ntlm]\nprovider = "winbind"\nhelper = ["/no/such/program"]\n'
        assert "ntlm.helper" in server.hang_up(f"{hello}{mechanism}", FAILED)
        more = f'[listeners.more]\nendpoint = "tcp:{free_port()}"\ntls = "stls"\n'
        line = server.hang_up(f"{hello}{more}")
        assert "changed=pop3.greeting needs_restart=listeners.more" in line
        assert {greeted(server).greeting for _ in range(20)} == {b"+OK Hello.\r\n"}
        for line in server.log.splitlines():
            if "worker 1 ready: pid=" in line:
                os.kill(int(line.rpartition("=")[2]), signal.SIGKILL)
        server.wait_for(b"worker 1 ready: pid=", times=2)
        assert {greeted(server).greeting for _ in range(20)} == {b"+OK Hello.\r\n"}
        assert server.reload().stdout == "changed: nothing\nneeds a restart: listeners.more\n"
        ends_well(server)
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop(signal.SIGKILL)
