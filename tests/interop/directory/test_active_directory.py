"""The whole gateway against Samba's domain controller: LDAP, NTLM and Kerberos as Windows has them.

Mail lies by the users' ``mail``; each mailbox has one message that says whose it is.
"""

from __future__ import annotations

import os
import re
import signal
import smtplib
import socket
import struct
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from answers import result
from client_process import fetchmail, mpop, run
from gateway.directory.entry_map import MAPS
from gateway.directory.ldap import LdapDirectory
from gateway.directory.ldap_accounts import Search
from gateway.directory.ldap_kind import LdapSettings
from gateway.directory.ldap_servers import Reach
from gateway.errors import BadCredentials, DirectoryDown, DirectoryMisconfigured
from gateway.model import Account, Quota
from gateway.sasl.ntlmssp import MIC_PRESENT
from gateway.testing.store_contract import run_now
from kdc import need_kerberos
from ntlm_client import Client as Ntlm
from samba import LOCKOUT_THRESHOLD, PEOPLE, SambaDC, need_samba
from servers import Gateway, fill, free_port, need
from sockets import readable
from toml_text import toml_tables

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("samba")]

MAIL = "example.test"
WRONG = "-ERR [AUTH] Wrong name or password."
TROUBLE = "-ERR [SYS/TEMP] Temporary trouble; try again later."
GUESSES = "-ERR [SYS/TEMP] Too many wrong passwords; try again later."
UNUSABLE = "-ERR [SYS/PERM] The mailbox cannot be used; ask your administrator."
NO_LAYER = b"\1\0\0\0"
BARRED = {
    "carol": "account disabled",
    "dave": "account expired",
    "erin": "account locked out",
    "frank": "the password must be changed",
}
"""Who may not log in although the password is right, and what the log says."""


# -- the domain ----------------------------------------------------------------


@pytest.fixture(scope="module")
def dc() -> Iterator[SambaDC]:
    """One domain for all tests.

    ==========  ==================================================================================
    alice       her delegates are carol, who is disabled, and the group helpdesk
    carol       her delegate is alice: a shared mailbox, as Exchange has it
    jörg        his delegate is alice; has a quota that does not count
    bob         has a quota, and nothing says that it counts
    victim      whose mailbox others want
    mallory     has ``lab.test/victim`` for a canonical name, and the display name ``victim``
    rival       has victim's address for a user principal name
    ==========  ==================================================================================
    """
    need_samba()
    need_kerberos()
    # Sockets lie in it, whose paths must be short.
    with TemporaryDirectory(prefix="pop3gw-dc-") as directory:
        server = SambaDC(Path(directory))
        _fill(server)
        try:
            yield server.run()
        finally:
            server.stop()


def _fill(server: SambaDC) -> None:
    mallory = server.person(
        *("mallory", "pw-mallory", "displayName: victim"), dn=f"CN=victim,{server.BASE}"
    )
    for ldif in (
        f"dn: {server.dn('alice')}\nchangetype: modify\nadd: secretary\n"
        f"secretary: {server.dn('carol')}\nsecretary: {server.dn('helpdesk')}",
        f"dn: {server.dn('carol')}\nchangetype: modify\nadd: secretary\n"
        f"secretary: {server.dn('alice')}",
        f"dn:: {b64encode(server.dn('jörg').encode()).decode()}\nchangetype: modify\n"
        f"add: secretary\nsecretary: {server.dn('alice')}\n-\n"
        "add: mDBUseDefaults\nmDBUseDefaults: TRUE\n-\n"
        "add: mDBOverHardQuotaLimit\nmDBOverHardQuotaLimit: 2000",
        f"dn: {server.dn('bob')}\nchangetype: modify\n"
        "add: mDBOverHardQuotaLimit\nmDBOverHardQuotaLimit: 2000",
        server.person("victim", "pw-victim"),
        mallory,
        server.person("rival", "pw-rival", upn=f"victim@{MAIL}"),
    ):
        server.modify(ldif)


def ldap(dc: SambaDC, **changes: Any) -> LdapSettings:
    """How the gateway is told of it."""
    settings = {
        "uris": (f"ldap://localhost:{dc.plain}",),
        "start_tls": True,
        "ca_file": str(dc.certificate),
        "map": "activedirectory",
        "base": dc.BASE,
        "bind_dn": dc.READER,
        "bind_password": dc.READER_PASSWORD,
        "domains": (dc.DOMAIN.lower(),),
        "delegates": "secretary",
    }
    return LdapSettings(**(settings | changes))  # type: ignore[arg-type]


def people(dc: SambaDC, **changes: Any) -> LdapDirectory:
    """The directory alone, in this process."""
    chosen = ldap(dc, **changes)
    return LdapDirectory(
        Reach(
            chosen.uris, start_tls=chosen.start_tls, ca_file=chosen.ca_file, timeout=chosen.timeout
        ),
        Search(
            chosen.base,
            bind_dn=chosen.bind_dn,
            bind_password=chosen.bind_password,
            bind_as=chosen.bind_as,
            domains=chosen.domains,
        ),
        chosen.entries,
        run_now,
        now=count(step=10).__next__,  # nothing is remembered
    )


# -- the gateway ---------------------------------------------------------------


Tables = dict[str, dict[str, Any]]


def tables(dc: SambaDC) -> Tables:
    """Everything that the gateway needs to know of a domain; nothing waits or is remembered."""
    chosen = ldap(dc)
    names = ("uris", "start_tls", "ca_file", "map", "base", "bind_dn", "bind_password", "domains")
    return {
        "directory": {"kind": "ldap", "delegates": True, "cache_ttl": 0},
        "ldap": {name: getattr(chosen, name) for name in (*names, "delegates")},
        "ntlm": {
            "provider": "winbind",
            "domain": dc.DOMAIN,
            "dns_domain": dc.REALM.lower(),
            "helper": (dc.ntlm_auth, f"--configfile={dc.smb_conf}"),
        },
        "gssapi": {"keytab": dc.keytab, "realms": (dc.REALM,)},
        "throttle": {"delay": 0},
        "pop3": {"refused_in_a_row": 100},
        "lmtp": {},
    }


@contextmanager
def serving(dc: SambaDC, where: Path, /, **changes: dict[str, Any]) -> Iterator[Gateway]:
    """A gateway, with settings besides those above."""
    chosen = tables(dc)
    for name, items in changes.items():
        chosen[name] |= items
    gateway = Gateway(where, toml_tables(chosen))
    for name in (*PEOPLE, "reader", "victim", "mallory", "rival"):
        owner = f"{name}@{MAIL}"
        fill(where / "mail" / owner, [f"Subject: of {owner}\r\n\r\nhello\r\n".encode()])
    gateway.run(KRB5_CONFIG=str(dc.krb5_conf))
    try:
        yield gateway
    finally:
        gateway.stop()
    assert "Traceback" not in gateway.log
    assert "pw-" not in gateway.log


Serve = Callable[..., Gateway]


@pytest.fixture
def serve(dc: SambaDC, tmp_path: Path) -> Iterator[Serve]:
    """Start a gateway with settings of its own; it ends with the test."""
    with ExitStack() as started:
        numbers = count()

        def start(**changes: dict[str, Any]) -> Gateway:
            directory = tmp_path / f"gateway{next(numbers)}"
            directory.mkdir()
            return started.enter_context(serving(dc, directory, **changes))

        yield start


@pytest.fixture(scope="module")
def gateway(dc: SambaDC, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for all tests that want nothing special of it."""
    # So many tests guess at it that the guesses would add up.
    many = {"refuse_after": 1000}
    with serving(dc, tmp_path_factory.mktemp("gateway"), throttle=many) as started:
        yield started


class Pop:
    """A client that says what it is told to say."""

    def __init__(self, gateway: Gateway) -> None:
        self.socket = gateway.connect()
        self._gateway = gateway
        self._replies = self.socket.makefile("rb")
        self.read()

    def read(self) -> str:
        """One line of a reply."""
        return self._replies.readline().decode().removesuffix("\r\n")

    def send(self, line: str | bytes) -> None:
        """Say it, and no more."""
        self.socket.sendall((line.encode() if isinstance(line, str) else line) + b"\r\n")

    def say(self, line: str | bytes) -> str:
        """Say it; the first line of the reply."""
        self.send(line)
        return self.read()

    def lines(self) -> list[str]:
        """The rest of a reply of several lines."""
        return list(iter(self.read, "."))

    def stls(self) -> None:
        """Begin TLS."""
        assert self.say("STLS").startswith("+OK")
        context = self._gateway.context()
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._replies = self.socket.makefile("rb")

    def has_reply(self) -> bool:
        """Whether something is there to be read now."""
        return readable(self.socket.fileno(), 0)

    def close(self) -> None:
        """Go, without a word."""
        self._replies.close()
        self.socket.close()


def encoded(octets: bytes) -> str:
    """As SASL goes over the wire."""
    return b64encode(octets).decode()


def owner_after(pop: Pop, reply: str) -> str:
    """Whose mailbox is open after a login's reply; or the reply, if that is no success."""
    try:
        if not reply.startswith("+OK"):
            return reply
        assert pop.say("STAT").startswith("+OK 1 ")
        assert pop.say("RETR 1").startswith("+OK")
        return pop.lines()[0].removeprefix("Subject: of ")
    finally:
        pop.close()


def by_pass(gateway: Gateway, name: str, password: str) -> str:
    """USER and PASS."""
    pop = Pop(gateway)
    assert pop.say(f"USER {name}").startswith("+OK")
    return owner_after(pop, pop.say(f"PASS {password}"))


def by_plain(gateway: Gateway, name: str, password: str, acts_as: str = "") -> str:
    """AUTH PLAIN."""
    pop = Pop(gateway)
    message = f"{acts_as}\0{name}\0{password}".encode()
    return owner_after(pop, pop.say(f"AUTH PLAIN {encoded(message)}"))


def begin_ntlm(pop: Pop, client: Ntlm) -> None:
    """AUTH NTLM up to the last message, whose reply is not waited for."""
    assert pop.say("AUTH NTLM") == "+ "
    word, challenge = pop.say(encoded(client.negotiate())).split(" ")
    assert word == "+"
    pop.send(encoded(client.authenticate(b64decode(challenge))))


def by_ntlm(gateway: Gateway, user: str, password: str, domain: str = "LAB", **how: Any) -> str:
    """AUTH NTLM, as a modern client has it."""
    pop = Pop(gateway)
    begin_ntlm(pop, Ntlm(user, password, domain=domain, now=time.time(), **how))
    return owner_after(pop, pop.read())


def of(name: str) -> str:
    """Whose mailbox it is, as its message says."""
    return f"{name}@{MAIL}"


# -- LDAP ----------------------------------------------------------------------


@pytest.mark.conformance("X-E0002")
def test_capa_lists_all_mechanisms(gateway: Gateway) -> None:
    pop = Pop(gateway)
    assert pop.say("CAPA").startswith("+OK")
    assert "SASL GSSAPI NTLM PLAIN LOGIN" in pop.lines()
    pop.close()


@pytest.mark.conformance("X-E0002")
@pytest.mark.parametrize(
    "login",
    [
        *("alice", "ALICE", "LAB\\alice", "lab/alice", "alice@LAB.TEST", "alice@lab.test"),
        *("lab.test\\alice", "LAB.TEST/alice", "alice@lab", "alice@example.test"),
        "Alice@Example.Test",
    ],
)
def test_every_form_of_a_name_opens_the_same_mailbox(gateway: Gateway, login: str) -> None:
    assert by_pass(gateway, login, "pw-alice") == of("alice")
    assert by_plain(gateway, login, "pw-alice") == of("alice")


def test_a_name_may_have_any_letters(gateway: Gateway) -> None:
    for login in ("jörg", "JÖRG", "LAB\\jörg", "jörg@lab.test", "jo\u0308rg", "jörg@example.test"):
        assert by_pass(gateway, login, "pw-jörg") == of("jörg")
        assert by_plain(gateway, login, "pw-jörg") == of("jörg")


def test_a_domain_that_is_not_ours_is_refused(gateway: Gateway) -> None:
    names = ("OTHER\\alice", "other/alice", "alice@other", "lab.test.evil\\alice", "\\alice")
    for login in names:
        assert by_pass(gateway, login, "pw-alice") == WRONG
        assert by_pass(gateway, "alice", "pw-alice") == of("alice")


def test_where_no_domains_are_named_any_may_stand_before_a_slash(dc: SambaDC) -> None:
    for login in ("other\\alice", "other/alice", "lab.test/alice", "alice@lab.test"):
        assert result(people(dc, domains=()).verify(login, b"pw-alice")).name == of("alice")
    with pytest.raises(BadCredentials):
        result(people(dc, domains=()).verify("alice@other", b"pw-alice"))


def test_the_certificate_is_verified_over_starttls_and_ldaps(dc: SambaDC) -> None:
    unencrypted = {"start_tls": False}
    over_tls = {"uris": (f"ldaps://localhost:{dc.tls}",), "start_tls": False}
    for how in (unencrypted, {}, over_tls):
        assert result(people(dc, **how).verify("alice", b"pw-alice")).name == of("alice")
        with pytest.raises(BadCredentials, match="wrong password"):
            result(people(dc, **how).verify("bob", b"wrong"))
        assert result(people(dc, **how).verify("bob", b"pw-bob")).name == of("bob")
    for how in ({}, over_tls):
        with pytest.raises(DirectoryDown, match=r"certificate|CERTIFICATE"):
            result(people(dc, **how, ca_file="").verify("alice", b"pw-alice"))
    # The same server by a name that is not in its certificate.
    elsewhere = {"uris": (f"ldaps://127.1:{dc.tls}",), "start_tls": False}
    with pytest.raises(DirectoryDown, match=r"match|certificate"):
        result(people(dc, **elsewhere).verify("alice", b"pw-alice"))


@pytest.mark.parametrize("line", ["plain", "ldaps"])
def test_the_whole_gateway_logs_in_over_an_unencrypted_line_and_ldaps_too(
    dc: SambaDC, serve: Serve, line: str
) -> None:
    port = dc.tls if line == "ldaps" else dc.plain
    scheme = "ldaps" if line == "ldaps" else "ldap"
    gateway = serve(ldap={"uris": (f"{scheme}://localhost:{port}",), "start_tls": False})
    assert by_pass(gateway, "LAB\\alice", "pw-alice") == of("alice")


def test_a_wrong_password_of_the_service_account_is_no_wrong_password_of_a_user(
    dc: SambaDC,
) -> None:
    with pytest.raises(DirectoryMisconfigured, match=r"ldap\.bind_dn .*wrong password"):
        result(people(dc, bind_password="wrong").verify("alice", b"pw-alice"))
    result(people(dc).verify("alice", b"pw-alice"))


def test_nobody_may_search_anonymously_which_is_no_users_fault(dc: SambaDC) -> None:
    with pytest.raises(DirectoryMisconfigured):
        result(people(dc, bind_dn="", bind_password="").find("alice"))


def test_filter_characters_in_a_name_find_nobody(dc: SambaDC) -> None:
    for name in ("*", "al*", "alice)(mail=*", "\\61lice", "lab/*", "*@lab.test", "\0", "(", ")"):
        with pytest.raises(BadCredentials):
            result(people(dc).verify(name, b"pw-alice"))


def test_users_may_bind_directly_and_search_themselves(serve: Serve) -> None:
    nobody = {"bind_dn": "", "bind_password": ""}
    by_upn = serve(ldap={"bind_as": "{login}@lab.test", **nobody})
    assert by_pass(by_upn, "alice", "pw-alice") == of("alice")
    assert by_pass(by_upn, "jörg", "pw-jörg") == of("jörg")
    assert by_pass(by_upn, "alice", "wrong") == WRONG
    assert by_pass(by_upn, "carol", "pw-carol") == WRONG
    by_upn.wait_for(b"account disabled")
    as_typed = serve(ldap={"bind_as": "{login}", **nobody})
    for login in ("LAB\\alice", "alice@lab.test", "ALICE@LAB.TEST"):
        assert by_pass(as_typed, login, "pw-alice") == of("alice")
    assert by_pass(as_typed, "alice", "pw-alice") == WRONG  # no name for a bind


def test_a_direct_bind_by_another_kind_of_name_opens_nobody_elses_mailbox(dc: SambaDC) -> None:
    direct = people(dc, bind_dn="", bind_password="", bind_as="{login}", domains=("lab",))
    # To the domain controller this is mallory, by the canonical name; to us it is victim.
    canonical = "lab.test/victim"
    assert binds(dc, canonical, "pw-mallory")
    with pytest.raises(BadCredentials):
        result(direct.verify(canonical, b"pw-mallory"))
    # By a display name Samba lets nobody bind, but Windows does.
    with pytest.raises(BadCredentials):
        result(direct.verify("victim", b"pw-mallory"))
    # The address of one is the user principal name of the other.
    assert binds(dc, of("victim"), "pw-rival")
    with pytest.raises(DirectoryMisconfigured, match="more than one entry"):
        result(direct.verify(of("victim"), b"pw-rival"))
    assert result(direct.verify("lab\\victim", b"pw-victim")).name == of("victim")
    assert result(direct.verify("lab\\mallory", b"pw-mallory")).name == of("mallory")


def binds(dc: SambaDC, name: str, password: str) -> bool:
    """Whether the domain controller takes this name and password for somebody's."""
    import ldap3

    server = ldap3.Server("localhost", port=dc.plain, get_info=ldap3.NONE)
    with ldap3.Connection(server, name, password.encode(), read_only=True) as connection:
        return bool(connection.bound)


def test_two_who_fit_one_name_are_a_misconfiguration_and_not_a_choice(gateway: Gateway) -> None:
    for password in ("pw-victim", "pw-rival"):
        assert by_pass(gateway, of("victim"), password) == UNUSABLE
    gateway.wait_for(b"more than one entry for victim@example.test")
    assert by_pass(gateway, "victim", "pw-victim") == of("victim")
    assert by_pass(gateway, "rival", "pw-rival") == of("rival")


@pytest.mark.parametrize("login", [by_pass, by_plain])
def test_all_who_may_not_log_in_read_the_same_and_only_the_log_says_why(
    serve: Serve, login: Callable[[Gateway, str, str], str]
) -> None:
    gateway = serve()
    for name, reason in BARRED.items():
        assert login(gateway, name, PEOPLE[name]) == WRONG
        gateway.wait_for(f"the directory refused {name}: 49 invalidCredentials ({reason})".encode())
    assert login(gateway, "bob", "wrong") == WRONG
    gateway.wait_for(b"the directory refused bob: 49 invalidCredentials (wrong password)")
    assert login(gateway, "nobody", "pw-alice") == WRONG
    gateway.wait_for(b"nobody is not in the directory")
    assert login(gateway, "bob", "pw-bob") == of("bob")


def test_all_accounts_with_mail_are_listed_and_owners_of_mailboxes_found(dc: SambaDC) -> None:
    everybody = {account.mailbox for account in result(people(dc).accounts())}
    others = ("victim", "mallory", "rival", "reader", "svc-pop")
    assert everybody == {of(name) for name in (*PEOPLE, *others)}
    assert result(people(dc).owner(of("alice"))).addresses == (of("alice"),)
    assert result(people(dc).owner("alice")) is None


def test_quotas_addresses_and_groups_are_read(dc: SambaDC) -> None:
    def account(name: str) -> Account:
        found = result(people(dc).find(name))
        assert isinstance(found, Account)
        return found

    alice = account("alice")
    assert alice.quota == Quota(octets=2000 * 1024, warn_octets=1000 * 1024)
    assert alice.addresses == (of("alice"),)
    logins = {"alice", "alice@lab.test", of("alice")}
    assert alice.names == {dc.dn("alice").lower(), *logins}
    assert alice.delegates == {dc.dn("carol").lower(), dc.dn("helpdesk").lower()}
    # What the entry says counts only where it says so.
    assert account("bob").quota == account("jörg").quota == Quota()
    assert {dc.dn("bob").lower(), dc.dn("helpdesk").lower()} < account("bob").names
    assert [account(name).may_log_in for name in ("alice", "carol")] == [True, False]
    assert [account(name).gets_mail for name in ("alice", "carol")] == [True, True]


def test_the_map_asks_for_nothing_that_a_plain_domain_without_exchange_refuses(
    dc: SambaDC,
) -> None:
    assert "msExchHomeServerName" in MAPS["activedirectory"].attributes
    assert result(people(dc, delegates="").find("alice")).delegates == frozenset()


# -- delegates -----------------------------------------------------------------

FORMS = (
    "lab/{}/{}",
    "lab/{}/{}@lab.test",
    "{}@lab.test/{}",
    "{}@lab.test/{}@lab.test",
)
"""USER in [MS-OXPOP3]: who logs in, and whose mailbox he wants."""


@pytest.mark.parametrize("form", FORMS)
def test_a_delegate_opens_the_mailbox_by_all_forms_of_user(gateway: Gateway, form: str) -> None:
    # By his group, and by his name.
    assert by_pass(gateway, form.format("bob", "alice"), "pw-bob") == of("alice")
    assert by_pass(gateway, form.format("alice", "jörg"), "pw-alice") == of("jörg")


@pytest.mark.parametrize("form", FORMS)
def test_a_stranger_is_refused_and_still_gets_his_own_mail(gateway: Gateway, form: str) -> None:
    for name, wanted in (("reader", "alice"), ("alice", "bob"), ("bob", "jörg")):
        password = f"pw-{name}"
        assert by_pass(gateway, form.format(name, wanted), password) == WRONG
        assert by_pass(gateway, name, password) == of(name)
    gateway.wait_for(b"is no delegate of")
    assert by_pass(gateway, form.format("bob", "nobody"), "pw-bob") == WRONG
    assert by_pass(gateway, "bob", "pw-bob") == of("bob")


def test_a_disabled_delegate_is_refused(serve: Serve) -> None:
    gateway = serve()
    assert by_pass(gateway, "lab/carol/alice", "pw-carol") == WRONG
    assert by_plain(gateway, "carol", "pw-carol", "alice") == WRONG


@pytest.mark.parametrize("form", FORMS)
def test_a_delegate_opens_the_mailbox_of_an_account_that_is_disabled(
    gateway: Gateway, form: str
) -> None:
    assert by_pass(gateway, form.format("alice", "carol"), "pw-alice") == of("carol")


def test_a_disabled_account_gets_mail(serve: Serve) -> None:
    port = free_port()
    gateway = serve(lmtp={"endpoint": f"tcp:{port}:interface=127.0.0.1"})
    with smtplib.LMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo_or_helo_if_needed()
        client.mail("sender@example.net")
        assert client.rcpt(of("carol"))[0] == 250
        assert client.rcpt(of("nobody"))[0] == 550
    assert by_pass(gateway, "carol", "pw-carol") == WRONG


def test_the_owners_password_does_not_open_it_in_a_delegates_name(gateway: Gateway) -> None:
    assert by_pass(gateway, "lab/bob/alice", "pw-alice") == WRONG
    assert by_pass(gateway, "bob", "pw-bob") == of("bob")


def test_plains_authorization_identity_does_the_same(gateway: Gateway) -> None:
    for name in ("bob", "LAB\\bob", "bob@lab.test"):
        for wanted in ("alice", "LAB\\alice", "alice@lab.test", of("alice")):
            assert by_plain(gateway, name, "pw-bob", wanted) == of("alice")
    assert by_plain(gateway, "bob", "pw-bob", "bob@lab.test") == of("bob")
    for wanted in ("jörg", "nobody", "other\\alice"):
        assert by_plain(gateway, "bob", "pw-bob", wanted) == WRONG
        assert by_plain(gateway, "bob", "pw-bob", "bob") == of("bob")


def test_there_are_no_delegates_unless_they_are_allowed(serve: Serve) -> None:
    gateway = serve(directory={"delegates": False})
    assert by_pass(gateway, "bob", "pw-bob") == of("bob")
    for form in FORMS:
        assert by_pass(gateway, form.format("bob", "alice"), "pw-bob") == WRONG
        assert by_pass(gateway, "bob", "pw-bob") == of("bob")
    assert by_plain(gateway, "bob", "pw-bob", "alice") == WRONG


# -- NTLM ----------------------------------------------------------------------


@pytest.mark.conformance("X-E0002")
def test_ntlm_is_judged_by_the_domain_controller(gateway: Gateway) -> None:
    assert by_ntlm(gateway, "alice", "pw-alice") == of("alice")
    assert by_ntlm(gateway, "ALICE", "pw-alice", "lab") == of("alice")
    assert by_ntlm(gateway, "alice", "pw-alice", "lab.test") == of("alice")
    assert by_ntlm(gateway, "alice", "wrong") == WRONG
    gateway.wait_for(b"the domain refused alice")
    assert by_ntlm(gateway, "jörg", "pw-jörg") == of("jörg")


def test_a_user_principal_name_comes_without_domain(gateway: Gateway) -> None:
    for name in ("alice@lab.test", "alice@LAB.TEST", "jörg@LAB.TEST"):
        user = name.partition("@")[0]
        assert by_ntlm(gateway, name, f"pw-{user}", "") == of(user)


def test_an_integrity_code_is_checked_with_the_key_that_the_controller_gives(
    gateway: Gateway,
) -> None:
    assert by_ntlm(gateway, "alice", "pw-alice", mic=False) == WRONG
    gateway.wait_for(b"no integrity code")
    # Promised, with room for it, and not filled in.
    changed = _SpoiltCode("alice", "pw-alice", domain="LAB", now=time.time(), av_flags=MIC_PRESENT)
    pop = Pop(gateway)
    begin_ntlm(pop, changed)
    assert owner_after(pop, pop.read()) == WRONG
    gateway.wait_for(b"the integrity code is wrong")
    assert by_ntlm(gateway, "alice", "pw-alice") == of("alice")


class _SpoiltCode(Ntlm):
    def authenticate(self, challenge: bytes) -> bytes:
        message = super().authenticate(challenge)
        return message[:72] + bytes([message[72] ^ 1]) + message[73:]


def test_who_may_not_log_in_reads_the_same_by_ntlm_and_the_log_says_why(serve: Serve) -> None:
    gateway = serve()
    for name in BARRED:
        assert by_ntlm(gateway, name, PEOPLE[name]) == WRONG
        gateway.wait_for(f"the domain refused {name}: ".encode())
    reasons = dict(re.findall(r"the domain refused (\w+): (.*)", gateway.log))
    expected = {"carol": "disabled", "dave": "expired", "erin": "locked", "frank": "changed"}
    assert {name for name, word in expected.items() if word not in reasons[name]} == set()
    assert by_ntlm(gateway, "nobody", "pw-alice") == WRONG


def test_an_ntlm_user_of_another_domain_is_not_ours_of_that_name(gateway: Gateway) -> None:
    for domain in ("OTHER", "", "DC1"):
        assert by_ntlm(gateway, "OTHER\\alice", "pw-alice", domain) == WRONG
    assert by_ntlm(gateway, "alice", "pw-alice", "OTHER") == WRONG
    assert by_ntlm(gateway, "alice", "pw-alice") == of("alice")


@contextmanager
def halted(dc: SambaDC) -> Iterator[None]:
    """All of winbindd stands still."""
    pids = dc.winbindd_pids()
    assert pids
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_halted_winbindd_is_an_outage_until_it_goes_on(dc: SambaDC, serve: Serve) -> None:
    gateway = serve(ntlm={"timeout": 5.0, "helpers": 2})
    assert by_ntlm(gateway, "alice", "pw-alice") == of("alice")
    # More than there are helpers: none of them is lost by it.
    waiting = [Pop(gateway) for _ in range(3)]
    with halted(dc):
        for pop in waiting:
            begin_ntlm(pop, Ntlm("alice", "pw-alice", domain="LAB", now=time.time()))
        for pop in waiting:
            assert owner_after(pop, pop.read()) == TROUBLE
        gateway.wait_for(b"winbind down: the NTLM helper did not answer in time")
    assert by_ntlm(gateway, "alice", "pw-alice") == of("alice")
    assert by_ntlm(gateway, "alice", "wrong") == WRONG
    assert by_ntlm(gateway, "alice", "pw-alice") == of("alice")


def test_who_waits_for_winbindd_holds_up_nobody_else(dc: SambaDC, serve: Serve) -> None:
    gateway = serve(ntlm={"timeout": 600.0, "helpers": 1})
    assert by_ntlm(gateway, "alice", "pw-alice") == of("alice")
    waiting = [Pop(gateway) for _ in range(3)]
    with halted(dc):
        for pop in waiting:
            begin_ntlm(pop, Ntlm("jörg", "pw-jörg", domain="LAB", now=time.time()))
        assert by_pass(gateway, "bob", "pw-bob") == of("bob")
        assert by_plain(gateway, "alice", "pw-alice") == of("alice")
        assert not any(pop.has_reply() for pop in waiting)
    for pop in waiting:
        assert owner_after(pop, pop.read()) == of("jörg")


def test_a_client_that_goes_while_winbindd_thinks_leaves_nothing_behind(
    dc: SambaDC, serve: Serve
) -> None:
    gateway = serve(ntlm={"timeout": 600.0, "helpers": 1})
    with halted(dc):
        pop = Pop(gateway)
        begin_ntlm(pop, Ntlm("alice", "pw-alice", domain="LAB", now=time.time()))
        # Gone altogether: who has only finished sending still gets the answer.
        pop.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pop.close()
        gateway.wait_for(b"end=dropped user=")
    assert by_ntlm(gateway, "alice", "pw-alice") == of("alice")


def test_a_winbindd_that_is_not_there_is_an_outage(dc: SambaDC, serve: Serve) -> None:
    # Samba's own program looks for it where this machine's would be.
    gateway = serve(ntlm={"helper": ("ntlm_auth", f"--configfile={dc.smb_conf}")})
    for _ in range(2):
        assert by_ntlm(gateway, "alice", "pw-alice") == TROUBLE
    gateway.wait_for(b"is winbindd running")
    assert by_pass(gateway, "alice", "pw-alice") == of("alice")
    ends = serve(ntlm={"helper": ("false",)})
    assert by_ntlm(ends, "alice", "pw-alice") == TROUBLE
    ends.wait_for(b"the NTLM helper ended")


# -- real clients --------------------------------------------------------------

UTF8 = {"LC_ALL": "C.UTF-8"}


def curl(
    gateway: Gateway, home: Path, user: str, mechanism: str, *, tls: bool = False, **env: str
) -> subprocess.CompletedProcess[str]:
    """Fetch the first message; ``user`` is name and password."""
    place = f"pop3s://localhost:{gateway.tls}" if tls else f"pop3://localhost:{gateway.plain}"
    options = ["--silent", "--show-error", "--max-time", "60", "--user", user]
    options += ["--login-options", f"AUTH={mechanism}", "--cacert", str(gateway.certificate)]
    return run(home, "curl", "--disable", *options, f"{place}/1", **UTF8, **env)


def use_fetchmail(gateway: Gateway, home: Path, password: str) -> subprocess.CompletedProcess[str]:
    """Fetch everything by NTLM."""
    login = f'auth ntlm user "alice@LAB" password "{password}"'
    return fetchmail(gateway, home, "plain", login, **UTF8)


def use_mpop(gateway: Gateway, home: Path, password: str) -> subprocess.CompletedProcess[str]:
    """Fetch everything by NTLM."""
    login = f"auth ntlm\nntlmdomain LAB\nuser alice\npassword {password}"
    return mpop(gateway, home, "plain", login, **UTF8)


@pytest.mark.conformance("X-E0002")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "pop3s"])
def test_curl_logs_in_by_ntlm(gateway: Gateway, tmp_path: Path, tls: bool) -> None:
    need("curl")
    for user in ("LAB\\alice:pw-alice", "LAB/alice:pw-alice", "alice@lab.test:pw-alice"):
        done = curl(gateway, tmp_path, user, "NTLM", tls=tls)
        assert (done.returncode, "Subject: of alice@" in done.stdout) == (0, True), done.stdout
    done = curl(gateway, tmp_path, "LAB\\alice:wrong", "NTLM", tls=tls)
    assert done.returncode == 67, done.stdout
    done = curl(gateway, tmp_path, "LAB\\alice:pw-alice", "NTLM", tls=tls)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("client", [use_fetchmail, use_mpop], ids=["fetchmail", "mpop"])
def test_clients_that_know_ntlmv1_only_get_in_from_legacy_networks_only(
    gateway: Gateway, serve: Serve, tmp_path: Path, client: Any
) -> None:
    stored = tmp_path / "message"
    done = client(gateway, tmp_path, "pw-alice")
    assert done.returncode != 0, done.stdout
    assert not stored.exists() or not stored.read_text()
    gateway.wait_for(b"answers as NTLMv1, which only ntlm.legacy_networks may")

    lenient = serve(ntlm={"legacy_networks": ("127.0.0.0/8",)})
    for times in (1, 2):
        stored.unlink(missing_ok=True)
        (tmp_path / "ids").unlink(missing_ok=True)
        done = client(lenient, tmp_path, "pw-alice")
        assert done.returncode == 0, done.stdout
        assert "Subject: of alice@" in stored.read_text()
        lenient.wait_for(b"alice logged in by NTLMv1", times=times)
    assert re.search(r"warn ntlmv1: (lab\\)?alice logged in by NTLMv1", lenient.log)
    done = client(lenient, tmp_path, "wrong")
    assert done.returncode != 0, done.stdout
    assert by_ntlm(lenient, "alice", "pw-alice") == of("alice")
    assert lenient.log.count("logged in by NTLMv1") == 2


# -- Kerberos ------------------------------------------------------------------


@pytest.fixture(scope="module")
def tickets(dc: SambaDC, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Get a user's ticket from the domain controller: a credential cache."""
    home = tmp_path_factory.mktemp("tickets")
    numbers = count()

    def ticket(principal: str, password: str) -> Path:
        cache = home / f"cc{next(numbers)}"
        subprocess.run(
            ["kinit", "-c", str(cache), principal],
            input=f"{password}\n".encode(),
            env={**os.environ, "KRB5_CONFIG": str(dc.krb5_conf), "LC_ALL": "C.UTF-8"},
            capture_output=True,
            timeout=60,
            check=True,
        )
        return cache

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KRB5_CONFIG", str(dc.krb5_conf))
        yield ticket


def by_gssapi(gateway: Gateway, cache: Path, acts_as: str = "") -> str:
    """AUTH GSSAPI with the ticket in a cache."""
    import gssapi

    context = gssapi.SecurityContext(
        name=gssapi.Name("pop@localhost", gssapi.NameType.hostbased_service),
        creds=gssapi.Credentials(usage="initiate", store={"ccache": f"FILE:{cache}"}),
        usage="initiate",
        mech=gssapi.MechType.kerberos,
    )
    pop = Pop(gateway)
    reply = pop.say("AUTH GSSAPI")
    token = context.step()
    while not context.complete:
        reply = pop.say(encoded(token or b""))
        if not reply.startswith("+ "):
            return owner_after(pop, reply)
        token = context.step(b64decode(reply[2:]))
    offer = pop.say(encoded(token or b""))
    if not offer.startswith("+ "):
        return owner_after(pop, offer)
    assert context.unwrap(b64decode(offer[2:])).message == NO_LAYER
    answer = context.wrap(NO_LAYER + acts_as.encode(), False).message
    return owner_after(pop, pop.say(encoded(answer)))


@pytest.mark.conformance("X-E0002")
def test_a_ticket_of_the_domain_opens_the_mailbox_by_the_user_principal_name(
    gateway: Gateway, tickets: Callable[..., Path]
) -> None:
    for name in ("alice", "bob", "jörg"):
        assert by_gssapi(gateway, tickets(f"{name}@LAB.TEST", f"pw-{name}")) == of(name)


def test_a_ticket_opens_another_mailbox_for_delegates_only(
    gateway: Gateway, tickets: Callable[..., Path]
) -> None:
    bob = tickets("bob@LAB.TEST", "pw-bob")
    assert by_gssapi(gateway, bob, "alice@lab.test") == of("alice")
    for own in ("bob", "bob@LAB.TEST", "bob@lab.test"):
        assert by_gssapi(gateway, bob, own) == of("bob")
    for wanted in ("jörg", "nobody", "reader@LAB.TEST"):
        assert by_gssapi(gateway, bob, wanted) == WRONG


def test_a_ticket_of_a_realm_that_is_not_ours_is_refused(
    serve: Serve, tickets: Callable[..., Path]
) -> None:
    gateway = serve(gssapi={"realms": ("OTHER.TEST",)})
    assert by_gssapi(gateway, tickets("alice@LAB.TEST", "pw-alice")) == WRONG
    gateway.wait_for(b"alice@LAB.TEST is no user of OTHER.TEST")


@pytest.mark.conformance("X-E0002")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "pop3s"])
def test_curl_logs_in_by_kerberos(
    dc: SambaDC, gateway: Gateway, tmp_path: Path, tickets: Callable[..., Path], tls: bool
) -> None:
    need("curl")
    env = {
        "KRB5_CONFIG": str(dc.krb5_conf),
        "KRB5CCNAME": f"FILE:{tickets('alice@LAB.TEST', 'pw-alice')}",
    }
    for user in ("alice@LAB.TEST:", ":"):
        done = curl(gateway, tmp_path, user, "GSSAPI", tls=tls, **env)
        assert (done.returncode, "Subject: of alice@" in done.stdout) == (0, True), done.stdout
    done = curl(gateway, tmp_path, "alice@LAB.TEST:", "GSSAPI", tls=tls)
    assert done.returncode != 0, done.stdout


# -- lock-out ------------------------------------------------------------------


def test_guesses_through_the_gateway_do_not_lock_the_account(dc: SambaDC, serve: Serve) -> None:
    gateway = serve()
    result(people(dc).verify("alice", b"pw-alice"))  # nothing counts against her
    replies = [by_pass(gateway, "alice", f"wrong{number}") for number in range(10)]
    most = LOCKOUT_THRESHOLD - 1
    assert replies == [WRONG] * most + [GUESSES] * (10 - most)
    # The right one, too, since it never was right from there.
    assert by_plain(gateway, "alice", "pw-alice") == GUESSES
    assert result(people(dc).verify("alice", b"pw-alice")).name == of("alice")


def test_guesses_do_not_keep_out_who_logged_in_from_there_before(serve: Serve) -> None:
    gateway = serve()
    assert by_pass(gateway, "alice", "pw-alice") == of("alice")
    replies = [by_pass(gateway, "alice", f"wrong{number}") for number in range(10)]
    most = LOCKOUT_THRESHOLD - 1
    assert replies == [WRONG] * most + [GUESSES] * (10 - most)
    assert by_pass(gateway, "alice", "pw-alice") == of("alice")


def test_guesses_by_ntlm_do_not_lock_the_account_either(dc: SambaDC, serve: Serve) -> None:
    gateway = serve()
    result(people(dc).verify("alice", b"pw-alice"))
    replies = [by_ntlm(gateway, "alice", f"wrong{number}") for number in range(10)]
    most = LOCKOUT_THRESHOLD - 1
    assert replies == [WRONG] * most + [GUESSES] * (10 - most)
    assert result(people(dc).verify("alice", b"pw-alice")).name == of("alice")


def test_neither_spellings_nor_mechanisms_give_more_guesses(dc: SambaDC, serve: Serve) -> None:
    gateway = serve()
    result(people(dc).verify("bob", b"pw-bob"))
    ways = (
        lambda guess: by_pass(gateway, "bob", guess),
        lambda guess: by_ntlm(gateway, "bob", guess),
        lambda guess: by_pass(gateway, "bob@lab.test", guess),
        lambda guess: by_plain(gateway, r"LAB\bob", guess),
        lambda guess: by_plain(gateway, "bob@example.test", guess),
        lambda guess: by_ntlm(gateway, "bob@LAB.TEST", guess),
    )
    replies = [way(f"wrong{number}") for number, way in enumerate(ways * 2)]
    most = LOCKOUT_THRESHOLD - 1
    assert replies == [WRONG] * most + [GUESSES] * (len(replies) - most)
    assert result(people(dc).verify("bob", b"pw-bob")).name == of("bob")


def test_a_client_that_keeps_sending_an_old_password_locks_nobody_out(
    dc: SambaDC, serve: Serve
) -> None:
    gateway = serve()
    result(people(dc).verify("bob", b"pw-bob"))
    assert {by_pass(gateway, "bob", "last year's") for _ in range(10)} == {WRONG}
    gateway.wait_for(b"the same wrong password again", times=9)
    assert gateway.log.count("the same wrong password again") == 9
    assert result(people(dc).verify("bob", b"pw-bob")).name == of("bob")
