"""NTLM clients log in to the whole gateway, by the NT hashes of its passwd-file."""

from __future__ import annotations

import re
import signal
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client_process import curl, fetchmail, mpop
from gateway.directory import passwd_entries
from gateway.net.tls.certificates import make_certificate
from gateway.sasl.channel import end_point
from gateway.sasl.ntlm_proof import channel_binding
from gateway.sasl.ntlmssp import Av, read_pairs
from ntlm_client import Client
from sasl_client import LINES, SaslClient
from servers import PASSWORD, USER, Gateway, fill

pytestmark = pytest.mark.interop

MAIL = b"Subject: hello\r\n\r\nhello\r\n"
BOB = ("bob", "bob's")
LEGACY = 'legacy_networks = ["127.0.0.0/8"]'
OPENED = b"+OK The maildrop is open."
WRONG = b"-ERR [AUTH] Wrong name or password."
AGAINST_RULES = b"-ERR The response does not follow the mechanism."

Make = Callable[..., Gateway]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes the gateway; whatever goes wrong in a test costs no time."""
    made: list[Gateway] = []

    def make(ntlm: str = "") -> Gateway:
        settings = f'[ntlm]\nprovider = "hashes"\n{ntlm}\n[throttle]\ndelay = 0.0'
        gateway = Gateway(tmp_path, settings)
        accounts = str(gateway.accounts)
        for name, password in ((USER, PASSWORD), BOB, ("jürgen", "Pässwörd")):
            passwd_entries.put(accounts, name, password.encode(), "SSHA256", nt_hash=True)
            fill(tmp_path / "mail" / name, [MAIL])
        passwd_entries.put(accounts, "nohash", b"password", "SSHA256")
        made.append(gateway)
        return gateway

    yield make
    for gateway in made:
        if gateway.process is not None:
            gateway.stop(signal.SIGKILL)
            assert "Traceback" not in gateway.log


# -- real clients ---------------------------------------------------------------


def use_curl(gateway: Gateway, home: Path, line: str, user: str, password: str) -> int:
    """Its exit code, once it has fetched the message."""
    done = curl(gateway, home, line, f"{user}:{password}", "NTLM")
    assert done.returncode or (home / "message").read_bytes() == MAIL, done.stdout
    return done.returncode


def use_fetchmail(gateway: Gateway, home: Path, line: str, user: str, password: str) -> int:
    """The same."""
    login = f'auth ntlm user "{user}" password "{password}"'
    done = fetchmail(gateway, home, line, login)
    assert done.returncode or b"Subject: hello" in (home / "message").read_bytes(), done.stdout
    return done.returncode


def use_mpop(gateway: Gateway, home: Path, line: str, user: str, password: str) -> int:
    """The same."""
    login = f"user {user}\npassword {password}\nauth ntlm\nntlmdomain EXAMPLE"
    done = mpop(gateway, home, line, login)
    assert done.returncode or b"Subject: hello" in (home / "message").read_bytes(), done.stdout
    return done.returncode


@pytest.mark.parametrize("line", LINES)
def test_curl_logs_in(make: Make, home: Path, line: str) -> None:
    gateway = make().run()
    for user in (USER, rf"example.org\{USER.partition('@')[0]}"):
        assert use_curl(gateway, home, line, user, PASSWORD) == 0
    assert use_curl(gateway, home, line, r"ANYWHERE\bob", "bob's") == 0
    gateway.wait_for(b"method=NTLM", times=3)
    assert use_curl(gateway, home, line, USER, "wrong") == 67
    gateway.wait_for(b"wrong NTLM response for alice@example.org")


OLD_CLIENTS = pytest.mark.parametrize("use", [use_fetchmail, use_mpop])


@OLD_CLIENTS
@pytest.mark.parametrize("line", LINES)
def test_clients_that_know_ntlmv1_only_log_in_where_they_may(
    make: Make, home: Path, line: str, use: Callable[..., int]
) -> None:
    gateway = make(LEGACY).run()
    for times, (user, password) in enumerate([(USER, PASSWORD), (USER, PASSWORD), BOB], 1):
        assert use(gateway, home, line, user, password) == 0
        # Each time, or nobody would ever know when the last such client is gone.
        gateway.wait_for(b" logged in by NTLMv1; its client should be replaced", times=times)
        (home / "message").unlink()
        (home / "ids").unlink(missing_ok=True)
    for name in set(re.findall(r' user="?([^" ]+)"? .* method=NTLM ', gateway.log)):
        # A backslash stands twice in a value in quotes.
        name = name.replace("\\\\", "\\")
        assert f"{name} logged in by NTLMv1" in gateway.log
    # Of a name without a domain, the one that the server calls itself is sent.
    assert "bob logged in by NTLMv1" in gateway.log
    assert use(gateway, home, line, USER, "wrong") != 0
    gateway.wait_for(b"wrong NTLM response for ")


@OLD_CLIENTS
def test_they_are_refused_elsewhere_and_the_log_names_the_setting(
    make: Make, home: Path, use: Callable[..., int]
) -> None:
    gateway = make('legacy_networks = ["192.0.2.0/24"]').run()
    assert use(gateway, home, "plain", USER, PASSWORD) != 0
    gateway.wait_for(b"127.0.0.1 answers as NTLMv1, which only ntlm.legacy_networks may")
    assert "logged in by NTLMv1" not in gateway.log


# -- a client of our own ----------------------------------------------------------


def responder(client: Client) -> Callable[[bytes], bytes]:
    """Its two messages."""

    def respond(challenge: bytes) -> bytes:
        return client.authenticate(challenge) if challenge else client.negotiate()

    return respond


def log_in(
    gateway: Gateway,
    user: str = USER,
    password: str = PASSWORD,
    *,
    line: str = "plain",
    initial: bool = False,
    **how: Any,
) -> bytes:
    """The reply at the end."""
    with SaslClient(gateway, line) as connection:
        client = Client(user, password, now=time.time(), **how)
        return connection.log_in("NTLM", responder(client), initial=initial)


@pytest.mark.parametrize("line", LINES)
def test_a_modern_client_logs_in(make: Make, line: str) -> None:
    gateway = make().run()
    for initial in (False, True):
        assert log_in(gateway, line=line, initial=initial) == OPENED
    assert log_in(gateway, "alice", line=line, domain="example.org") == OPENED
    assert log_in(gateway, "BOB", "bob's", line=line, domain="Any") == OPENED
    assert log_in(gateway, "jürgen", "Pässwörd", line=line) == OPENED
    gateway.wait_for(b"method=NTLM", times=5)


def test_who_has_not_the_password_is_refused(make: Make) -> None:
    gateway = make()
    with gateway.accounts.open("a") as file:
        file.write("barred:{SSHA256}x::::::nologin nt_hash=" + "0" * 32 + "\n")
    gateway.run()
    wrong = ((USER, "Wonderland"), ("nobody", "x"), ("nohash", "password"), ("barred", "x"))
    for user, password in wrong:
        assert log_in(gateway, user, password) == WRONG
    for words in (b"wrong NTLM response for alice", b"nobody is not in", b"nohash has no NT hash"):
        gateway.wait_for(words)


def test_a_changed_password_counts_at_the_next_login(make: Make) -> None:
    gateway = make().run()
    assert log_in(gateway) == OPENED
    passwd_entries.put(str(gateway.accounts), USER, b"looking-glass", "SSHA256")
    assert log_in(gateway) == WRONG
    assert log_in(gateway, password="looking-glass") == OPENED


def test_an_integrity_code_is_wanted_or_not(make: Make) -> None:
    gateway = make().run()
    assert log_in(gateway, mic=False) == WRONG
    gateway.wait_for(rb"no integrity code (ntlm.mic = \"allow\" lets such clients in)")
    gateway.stop()
    gateway = make('mic = "allow"').run()
    assert log_in(gateway, mic=False) == OPENED
    assert log_in(gateway) == OPENED


def test_anonymous_and_lm_only_logins_are_refused(make: Make) -> None:
    gateway = make(LEGACY).run()
    assert log_in(gateway, "", "") == AGAINST_RULES
    assert log_in(gateway, nt=b"") == AGAINST_RULES
    assert log_in(gateway, flags=0x800) == AGAINST_RULES


# -- channel bindings -------------------------------------------------------------


def bound(gateway: Gateway, line: str, certificate: bytes | None = None) -> bytes:
    """Log in with the binding of the certificate that is shown here, or of another."""
    with SaslClient(gateway, line) as connection:
        value = channel_binding(end_point(certificate or connection.certificate))
        pairs = {Av.CHANNEL_BINDINGS: value}
        client = Client(USER, PASSWORD, now=time.time(), pairs=pairs)
        return connection.log_in("NTLM", responder(client))


@pytest.fixture
def other_certificate(tmp_path: Path) -> bytes:
    """Of a server between client and gateway, in DER."""
    import ssl

    path = tmp_path / "other.pem"
    make_certificate(str(path), str(tmp_path / "other-key.pem"))
    return ssl.PEM_cert_to_DER_cert(path.read_text())


@pytest.mark.parametrize("line", ["stls", "pop3s"])
def test_a_binding_must_be_of_this_connection(
    make: Make, line: str, other_certificate: bytes
) -> None:
    gateway = make().run()
    assert bound(gateway, line) == OPENED
    assert bound(gateway, line, other_certificate) == WRONG
    gateway.wait_for(b"the channel binding is of another connection")
    assert log_in(gateway, line=line) == OPENED, "without one, it is not missed"


def test_a_binding_without_tls_is_of_another_connection(
    make: Make, other_certificate: bytes
) -> None:
    gateway = make().run()
    assert bound(gateway, "plain", other_certificate) == WRONG


@pytest.mark.parametrize("line", ["stls", "pop3s"])
def test_a_binding_may_be_required(make: Make, line: str, other_certificate: bytes) -> None:
    gateway = make('channel_binding = "require"').run()
    assert bound(gateway, line) == OPENED
    assert bound(gateway, line, other_certificate) == WRONG
    assert log_in(gateway, line=line) == WRONG
    assert log_in(gateway, line=line, pairs={Av.CHANNEL_BINDINGS: bytes(16)}) == WRONG
    gateway.wait_for(b"no channel binding", times=2)


@pytest.mark.parametrize("line", LINES)
def test_bindings_may_be_left_alone(make: Make, line: str, other_certificate: bytes) -> None:
    gateway = make('channel_binding = "off"').run()
    assert bound(gateway, line, other_certificate) == OPENED
    assert log_in(gateway, line=line) == OPENED


@pytest.mark.parametrize("line", ["stls", "pop3s"])
def test_the_binding_is_of_the_certificate_that_the_client_has_seen(
    make: Make, line: str, tmp_path: Path
) -> None:
    gateway = make('channel_binding = "require"').run()
    with SaslClient(gateway, line) as before:
        seen = before.certificate
        make_certificate(str(gateway.certificate), str(tmp_path / "key.pem"))
        gateway.send(signal.SIGHUP)
        gateway.wait_for(b"reloaded ")
        pairs = {Av.CHANNEL_BINDINGS: channel_binding(end_point(seen))}
        client = Client(USER, PASSWORD, now=time.time(), pairs=pairs)
        assert before.log_in("NTLM", responder(client)) == OPENED
    assert bound(gateway, line, seen) == WRONG
    assert bound(gateway, line) == OPENED


# -- what is said of it -------------------------------------------------------------


def test_ntlm_is_offered_where_it_is_set_up(make: Make) -> None:
    with SaslClient(make().run()) as client:
        assert b"SASL NTLM PLAIN LOGIN" in client.block(b"CAPA")


def test_a_listener_offers_the_mechanisms_that_are_its_own(make: Make) -> None:
    gateway = make().run(POP3GW_LISTENERS__PLAIN__MECHANISMS="PLAIN,LOGIN")
    with SaslClient(gateway) as client:
        assert b"SASL PLAIN LOGIN" in client.block(b"CAPA")
    assert log_in(gateway, line="pop3s") == OPENED
    assert log_in(gateway, line="plain") == b"-ERR No such mechanism here."


def test_a_challenge_does_not_tell_the_name_of_the_host(make: Make) -> None:
    negotiate = b64encode(Client(USER, "x", now=time.time()).negotiate())
    with SaslClient(make().run()) as connection:
        challenge = connection.challenge(b"AUTH NTLM " + negotiate)
    pairs = read_pairs(challenge[int.from_bytes(challenge[44:48], "little") :])
    assert pairs[Av.NB_COMPUTER].decode("utf-16-le") == "MAIL"
    host = socket.gethostname().partition(".")[0]
    for name in (host.upper(), host):
        assert name.encode("utf-16-le") not in challenge


@pytest.mark.parametrize("separator", ["\n", "\r", "\x1b[2K", "\x85", "\u2028"])
def test_a_name_forges_no_line_of_the_log(make: Make, separator: str) -> None:
    gateway = make(LEGACY).run()
    forged = "session_end: end=quit user=alice from=192.0.2.9"
    for how in ({}, {"v1": True, "mic": False}):
        with SaslClient(gateway) as connection:
            client = Client(f"x{separator}{forged}", "x", now=time.time(), **how)
            assert connection.log_in("NTLM", responder(client)).startswith(b"-ERR")
    gateway.stop()
    gateway.wait_for(b"(end of output)")
    assert separator + forged not in gateway.log.replace("\n\t", "\n")
    assert not any(line.strip().startswith(forged) for line in gateway.log.splitlines())
