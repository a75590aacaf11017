"""``--auth``: password checkers from twistd's command line."""

from __future__ import annotations

import poplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.strcred import InvalidAuthArgumentString, findCheckerFactory
from twisted.internet.defer import fail, succeed

from answers import result
from gateway.auth.first_of import FirstOf
from gateway.errors import BadCredentials, DirectoryDown
from gateway.strcred import LdapCheckerFactory
from servers import Gateway, Slapd, fill, need

pytestmark = pytest.mark.interop

ALICE = "alice@example.org"


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """One server with alice."""
    need("slapd")
    server = Slapd(tmp_path_factory.mktemp("slapd"), {ALICE: "wonderland"}).run()
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
    ):
        with pytest.raises(InvalidAuthArgumentString, match=words.replace("{", r"\{")):
            factory.generateChecker(argument)


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
        assert result(FirstOf(*sources).requestAvatarId(credentials)) == b"alice"
    with pytest.raises(BadCredentials):
        result(FirstOf(no, no).requestAvatarId(credentials))
    for sources in ((no, down), (down, no)):
        with pytest.raises(DirectoryDown):
            result(FirstOf(*sources).requestAvatarId(credentials))
