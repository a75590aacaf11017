"""Ready-made maps, delegates and direct binds against a real OpenLDAP."""

from __future__ import annotations

import poplib
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.cred.credentials import UsernamePassword

from answers import result
from gateway.auth.delegates import Delegates
from gateway.auth.password_cache import PasswordCache
from gateway.auth.passwords import PasswordChecker
from gateway.directory.entry_map import MAPS, EntryMap
from gateway.directory.ldap import LdapDirectory
from gateway.errors import BadCredentials, DirectoryMisconfigured
from gateway.model import UNLIMITED, Account, Quota
from gateway.sasl.credentials import ActingPassword
from gateway.sasl.md4 import nt_hash
from ldap_people import directory, settings
from servers import Gateway, Slapd, free_port, need

pytestmark = pytest.mark.interop

TESTS = Path(__file__).parents[2]
SCHEMAS = (
    TESTS.parent / "etc/ldap/pop3gw.schema",
    TESTS / "schemas/qmail.schema",
    TESTS / "schemas/samba.schema",
)
HASH = nt_hash("secret").hex()

PERSON = """dn: uid={uid},ou=people,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: {kind}
uid: {uid}
cn: {uid}
sn: {uid}
userPassword: secret
{more}
"""


def person(uid: str, kind: str, *more: str) -> str:
    """One entry in LDIF."""
    return PERSON.format(uid=uid, kind=kind, more="\n".join(more)) + "\n"


PEOPLE = "".join(
    (
        person(
            "olga",
            "pop3gwAccount",
            *("mail: olga@example.org", "mail: o@example.org", "pop3gwMailbox: olga@example.org"),
            *("pop3gwHost: MX1.example.org", f"pop3gwNtHash: {HASH}", "pop3gwQuota: 5000"),
            *("pop3gwQuotaWarn: 4000", "pop3gwQuotaMessages: 70", "pop3gwRetention: read 7d"),
            *("pop3gwDelegate: otto@example.org", "pop3gwDelegate: cn=Help, dc=example,dc=org"),
        ),
        person("otto", "pop3gwAccount", "mail: otto@example.org"),
        person("oda", "pop3gwAccount", "mail: oda@example.org"),
        person("ole", "pop3gwAccount", "mail: ole@example.org"),
        person("una", "pop3gwAccount", "mail: una@example.org", "pop3gwMailbox: u-17"),
        # His mailbox has a name of its own, so that his address names nobody's.
        person("udo", "pop3gwAccount", "mail: u-17@example.org", "pop3gwMailbox: u-18"),
        # The address that names hers is another's too; two have the login that names his.
        person("ruth", "pop3gwAccount", "mail: r@example.org", "pop3gwMailbox: sales@example.org"),
        person("rolf", "pop3gwAccount", "mail: sales@example.org", "pop3gwMailbox: r-2"),
        person("rob", "pop3gwAccount", "mail: sales@example.org", "pop3gwMailbox: r-3"),
        person("out", "pop3gwAccount", "mail: out@example.org", "pop3gwEnabled: FALSE"),
        person(
            "room",
            "pop3gwAccount",
            *("mail: room@example.org", "pop3gwLogin: FALSE", "pop3gwDelegate: OTTO"),
            *("pop3gwDelegate: Example\\oda", "pop3gwQuota: 0", "pop3gwQuotaWarn: 0"),
            "pop3gwQuotaMessages: 0",
        ),
        person("mute", "pop3gwAccount", "mail: mute@example.org", "pop3gwReceives: FALSE"),
        person("two", "pop3gwAccount", "mail: a@example.org", "mail: b@example.org"),
        person("none", "pop3gwAccount"),
        person("odd", "pop3gwAccount", "mail: odd@example.org", "pop3gwNtHash: xyz"),
        person(
            "quinn",
            "qmailUser",
            *("mail: quinn@example.org", "mailAlternateAddress: q@example.org"),
            *("mailMessageStore: /mail/quinn", "mailHost: mx2.example.org"),
            *("mailQuotaSize: 1000", "mailQuotaCount: 10", "accountStatus: active"),
        ),
        person(
            "quit",
            "qmailUser",
            *("mail: quit@example.org", "accountStatus: noaccess", "mailQuotaSize: 0"),
        ),
        person("dead", "qmailUser", "mail: dead@example.org", "accountStatus: disabled"),
        person(
            "sam",
            "sambaSamAccount",
            *("mail: sam@example.org", "sambaSID: S-1-1", f"sambaNTPassword: {HASH.upper()}"),
            *("sambaAcctFlags: [UX         ]", "sambaKickoffTime: 99999999999"),
        ),
        person(
            "sad",
            "sambaSamAccount",
            "mail: sad@e.org",
            "sambaSID: S-1-2",
            "sambaAcctFlags: [UD         ]",
        ),
        person(
            "late",
            "sambaSamAccount",
            "mail: late@e.org",
            "sambaSID: S-1-3",
            "sambaKickoffTime: 1000000000",
        ),
        "dn: ou=part,dc=example,dc=org\nobjectClass: organizationalUnit\nou: part\n\n"
        "dn: ou=far,ou=part,dc=example,dc=org\nobjectClass: referral\n"
        "objectClass: extensibleObject\nou: far\nref: ldap://far.example/ou=far,dc=example,dc=org\n\n",
        "dn: cn=help,dc=example,dc=org\nobjectClass: groupOfNames\ncn: help\n"
        "member: uid=oda,ou=people,dc=example,dc=org\n\n",
    )
)


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """One server with people of every schema."""
    need("slapd", "ldapadd")
    server = Slapd(tmp_path_factory.mktemp("slapd"), {}, schemas=SCHEMAS, more=PEOPLE).run()
    yield server
    server.stop()


def people(slapd: Slapd, name: str, **how: Any) -> LdapDirectory:
    """The directory as the named map has it."""
    return directory(slapd, **({"entries": MAPS[name], "filter": ""} | how))


def account(slapd: Slapd, name: str, login: str) -> Account:
    """What the named map makes of an entry."""
    found = result(people(slapd, name).find(login))
    assert isinstance(found, Account)
    return found


def test_openldap_entries_with_our_schema_say_all_there_is(slapd: Slapd) -> None:
    for login in ("olga", "olga@example.org", "o@example.org"):
        olga = account(slapd, "openldap", login)
        assert (olga.name, olga.mailbox, olga.host) == (
            *("olga@example.org", "olga@example.org"),
            "mx1.example.org",
        )
    assert olga.addresses == ("olga@example.org", "o@example.org")
    assert olga.nt_hash == nt_hash("secret")
    assert olga.quota == Quota(octets=5000, warn_octets=4000, messages=70)
    assert olga.retention == "read 7d"
    assert olga.delegates == {"otto@example.org", "cn=help,dc=example,dc=org"}
    assert account(slapd, "openldap", "oda").names == {
        *("uid=oda,ou=people,dc=example,dc=org", "cn=help,dc=example,dc=org"),
        *("oda", "oda@example.org"),
    }
    assert account(slapd, "openldap", "otto").quota == Quota()


def test_the_owner_is_whoever_has_a_mailbox_of_that_name(slapd: Slapd) -> None:
    directory = people(slapd, "openldap")
    for mailbox, address in (("u-17", "una@example.org"), ("u-18", "u-17@example.org")):
        assert result(directory.owner(mailbox)).addresses == (address,)
    assert result(directory.owner("otto@example.org")).name == "otto@example.org"
    assert result(directory.owner("sales@example.org")).addresses == ("r@example.org",)
    # It may be theirs, if somebody makes it one name: not to know is not that nobody has it.
    with pytest.raises(DirectoryMisconfigured, match="has 2 values"):
        result(directory.owner("a@example.org"))
    for mailbox in ("una@example.org", "u-17@example.org", "una", "u-1*", "nobody@example.org"):
        assert result(directory.owner(mailbox)) is None


def test_all_accounts_with_a_valid_mailbox_name_are_listed(slapd: Slapd) -> None:
    def names(name: str, **how: Any) -> set[str]:
        return {account.mailbox for account in result(people(slapd, name, **how).accounts())}

    ours = {
        f"{name}@example.org"
        for name in ("olga", "otto", "oda", "ole", "out", "odd", "room", "mute")
    }
    wanted = "(&(objectClass=pop3gwAccount)(|(uid={user})(mail={login})))"
    assert names("openldap", filter=wanted) == ours | {
        *("u-17", "u-18", "r-2", "r-3"),
        "sales@example.org",
    }
    assert names("samba") == {"sam@example.org", "sad@e.org", "late@e.org"}
    assert names("openldap", filter="(uid=q{login})") == {"quinn@example.org", "quit@example.org"}


def test_the_schema_is_the_same_for_cn_config() -> None:
    def definitions(name: str) -> list[str]:
        text = (TESTS.parent / "etc/ldap" / name).read_text()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return " ".join(lines).split("NAME ")[1:]

    for one, other in zip(definitions("pop3gw.schema"), definitions("pop3gw.ldif"), strict=True):
        assert one.split(" )")[0].split() == other.split(" )")[0].split()


def test_qmail_ldap_entries_give_home_quota_addresses_and_host(slapd: Slapd) -> None:
    quinn = account(slapd, "qmail-ldap", "q@example.org")
    assert (quinn.name, quinn.home, quinn.host) == (
        *("quinn@example.org", "/mail/quinn"),
        "mx2.example.org",
    )
    assert quinn.addresses == ("quinn@example.org", "q@example.org")
    assert quinn.quota == Quota(octets=1000, messages=10)


def test_samba_entries_give_the_nt_hash_and_a_name_with_or_without_domain(slapd: Slapd) -> None:
    for login in ("sam", r"example\sam", "EXAMPLE/sam".lower(), "sam@example.org"):
        sam = account(slapd, "samba", login)
        assert (sam.name, sam.nt_hash) == ("sam@example.org", nt_hash("secret"))
    assert result(people(slapd, "samba", domains=("example",)).find(r"other\sam")) is None


@pytest.mark.parametrize(
    ("name", "login", "gets_mail"),
    [
        *(("openldap", "out", False), ("openldap", "room", True)),
        *(("qmail-ldap", "quit", True), ("qmail-ldap", "dead", False)),
        *(("samba", "sad", True), ("samba", "late", True)),
    ],
)
def test_who_may_not_log_in_is_not_let_in_and_gets_mail_as_the_map_says(
    slapd: Slapd, name: str, login: str, *, gets_mail: bool
) -> None:
    found = account(slapd, name, login)
    assert (found.may_log_in, found.gets_mail) == (False, gets_mail)
    with pytest.raises(BadCredentials, match="may not log in"):
        result(people(slapd, name).verify(login, b"secret"))


def test_an_account_that_expires_is_barred_from_its_second_on(slapd: Slapd) -> None:
    for seconds, may_log_in in ((999_999_999.0, True), (1_000_000_000.0, False)):
        there = people(slapd, "samba", unix_time=lambda now=seconds: now)
        late = result(there.find("late"))
        assert late is not None
        assert (late.may_log_in, late.gets_mail) == (may_log_in, True)


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("openldap", {"room": 250, "otto": 250, "out": 550, "mute": 550, "nobody": 550}),
        ("qmail-ldap", {"quinn": 250, "quit": 250, "dead": 550, "nobody": 550}),
        ("samba", {"sam": 250, "nobody": 550}),
    ],
)
def test_mail_comes_for_who_gets_it_whether_or_not_he_may_log_in(
    tmp_path: Path, slapd: Slapd, name: str, codes: dict[str, int]
) -> None:
    port = free_port()
    lmtp = f'[lmtp]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
    gateway = Gateway(tmp_path, settings(slapd, map=name, start_tls=False) + lmtp).run()
    try:
        with smtplib.LMTP("127.0.0.1", port, timeout=30) as client:
            client.ehlo_or_helo_if_needed()
            client.mail("sender@example.net")
            said = {user: client.rcpt(f"{user}@example.org")[0] for user in codes}
        assert said == codes
    finally:
        gateway.stop()
    assert "Traceback" not in gateway.log


def test_who_takes_no_mail_may_still_log_in(slapd: Slapd) -> None:
    mute = result(people(slapd, "openldap").verify("mute", b"secret"))
    assert not mute.gets_mail


def test_a_quota_of_zero_is_no_limit_in_openldap_and_qmail(slapd: Slapd) -> None:
    assert account(slapd, "openldap", "room").quota == Quota(UNLIMITED, UNLIMITED, UNLIMITED)
    assert account(slapd, "qmail-ldap", "quit").quota == Quota(octets=UNLIMITED)


def test_a_mailbox_has_one_name_or_none_at_all(slapd: Slapd) -> None:
    with pytest.raises(
        DirectoryMisconfigured, match="mail has 2 values, but a mailbox has one name"
    ):
        account(slapd, "openldap", "two")
    with pytest.raises(DirectoryMisconfigured, match="has no pop3gwMailbox or mail"):
        account(slapd, "openldap", "none")


def test_an_nt_hash_that_is_none_bars_nobody(slapd: Slapd) -> None:
    assert account(slapd, "openldap", "odd").nt_hash == b""


def test_a_right_password_opens_the_mailbox_of_the_name_that_was_proven(slapd: Slapd) -> None:
    # Olga's entry names as its mailbox what is another's login name.
    entries = EntryMap(mailbox=("sn",), filter="(uid={login})")
    for ttl in (0, 60):
        there = people(slapd, "openldap", entries=entries, filter="", cache_ttl=ttl)
        assert result(there.verify("olga", b"secret")).mailbox == "olga"
        assert result(there.find("olga")).mailbox == "olga"


def test_users_may_bind_themselves_without_a_service_account(slapd: Slapd) -> None:
    for template in ("uid={login}," + slapd.BASE, "UID={login}, " + slapd.BASE.upper()):
        there = people(slapd, "openldap", bind_as=template, bind_dn="", bind_password="")
        assert result(there.verify("olga", b"secret")).name == "olga@example.org"
        for login, password in (("olga", b"wrong"), ("nobody", b"secret"), ("olga,ou=x", b"x")):
            with pytest.raises(BadCredentials):
                result(there.verify(login, password))


def test_who_binds_by_one_name_does_not_get_the_entry_of_another(slapd: Slapd) -> None:
    # As in Active Directory, where a display name binds too: what the filter
    # finds for olga is otto, whose password hers is not.
    there = people(
        *(slapd, "openldap"),
        bind_as="uid={login}," + slapd.BASE,
        filter="(|(uid=otto)(sn=no-{login}))",
    )
    slapd.change_password("olga", "hers")
    try:
        with pytest.raises(BadCredentials):
            result(there.verify("olga", b"hers"))
        assert result(there.verify("otto", b"secret")).name == "otto@example.org"
    finally:
        slapd.change_password("olga", "secret")


def test_a_base_that_is_not_there_is_no_wrong_password(slapd: Slapd) -> None:
    with pytest.raises(DirectoryMisconfigured, match="no such entry"):
        result(people(slapd, "openldap", base="ou=none,dc=example,dc=org").verify("olga", b"x"))


def test_a_search_with_only_referrals_is_no_wrong_password(tmp_path: Path, slapd: Slapd) -> None:
    for base in ("ou=part,dc=example,dc=org", "ou=far,ou=part,dc=example,dc=org"):
        with pytest.raises(
            DirectoryMisconfigured, match=r"returned only referrals to ldap://far\.example"
        ):
            result(people(slapd, "openldap", base=base).verify("olga", b"secret"))
    gateway = Gateway(
        tmp_path, settings(slapd, base="ou=part,dc=example,dc=org", start_tls=False)
    ).run()
    try:
        client = poplib.POP3("127.0.0.1", gateway.plain, timeout=30)
        client.user("olga")
        with pytest.raises(poplib.error_proto, match=r"-ERR \[SYS/PERM\]"):
            client.pass_("secret")
        gateway.wait_for(b"the directory returned only referrals to ldap://far.example")
    finally:
        gateway.stop()


def test_expire_is_the_smallest_of_any_user_from_the_first_connection_on(
    tmp_path: Path, slapd: Slapd
) -> None:
    retention = "[retention]\nenabled = true\npolicy = 'any 60d'\n"
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        gateway = Gateway(tmp_path / str(number), settings(slapd, start_tls=False) + retention)
        gateway.run()
        try:
            client = poplib.POP3("127.0.0.1", gateway.plain, timeout=30)
            # Olga's, who has neither a mailbox yet nor ever logged in.
            assert client.capa()["EXPIRE"] == ["7", "USER"]
        finally:
            gateway.stop()


def test_a_password_of_any_length_and_octets_is_a_wrong_one(slapd: Slapd) -> None:
    for password in (b"x" * 512, b"x" * 90_000, b"secret\0", b"\0", b"\xff" * 600):
        with pytest.raises(BadCredentials):
            result(people(slapd, "openldap").verify("olga", password))


def test_right_below_the_base_or_in_the_whole_subtree(slapd: Slapd) -> None:
    for base, scope, found in (
        (slapd.BASE, "one", True),
        ("dc=example,dc=org", "one", False),
        ("dc=example,dc=org", "subtree", True),
    ):
        there = people(slapd, "openldap", base=base, scope=scope)
        assert (result(there.find("olga")) is not None) is found


def checker(slapd: Slapd, *, allowed: bool = True) -> PasswordChecker:
    """A checker that knows delegates."""
    there = people(slapd, "openldap")
    delegates = Delegates(there, allowed=allowed)
    return PasswordChecker(there, PasswordCache(lambda: 0.0, ttl=60, size=9), delegates)


@pytest.mark.parametrize(
    "name",
    [
        *("otto@example.org/olga", "otto@example.org/olga@example.org"),
        *("x/oda@example.org/olga", "oda@example.org/o@example.org"),
        *("example.org/oda/olga", "example/otto/olga@example.org"),
    ],
)
def test_a_delegate_opens_the_mailbox_that_the_directory_lets_him(slapd: Slapd, name: str) -> None:
    delegate = name.rpartition("/")[0].rpartition("/")[2]
    acting = ActingPassword(delegate.encode(), b"secret", name.rpartition("/")[2].encode())
    named = UsernamePassword(name.encode(), b"secret")
    for credentials in (acting, named):
        for _ in range(2):
            wanted = result(checker(slapd).requestAvatarId(credentials))
            assert wanted == acting.acts_as


@pytest.mark.parametrize("delegate", ["otto", "otto@example.org"])
def test_a_delegate_may_be_named_by_his_login_name(slapd: Slapd, delegate: str) -> None:
    for wanted in (b"room", b"room@example.org"):
        acting = ActingPassword(delegate.encode(), b"secret", wanted)
        assert result(checker(slapd).requestAvatarId(acting)) == wanted
    with pytest.raises(BadCredentials, match="no delegate"):
        result(checker(slapd).requestAvatarId(ActingPassword(b"ole", b"secret", b"room")))


@pytest.mark.parametrize("filter", ["", "(uid={user})", "(mail={login})"])
def test_a_delegate_may_be_named_with_a_domain(slapd: Slapd, filter: str) -> None:
    there = people(slapd, "openldap", filter=filter, domains=("example",))
    acting = ActingPassword(rb"example\oda", b"secret", b"example/room")
    one = PasswordChecker(
        there, PasswordCache(lambda: 0.0, ttl=0, size=9), Delegates(there, allowed=True)
    )
    if filter != "(mail={login})":
        assert result(one.requestAvatarId(acting)) == b"example/room"
    with pytest.raises(BadCredentials):
        result(one.requestAvatarId(ActingPassword(rb"other\oda", b"secret", b"room")))


@pytest.mark.parametrize("name", ["openldap", "qmail-ldap", "samba"])
@pytest.mark.parametrize("form", ["example.org/{}", r"EXAMPLE\{}", "any/{}"])
def test_every_map_knows_users_with_a_domain(slapd: Slapd, name: str, form: str) -> None:
    user = {"openldap": "oda", "qmail-ldap": "quinn", "samba": "sam"}[name]
    found = result(people(slapd, name).find(form.format(user).lower()))
    assert found is not None
    assert found.name == f"{user}@example.org"
    assert result(people(slapd, name).find(form.format("nobody").lower())) is None
    assert result(people(slapd, name, domains=("other",)).find(rf"third\{user}")) is None


def test_where_logins_are_addresses_a_domain_is_one_too(slapd: Slapd) -> None:
    there = people(slapd, "openldap", filter="(mail={login})")
    for login in ("example.org/oda", r"example\oda"):
        assert result(there.find(login)).name == "oda@example.org"
    for login in (
        "example.net/nobody",
        "oda",
        r"example\u-17/x",
        "example/",
        "/",
        "x/oda@example.org",
    ):
        assert result(there.find(login)) is None


def test_nobody_else_opens_it(slapd: Slapd) -> None:
    for name in ("ole@example.org/olga", "otto@example.org/oda", "otto@example.org/nobody"):
        with pytest.raises(BadCredentials):
            result(checker(slapd).requestAvatarId(UsernamePassword(name.encode(), b"secret")))
    acting = ActingPassword(b"otto", b"secret", b"olga")
    with pytest.raises(BadCredentials, match="no delegate"):
        result(checker(slapd, allowed=False).requestAvatarId(acting))
    own = ActingPassword(b"otto", b"secret", b"otto@example.org")
    assert result(checker(slapd, allowed=False).requestAvatarId(own)) == b"otto@example.org"


@pytest.mark.conformance("X-C0010")
def test_a_mailbox_on_another_server_is_no_wrong_password(tmp_path: Path, slapd: Slapd) -> None:
    elsewhere = settings(slapd, directory={"hosts": ["mx2.example.org"]}, start_tls=False)
    gateway = Gateway(tmp_path, elsewhere).run()
    try:
        client = poplib.POP3("127.0.0.1", gateway.plain, timeout=30)
        client.user("olga")
        with pytest.raises(poplib.error_proto, match=r"-ERR \[SYS/PERM\] The mailbox is on ano"):
            client.pass_("secret")
        with pytest.raises(poplib.error_proto, match="-ERR Log in first"):
            client.stat()
        client.user("otto")
        assert client.pass_("secret").startswith(b"+OK")
        client.quit()
        gateway.wait_for(b'reason=elsewhere detail="the mailbox of olga is on mx1.example.org"')
    finally:
        gateway.stop()
