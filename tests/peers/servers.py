"""Real servers for the interop tests, each in a directory of its own."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.setup import dovecot_config
from bench.setup.ports import Ports
from gateway.directory import passwd_entries
from gateway.net.tls.certificates import make_certificate
from gateway.observe.log_file import FLUSH_AFTER
from mail_places import Mail, MaildirMail
from process_tree import until_ended
from programs import need

CORPUS = Path(__file__).parents[1] / "corpus"
USER, PASSWORD = "alice@example.org", "wonderland"
OWNER = 20000
"""User and group id of Dovecot's mail processes and its mail; no entry in /etc/passwd needed."""


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
free_port = Ports(range(12_000 + 1250 * _WORKER, 13_250 + 1250 * _WORKER)).free
"""A loopback port for this one of pytest's workers."""


def until_listening(port: int, seconds: float = 30) -> None:
    """Wait until a loopback port takes connections."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=seconds).close()
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def refuses_connections(*ports: int) -> None:
    """No new client is served at these loopback ports."""
    for port in ports:
        with (
            contextlib.suppress(ConnectionRefusedError, ConnectionResetError),
            socket.create_connection(("127.0.0.1", port), timeout=30) as line,
        ):
            # It came into the queue at the last moment.
            assert line.recv(1) == b""


def corpus() -> list[tuple[str, bytes]]:
    """Name and content of every message, in the order of their names."""
    return [(path.name, path.read_bytes()) for path in sorted(CORPUS.glob("*.eml"))]


def fill(maildir: Path, messages: Iterable[bytes], *, flags: str = "") -> list[Path]:
    """A Maildir with these messages, oldest first; in ``new``, or with flags in ``cur``."""
    for folder in ("tmp", "new", "cur"):
        (maildir / folder).mkdir(parents=True, exist_ok=True)
    files = []
    for number, content in enumerate(messages, 1):
        name = f"{1_700_000_000 + number}.M{number}P1.test"
        file = maildir / (f"cur/{name}:2,{flags}" if flags else f"new/{name}")
        file.write_bytes(content)
        files.append(file)
    return files


def give_to_dovecot(directory: Path) -> None:
    """Make the mail Dovecot's, which reads it as a user of its own."""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, OWNER, OWNER)


class Server:
    """A process in the foreground, its output kept, started anew as often as wanted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        # One that grows in place: a server that logs each request would slow down its tests.
        self._output = bytearray()
        self._ended = True
        self._grew = threading.Condition()
        self._reader: threading.Thread | None = None

    def start(self, command: list[str], ready: bytes, *, env: dict[str, str] | None = None) -> None:
        """Return once a new line with ``ready`` has come."""
        if self._reader is not None:
            self._reader.join(30)  # or the end of the last run would be taken for this one's
        times = self._output.count(ready) + 1
        self._ended = False
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env={**os.environ, **(env or {})},
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        self.wait_for(ready, times=times)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._grew:
                self._output += line
                self._grew.notify_all()
        with self._grew:
            self._output += b"(end of output)\n"
            self._ended = True
            self._grew.notify_all()

    @property
    def log(self) -> str:
        """All that it has printed so far."""
        return self._output.decode(errors="replace")

    def wait_for(self, text: bytes, *, times: int = 1, seconds: float = 60) -> None:
        """Wait until its output has ``text`` so many times."""
        with self._grew:
            found = self._grew.wait_for(
                lambda: self._output.count(text) >= times or self._ended, seconds
            )
            found = found and self._output.count(text) >= times
        if not found:
            raise AssertionError(f"no {text!r} in:\n{self.log}")

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def halt(self) -> None:
        """Stop it as by Ctrl-Z; returns once all of its threads stand still."""
        self.send(signal.SIGSTOP)
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task")
        end = time.monotonic() + 30
        while not all(_state(task) == "T" for task in tasks.iterdir()):
            assert time.monotonic() < end
            time.sleep(0.005)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if self._reader is not None:
                self._reader.join(30)


def _state(task: Path) -> str:
    """The letter of proc(5) for a thread."""
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


class Gateway(Server):
    """``twistd pop3gw`` with one account and its mail, plain and TLS ports."""

    @property
    def log(self) -> str:
        """All that it has printed, what waits in its buffer included."""
        with self._grew:
            self._grew.wait_for(lambda: self._ended, FLUSH_AFTER + 0.2)
        return super().log

    def __init__(self, directory: Path, settings: str = "", mail: Mail | None = None) -> None:
        """``settings`` are TOML tables besides the ones that are written here.

        ``mail``: where it is; None: in Maildirs.
        """
        super().__init__(directory)
        self.mail = mail or MaildirMail(directory)
        self.maildir = directory / "mail" / USER
        self.accounts = directory / "accounts"
        self.certificate = directory / "cert.pem"
        self.config = directory / "pop3gw.toml"
        self.plain, self.tls = free_port(), free_port()
        passwd_entries.put(str(self.accounts), USER, PASSWORD.encode(), "SSHA256")
        make_certificate(str(self.certificate), str(directory / "key.pem"))
        tables = {
            "listeners.plain": f'endpoint = "tcp:{self.plain}:interface=127.0.0.1"\ntls = "stls"',
            "listeners.secure": (
                f'endpoint = "tcp:{self.tls}:interface=127.0.0.1"\ntls = "implicit"'
            ),
            "tls": 'certificate = "cert.pem"\nkey = "key.pem"\nself_signed = false',
            "directory": 'file = "accounts"',
        }
        if "[directory]" in settings:
            del tables["directory"]
        if "[store]" not in settings:
            tables["store"] = self.mail.settings
        text = "".join(f"[{name}]\n{body}\n" for name, body in tables.items())
        self.config.write_text(f'state_dir = "{directory}"\n{text}{settings}\n')

    @property
    def command(self) -> list[str]:
        """How it is started."""
        twistd = Path(sys.executable).with_name("twistd")
        return [
            *(sys.executable, str(twistd), "-n", "--pidfile="),
            *("pop3gw", "--config", str(self.config)),
        ]

    def run(self, **env: str) -> Gateway:
        """Start it; returns once it listens."""
        self.start(self.command, b"listener secure at", env=env)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; returns once its workers have ended too, which may be a moment later."""
        assert self.process is not None
        with until_ended(self.process.pid):
            return super().stop(number)

    def connect(self) -> socket.socket:
        """A plain connection; a peer that goes silent fails the test and never hangs it."""
        return socket.create_connection(("127.0.0.1", self.plain), timeout=30)

    def context(self) -> ssl.SSLContext:
        """A client's TLS context that trusts this server only."""
        return ssl.create_default_context(cafile=self.certificate)


class Dovecot(Server):
    """Dovecot, 2.3 or 2.4, with one account; its mail lies at ``maildir``."""

    def __init__(
        self, directory: Path, maildir: Path, *, uidl_format: str = "%u", more: str = ""
    ) -> None:
        """``more``: settings besides, or in place of those that are written here."""
        need(
            *("dovecot", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/lmtp", "/usr/lib/dovecot/pop3"),
            root=True,
        )
        super().__init__(directory)
        self.plain, self.imap = free_port(), free_port()
        self._maildir = maildir
        (directory / "base").mkdir()
        (directory / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}::::::\n")
        directory.chmod(0o755)
        self._settings = f"""\
base_dir = {directory}/base
state_dir = {directory}/base
log_path = /dev/stderr
protocols = pop3 imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
default_vsz_limit = 0
mail_location = maildir:{maildir}
mail_uid = {OWNER}
mail_gid = {OWNER}
first_valid_uid = 500
pop3_uidl_format = {uidl_format}
passdb {{
  driver = passwd-file
  args = {directory}/users
}}
userdb {{
  driver = static
  args = uid={OWNER} gid={OWNER} home={directory} allow_all_users=yes
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {self.plain}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {self.imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
{more}"""

    def run(self) -> Dovecot:
        """Start it; returns once it serves."""
        give_to_dovecot(self._maildir)
        config = self.directory / "dovecot.conf"
        config.write_text(dovecot_config.configuration(self._settings, dovecot_config.version()))
        self.start(["dovecot", "-F", "-c", str(config)], b"starting up")
        return self


class Slapd(Server):
    """OpenLDAP with people below ``ou=people,dc=example,dc=org``, plain and TLS ports."""

    BASE = "ou=people,dc=example,dc=org"
    READER = "cn=reader,dc=example,dc=org"

    def __init__(
        self,
        directory: Path,
        people: Mapping[str, str],
        *,
        schemas: Iterable[Path] = (),
        more: str = "",
        limits: str = "",
    ) -> None:
        """``people``: uid to password; each has ``mail`` too where the uid is an address.

        ``more`` is LDIF that goes in after them; groups show as ``memberOf``.
        ``limits``: what the reader may have besides 500 entries.
        """
        need("slapd", "slapadd", "ldapadd", "ldappasswd")
        super().__init__(directory)
        self.plain, self.tls = free_port(), free_port()
        self.certificate = directory / "cert.pem"
        make_certificate(str(self.certificate), str(directory / "key.pem"))
        (directory / "db").mkdir()
        includes = "\n".join(f"include {path}" for path in schemas)
        (directory / "slapd.conf").write_text(f"""\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
{includes}
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
TLSCertificateFile {self.certificate}
TLSCertificateKeyFile {directory}/key.pem
threads 4
database mdb
maxsize 67108864
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw admin
directory {directory}/db
dbnosync
index uid,mail eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{self.READER}" read by users read by anonymous auth
{limits and f'limits dn.exact="{self.READER}" {limits}'}
overlay memberof
""")
        entries = [
            "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\n"
            "o: E\ndc: example",
            "dn: ou=people,dc=example,dc=org\nobjectClass: organizationalUnit\nou: people",
            f"dn: {self.READER}\nobjectClass: applicationProcess\n"
            "objectClass: simpleSecurityObject\ncn: reader\nuserPassword: reader",
            *(self._person(uid, password) for uid, password in people.items()),
        ]
        self._more = more
        (directory / "people.ldif").write_text("\n\n".join(entries) + "\n")
        self._run_once(
            "slapadd", "-q", "-f", f"{directory}/slapd.conf", "-l", f"{directory}/people.ldif"
        )

    def _person(self, uid: str, password: str) -> str:
        def encoded(text: str) -> str:
            return base64.b64encode(text.encode()).decode()

        lines = [
            f"dn:: {encoded(f'uid={uid},{self.BASE}')}",
            "objectClass: inetOrgPerson",
            f"uid:: {encoded(uid)}",
            "cn: somebody",
            "sn: somebody",
            f"userPassword:: {encoded(password)}",
        ]
        if "@" in uid:
            lines.append(f"mail: {uid}")
        return "\n".join(lines)

    def _as_admin(self, program: str, *arguments: str, stdin: str = "") -> None:
        url = f"ldap://127.0.0.1:{self.plain}"
        admin = ("-x", "-H", url, "-D", "cn=admin,dc=example,dc=org", "-w", "admin")
        self._run_once(program, *admin, *arguments, stdin=stdin)

    def change_password(self, uid: str, password: str) -> None:
        """Give somebody another password while it runs."""
        self._as_admin("ldappasswd", "-s", password, f"uid={uid},{self.BASE}")

    def _run_once(self, *command: str, stdin: str = "") -> None:
        subprocess.run(
            command,
            check=True,
            timeout=60,
            cwd=self.directory,
            input=stdin.encode(),
            stdout=subprocess.DEVNULL,
        )

    def run(self) -> Slapd:
        """Start it; returns once it serves."""
        urls = f"ldap://127.0.0.1:{self.plain} ldaps://127.0.0.1:{self.tls}"
        config = f"{self.directory}/slapd.conf"
        self.start(["slapd", "-d", "256", "-f", config, "-h", urls], b"slapd starting")
        # It says so a moment before it listens.
        for port in (self.plain, self.tls):
            until_listening(port)
        if self._more:
            # Added while it runs, since slapadd does not tell overlays.
            more, self._more = self._more, ""
            self._as_admin("ldapadd", stdin=more)
        return self
