"""The statements of the seeds as a real server keeps them: twistd, TCP, TLS and each store.

Ports 110 and 995 are those of an address of loopback that this run has for itself.
"""

from __future__ import annotations

import base64
import os
import re
import signal
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.directory import passwd_entries
from ldap_people import settings as ldap_settings
from mail_places import MailOf
from programs import need
from servers import PASSWORD, USER, Gateway, Slapd, fill, free_port

pytestmark = pytest.mark.interop

MESSAGES = (
    b"Subject: one\n\nfirst\n.dot\nlast without an end",
    b"Subject: two\r\n\r\nsecond\r\n",
    b"Subject: two\r\n\r\nsecond\r\n",
)
SENT = (b"Subject: one\r\n\r\nfirst\r\n.dot\r\nlast without an end\r\n", *MESSAGES[1:])
ADDRESS = f"127.95.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"


class Talk:
    """A client that sends octets and says what came back."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._line.settimeout(30)
        self._file = line.makefile("rb")
        self.greeting = self._file.readline()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._line.close()

    def send(self, octets: bytes) -> None:
        """Send exactly these."""
        self._line.sendall(octets)

    def line(self) -> bytes:
        """The next line that comes; empty at the end."""
        return self._file.readline()

    def ask(self, command: bytes) -> bytes:
        """The status line of a command."""
        self.send(command + b"\r\n")
        return self.line()

    def lines(self, command: bytes) -> list[bytes]:
        """The lines of a multi-line response between the first and the last."""
        first = self.ask(command)
        assert re.fullmatch(rb"\+OK[^\r\n]*\r\n", first), first
        found: list[bytes] = []
        while (line := self.line()) != b".\r\n":
            assert line.endswith(b"\r\n"), line
            found.append(line)
        return found

    def log_in(self, user: str = USER, password: str = PASSWORD) -> Talk:
        """With USER and PASS."""
        assert self.ask(b"USER " + user.encode()).startswith(b"+OK")
        assert self.ask(b"PASS " + password.encode()).startswith(b"+OK")
        return self

    def content(self, number: int) -> bytes:
        """What RETR gives, its dots taken away again."""
        lines = self.lines(b"RETR %d" % number)
        return b"".join(line[1:] if line.startswith(b".") else line for line in lines)


class Served:
    """A gateway on ports 110 and 995, with accounts of their own for each test."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        text = self.gateway.config.read_text()
        for old, new in ((self.gateway.plain, 110), (self.gateway.tls, 995)):
            text = text.replace(f"tcp:{old}:interface=127.0.0.1", f"tcp:{new}:interface={ADDRESS}")
        self.gateway.config.write_text(text)
        self._text = text
        self._users = self._changes = 0

    def change(self, **tables: str) -> None:
        """Add settings to tables of the configuration, in place of those of the last change.

        Returns when new sessions have them.
        """
        self._changes += 1
        greeting = f"Settings {self._changes}."
        pop3 = f'greeting = "{greeting}"\n{tables.pop("pop3", "")}'
        text = self._text
        for name, settings in (tables | {"pop3": pop3}).items():
            text = text.replace(f"[{name}]\n", f"[{name}]\n{settings}\n")
        self.gateway.config.write_text(text)
        self.gateway.send(signal.SIGHUP)
        while self.greeting() != f"+OK {greeting}\r\n".encode():
            pass

    def greeting(self) -> bytes:
        """What a new session begins with."""
        with self.connect() as client:
            return client.greeting

    def user(self, extra: str = "") -> str:
        """A new one, with the messages; ``extra``: fields of its account."""
        self._users += 1
        name = f"user{self._users}@example.org"
        line = passwd_entries.entry(name, PASSWORD.encode(), "SSHA256")
        with self.gateway.accounts.open("a") as accounts:
            accounts.write(f"{line}{extra}\n")
        self.gateway.mail.put(name, MESSAGES)
        return name

    def deliver(self, user: str, message: bytes) -> None:
        """One more message, while sessions are open."""
        self.gateway.mail.put(user, [message])

    def connect(self, *, secure: bool = False) -> Talk:
        """A session, its greeting read."""
        line = socket.create_connection((ADDRESS, 995 if secure else 110), timeout=30)
        if secure:
            context = self.gateway.context()
            line = context.wrap_socket(line, server_hostname="localhost")
        return Talk(line)

    def session(self) -> Talk:
        """One of a new user, logged in."""
        return self.connect().log_in(self.user())


@pytest.fixture(scope="module")
def served(mail_of: MailOf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all, of each store."""
    need(root=True)
    directory = tmp_path_factory.mktemp("served")
    started = Served(Gateway(directory, "[pop3]\n", mail_of(directory)))
    started.gateway.run()
    yield started
    started.gateway.stop()
    assert "Traceback" not in started.gateway.log


@pytest.fixture
def change(served: Served) -> Iterator[Callable[..., None]]:
    """``Served.change``, undone at the end."""
    yield served.change
    served.change()


@pytest.mark.conformance("X-E0001", "O-C0001", "O-C0002", "X-C0002", "O-C0007")
def test_ports_110_and_995_greet_in_plain_text_and_in_tls(served: Served) -> None:
    for secure in (False, True):
        with served.connect(secure=secure) as client:
            assert re.fullmatch(rb"\+OK [ -;=-~]+\r\n", client.greeting)
            client.log_in(served.user())
            assert client.ask(b"STAT").startswith(b"+OK 3 ")
    context = served.gateway.context()
    with socket.create_connection((ADDRESS, 110), timeout=30) as line, pytest.raises(ssl.SSLError):
        context.wrap_socket(line, server_hostname="localhost")


@pytest.mark.conformance("X-E0001")
def test_any_other_port_does_as_well(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    fill(gateway.maildir, MESSAGES)
    gateway.run()
    try:
        for port in (gateway.plain, gateway.tls):
            assert port not in (110, 995)
        with Talk(socket.create_connection(("127.0.0.1", gateway.plain), timeout=30)) as client:
            assert client.log_in().ask(b"STAT").startswith(b"+OK 3 ")
    finally:
        gateway.stop()


@pytest.mark.conformance("X-N1", "O-C0004")
def test_runs_of_spaces_and_tabs_separate_and_replies_have_one_space(served: Served) -> None:
    with served.connect() as client:
        assert client.ask(b"USER \t  " + served.user().encode()).startswith(b"+OK")
        assert client.ask(b"PASS " + PASSWORD.encode()).startswith(b"+OK")
        for command in (b"LIST\t1", b"LIST   1", b"LIST \t 1", b"UIDL\t\t2"):
            assert re.fullmatch(rb"\+OK \d+ \d+\r\n", client.ask(command)), command
        assert client.lines(b"TOP \t 1\t 0") == [b"Subject: one\r\n", b"\r\n"]
        assert all(line.count(b" ") == 1 for line in client.lines(b"LIST"))


@pytest.mark.conformance("X-N2", "X-E0006", "X-E0007")
def test_a_command_is_as_long_as_default_or_setting_say(
    served: Served, change: Callable[..., None]
) -> None:
    for said, limit in (
        ("", 512),
        ('profile = "exchange2010"', 512),
        ('profile = "exchange2007"', 47),
        ("command_limit = 40", 40),
        ("command_limit = 255", 255),
        ("command_limit = 1024", 1024),
    ):
        change(pop3=said)
        with served.connect() as client:
            argument = b"a" * (limit - len(b"USER \r\n"))
            assert client.ask(b"USER " + argument).startswith(b"+OK"), said
            assert client.ask(b"USER " + argument + b"a").startswith(b"-ERR"), said
            assert client.ask(b"QUIT").startswith(b"+OK")


@pytest.mark.conformance("X-N4", "X-N5", "O-C0017", "O-C0021", "X-V0004", "X-V0005")
@pytest.mark.parametrize("exact", [None, True, False], ids=["default", "exact", "not"])
def test_sizes_are_exact_by_default_and_where_set_and_else_what_is_stored(
    served: Served, change: Callable[..., None], exact: bool | None
) -> None:
    change(pop3="" if exact is None else f"exact_sizes = {str(exact).lower()}")
    stored = SENT if served.gateway.mail.stores_what_is_sent else MESSAGES
    with served.session() as client:
        listed = client.lines(b"LIST")
        wanted = stored if exact is False else SENT
        assert listed == [
            b"%d %d\r\n" % (number, len(content)) for number, content in enumerate(wanted, 1)
        ]
        assert client.ask(b"STAT") == b"+OK 3 %d\r\n" % sum(map(len, wanted))
        assert client.ask(b"LIST 1") == b"+OK " + listed[0]
        assert client.content(1) == SENT[0]


@pytest.mark.conformance(
    *("X-C0003", "O-C0008", "O-C0016", "O-C0018", "O-V0005", "O-C0025", "O-C0028"),
    *("O-C0033", "O-C0035"),
)
def test_what_is_for_after_the_login_is_refused_before(served: Served) -> None:
    user = served.user()
    commands = (b"STAT", b"LIST", b"RETR 1", b"DELE 1", b"NOOP", b"RSET", b"TOP 1 0", b"UIDL")
    for command in commands:
        with served.connect() as client:
            assert client.ask(command).startswith(b"-ERR"), command
            assert client.log_in(user).ask(b"STAT").startswith(b"+OK 3 ")


@pytest.mark.conformance("X-C0005", "O-C0010", "X-V0001", "X-V0011", "X-V0012", "O-V0008")
def test_a_refusal_says_why_and_leaves_the_session_to_try_again(served: Served) -> None:
    user = served.user()
    passwd_entries.put(str(served.gateway.accounts), user, b"a b  c ", "SSHA256")
    with served.connect() as client:
        assert b"<" not in client.greeting
        said = [client.ask(command) for command in (b"APOP a b", b"XYZZY", b"STAT", b"USER")]
        assert all(re.fullmatch(rb"-ERR [^\r\n]+\r\n", line) for line in said)
        assert len(set(said[1:])) == 3
        client.ask(b"USER " + user.encode())
        wrong = client.ask(b"PASS a b c")
        assert wrong.startswith(b"-ERR [AUTH] ")
        client.log_in(user, "a b  c ")


@pytest.mark.conformance("X-V0008", "X-V0009", "O-C0042", "O-C0044", "O-C0045", "O-C0046")
def test_user_is_answered_alike_for_everybody_and_comes_before_pass(served: Served) -> None:
    user = served.user()
    with served.connect() as client:
        assert client.ask(b"PASS x").startswith(b"-ERR")
        assert client.ask(b"USER").startswith(b"-ERR")
        answers = {client.ask(b"USER " + name) for name in (b"nobody", user.encode(), b"x@y")}
        assert len(answers) == 1
        assert answers.pop().startswith(b"+OK")
        assert client.ask(b"PASS").startswith(b"-ERR")
        client.log_in(user)
    with served.connect() as client:
        assert client.ask(b"USER " + user.encode()).startswith(b"+OK")
        assert client.ask(b"QUIT").startswith(b"+OK")


@pytest.mark.conformance("O-C0047")
def test_pass_needs_a_user_right_before(served: Served) -> None:
    user = served.user()
    with served.connect() as client:
        client.ask(b"USER " + user.encode())
        assert client.ask(b"PASS wrong").startswith(b"-ERR")
        assert client.ask(b"PASS " + PASSWORD.encode()).startswith(b"-ERR")
        client.log_in(user)


@pytest.mark.conformance("X-V0010")
def test_user_is_refused_where_no_password_may_cross_in_plain_text(
    served: Served, change: Callable[..., None]
) -> None:
    user = served.user()
    change(pop3="secure_networks = []")
    with served.connect() as client:
        answers = {client.ask(b"USER " + name) for name in (b"nobody", user.encode())}
        assert len(answers) == 1
        assert answers.pop().startswith(b"-ERR")
    with served.connect(secure=True) as client:
        client.log_in(user)


@pytest.mark.conformance("X-C0010")
def test_a_mailbox_at_another_site_is_a_login_that_fails(
    served: Served, change: Callable[..., None]
) -> None:
    there, here = (served.user(f"host=mx{number}.example.org") for number in (1, 2))
    change(directory='hosts = ["mx2.example.org"]')
    with served.connect() as client:
        assert client.ask(b"USER " + there.encode()).startswith(b"+OK")
        assert client.ask(b"PASS " + PASSWORD.encode()).startswith(b"-ERR [SYS/PERM] ")
        assert client.ask(b"STAT").startswith(b"-ERR")
        assert client.log_in(here).ask(b"STAT").startswith(b"+OK 3 ")


@pytest.mark.conformance("O-C0003", "O-C0005", "O-C0014", "O-V0001", "X-C0001")
def test_each_line_gets_one_response_of_at_most_512_octets(served: Served) -> None:
    with served.session() as client:
        sent = [
            *(b"", b" ", b"STAT\x80", b"\xff\xfe", b"NO\0OP", b"XYZZY " + b"x" * 500, b"stat 1"),
            *(b"LIST 99", b"RETR", b"NOOP", b"DELE 18446744073709551617", b"USER a", b"RSET"),
        ]
        client.send(b"\r\n".join(sent) + b"\r\n")
        for command in sent:
            said = client.line()
            assert re.fullmatch(rb"(\+OK|-ERR)( [ -~]*)?\r\n", said), (command, said)
            assert len(said) <= 512
        assert client.ask(b"QUIT").startswith(b"+OK")
        assert client.line() == b""


@pytest.mark.conformance(
    "O-C0006", "O-V0002", "O-C0011", "O-C0020", "O-C0037", "O-C0038", "O-C0039"
)
def test_lists_have_a_line_for_each_message_and_none_that_begins_with_a_dot(
    served: Served,
) -> None:
    with served.session() as client:
        listed, told = client.lines(b"LIST"), client.lines(b"UIDL")
        for line in (*listed, *told, *client.lines(b"CAPA")):
            assert not line.startswith(b".")
        assert [line.split()[0] for line in listed] == [b"1", b"2", b"3"]
        assert all(re.fullmatch(rb"\d \d{1,70}\r\n", line) for line in told)
        for number in range(1, 4):
            client.ask(b"DELE %d" % number)
        assert client.lines(b"LIST") == client.lines(b"UIDL") == []


@pytest.mark.conformance(
    "O-V0003", "O-C0019", "O-V0007", "O-C0036", "O-C0013", "O-C0029", "O-C0027"
)
def test_an_argument_of_list_and_uidl_makes_it_one_line_however_often(served: Served) -> None:
    with served.session() as client:
        for _ in range(3):
            assert [client.ask(b"LIST %d" % n)[4:] for n in (1, 2, 3)] == client.lines(b"LIST")
            assert [client.ask(b"UIDL %d" % n)[4:] for n in (1, 2, 3)] == client.lines(b"UIDL")
            assert client.ask(b"NOOP").startswith(b"+OK")


@pytest.mark.conformance("O-V0004", "O-C0022", "O-C0023", "O-C0024", "X-C0011")
def test_retr_gives_the_message_of_that_number_as_internet_text(served: Served) -> None:
    with served.session() as client:
        for number, content in enumerate(SENT, 1):
            assert client.content(number) == content
        for command in (b"RETR", b"RETR 0", b"RETR 4", b"RETR x", b"DELE", b"DELE 4", b"DELE -1"):
            assert client.ask(command).startswith(b"-ERR"), command


@pytest.mark.conformance("X-V0007", "O-C0032", "O-C0034")
def test_top_gives_the_header_and_so_many_lines(served: Served) -> None:
    with served.session() as client:
        assert client.lines(b"TOP 1 0") == [b"Subject: one\r\n", b"\r\n"]
        assert client.lines(b"TOP 1 2") == [
            *(b"Subject: one\r\n", b"\r\n", b"first\r\n", b"..dot\r\n"),
        ]
        for command in (b"TOP", b"TOP 1", b"TOP 1 -1", b"TOP 1 x", b"TOP 4 1"):
            assert client.ask(command).startswith(b"-ERR"), command
        assert b"TOP\r\n" in client.lines(b"CAPA")


@pytest.mark.conformance(
    *("X-C0006", "O-C0031", "O-C0026", "O-V0006", "O-C0012", "O-C0015", "O-C0030"),
)
def test_deleted_messages_are_errors_until_rset_and_go_at_quit_only(served: Served) -> None:
    user = served.user()
    with served.connect().log_in(user) as client:
        assert client.ask(b"DELE 2").startswith(b"+OK")
        references = (b"LIST 2", b"UIDL 2", b"RETR 2", b"TOP 2 0", b"DELE 2")
        assert all(client.ask(command).startswith(b"-ERR") for command in references)
        assert client.ask(b"RSET").startswith(b"+OK")
        assert client.ask(b"LIST 2").startswith(b"+OK")
        assert client.ask(b"DELE 3").startswith(b"+OK")
    with served.connect() as client:
        assert client.ask(b"QUIT").startswith(b"+OK")
        assert client.line() == b""
    with served.connect().log_in(user) as client:
        assert client.ask(b"STAT").startswith(b"+OK 3 ")
        client.ask(b"DELE 1")
        assert client.ask(b"QUIT").startswith(b"+OK")
    with served.connect().log_in(user) as client:
        assert client.ask(b"STAT").startswith(b"+OK 2 ")


@pytest.mark.conformance("X-V0006")
def test_a_quit_that_fails_says_so_and_takes_no_message_that_is_not_marked(served: Served) -> None:
    user = served.user()
    with served.connect().log_in(user) as client:
        told = client.lines(b"UIDL")
        assert client.ask(b"DELE 2").startswith(b"+OK")
        with served.gateway.mail.without_audit():
            assert re.fullmatch(rb"-ERR \[SYS/TEMP\] [ -~]+\r\n", client.ask(b"QUIT"))
        assert client.line() == b""
    with served.connect().log_in(user) as client:
        # The marked one may be left, and is: nothing goes without a line in the audit.
        assert client.lines(b"UIDL") == told
        assert [client.content(number) for number in (1, 2, 3)] == list(SENT)
        assert client.ask(b"DELE 2").startswith(b"+OK")
        assert client.ask(b"QUIT").startswith(b"+OK")
    with served.connect().log_in(user) as client:
        assert client.ask(b"STAT").startswith(b"+OK 2 ")


@pytest.mark.conformance("X-N3", "X-C0004", "X-C0007", "X-C0008", "X-C0009", "O-C0040", "O-C0041")
def test_sessions_beside_each_other_keep_their_snapshots_and_ids_only_grow(
    served: Served,
) -> None:
    user = served.user()
    with served.connect().log_in(user) as first, served.connect().log_in(user) as second:
        told = [int(line.split()[1]) for line in first.lines(b"UIDL")]
        assert told == sorted(set(told))
        served.deliver(user, MESSAGES[1])
        assert second.ask(b"DELE 3").startswith(b"+OK")
        assert second.ask(b"QUIT").startswith(b"+OK")
        assert len(first.lines(b"UIDL")) == len(first.lines(b"LIST")) == 3
        assert first.ask(b"RETR 3").startswith(b"-ERR")
        assert first.ask(b"TOP 3 0").startswith(b"-ERR")
        assert first.content(1) == SENT[0]
    with served.connect().log_in(user) as client:
        now = [int(line.split()[1]) for line in client.lines(b"UIDL")]
    assert now[:2] == told[:2]
    assert now[2] > told[2]


@pytest.mark.conformance("O-C0043")
def test_user_may_come_before_the_greeting_has_been_read(served: Served) -> None:
    user = served.user()
    line = socket.create_connection((ADDRESS, 110), timeout=30)
    line.sendall(b"USER %b\r\nPASS %b\r\n" % (user.encode(), PASSWORD.encode()))
    with Talk(line) as client:
        assert client.greeting.startswith(b"+OK")
        assert client.line().startswith(b"+OK")
        assert client.line().startswith(b"+OK")


@pytest.mark.conformance("O-C0009", "X-E0002")
def test_user_pass_and_plain_are_there_by_default_and_both_log_in(served: Served) -> None:
    user = served.user()
    with served.connect() as client:
        told = client.lines(b"CAPA")
        assert b"USER\r\n" in told
        assert any(line.startswith(b"SASL PLAIN") for line in told)
        proof = base64.b64encode(f"\0{user}\0{PASSWORD}".encode())
        assert client.ask(b"AUTH PLAIN " + proof).startswith(b"+OK")


def lmtp(port: int, to: str, size: int) -> int:
    """The code after a message of about so many octets."""
    with smtplib.LMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo_or_helo_if_needed()
        client.mail("sender@example.net")
        code = client.rcpt(to)[0]
        line = b"f" * 70 + b"\r\n"
        return client.data(b"Subject: x\r\n\r\n" + line * (size // 72))[0] if code == 250 else code


@pytest.fixture
def with_quotas(tmp_path: Path) -> Iterator[tuple[Gateway, int]]:
    """Two mailboxes in LDAP: one with its own quota and warning, one that inherits both."""
    need("slapd")
    own = (
        f"dn: uid=own,{Slapd.BASE}\nobjectClass: inetOrgPerson\nobjectClass: pop3gwAccount\n"
        "uid: own\ncn: o\nsn: o\nmail: own@example.org\nuserPassword: wonderland\n"
        "pop3gwQuota: 20000\npop3gwQuotaWarn: 12000"
    )
    schemas = [Path(__file__).parents[3] / "etc/ldap/pop3gw.schema"]
    slapd = Slapd(tmp_path / "slapd", {USER: PASSWORD}, schemas=schemas, more=own).run()
    port = free_port()
    more = (
        f'[lmtp]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n[quota]\noctets = "8000"\n'
        'warn_octets = "4000"\nwarn_from = "postmaster@example.org"\n'
    )
    gateway = Gateway(tmp_path / "gateway", ldap_settings(slapd) + more).run()
    yield gateway, port
    gateway.stop()
    slapd.stop()


@pytest.mark.conformance("X-E0003", "X-E0004")
def test_quota_and_warning_are_inherited_and_each_mailbox_can_have_its_own(
    with_quotas: tuple[Gateway, int],
) -> None:
    gateway, port = with_quotas

    def warned(user: str, mailbox: str) -> list[bytes]:
        line = socket.create_connection(("127.0.0.1", gateway.plain), timeout=30)
        with Talk(line) as client:
            client.log_in(user)
            count = len(client.lines(b"LIST"))
            contents = [client.content(number) for number in range(1, count + 1)]
        assert mailbox
        return [one for one in contents if b"Auto-Submitted: auto-generated" in one]

    for user, mailbox, quiet, loud in (
        (USER, USER, 3000, 2000),
        ("own", "own@example.org", 11000, 2000),
    ):
        assert lmtp(port, mailbox, quiet) == 250
        assert warned(user, mailbox) == []
        assert lmtp(port, mailbox, loud) == 250
        gateway.wait_for(f"quota_warning: user={mailbox} ".encode())
        assert len(warned(user, mailbox)) == 1
        assert lmtp(port, mailbox, 25000) == 552
    assert lmtp(port, USER, 6000) in (452, 552)
    assert lmtp(port, "own@example.org", 3000) == 250


@pytest.mark.conformance("X-V0002", "X-V0003")
@pytest.mark.parametrize("timer", ["preauth_idle_timeout", "idle_timeout"])
def test_each_idle_timer_can_be_set_and_says_that_it_closes_and_removes_nothing(
    served: Served, change: Callable[..., None], timer: str
) -> None:
    user = served.user()
    change(pop3=f"{timer} = 0.2")
    with served.connect() as client:
        if timer == "idle_timeout":
            # In one piece, or a slow machine would be idle in between.
            login = b"USER %b\r\nPASS %b\r\n" % (user.encode(), PASSWORD.encode())
            client.send(login + b"DELE 1\r\n")
            assert all(client.line().startswith(b"+OK") for _ in range(3))
        assert re.fullmatch(rb"-ERR [ -~]+\r\n", client.line())
        assert client.line() == b""
    change()
    with served.connect().log_in(user) as client:
        assert [client.content(number) for number in (1, 2, 3)] == list(SENT)
