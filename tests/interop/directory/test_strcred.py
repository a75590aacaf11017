"""``--auth``: password checkers from twistd's command line."""

from __future__ import annotations

import poplib
import sys
from base64 import b64encode
from collections.abc import Iterator
from ftplib import FTP, error_perm
from pathlib import Path

import pytest
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.strcred import InvalidAuthArgumentString, findCheckerFactory
from twisted.internet.defer import fail, succeed

from answers import result
from gateway.app.strcred import LdapCheckerFactory
from gateway.auth.chain import Chain
from gateway.errors import BadCredentials, DirectoryDown
from servers import Gateway, Server, Slapd, fill, free_port, need, until_listening

pytestmark = pytest.mark.interop

ALICE = "alice@example.org"
TWICE = "twice@example.org"


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """One server with alice."""
    need("slapd")
    more = f"dn: uid={TWICE},{Slapd.BASE}\nchangetype: modify\nadd: mail\nmail: other@example.org\n"
    people = {ALICE: "wonderland", TWICE: "twice"}
    server = Slapd(tmp_path_factory.mktemp("slapd"), people, more=more).run()
    yield server
    server.stop()


def log_in(gateway: Gateway, name: str, password: str) -> bytes:
    """What the server says."""
    client = poplib.POP3("127.0.0.1", gateway.plain, timeout=30)
    try:
        client.user(name)
        return client.pass_(password)
    except poplib.error_proto as error:
        return bytes(error.args[0])
    finally:
        client.quit()


def test_twistd_takes_passwords_from_ldap_and_from_a_file_of_twisteds_own(
    tmp_path: Path, slapd: Slapd
) -> None:
    gateway = Gateway(tmp_path)
    fill(gateway.maildir, [b"Subject: x\r\n\r\nhello\r\n"])
    (tmp_path / "twisted-users").write_text("bob:builder\n")
    (tmp_path / "reader").write_text("reader\n")
    reader = slapd.READER.replace(",", "%2c")
    url = (
        f"ldap://localhost:{slapd.plain}/{slapd.BASE}??sub?(uid={{login}})?starttls,"
        f"ca-file={slapd.certificate},bindname={reader},password-file={tmp_path}/reader"
    )
    gateway.start(
        [*gateway.command, "--auth", f"ldap:{url}", "--auth", f"file:{tmp_path}/twisted-users"],
        b"listener secure at",
    )
    try:
        assert log_in(gateway, ALICE, "wonderland").startswith(b"+OK")
        assert log_in(gateway, "bob", "builder").startswith(b"+OK")
        assert log_in(gateway, ALICE, "builder").startswith(b"-ERR [AUTH]")
    finally:
        gateway.stop()
    assert "Traceback" not in gateway.log


def test_the_factory_is_found_and_says_what_is_wrong_with_an_argument() -> None:
    factory = findCheckerFactory("ldap")
    assert isinstance(factory, LdapCheckerFactory)
    assert factory.credentialInterfaces == (IUsernamePassword,)
    for argument, words in (
        ("", "expected ldap"),
        ("http://x/y", "expected ldap"),
        ("ldap://host", "expected ldap"),
        ("ldap://host:99999/o=x", "host:99999"),
        ("ldap://h/o=x?uid?sub", "no attributes"),
        ("ldap://h/o=x??base", "sub or one as the scope"),
        ("ldap://h/o=x??sub?(uid=x)", "no {login}"),
        ("ldap://h/o=x??sub?((uid={login})", "invalid filter"),
        ("ldap://h/o=x??sub??colour=red", "no such extension: colour"),
        ("ldap://h/o=x??sub??map=x", "map="),
        ("ldap://h/o=x??sub??password-file=/none", "/none: No such file"),
        ("ldap://h/o=x??sub??mailbox=a b", "mailbox="),
    ):
        with pytest.raises(InvalidAuthArgumentString, match=words.replace("{", r"\{")):
            factory.generateChecker(argument)


def test_an_entry_with_several_mail_addresses_is_named_by_another_attribute(
    tmp_path: Path, slapd: Slapd
) -> None:
    gateway = Gateway(tmp_path)
    (tmp_path / "reader").write_text("reader\n")
    reader = slapd.READER.replace(",", "%2c")
    url = f"ldap:ldap://localhost:{slapd.plain}/{slapd.BASE}??sub?(uid={{login}})"
    extensions = f"bindname={reader},password-file={tmp_path}/reader"
    for more, code in (("", b"-ERR [SYS/PERM]"), (",mailbox=uid", b"+OK")):
        command = [*gateway.command, "--auth", f"{url}?{extensions}{more}"]
        gateway.start(command, b"listener secure at")
        try:
            assert log_in(gateway, TWICE, "twice").startswith(code)
        finally:
            gateway.stop()
    assert "mail has 2 values" in gateway.log
    assert "--auth ldap: mailbox=" in gateway.log


class Says:
    """A checker with one answer."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def requestAvatarId(self, _: object) -> object:
        """The answer."""
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)


def test_of_several_sources_the_first_that_knows_the_password_counts() -> None:
    no, down, yes = Says(UnauthorizedLogin()), Says(DirectoryDown("x")), Says(b"alice")
    credentials = UsernamePassword(b"alice", b"x")
    for sources in ((yes,), (no, yes), (down, yes), (yes, no)):
        assert result(Chain(*sources).requestAvatarId(credentials)) == b"alice"
    with pytest.raises(BadCredentials):
        result(Chain(no, no).requestAvatarId(credentials))
    for sources in ((no, down), (down, no)):
        with pytest.raises(DirectoryDown):
            result(Chain(*sources).requestAvatarId(credentials))


def test_twisteds_ftp_server_lets_in_by_our_ldap_checker(tmp_path: Path) -> None:
    people = {ALICE: "wonderland", "jürgen": "grün €"}
    need("slapd")
    slapd = Slapd(tmp_path / "slapd", people).run()
    port = free_port()
    url = (
        f"ldap://localhost:{slapd.plain}/{slapd.BASE}??sub?(uid={{login}})?starttls,"
        f"ca-file={slapd.certificate},bindname={slapd.READER.replace(',', '%2c')},"
        f"password-file={tmp_path}/reader"
    )
    (tmp_path / "reader").write_text("reader\n")
    server = Server(tmp_path)
    twistd = Path(sys.executable).with_name("twistd")
    command = [sys.executable, str(twistd), "-n", "--pidfile=", "ftp", "--port", str(port)]
    server.start(
        [*command, "--root", str(tmp_path), "--auth", f"ldap:{url}"], b"FTPFactory starting"
    )
    try:
        until_listening(port)
        for name, password in people.items():
            with FTP() as client:
                client.connect("127.0.0.1", port, timeout=30)
                assert client.login(name, password).startswith("230")
                assert client.pwd() == "/"
        with FTP() as client:
            client.connect("127.0.0.1", port, timeout=30)
            with pytest.raises(error_perm, match="530"):
                client.login(ALICE, "Wonderland")
        assert "Traceback" not in server.log
        slapd.stop()
        with FTP() as client:
            client.connect("127.0.0.1", port, timeout=30)
            with pytest.raises(error_perm, match="550"):
                client.login("jürgen", "wonderland")
    finally:
        server.stop()
        slapd.stop()


def test_twisteds_own_password_sources_let_in_by_every_mechanism(tmp_path: Path) -> None:
    people = {ALICE: "wonderland", "jürgen": "grün €"}
    users = tmp_path / "twisted-users"
    users.write_text("".join(f"{name}:{password}\n" for name, password in people.items()))
    memory = ":".join(text for pair in people.items() for text in pair)
    for number, source in enumerate((f"memory:{memory}", f"file:{users}")):
        gateway = Gateway(tmp_path / str(number))
        gateway.start([*gateway.command, "--auth", source], b"listener secure at")
        try:
            for name, password in people.items():
                for way in ("USER", "PLAIN", "LOGIN"):
                    assert answer(gateway, way, name, password).startswith(b"+OK"), (source, way)
                    assert answer(gateway, way, name, "wrong").startswith(b"-ERR [AUTH]")
        finally:
            gateway.stop()
        assert "Traceback" not in gateway.log


def answer(gateway: Gateway, way: str, name: str, password: str) -> bytes:
    """What the server says in the end to a login by USER, PLAIN or LOGIN."""
    client = poplib.POP3("127.0.0.1", gateway.plain, timeout=30)

    def encoded(text: str) -> str:
        return b64encode(text.encode()).decode()

    client.encoding = "utf-8"
    lines = {
        "USER": [f"USER {name}", f"PASS {password}"],
        "PLAIN": [f"AUTH PLAIN {encoded(f'{chr(0)}{name}{chr(0)}{password}')}"],
        "LOGIN": ["AUTH LOGIN", encoded(name), encoded(password)],
    }
    try:
        for line in lines[way]:
            client._putcmd(line)
            said = client._getline()[0]
        return bytes(said)
    finally:
        client.close()
