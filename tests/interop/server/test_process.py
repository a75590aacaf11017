"""The whole process, as an administrator meets it: killed, reloaded, stopped, short of room."""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from disks import small_disk_at
from gateway.directory import passwd_entries
from gateway.net.tls.certificates import make_certificate
from programs import need
from servers import PASSWORD, USER, Gateway, fill, refuses_connections

pytestmark = pytest.mark.interop

MIB = 1024 * 1024
PAGE = 4096


class Client:
    """A POP3 client; a server that goes silent fails the test and never hangs it."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.file = line.makefile("rb")
        self.greeting = self.read()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.line.close()

    def read(self) -> bytes:
        """A line; nothing at the end of the connection."""
        return self.file.readline()

    def write(self, *lines: str) -> None:
        """Lines in one piece, CRLF added."""
        self.line.sendall("".join(line + "\r\n" for line in lines).encode())

    def ask(self, *lines: str) -> bytes:
        """Send lines one after the other; the first line of the last reply."""
        reply = b""
        for line in lines:
            self.write(line)
            reply = self.read()
        return reply

    def block(self) -> bytes:
        """The rest of a multi-line reply, dots unstuffed."""
        lines = []
        while (line := self.read()) != b".\r\n":
            assert line.endswith(b"\r\n"), f"the connection ended within a reply, after {line!r}"
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

    def log_in(self, password: str = PASSWORD) -> Client:
        """Log in."""
        assert self.ask(f"USER {USER}", f"PASS {password}").startswith(b"+OK")
        return self

    def uids(self) -> list[str]:
        """The ids, in the order of the message numbers."""
        assert self.ask("UIDL").startswith(b"+OK")
        return [line.split()[1].decode() for line in self.block().splitlines()]

    def subjects(self, count: int) -> list[str]:
        """The subjects, fetched in a way that marks no message as read."""
        self.write(*(f"TOP {number} 0" for number in range(1, count + 1)))
        found = []
        for _ in range(count):
            assert self.read().startswith(b"+OK")
            (subject,) = re.findall(rb"Subject: (.*)\r\n", self.block())
            found.append(subject.decode())
        return found

    def seen(self) -> dict[str, str]:
        """Subject to id; no id is there twice."""
        uids = self.uids()
        assert len(set(uids)) == len(uids)
        return dict(zip(self.subjects(len(uids)), uids, strict=True))


@pytest.fixture
def gateways(tmp_path: Path) -> Iterator[Callable[[], Gateway]]:
    """Makes gateways that follow one another; ended with the test, whatever became of it."""
    made: list[Gateway] = []

    def make() -> Gateway:
        made.append(Gateway(tmp_path))
        return made[-1]

    yield make
    for server in made:
        if server.process is not None:
            server.stop(signal.SIGKILL)


@pytest.fixture
def gateway(gateways: Callable[[], Gateway]) -> Gateway:
    return gateways()


def ends_well(server: Gateway, *, signalled: bool = False) -> None:
    """SIGTERM, unless it was sent, ends it; twistd tells its parent so by dying of it, too."""
    assert server.process is not None
    status = server.process.wait(30) if signalled else server.stop(signal.SIGTERM)
    assert status in (0, -signal.SIGTERM)
    server.wait_for(b"(end of output)")
    assert "stopped" in server.log


def login(server: Gateway) -> Client:
    """A client that is logged in."""
    return Client(server.connect()).log_in()


def text_of(number: int) -> bytes:
    """A small message."""
    return b"Subject: %d\r\n\r\n.%s\r\n" % (number, b"text " * (number % 20))


def message_files(maildir: Path) -> list[Path]:
    """All message files."""
    return sorted(path for folder in ("new", "cur") for path in (maildir / folder).iterdir())


def contents(maildir: Path) -> set[bytes]:
    """All that is stored."""
    return {path.read_bytes() for path in message_files(maildir)}


def deliver(maildir: Path, numbers: range) -> None:
    """Put messages into the mailbox."""
    for number in numbers:
        (maildir / "new" / f"{1_700_000_000 + number}.M{number}P1.test").write_bytes(
            text_of(number)
        )


# -- killed ---------------------------------------------------------------------


@pytest.mark.conformance("X-V0006", "X-C0008", "X-C0009", "O-C0039", "O-C0040")
def test_a_kill_in_the_middle_of_quit_loses_no_unmarked_message_and_changes_no_id(
    gateways: Callable[[], Gateway], tmp_path: Path
) -> None:
    maildir = tmp_path / "mail" / USER
    fill(maildir, [])
    kept: dict[str, str] = {}
    highest, last = 0, 0
    for alive in range(599, 469, -10):
        missing = 600 - len(kept)
        deliver(maildir, range(last + 1, last + missing + 1))
        last += missing
        gateway = gateways().run()
        with login(gateway) as client:
            seen = client.seen()
            assert len(seen) == 600
            assert {subject: seen[subject] for subject in kept} == kept
            assert all(int(uid) > highest for subject, uid in seen.items() if subject not in kept)
            highest = max(map(int, seen.values()))
            marked = range(1 + alive % 20 // 10, 601, 2)
            client.write(*(f"DELE {number}" for number in marked))
            assert all(client.read().startswith(b"+OK") for _ in marked)
            client.write("QUIT")
            while len(os.listdir(maildir / "new")) > alive:
                pass
            gateway.stop(signal.SIGKILL)
        subjects = list(seen)
        gone = {subjects[number - 1] for number in marked}
        stored = contents(maildir)
        assert {text_of(int(subject)) for subject in subjects if subject not in gone} <= stored
        assert stored <= {text_of(int(subject)) for subject in subjects}
        kept = {subject: uid for subject, uid in seen.items() if text_of(int(subject)) in stored}
    with login(gateways().run()) as client:
        assert client.seen() == kept


# -- reloaded -------------------------------------------------------------------


def serial_shown(server: Gateway) -> int:
    """The serial number of the certificate that a new client gets to see."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", server.tls), timeout=30) as line,
        context.wrap_socket(line) as wrapped,
    ):
        shown = wrapped.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number


def serial_stored(server: Gateway) -> int:
    """The serial number of the certificate on disk."""
    return x509.load_pem_x509_certificate(server.certificate.read_bytes()).serial_number


def secure_client(server: Gateway) -> Client:
    """A client on the port with TLS."""
    line = socket.create_connection(("127.0.0.1", server.tls), timeout=30)
    return Client(server.context().wrap_socket(line, server_hostname="localhost"))


def test_sighup_takes_a_new_certificate_and_open_sessions_go_on(gateway: Gateway) -> None:
    fill(gateway.maildir, [text_of(1)])
    gateway.run()
    old = serial_stored(gateway)
    assert serial_shown(gateway) == old
    with secure_client(gateway) as secure, login(gateway) as plain:
        secure.log_in()
        make_certificate(str(gateway.certificate), str(gateway.directory / "key.pem"))
        assert serial_shown(gateway) == old != serial_stored(gateway)
        gateway.send(signal.SIGHUP)
        gateway.wait_for(b"reloaded ")
        assert serial_shown(gateway) == serial_stored(gateway) != old
        for client in (secure, plain):
            assert client.ask("NOOP").startswith(b"+OK")
            assert client.ask("RETR 1").startswith(b"+OK")
            assert client.block() == text_of(1)
            assert client.ask("QUIT").startswith(b"+OK")
    with Client(gateway.connect()) as client:
        assert client.ask("STLS").startswith(b"+OK")
        with gateway.context().wrap_socket(client.line, server_hostname="localhost"):
            pass
    ends_well(gateway)


@pytest.mark.parametrize("broken", ["garbage", "gone", "no match"])
def test_sighup_with_a_broken_certificate_keeps_the_old_one_and_says_so(
    gateway: Gateway, broken: str
) -> None:
    gateway.run()
    old = serial_stored(gateway)
    if broken == "garbage":
        gateway.certificate.write_text("-----BEGIN CERTIFICATE-----\nno\n")
    elif broken == "gone":
        gateway.certificate.unlink()
    else:
        make_certificate(str(gateway.directory / "key.pem.pub"), str(gateway.directory / "key.pem"))
    with secure_client_of(gateway, old) as session:
        gateway.send(signal.SIGHUP)
        gateway.wait_for(b"kept the old certificate: ")
        assert session.ask("NOOP", "CAPA").startswith(b"+OK")
    assert serial_shown(gateway) == old
    (line,) = [line for line in gateway.log.splitlines() if "kept the old" in line]
    assert str(gateway.certificate) in line
    assert "Traceback" not in gateway.log
    ends_well(gateway)


def secure_client_of(server: Gateway, serial: int) -> Client:
    """A client that takes any certificate, as long as it has this serial number."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    line = context.wrap_socket(socket.create_connection(("127.0.0.1", server.tls), timeout=30))
    shown = line.getpeercert(binary_form=True)
    assert shown is not None
    assert x509.load_der_x509_certificate(shown).serial_number == serial
    return Client(line)


# -- stopped --------------------------------------------------------------------


@pytest.mark.conformance("P-16")
def test_sigterm_closes_idle_sessions_with_a_word_and_finishes_a_commit(gateway: Gateway) -> None:
    fill(gateway.maildir, map(text_of, range(1, 4001)))
    gateway.run()
    folder = gateway.maildir / "new"
    with Client(gateway.connect()) as early, login(gateway) as idle, login(gateway) as busy:
        assert idle.ask("DELE 4000").startswith(b"+OK")
        busy.write(*(f"DELE {number}" for number in range(1, 4000)))
        assert all(busy.read().startswith(b"+OK") for _ in range(1, 4000))
        busy.write("QUIT")
        while len(os.listdir(folder)) == 4000:
            pass
        gateway.send(signal.SIGTERM)
        assert early.read().startswith(b"-ERR ")
        assert early.read() == b""
        assert idle.read().startswith(b"-ERR ")
        assert idle.read() == b""
        refuses_connections(gateway.plain, gateway.tls)
        assert busy.read().startswith(b"+OK")
        assert contents(gateway.maildir) == {text_of(4000)}
        assert busy.read() == b""
        ends_well(gateway, signalled=True)
    assert contents(gateway.maildir) == {text_of(4000)}
    assert "Traceback" not in gateway.log


@contextmanager
def stopping_while_it_sends(gateway: Gateway) -> Iterator[tuple[Client, bytes]]:
    """A client that is being sent a message of 20 MB as the server is told to stop."""
    message = b"Subject: large\r\n\r\n" + (b"x" * 78 + b"\r\n") * (20 * MIB // 80)
    fill(gateway.maildir, [message])
    gateway.run()
    with login(gateway) as client:
        client.write("RETR 1")
        assert client.read().startswith(b"+OK")
        gateway.send(signal.SIGTERM)
        gateway.wait_for(b"stopping: ")
        yield client, message


def test_sigterm_lets_a_message_that_is_being_sent_go_out_whole(gateway: Gateway) -> None:
    with stopping_while_it_sends(gateway) as (client, message):
        assert client.block() == message
        assert client.read().startswith(b"-ERR ")
        assert client.read() == b""
        ends_well(gateway, signalled=True)


def test_a_second_signal_ends_at_once_what_the_first_would_wait_for(gateway: Gateway) -> None:
    with stopping_while_it_sends(gateway):
        ends_well(gateway)
    assert "second stop signal: closing remaining sessions" in gateway.log
    assert "Traceback" not in gateway.log


# -- started wrongly ------------------------------------------------------------


def outcome(command: list[str], directory: Path) -> tuple[int, str]:
    """Exit status and all output of a process that should end by itself."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode()


@pytest.mark.parametrize("name", ["plain", "secure"])
def test_a_port_in_use_ends_the_process_with_a_line_that_names_the_listener(
    gateway: Gateway, name: str
) -> None:
    port = gateway.plain if name == "plain" else gateway.tls
    with socket.create_server(("127.0.0.1", port)):
        status, output = outcome(gateway.command, gateway.directory)
    assert status != 0
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if f"listeners.{name}" in line]
    assert str(port) in line
    assert "in use" in line


def test_check_says_that_a_good_configuration_is_fine(gateway: Gateway) -> None:
    before = sorted(gateway.directory.rglob("*"))
    status, output = outcome([*gateway.command, "--check"], gateway.directory)
    assert (status, output) == (0, "The configuration is fine.\n")
    assert sorted(gateway.directory.rglob("*")) == before


def test_check_names_place_key_and_expectation_of_every_fault(gateway: Gateway) -> None:
    text = gateway.config.read_text()
    number = text.count("\n")
    gateway.config.write_text(
        f'{text}[limits]\nconnections = "many"\n[pop3]\nidle_tiemout = 5.0\n'
        'profile = "exchange2013"\n'
    )
    status, output = outcome([*gateway.command, "--check"], gateway.directory)
    assert status == 1
    assert "Traceback" not in output
    faults = output.splitlines()
    assert len(faults) == 3
    for line, key, words in (
        (number + 2, "limits.connections", "expected a whole number, found 'many'"),
        (number + 4, "pop3.idle_tiemout", "did you mean idle_timeout?"),
        (number + 5, "pop3.profile", "expected one of 'exchange2010'"),
    ):
        (fault,) = [fault for fault in faults if f": {key}: " in fault]
        assert fault.startswith(f"{gateway.config}:{line}: {key}: ")
        assert words in fault
    assert outcome(gateway.command, gateway.directory)[0] == 1


# -- started as root --------------------------------------------------------------


class Rooted(Gateway):
    """Started as root to become another user, in a place that this user may reach."""

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp()))
        self.directory.chmod(0o755)
        self.state = self.directory / "srv" / "var"
        passwd_entries.put(str(self.accounts), USER, PASSWORD.encode(), "SSHA256")
        self.accounts.chmod(0o644)
        self.config.write_text(
            f'state_dir = "{self.state}"\n'
            f'[listeners.secure]\nendpoint = "tcp:{self.plain}:interface=127.0.0.1"\n'
            f'[directory]\nfile = "{self.accounts}"\n'
        )

    @property
    def command(self) -> list[str]:
        """How it is started."""
        *twistd, plugin, config, path = super().command
        return [*twistd, "--uid", "nobody", plugin, config, path]


@pytest.fixture
def rooted() -> Iterator[Rooted]:
    """A gateway that root starts; ended with the test."""
    need(root=True)
    server = Rooted()
    yield server
    if server.process is not None:
        server.stop(signal.SIGKILL)
    shutil.rmtree(server.directory)


def test_what_root_makes_at_the_first_start_is_the_users_that_the_server_becomes(
    rooted: Rooted,
) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    rooted.run()
    with login(rooted) as client:
        assert client.ask("STAT").startswith(b"+OK 0 ")
    rooted.send(signal.SIGHUP)
    rooted.wait_for(b"reloaded ")
    for path in (rooted.state.parent, *rooted.state.parent.rglob("*")):
        assert path.stat().st_uid == nobody, path
    assert stat.S_IMODE(rooted.state.stat().st_mode) == 0o750
    assert "Traceback" not in rooted.log
    ends_well(rooted)


@pytest.mark.parametrize("closed", ["state", "accounts", "keytab", "unwritable", "ledger"])
def test_what_that_user_may_not_use_ends_the_start_and_not_every_login(
    rooted: Rooted, closed: str
) -> None:
    rooted.state.mkdir(parents=True)
    rooted.state.chmod(0o700 if closed == "state" else 0o755)
    if closed not in ("state", "unwritable"):
        shutil.chown(rooted.state, "nobody")
    (rooted.state / "tls").mkdir(mode=0o755)
    make_certificate(str(rooted.state / "tls" / "cert.pem"), str(rooted.state / "tls" / "key.pem"))
    if closed == "accounts":
        rooted.accounts.chmod(0o600)
    if closed == "ledger":
        (rooted.state / "ledger.sqlite3").touch(mode=0o600)
    if closed == "keytab":
        keytab = rooted.directory / "pop.keytab"
        keytab.touch(mode=0o600)
        with open(rooted.config, "a") as file:
            file.write(f'[gssapi]\nkeytab = "{keytab}"\nrealms = ["EXAMPLE.ORG"]\n')
    nobody = pwd.getpwnam("nobody").pw_uid
    words = {
        "keytab": f"{rooted.directory}/pop.keytab: user {nobody} may not",
        "state": f"{rooted.state}: may not be written: state_dir; let ",
        "unwritable": f"{rooted.state}: may not be written: state_dir; let ",
        "ledger": f"{rooted.state}/ledger.sqlite3: user {nobody} may not write it: state_dir; let ",
        "accounts": f"{rooted.accounts}: user {nobody} may not read it",
    }
    for extra in ([], ["--check"]):
        status, output = outcome([*rooted.command, *extra], rooted.directory)
        assert status == 1
        (line,) = [line for line in output.splitlines() if "gssapi: " not in line]
        assert words[closed] in line


# -- a slow reader --------------------------------------------------------------


def resident(server: Gateway) -> int:
    """Octets of memory that the process has."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kib) * 1024


def large_text(number: int) -> bytes:
    """A MiB of text, most of it unlike any other."""
    lines = [b"Subject: %d" % number, b""]
    seed = hashlib.sha256(b"%d" % number).hexdigest().encode()
    lines += [b".%d %s" % (count, seed) for count in range(MIB // 73)]
    return b"\r\n".join(lines) + b"\r\n"


@pytest.mark.conformance("P-22", "P-1")
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["crlf", "lf"])
def test_a_client_that_reads_nothing_costs_little_memory_and_then_gets_every_octet(
    gateway: Gateway, secure: bool, end: bytes
) -> None:
    numbers = range(1, 61)
    fill(gateway.maildir, (large_text(number).replace(b"\r\n", end) for number in numbers))
    gateway.run()
    with login(gateway) as other, slow_client(gateway, secure) as slow:
        slow.log_in()
        before = resident(gateway)
        slow.write(*(f"RETR {number}" for number in numbers))
        # Each answer to the other client is a turn of the reactor; in so many of them a server
        # that does not mind would have read all that was asked for.
        most = before
        for _ in range(1500):
            assert other.ask("NOOP").startswith(b"+OK")
            most = max(most, resident(gateway))
        assert most - before < 16 * MIB
        for number in numbers:
            assert slow.read().startswith(b"+OK")
            assert slow.block() == large_text(number)
        assert resident(gateway) - before < 16 * MIB
        assert slow.ask("QUIT").startswith(b"+OK")


def slow_client(server: Gateway, secure: bool) -> Client:
    """A client whose receive buffer is small."""
    line = socket.socket()
    line.settimeout(30)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    line.connect(("127.0.0.1", server.tls if secure else server.plain))
    if secure:
        line = server.context().wrap_socket(line, server_hostname="localhost")
    return Client(line)


# -- a disk that is full, a mailbox that is none --------------------------------


@pytest.fixture
def small_disk(gateway: Gateway) -> Iterator[Path]:
    """The place of all mail, with room for 4 MiB."""
    with small_disk_at(gateway.maildir.parent, mebibytes=4) as place:
        yield place


class Filler:
    """A file that takes all the room there is, and gives it back page by page."""

    def __init__(self, place: Path) -> None:
        self.path = place / "filler"
        self.fill()

    def fill(self) -> None:
        """Take what is left."""
        with open(self.path, "ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(PAGE))
            except OSError:
                return

    def give_back(self) -> None:
        """One page."""
        os.truncate(self.path, self.path.stat().st_size - PAGE)


@pytest.mark.conformance("X-C0008", "O-C0040", "P-21")
def test_a_full_disk_is_temporary_trouble_and_costs_no_message_and_no_id(
    gateway: Gateway, gateways: Callable[[], Gateway], small_disk: Path
) -> None:
    fill(gateway.maildir, [])
    gateway.run()
    filler, seen = Filler(small_disk), dict[str, str]()
    last = 0
    for _ in range(3):
        filler.path.unlink()
        # Enough for the list to need several pages more.
        deliver(gateway.maildir, range(last + 1, last + 251))
        last += 250
        filler.fill()
        short = 0
        while (now := seen_or_refused(gateway)) is None or len(now) < last:
            # What has an id can be had, and deleted to make room; if nothing has, nothing is shown.
            assert now == (seen or None)
            short += 1
            assert len(contents(gateway.maildir)) == last
            filler.give_back()
        assert short > 0
        assert len(now) == last
        assert {subject: now[subject] for subject in seen} == seen
        highest = max(map(int, seen.values()), default=0)
        assert all(int(uid) > highest for subject, uid in now.items() if subject not in seen)
        seen = now
    assert contents(gateway.maildir) == set(map(text_of, range(1, last + 1)))
    filler.fill()
    with login(gateway) as client:
        assert client.ask("DELE 1", "RETR 2").startswith(b"+OK")
        assert client.block() == text_of(2)
        assert client.ask("QUIT").startswith(b"+OK")
    ends_well(gateway)
    assert "Traceback" not in gateway.log
    del seen["1"]
    with login(gateways().run()) as client:
        assert client.seen() == seen


def seen_or_refused(server: Gateway) -> dict[str, str] | None:
    """What a client sees; None if the login was refused for the time being."""
    with Client(server.connect()) as client:
        reply = client.ask(f"USER {USER}", f"PASS {PASSWORD}")
        if reply.startswith(b"-ERR [SYS/TEMP] "):
            return None
        assert reply.startswith(b"+OK")
        return client.seen()


@pytest.mark.conformance("P-21")
@pytest.mark.parametrize("broken", ["cur", "new", "all", "list"])
def test_a_mailbox_that_cannot_be_used_is_for_the_administrator(
    gateway: Gateway, broken: str
) -> None:
    fill(gateway.maildir, [text_of(1)] if broken == "list" else [])
    if broken == "list":
        (gateway.maildir / "dovecot-uidlist").write_text("no uidlist\n")
    else:
        path = gateway.maildir if broken == "all" else gateway.maildir / broken
        path.rename(gateway.directory / "away")
        path.write_text("a file")
    gateway.run()
    with Client(gateway.connect()) as client:
        reply = client.ask(f"USER {USER}", f"PASS {PASSWORD}")
        assert reply.startswith(b"-ERR [SYS/PERM] ")
        assert client.ask("QUIT").startswith(b"+OK")
    ends_well(gateway)
    assert str(gateway.maildir) in gateway.log
    assert "Traceback" not in gateway.log


# -- secrets --------------------------------------------------------------------


def traces(secret: str) -> set[str]:
    """What shows that a secret is in a text: it in clear, in hex, in base64 at any offset."""
    octets = secret.encode()
    found = {secret, octets.hex()}
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + octets + b"\0" * 6)
        # Without the digits that the neighbours have a part in.
        found.add(encoded[(before * 8 + 5) // 6 : (before + len(octets)) * 8 // 6].decode())
    return found


def test_traces_of_a_secret_are_found_wherever_it_stands_in_base64() -> None:
    for before in range(5):
        text = base64.b64encode(b"\0" * before + b"canary" + b"\xff" * 7).decode()
        assert any(trace in text for trace in traces("canary"))


def test_no_password_is_ever_in_the_log(gateway: Gateway, tmp_path: Path) -> None:
    names = (f"c4n4ry-{kind}-{number:02}" for kind in ("good", "bad") for number in range(20))
    used: list[str] = []

    def canary() -> str:
        used.append(next(names))
        return used[-1]

    good = canary()
    passwd_entries.put(str(gateway.accounts), USER, good.encode(), "SSHA256")
    fill(gateway.maildir, [text_of(1)])
    gateway.run()
    for password, status in ((good, b"+OK"), (canary(), b"-ERR")):
        for lines in logins(password):
            with Client(gateway.connect()) as client:
                assert client.ask(*lines).startswith(status)
    blob = base64.b64encode(canary().encode()).decode()
    for lines in (
        (f"PASS {canary()}",),
        (f"USER {USER}", f"PASS {canary()} {'x' * 2000}"),
        (f"USER {USER}", f"PASS {canary()}\x80\x00"),
        (f"PASSS {canary()}",),
        (f"AUTH PLAIN {blob}",),
        (f"AUTH PLAIN {canary()}",),
        ("AUTH PLAIN", f"{canary()}!"),
        ("AUTH LOGIN", blob, f"*{canary()}"),
        (f"AUTH NTLM {blob}",),
    ):
        with Client(gateway.connect()) as client:
            assert client.ask(*lines).startswith(b"-ERR")
    with login_of(gateway, good) as client:
        assert client.ask(f"PASS {canary()}").startswith(b"-ERR")
    # When something behind is broken much is logged.
    (gateway.maildir / "new").rename(tmp_path / "away")
    (gateway.maildir / "new").write_text("a file")
    for lines in logins(good):
        with Client(gateway.connect()) as client:
            assert client.ask(*lines).startswith(b"-ERR [SYS/PERM]")
    gateway.accounts.unlink()
    for lines in logins(canary()):
        with Client(gateway.connect()) as client:
            assert client.ask(*lines).startswith(b"-ERR [SYS/TEMP]")
    gateway.accounts.write_text(f"{USER}:{{PLAIN}}{canary()}\n:{{NONE}}{canary()}\n")
    for lines in logins(canary()):
        with Client(gateway.connect()) as client:
            assert client.ask(*lines).startswith(b"-ERR")
    ends_well(gateway)
    log = gateway.log
    assert log.count("method=PASS") > 3
    assert USER in log
    for secret in used:
        for trace in traces(secret):
            assert trace not in log


def logins(password: str) -> list[tuple[str, ...]]:
    """All ways to send a password."""
    user, secret = (base64.b64encode(text.encode()).decode() for text in (USER, password))
    both = base64.b64encode(f"\0{USER}\0{password}".encode()).decode()
    return [
        (f"USER {USER}", f"PASS {password}"),
        (f"AUTH PLAIN {both}",),
        ("AUTH PLAIN", both),
        (f"AUTH LOGIN {user}", secret),
        ("AUTH LOGIN", user, secret),
    ]


def login_of(server: Gateway, password: str) -> Client:
    """A client that is logged in with a password of its own."""
    return Client(server.connect()).log_in(password)
