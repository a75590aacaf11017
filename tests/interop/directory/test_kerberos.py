"""The whole gateway takes tickets of a real KDC."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client_process import curl, fetchmail, mpop
from gateway.directory import passwd_entries
from kdc import OTHER_REALM, Kdc, need_kerberos
from sasl_client import LINES, SaslClient, Ticket
from servers import Gateway, fill

pytestmark = pytest.mark.interop

FOR_ALICE = b"Subject: for alice\r\n\r\n.hello\r\n"
FOR_BOB = b"Subject: for bob\r\n\r\nhello\r\n"

FORGER = f"eve\u2028session@{OTHER_REALM}"
"""Whoever makes the principals of another realm may want to write in our log."""

WIDE = "\uff41lice"
"""NFKC would make "alice" of it."""

Make = Callable[..., Gateway]


@pytest.fixture(scope="module")
def kdc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    """One KDC for all tests."""
    need_kerberos()
    users = ("alice", "bob", "carol", "alice/admin", f"alice@{OTHER_REALM}", FORGER, WIDE, "ALICE")
    kdc = Kdc(tmp_path_factory.mktemp("kdc"), users).run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KRB5_CONFIG", str(kdc.krb5_conf))
        yield kdc
    kdc.stop()


@pytest.fixture
def make(tmp_path: Path, kdc: Kdc) -> Iterator[Make]:
    """Makes the gateway; alice and bob have mail, and bob lists alice as his delegate."""
    made: list[Gateway] = []

    def make(
        *,
        keytab: Path = kdc.keytab,
        delegates: bool = False,
        login: str = "user",
        services: str = "",
    ) -> Gateway:
        gateway = Gateway(
            tmp_path,
            f'[directory]\nfile = "accounts"\ndelegates = {str(delegates).lower()}\n'
            f'[gssapi]\nkeytab = "{keytab}"\nrealms = ["MIT.TEST"]\n'
            f'login = "{login}"\n{services}\n',
        )
        for name in ("alice", "bob", "alice@mit.test"):
            passwd_entries.put(str(gateway.accounts), name, b"of no use", "SSHA256")
        text = gateway.accounts.read_text()
        (bob,) = (line for line in text.splitlines() if line.startswith("bob:"))
        gateway.accounts.write_text(text.replace(bob, f"{bob}delegates=alice"))
        fill(tmp_path / "mail" / "alice", [FOR_ALICE])
        fill(tmp_path / "mail" / "bob", [FOR_BOB, FOR_BOB])
        made.append(gateway)
        return gateway

    yield make
    for gateway in made:
        if gateway.process is not None:
            gateway.stop(signal.SIGKILL)
            assert "Traceback" not in gateway.log


def opened(client: SaslClient) -> list[bytes]:
    """The subjects in the maildrop of a client that is logged in."""
    count = int(client.ask(b"STAT").split()[1])
    tops = [client.block(b"TOP %d 0" % number) for number in range(1, count + 1)]
    return [line.removeprefix(b"Subject: for ") for top in tops for line in top if line]


def log_in(gateway: Gateway, ticket: Ticket, *, line: str = "plain") -> tuple[bytes, list[bytes]]:
    """The last reply, and whose mail it was."""
    with SaslClient(gateway, line) as client:
        reply = client.log_in("GSSAPI", ticket, initial=True)
        return reply, opened(client) if reply.startswith(b"+OK") else []


# -- who gets in ----------------------------------------------------------------


@pytest.mark.parametrize("line", LINES)
def test_a_ticket_opens_its_principals_maildrop(kdc: Kdc, make: Make, line: str) -> None:
    gateway = make().run()
    for initial in (True, False):
        for mutual in (True, False):
            with SaslClient(gateway, line) as client:
                ticket = Ticket(kdc.ccache("alice"), mutual=mutual)
                reply = client.log_in("GSSAPI", ticket, initial=initial)
                assert reply == b"+OK The maildrop is open."
                assert opened(client) == [b"alice"]
                assert client.ask(b"QUIT").startswith(b"+OK")
    gateway.wait_for(b"user=alice@mit.test from=127.0.0.1", times=4)
    gateway.wait_for(b"method=GSSAPI", times=4)


def test_the_mailbox_is_that_of_the_whole_principal_where_so_set(kdc: Kdc, make: Make) -> None:
    gateway = make(login="principal")
    fill(gateway.directory / "mail" / "alice@mit.test", [FOR_ALICE] * 3)
    reply, mail = log_in(gateway.run(), Ticket(kdc.ccache("alice")))
    assert (reply[:3], mail) == (b"+OK", [b"alice"] * 3)


def test_an_authorization_identity_of_ones_own_changes_nothing(kdc: Kdc, make: Make) -> None:
    gateway = make().run()
    for name in ("alice", "alice@MIT.TEST", "Alice"):
        reply, mail = log_in(gateway, Ticket(kdc.ccache("alice"), acts_as=name))
        assert (reply[:3], mail) == (b"+OK", [b"alice"]), name


def test_another_users_mailbox_opens_for_a_delegate_only(kdc: Kdc, make: Make) -> None:
    gateway = make(delegates=True).run()
    for name in ("bob", "BOB"):
        reply, mail = log_in(gateway, Ticket(kdc.ccache("alice"), acts_as=name))
        assert (reply[:3], mail) == (b"+OK", [b"bob", b"bob"])
    for user, other in (("bob", "alice"), ("alice", "nobody"), ("carol", "bob")):
        reply, _ = log_in(gateway, Ticket(kdc.ccache(user), acts_as=other))
        assert reply == b"-ERR [AUTH] Wrong name or password."
    gateway.wait_for(b"bob is no delegate of alice")


def test_delegates_do_not_count_unless_they_are_allowed(kdc: Kdc, make: Make) -> None:
    gateway = make().run()
    reply, _ = log_in(gateway, Ticket(kdc.ccache("alice"), acts_as="bob"))
    assert reply == b"-ERR [AUTH] Wrong name or password."
    gateway.wait_for(b"alice is no delegate of bob")


def test_case_does_not_matter_as_it_does_not_in_active_directory(kdc: Kdc, make: Make) -> None:
    assert log_in(make().run(), Ticket(kdc.ccache("ALICE")))[1] == [b"alice"]


# -- who does not ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["alice/admin", f"alice@{OTHER_REALM}", "carol"])
def test_who_is_no_user_of_the_realm_is_refused(kdc: Kdc, make: Make, name: str) -> None:
    gateway = make().run()
    reply, _ = log_in(gateway, Ticket(kdc.ccache(name)))
    assert reply == b"-ERR [AUTH] Wrong name or password."
    if name == "carol":
        gateway.wait_for(b"carol is no longer in the directory")
    else:
        principal = name if "@" in name else f"{name}@MIT.TEST"
        gateway.wait_for(f"{principal} is no user of MIT.TEST".encode())


def test_another_principal_with_the_same_prepared_form_is_not_the_user(
    kdc: Kdc, make: Make
) -> None:
    gateway = make().run()
    reply, _ = log_in(gateway, Ticket(kdc.ccache(WIDE)))
    assert reply == b"-ERR [AUTH] Wrong name or password."
    gateway.wait_for(b"is not how alice is written")


def test_a_principal_forges_no_line_of_the_log(kdc: Kdc, make: Make) -> None:
    gateway = make().run()
    reply, _ = log_in(gateway, Ticket(kdc.ccache(FORGER)))
    assert reply == b"-ERR [AUTH] Wrong name or password."
    gateway.stop()
    gateway.wait_for(b"(end of output)")
    assert gateway.log.replace("\n", "").replace("\t", "").isprintable()


def test_a_ticket_for_another_service_is_refused(kdc: Kdc, make: Make) -> None:
    gateway = make().run()
    reply, _ = log_in(gateway, Ticket(kdc.ccache("alice"), service="imap"))
    assert reply == b"-ERR [AUTH] Wrong name or password."
    gateway.wait_for(b"imap/localhost")
    assert log_in(gateway, Ticket(kdc.ccache("alice"), service="pop3"))[1] == [b"alice"]


def test_a_service_that_is_not_listed_is_refused_although_its_key_is_there(
    kdc: Kdc, make: Make
) -> None:
    gateway = make(services='services = ["pop"]').run()
    reply, _ = log_in(gateway, Ticket(kdc.ccache("alice"), service="pop3"))
    assert reply == b"-ERR [AUTH] Wrong name or password."
    assert log_in(gateway, Ticket(kdc.ccache("alice")))[1] == [b"alice"]


def test_who_listened_to_a_login_cannot_repeat_it(kdc: Kdc, make: Make) -> None:
    gateway = make().run()
    ticket = Ticket(kdc.ccache("alice"), mutual=False)
    assert log_in(gateway, ticket)[0].startswith(b"+OK")
    heard = iter(ticket.sent)
    with SaslClient(gateway) as client:
        reply = client.log_in("GSSAPI", lambda _: next(heard), initial=True)
    assert reply == b"-ERR [AUTH] Wrong name or password."
    gateway.stop()
    heard = iter(ticket.sent)
    with SaslClient(gateway.run()) as client:
        reply = client.log_in("GSSAPI", lambda _: next(heard), initial=True)
    assert reply == b"-ERR [AUTH] Wrong name or password.", "forgotten by a restart"


def test_an_account_that_is_barred_stays_out_whatever_its_ticket(kdc: Kdc, make: Make) -> None:
    gateway = make()
    text = gateway.accounts.read_text()
    (alice,) = (line for line in text.splitlines() if line.startswith("alice:"))
    gateway.accounts.write_text(text.replace(alice, f"{alice}nologin"))
    reply, _ = log_in(gateway.run(), Ticket(kdc.ccache("alice")))
    assert reply == b"-ERR [AUTH] Wrong name or password."


# -- real clients ---------------------------------------------------------------


def of_alice(kdc: Kdc) -> dict[str, str]:
    """The environment of a client with alice's ticket."""
    return {**kdc.env, "KRB5CCNAME": f"FILE:{kdc.ccache('alice')}"}


@pytest.mark.parametrize("line", LINES)
def test_curl_logs_in_with_a_ticket(kdc: Kdc, make: Make, home: Path, line: str) -> None:
    # Without --sasl-ir: curl 7.88 makes an initial response, finds it too long for its idea of
    # an AUTH command, and stumbles over the context that it began.
    gateway = make().run()
    done = curl(gateway, home, line, "alice@MIT.TEST:", "GSSAPI", **of_alice(kdc))
    assert done.returncode == 0, done.stdout
    assert (home / "message").read_bytes() == FOR_ALICE
    gateway.wait_for(b"method=GSSAPI")


@pytest.mark.parametrize("line", ["plain", "stls"])
def test_fetchmail_logs_in_with_a_ticket(kdc: Kdc, make: Make, home: Path, line: str) -> None:
    gateway = make().run()
    login = 'auth gssapi user "alice" password "none"'
    done = fetchmail(gateway, home, line, login, **of_alice(kdc))
    assert done.returncode == 0, done.stdout
    assert b"Subject: for alice" in (home / "message").read_bytes()
    gateway.wait_for(b"method=GSSAPI")


@pytest.mark.parametrize("line", LINES)
def test_mpop_logs_in_with_a_ticket(kdc: Kdc, make: Make, home: Path, line: str) -> None:
    gateway = make().run()
    done = mpop(gateway, home, line, "user alice\nauth gssapi", **of_alice(kdc))
    assert done.returncode == 0, done.stdout
    assert b"Subject: for alice" in (home / "message").read_bytes()
    gateway.wait_for(b"method=GSSAPI")


# -- set up or not --------------------------------------------------------------


def test_gssapi_is_offered_where_it_is_set_up(make: Make, tmp_path: Path) -> None:
    with SaslClient(make().run()) as client:
        assert b"SASL GSSAPI PLAIN LOGIN" in client.block(b"CAPA")
        assert client.block(b"AUTH") == [b"GSSAPI", b"PLAIN", b"LOGIN"]
    other = tmp_path / "other"
    other.mkdir()
    gateway = Gateway(other).run()
    try:
        with SaslClient(gateway) as client:
            assert b"SASL PLAIN LOGIN" in client.block(b"CAPA")
            assert client.ask(b"AUTH GSSAPI") == b"-ERR No such mechanism here."
    finally:
        gateway.stop()


@pytest.mark.parametrize("arguments", [["--check"], []], ids=["check", "start"])
def test_a_missing_keytab_is_named_in_the_error(
    make: Make, tmp_path: Path, arguments: list[str]
) -> None:
    missing = tmp_path / "missing.keytab"
    done = subprocess.run(
        [*make(keytab=missing).command, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == f"gssapi: keytab {missing}: No such file or directory\n"


def test_a_keytab_that_goes_missing_is_an_outage_and_no_wrong_password(
    kdc: Kdc, make: Make, tmp_path: Path
) -> None:
    keytab = tmp_path / "pop.keytab"
    keytab.write_bytes(kdc.keytab.read_bytes())
    gateway = make(keytab=keytab).run()
    keytab.unlink()
    reply, _ = log_in(gateway, Ticket(kdc.ccache("alice")))
    assert reply.startswith(b"-ERR [SYS/PERM]")
    gateway.wait_for(f"keytab {keytab}: No such file".encode())
    keytab.write_bytes(kdc.keytab.read_bytes())
    assert log_in(gateway, Ticket(kdc.ccache("alice")))[1] == [b"alice"]
