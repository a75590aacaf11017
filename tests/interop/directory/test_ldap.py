"""Logins against a real OpenLDAP."""

from __future__ import annotations

import os
import poplib
import re
import signal
from itertools import product
from pathlib import Path
from socket import create_connection

import pytest
from twisted.internet.defer import Deferred

from answers import result
from gateway.app.parts.retention import policies_of
from gateway.app.parts.tools import tools_of
from gateway.app.server.questions import Questions, SingleProcess
from gateway.config.quota import Quota
from gateway.config.settings import Settings
from gateway.directory.entry_map import MAPS
from gateway.errors import BadCredentials, DirectoryDown, DirectoryMisconfigured
from gateway.operations.mail.mailbox_list import list_mailboxes
from gateway.state.memory import MemoryState
from gateway.store.maildir.store import MaildirStore
from gateway.testing.directory_contract import PASSWORDS, directory_tests
from gateway.testing.store_contract import run_now
from ldap_people import directory, settings
from servers import Gateway, Slapd, fill, free_port, need

pytestmark = pytest.mark.interop

ALICE, SECRET = "alice@example.org", PASSWORDS["alice@example.org"].encode()


@pytest.fixture
def _for_the_suite(request: pytest.FixtureRequest, slapd: Slapd) -> None:
    request.cls.slapd = slapd


@pytest.mark.usefixtures("_for_the_suite")
class LdapContractTests(directory_tests(lambda test, _: directory(test.slapd))):  # type: ignore[misc]
    """LDAP keeps every directory's promises."""


def test_the_account_is_found_over_ldaps_and_starttls_with_the_certificate_checked(
    slapd: Slapd,
) -> None:
    for host, start_tls in product(("localhost", "127.0.0.1"), (False, True)):
        scheme, port = ("ldap", slapd.plain) if start_tls else ("ldaps", slapd.tls)
        how = {"uris": (f"{scheme}://{host}:{port}",), "start_tls": start_tls}
        assert result(directory(slapd, **how).verify(ALICE, SECRET)).name == ALICE
        with pytest.raises(DirectoryDown, match=r"certificate|CERTIFICATE"):
            result(directory(slapd, **how, ca_file="").verify(ALICE, SECRET))


def test_a_service_password_that_is_wrong_is_no_users_fault(slapd: Slapd) -> None:
    with pytest.raises(DirectoryMisconfigured, match=r"refused ldap\.bind_dn"):
        result(directory(slapd, bind_password="wrong").verify(ALICE, SECRET))


def test_filter_characters_in_a_name_find_nobody(slapd: Slapd) -> None:
    for name in ("*", "*)(uid=*", "alice*", "alice@example.org)(uid=*", "a\\2a", "\0", "(", ")"):
        with pytest.raises(BadCredentials):
            result(directory(slapd).verify(name, SECRET))


def test_the_domain_that_the_base_names_is_ours_on_either_side_of_the_user(slapd: Slapd) -> None:
    people = directory(slapd, filter="(uid={user}@example.org)", domains=("lab",))
    for name in ("example.org\\alice", "example.org/alice", ALICE, "lab\\alice", "alice@lab"):
        assert result(people.verify(name, SECRET)).name == ALICE
    for name in ("other\\alice", "/alice", "alice@other", "alice@"):
        with pytest.raises(BadCredentials, match="not in the directory"):
            result(people.verify(name, SECRET))


def test_the_log_distinguishes_unknown_names_from_wrong_passwords(slapd: Slapd) -> None:
    with pytest.raises(BadCredentials, match="nobody is not in the directory"):
        result(directory(slapd).verify("nobody", SECRET))
    with pytest.raises(BadCredentials, match="refused alice"):
        result(directory(slapd).verify(ALICE, b"wrong"))


def test_two_entries_for_one_name_are_a_misconfiguration(slapd: Slapd) -> None:
    with pytest.raises(DirectoryMisconfigured, match="more than one entry"):
        result(directory(slapd, filter="(|(uid={login})(cn=somebody))").verify(ALICE, SECRET))


@pytest.fixture(scope="module")
def crowd() -> dict[str, str]:
    """More people than a server tells of at once."""
    return {f"{number}@example.org": "x" for number in range(1234)}


def test_everybody_is_asked_for_in_pages(tmp_path: Path, crowd: dict[str, str]) -> None:
    server = Slapd(tmp_path, crowd, limits="size.prtotal=unlimited").run()
    try:
        found = result(directory(server).accounts())
        assert sorted(account.mailbox for account in found) == sorted(crowd)
    finally:
        server.stop()


def test_a_server_that_knows_nothing_of_our_schema_tells_of_owners_and_everybody(
    slapd: Slapd,
) -> None:
    people = directory(slapd, entries=MAPS["openldap"], filter="")
    owner = people.entries.owner(ALICE)
    assert owner is not None
    assert owner.account.name == ALICE
    found = {account.mailbox for account in result(people.accounts())}
    assert found == {name for name in PASSWORDS if "@" in name}


@pytest.mark.parametrize(
    "wanted",
    [
        "(uid:caseExactMatch:={login})",
        "(uid~={login})",
        "(&(uid={login})(!(mail={user}x)))",
        "(|(mail=*{login})(uid=*{user}*))",
        "(&(objectClass=person)(uid={login})(!(cn=nobody)))",
    ],
)
def test_everybody_is_found_by_a_filter_of_any_kind(slapd: Slapd, wanted: str) -> None:
    people = directory(slapd, filter=wanted)
    assert {account.mailbox for account in result(people.accounts())} == set(PASSWORDS)
    for name in ("alice@example.org", "bob@example.org"):
        owner = people.entries.owner(name)
        assert owner is not None
        assert owner.account.name == name


def test_a_server_that_does_not_tell_of_everybody_is_a_misconfiguration(
    tmp_path: Path, crowd: dict[str, str]
) -> None:
    server = Slapd(tmp_path, crowd).run()
    try:
        with pytest.raises(DirectoryMisconfigured, match=r"returns only 500 entries: raise"):
            result(directory(server).accounts())
    finally:
        server.stop()


def test_an_empty_password_never_reaches_the_server(slapd: Slapd) -> None:
    with pytest.raises(BadCredentials):
        result(directory(slapd, uris=(f"ldap://127.0.0.1:{free_port()}",)).verify(ALICE, b""))


def test_a_dead_server_is_passed_over_and_left_alone_for_a_while(slapd: Slapd) -> None:
    dead, now = free_port(), [0.0]
    people = directory(
        slapd,
        uris=(f"ldap://127.0.0.1:{dead}", f"ldap://127.0.0.1:{slapd.plain}"),
        retry_after=10,
        now=lambda: now[0],
    )
    assert result(people.verify(ALICE, SECRET)).name == ALICE
    servers = people.entries.searching._servers
    assert [server.down_until for server in servers] == [10.0, 0.0]
    now[0] = 10.0
    assert result(people.find(ALICE)).name == ALICE
    assert [server.down_until for server in servers] == [20.0, 0.0]  # asked again, once


def test_no_server_at_all_is_an_outage(slapd: Slapd) -> None:
    for _ in range(2):
        with pytest.raises(DirectoryDown):
            result(directory(slapd, uris=(f"ldap://127.0.0.1:{free_port()}",)).find(ALICE))


def test_an_account_is_remembered_for_its_time(tmp_path: Path) -> None:
    need("slapd")
    server = Slapd(tmp_path, PASSWORDS).run()
    now = [0.0]
    people = directory(server, cache_ttl=60, now=lambda: now[0])
    result(people.verify(ALICE, SECRET))
    server.stop()
    assert result(people.find(ALICE)).name == ALICE
    now[0] = 60.0
    with pytest.raises(DirectoryDown):
        result(people.find(ALICE))
    people._stale = 1.0
    assert result(people.find(ALICE)).name == ALICE


def test_a_server_that_is_killed_and_comes_back_and_one_that_hangs(tmp_path: Path) -> None:
    need("slapd")
    server = Slapd(tmp_path, PASSWORDS).run()
    try:
        people = directory(server, retry_after=0)
        assert result(people.verify(ALICE, SECRET)).name == ALICE
        server.stop(signal.SIGKILL)
        with pytest.raises(DirectoryDown):
            result(people.verify(ALICE, SECRET))
        server.run()
        assert result(people.verify(ALICE, SECRET)).name == ALICE
        server.halt()
        with pytest.raises(DirectoryDown):
            result(people.verify(ALICE, SECRET))
        server.send(signal.SIGCONT)
        assert result(people.verify(ALICE, SECRET)).name == ALICE
    finally:
        server.send(signal.SIGCONT)
        server.stop()


def test_the_whole_gateway_logs_in_against_it_and_its_log_has_no_password(
    tmp_path: Path, slapd: Slapd
) -> None:
    gateway = Gateway(tmp_path, settings(slapd, bind_password=None))
    fill(gateway.maildir, [b"Subject: x\r\n\r\nhello\r\n"])
    secret = tmp_path / "bind"
    secret.write_text("reader\n")
    gateway.run(POP3GW_LDAP__BIND_PASSWORD_FILE=str(secret))
    try:
        for password, works in ((SECRET.decode(), True), ("c4nary-wrong", False)):
            client = poplib.POP3("127.0.0.1", gateway.plain, timeout=30)
            client.user(ALICE.upper())
            if works:
                client.pass_(password)
                assert client.stat() == (1, 21)
            else:
                with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\]"):
                    client.pass_(password)
            client.quit()
        client = poplib.POP3("127.0.0.1", gateway.plain, timeout=30)
        client.user("nobody")
        with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\]"):
            client.pass_(SECRET.decode())
        client.quit()
    finally:
        gateway.stop()
    assert "c4nary" not in gateway.log
    assert SECRET.decode() not in gateway.log
    assert "Traceback" not in gateway.log
    assert os.path.exists(gateway.maildir / "dovecot-uidlist")


def test_operators_see_mailboxes_with_their_owners_and_limits(tmp_path: Path, slapd: Slapd) -> None:
    settings = Settings(quota=Quota(octets="1000"))
    fill(tmp_path / ALICE, [b"x" * 600])
    fill(tmp_path / "left@example.org", [b"x" * 700])
    tools = tools_of(
        settings,
        directory(slapd),
        MaildirStore(str(tmp_path), "{name}", run_now),
        MemoryState(),
        policies=policies_of(settings.retention),
        processes=SingleProcess(Questions()),
        run=run_now,
    )
    for sort in ("share", "octets"):
        rows = result(Deferred.fromCoroutine(list_mailboxes(tools, sort=sort))).items
        found = [(row.mailbox, row.owner, row.share) for row in rows]
        assert found == [("left@example.org", None, 0.7), (ALICE, ALICE, 0.6)]


def test_an_outage_is_one_line_when_it_begins_and_one_when_it_is_over(tmp_path: Path) -> None:
    need("slapd")
    people = {f"user{number}@example.org": "x" for number in range(20)} | PASSWORDS
    server = Slapd(tmp_path / "slapd", people).run()
    more = (
        "[quota]\nwarn_from = 'postmaster@example.org'\nwarn_check = 1\n"
        "[retention]\nenabled = true\npolicy = 'any 30d'\ncheck_every = 1\n"
        f"[policy]\nendpoint = 'tcp:{(policy := free_port())}:interface=127.0.0.1'\n"
    )
    gateway = Gateway(tmp_path / "gateway", settings(server, retry_after=0) + more)
    for name in people:
        fill(gateway.maildir.parent / name, [b"Subject: x\r\n\r\nhello\r\n"])
    # Its line says whether the directory answered at the start.
    gateway.run().wait_for(b" ready: ")

    def log_in() -> bytes:
        client = poplib.POP3("127.0.0.1", gateway.plain, timeout=30)
        try:
            client.user(ALICE)
            return client.pass_(SECRET.decode())
        except poplib.error_proto as error:
            return bytes(error.args[0])
        finally:
            client.quit()

    try:
        server.stop(signal.SIGKILL)
        for _ in range(20):
            assert log_in().startswith(b"-ERR [SYS/TEMP]")
            with create_connection(("127.0.0.1", policy), timeout=30) as asking:
                asking.sendall(b"request=smtpd_access_policy\nprotocol_state=RCPT\n")
                asking.sendall(f"recipient={ALICE}\nsize=1\n\n".encode())
                assert asking.recv(1000) == b""
        server.run()
        assert log_in().startswith(b"+OK")
        gateway.wait_for(b"LDAP server")
    finally:
        gateway.stop()
        server.stop()
    lines = [line for line in gateway.log.splitlines() if "LDAP" in line or "Directory" in line]
    assert [re.sub(r".*(down|back): .*", r"\1", line) for line in lines] == ["down", "back"], lines
    assert not [line for line in gateway.log.splitlines() if "retention run postponed" in line]
