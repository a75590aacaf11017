"""Who may log in and who gets mail are two things: a gateway with a passwd-file, on the wire."""

from __future__ import annotations

import poplib
import smtplib
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client_process import run
from gateway.sasl.md4 import nt_hash
from ntlm_client import Client
from sasl_client import SaslClient
from servers import Gateway, free_port

pytestmark = pytest.mark.interop

OPENED, WRONG = b"+OK", b"-ERR [AUTH]"
TEXT = b"Subject: x\r\n\r\nhello\r\n"
ACCOUNTS = f"""\
ann@example.org:{{PLAIN}}ann's::::::nt_hash={nt_hash("ann's").hex()} aliases=anna@example.net
bert@example.org:{{PLAIN}}bert's
bert@example.com:{{PLAIN}}bert's
cy:{{PLAIN}}cy's::::::aliases=cy@example.org
shared@example.org:::::::nologin delegates=ann@example.org,CY aliases=info@example.net
room@example.org:*::::::nologin=yes delegates=anna@example.net
vault@example.org:{{PLAIN}}vault's::::::nologin delegates=nobody
gone@example.org:{{PLAIN}}gone's::::::nologin nomail delegates=ann@example.org
mute@example.org:{{PLAIN}}mute's::::::nomail nologin=no
free@example.org:{{PLAIN}}free's::::::quota=0
full@example.org:{{PLAIN}}full's::::::quota=1
"d d"@example.org:{{PLAIN}}x
"""

Serve = Callable[..., "Served"]


class Served(Gateway):
    """A gateway with these accounts, delegates and LMTP."""

    def __init__(self, directory: Path, settings: str) -> None:
        self.lmtp = free_port()
        super().__init__(
            directory,
            f'[directory]\nfile = "accounts"\ndelegates = true\n'
            f'[lmtp]\nendpoint = "tcp:{self.lmtp}:interface=127.0.0.1"\n'
            f'[throttle]\ndelay = 0.0\n[ntlm]\nprovider = "hashes"\n{settings}',
        )
        self.accounts.write_text(ACCOUNTS)

    def rcpt(self, *addresses: str) -> list[int]:
        """The code for each of these recipients; the message gets to those that are taken."""
        with smtplib.LMTP("127.0.0.1", self.lmtp, timeout=30) as client:
            client.ehlo_or_helo_if_needed()
            client.mail("sender@example.net")
            codes = [client.docmd("RCPT", f"TO:<{address}>")[0] for address in addresses]
            if 250 in codes:
                client.data(TEXT)
                for _ in range(codes.count(250) - 1):
                    client.getreply()
        return codes

    def by_pass(self, name: str, password: str) -> bytes:
        """The reply to PASS."""
        with SaslClient(self) as client:
            assert client.ask(b"USER " + name.encode()).startswith(b"+OK")
            return client.ask(b"PASS " + password.encode())

    def by_ntlm(self, user: str, password: str, domain: str) -> bytes:
        """The reply at the end of AUTH NTLM."""
        with SaslClient(self) as client:
            ntlm = Client(user, password, domain=domain, now=time.time())
            return client.log_in(
                "NTLM", lambda said: ntlm.authenticate(said) if said else ntlm.negotiate()
            )

    def subjects(self, name: str, password: str) -> int:
        """How many messages the mailbox has that this name opens."""
        client = poplib.POP3("127.0.0.1", self.plain, timeout=30)
        client.user(name)
        client.pass_(password)
        messages = client.stat()[0]
        client.quit()
        return messages


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a gateway with these settings besides."""
    made: list[Served] = []

    def start(settings: str = "") -> Served:
        made.append(Served(tmp_path, settings))
        made[-1].run()
        return made[-1]

    yield start
    for gateway in made:
        gateway.stop()
        assert "Traceback" not in gateway.log


def test_who_may_not_log_in_still_gets_mail_and_delegates_read_it(serve: Serve) -> None:
    gateway = serve()
    assert gateway.rcpt("shared@example.org", "room@example.org", "vault@example.org") == [250] * 3
    for name in ("ann@example.org/shared@example.org", "example.org/ann/shared"):
        assert gateway.subjects(name, "ann's") == 1
    assert gateway.by_pass("vault@example.org", "vault's").startswith(WRONG)
    assert gateway.by_pass("ann@example.org/vault", "ann's").startswith(WRONG)
    assert gateway.by_pass("shared@example.org", "*").startswith(WRONG)
    gateway.wait_for(b"vault@example.org may not log in")


def test_who_takes_no_mail_is_refused_at_rcpt_and_may_log_in_or_not(serve: Serve) -> None:
    gateway = serve()
    assert gateway.rcpt("gone@example.org", "mute@example.org") == [550, 550]
    assert gateway.by_pass("mute@example.org", "mute's").startswith(OPENED)
    assert gateway.by_pass("gone@example.org", "gone's").startswith(WRONG)


@pytest.mark.parametrize(
    "name",
    [
        *("ann@example.org/shared@example.org", "ann@example.org/shared"),
        *("example.org/ann/shared", "EXAMPLE/ann/shared@example.org"),
        *(r"example.org\ann\shared", r"EXAMPLE\ann/shared", "example/ann/info@example.net"),
        *("anna@example.net/shared", "ann@example.org/room", "x/cy/shared@example.org"),
        *("cy@example.org/shared", "example.org/cy/shared", r"EXAMPLE\cy\shared"),
    ],
)
def test_delegates_are_found_by_all_forms_of_user(serve: Serve, name: str) -> None:
    gateway = serve()
    assert gateway.by_pass(name, "cy's" if "cy" in name else "ann's").startswith(OPENED)


def test_plains_identities_may_be_aliases_too(serve: Serve) -> None:
    gateway = serve()
    for who in ("ann@example.org", "anna@example.net", r"EXAMPLE\ann"):
        for wanted in ("shared", "info@example.net", r"example\shared", "shared@example.org"):
            with SaslClient(gateway) as client:
                message = b64encode(f"{wanted}\0{who}\0ann's".encode())
                assert client.ask(b"AUTH PLAIN " + message).startswith(OPENED)


def test_a_domain_chooses_among_users_and_nobody_else_does(serve: Serve) -> None:
    gateway = serve()
    for name in ("example.com/bert", r"example.org\bert"):
        assert gateway.by_pass(name, "bert's").startswith(OPENED)
    for name in ("example/bert", "bert", "example.net/bert", "ann", "example.com/ann"):
        password = "bert's" if "bert" in name else "ann's"
        assert gateway.by_pass(name, password).startswith(WRONG), name


@pytest.mark.parametrize("domain", ["EXAMPLE", "example.org", "WORKGROUP"])
def test_ntlm_finds_names_that_are_addresses_by_user_and_domain(serve: Serve, domain: str) -> None:
    gateway = serve()
    assert gateway.by_ntlm("ann", "ann's", domain).startswith(OPENED)
    assert gateway.by_ntlm("ann", "wrong", domain).startswith(WRONG)


def test_ntlm_takes_our_windows_domain_for_ours_in_dns(serve: Serve) -> None:
    gateway = serve('domain = "CORP"\ndns_domain = "example.org"\n')
    for domain in ("corp", ""):
        assert gateway.by_ntlm("ann", "ann's", domain).startswith(OPENED)


def test_a_quota_of_zero_is_no_limit(serve: Serve) -> None:
    gateway = serve('[quota]\noctets = "0"\nmessages = 0\nwarn_octets = "0"\n')
    taken = ("free@example.org", "ann@example.org", "full@example.org")
    assert gateway.rcpt(*taken) == [250, 250, 250]
    for name, messages in (
        ("free@example.org", 1),
        ("ann@example.org", 1),
        ("full@example.org", 0),
    ):
        assert gateway.subjects(name, f"{name.partition('@')[0]}'s") == messages


def test_a_quoted_local_part_may_have_a_delimiter(serve: Serve) -> None:
    gateway = serve()
    known = (
        *('"ann+x y"@example.org', r'"ann+x\"y"@example.org', '"ann+(x)"@example.org'),
        *(
            '"d d"@example.org',
            '"d d+x"@example.org',
            '"d\\ d+x y"@example.org',
            "cy+x",
            '"cy+x y"',
        ),
    )
    assert gateway.rcpt(*known) == [250] * len(known)
    unknown = ('"x ann"@example.org', '"+x y"@example.org', '"d+ d"@example.org', '"d"@example.org')
    assert gateway.rcpt(*unknown) == [550] * len(unknown)
    assert gateway.subjects("ann@example.org", "ann's") == 1


def test_check_names_quotas_that_had_another_meaning(tmp_path: Path) -> None:
    zero = '[quota]\noctets = "0 MB"\n[quota.domains."example.org"]\nmessages = 0\n'
    gateway = Served(tmp_path, zero)
    done = run(tmp_path, *gateway.command, "--check")
    assert done.returncode == 0
    said = "a quota of 0 is no limit; it used to refuse all mail"
    *lines, last = done.stdout.splitlines()
    assert last == "The configuration is fine."
    for line, place in zip(
        lines,
        ("quota.octets", "quota.domains.example.org.messages", f"{gateway.accounts}:10"),
        strict=True,
    ):
        assert line.startswith(f"{place}: {said}")


def test_a_delegate_who_may_no_longer_log_in_is_refused_with_a_remembered_password(
    serve: Serve,
) -> None:
    gateway = serve()
    name = "ann@example.org/shared@example.org"
    assert gateway.by_pass(name, "ann's").startswith(OPENED)
    text = gateway.accounts.read_text().replace("aliases=anna", "nologin aliases=anna")
    changed = gateway.accounts.with_name("changed")
    changed.write_text(text)
    changed.replace(gateway.accounts)
    assert gateway.by_pass(name, "ann's").startswith(WRONG)
