"""Nothing that proves who somebody is gets into the log, nor anywhere below the state directory."""

from __future__ import annotations

import os
import signal
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import verbose_log
from gateway.directory import passwd_entries
from gateway.sasl.md4 import nt_hash
from gateway.sasl.ntlm_proof import ntowf_v2
from gateway.sasl.ntlmssp import Flags, read_authenticate
from kdc import Kdc, need_kerberos
from ntlm_client import Client
from sasl_client import SaslClient, Ticket
from servers import Gateway

pytestmark = pytest.mark.interop

OPENED = b"+OK The maildrop is open."
SLICE = 32
"""Octets of something long that give it away."""


class Canaries:
    """Everything secret, in every form in which it might show itself."""

    def __init__(self) -> None:
        self.forms: dict[bytes, str] = {}

    def password(self, case: str) -> str:
        """A new one; the case is told by it."""
        password = f"C4nary-{case}-{os.urandom(6).hex()}"
        self._keep(password.encode(), f"the password of {case}")
        self._keep(password.encode("utf-16-le"), f"the password of {case} in UTF-16")
        self._keep(nt_hash(password), f"the NT hash of {case}")
        return password

    def octets(self, octets: bytes, what: str) -> None:
        """Something that proves; no part of it may show."""
        assert len(octets) >= 8
        starts = range(0, max(len(octets) - SLICE, 0) + 1, SLICE)
        for at in starts:
            self._keep(octets[at : at + SLICE], f"{what} from {at}")

    def token(self, token: bytes, what: str) -> None:
        """One of Kerberos, which begins with the names of mechanism and realm, or a header."""
        if token:
            self.octets(token[96 if len(token) > 128 else 16 :], what)

    def _keep(self, octets: bytes, what: str) -> None:
        self.forms[octets] = what
        self.forms[octets.hex().encode()] = f"{what} in hex"
        self.forms[octets.hex().upper().encode()] = f"{what} in hex"
        self.forms[repr(octets)[2:-1].encode()] = f"{what} as Python writes it"
        for before in range(3):
            # As it stands within base64 of something longer.
            text = b64encode(bytes(before) + octets)
            inner = text[4 if before else 0 : len(text) // 4 * 4 - 4]
            self.forms[inner] = f"{what} in base64"

    def found_in(self, text: bytes) -> list[str]:
        """What shows in a text."""
        return [what for form, what in self.forms.items() if form in text]


@pytest.fixture(scope="module")
def kdc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    """Its passwords are in files of its own, elsewhere."""
    need_kerberos()
    kdc = Kdc(tmp_path_factory.mktemp("kdc"), ("alice",)).run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KRB5_CONFIG", str(kdc.krb5_conf))
        yield kdc
    kdc.stop()


class Verbose(Gateway):
    """A gateway whose log has all that Twisted's logger has."""

    @property
    def command(self) -> list[str]:
        """With an observer of our own, which hides nothing."""
        command = super().command
        command.insert(command.index("pop3gw"), "--logger=verbose_log.observer")
        return command


class Talk:
    """One gateway, and clients whose every proof is remembered."""

    def __init__(self, gateway: Gateway, canaries: Canaries, kdc: Kdc) -> None:
        self.gateway, self.canaries, self.kdc = gateway, canaries, kdc
        self._people = 0

    def person(self, case: str, *, with_hash: bool = False) -> tuple[str, str]:
        """A new account and its password."""
        self._people += 1
        name, password = f"user{self._people}", self.canaries.password(case)
        accounts = str(self.gateway.accounts)
        passwd_entries.put(accounts, name, password.encode(), "SSHA256", nt_hash=with_hash)
        return name, password

    def say(self, *lines: bytes, line: str = "plain", end: bytes = b"\r\n") -> bytes:
        """Send lines one after the other, the last one ended by ``end``, and hang up.

        The last reply, where that line has an end.
        """
        with SaslClient(self.gateway, line) as client:
            *first, last = lines
            for text in first:
                client.ask(text)
            client._socket.sendall(last + end)
            return client.reply() if end else b""

    def ntlm(
        self, name: str, password: str, *, cut: int | None = None, **how: Any
    ) -> tuple[Callable[[bytes], bytes], list[bytes]]:
        """What responds as that user, and what it has sent."""
        ntlm = Client(name, password, now=time.time(), **how)
        sent: list[bytes] = []

        def respond(challenge: bytes) -> bytes:
            if not challenge:
                return ntlm.negotiate()
            message = ntlm.authenticate(challenge)
            answer = read_authenticate(message, Flags(int.from_bytes(challenge[20:24], "little")))
            self.canaries.octets(answer.nt_response[:16], f"the NTLM proof of {name}")
            self.canaries.octets(ntowf_v2(nt_hash(password), name, ""), f"NTOWFv2 of {name}")
            if answer.mic_at:
                self.canaries.octets(answer.mic, f"the integrity code of {name}")
            if how.get("v1"):
                self.canaries.octets(answer.nt_response, f"the NTLMv1 response of {name}")
            sent.append(message)
            return message[:cut]

        return respond, sent


PLAIN = b"AUTH PLAIN"


def good_logins(talk: Talk) -> None:
    """Each of them has to work, or what does not show shows nothing."""
    for line in ("plain", "stls", "pop3s"):
        name, password = talk.person(f"pass-{line}")
        reply = talk.say(f"USER {name}".encode(), f"PASS {password}".encode(), line=line)
        assert reply == OPENED

        for initial in (True, False):
            name, password = talk.person(f"plain-{line}-{initial}")
            message = b64encode(f"\0{name}\0{password}".encode())
            talk.canaries.octets(message[-SLICE:], f"PLAIN's message of {name}")
            lines = [PLAIN + b" " + message] if initial else [PLAIN, message]
            assert talk.say(*lines, line=line) == OPENED

        name, password = talk.person(f"login-{line}")
        answers = [b64encode(name.encode()), b64encode(password.encode())]
        assert talk.say(b"AUTH LOGIN", *answers, line=line) == OPENED

        for how in ({}, {"v1": True, "mic": False}, {"oem": True, "mic": False}):
            name, password = talk.person(f"ntlm-{line}-{len(how)}", with_hash=True)
            respond, _ = talk.ntlm(name, password, **how)
            with SaslClient(talk.gateway, line) as client:
                assert client.log_in("NTLM", respond) == OPENED

        for mutual in (True, False):
            ticket = Ticket(talk.kdc.ccache("alice"), mutual=mutual)
            with SaslClient(talk.gateway, line) as client:
                assert client.log_in("GSSAPI", ticket, initial=mutual) == OPENED
            for number, token in enumerate(ticket.sent):
                # The beginning of a token names its mechanism and realm.
                talk.canaries.token(token, f"Kerberos token {number}")


def bad_logins(talk: Talk) -> None:
    """Wrong passwords, once and again, for who is there, is not there, and wants another's mail."""
    name, _ = talk.person("somebody", with_hash=True)
    for user in (name, "nobody", "kn\u00f6del", "domain/nobody/somebody"):
        for times in range(2):
            password = talk.canaries.password(f"wrong-{times}")
            replies = [talk.say(f"USER {user}".encode(), f"PASS {password}".encode())] * 2
            for asked in ("", "user1"):
                message = b64encode(f"{asked}\0{user}\0{password}".encode())
                replies.append(talk.say(PLAIN + b" " + message))
            answers = [b64encode(user.encode()), b64encode(password.encode())]
            replies.append(talk.say(b"AUTH LOGIN", *answers))
            for how in ({}, {"v1": True, "mic": False}, {"mic": False}):
                respond, _ = talk.ntlm(user, password, **how)
                with SaslClient(talk.gateway) as client:
                    replies.append(client.log_in("NTLM", respond))
            assert all(reply.startswith(b"-ERR") for reply in replies), replies
    for how in ({"service": "imap"}, {"acts_as": "user1"}):
        ticket = Ticket(talk.kdc.ccache("alice"), **how)
        with SaslClient(talk.gateway) as client:
            assert client.log_in("GSSAPI", ticket).startswith(b"-ERR")
        for token in ticket.sent:
            talk.canaries.token(token, f"a Kerberos token, {how}")


def malformed(talk: Talk) -> None:
    """What follows no rule, with secrets in it."""
    secret = talk.canaries.password
    name, password = talk.person("malformed", with_hash=True)

    def with_secret(case: str, template: bytes) -> bytes:
        return template.replace(b"@", secret(case).encode())

    for case, template in {
        "command": b"@",
        "command-and-argument": b"@ @",
        "user-and-more": b"USER alice @",
        "pass-without-user": b"PASS @",
        "not-base64": b"AUTH PLAIN @",
        "mechanism": b"AUTH @",
        "mechanism-and-response": b"AUTH @ @",
        "apop": b"APOP alice @",
        "three-arguments": b"AUTH PLAIN AGEAYg== @",
        "octets": b"\xff\x00@\x00\x1b[2K",
        "stls": b"STLS @",
    }.items():
        assert talk.say(with_secret(case, template)).startswith(b"-ERR"), case
    for case, template in {
        "two-fields": b"a\0@",
        "four-fields": b"\0a\0@\0",
        "no-name": b"\0\0@",
        "no-utf-8": b"\0a\0@\xff",
        "authzid": b"@\xff\0a\0b",
        "as-name": b"\0\xff@\0b",
    }.items():
        message = b64encode(with_secret(case, template))
        for lines in ([PLAIN + b" " + message], [PLAIN, message], [b"AUTH GSSAPI", message]):
            assert talk.say(*lines).startswith(b"-ERR"), case
        assert talk.say(b"AUTH NTLM", message).startswith(b"-ERR"), case
    for mechanism in (b"PLAIN", b"LOGIN", b"NTLM", b"GSSAPI"):
        garbage = with_secret("garbage", b"@!")
        assert talk.say(b"AUTH " + mechanism, garbage).startswith(b"-ERR")
    user = f"USER {name}".encode()
    assert talk.say(user, with_secret("no-utf-8-pass", b"PASS @\xff\xfe")).startswith(b"-ERR")

    for cut in (12, 60, 100, -1):
        respond, _ = talk.ntlm(name, password, cut=cut)
        with SaslClient(talk.gateway) as client:
            assert client.log_in("NTLM", respond).startswith(b"-ERR")
        ticket = Ticket(talk.kdc.ccache("alice"))
        token = ticket(b"")
        with SaslClient(talk.gateway) as client:
            reply = client.ask(b"AUTH GSSAPI " + b64encode(token[:cut]))
            assert reply.startswith(b"-ERR")
        talk.canaries.token(token, "a Kerberos token that was cut off")


def oversized(talk: Talk) -> None:
    """Lines over every limit."""
    name, password = talk.person("oversized")
    long = password.encode() * 20
    assert talk.say(f"USER {name}".encode(), b"PASS " + long).startswith(b"-ERR")
    for mechanism in (b"PLAIN", b"LOGIN", b"NTLM", b"GSSAPI"):
        message = b64encode(password.encode() * 5000)
        assert talk.say(b"AUTH " + mechanism + b" " + message).startswith(b"-ERR")
        assert talk.say(b"AUTH " + mechanism, message).startswith(b"-ERR")
        allowed = b64encode((password.encode() * 5000)[: 131_072 // 4 * 3 - 3])
        reply = talk.say(b"AUTH " + mechanism, allowed)
        # As the name that LOGIN asks for it is looked at, and then there is no password.
        assert reply.startswith(b"-ERR" if mechanism != b"LOGIN" else b"+ ")


def dropped(talk: Talk) -> None:
    """Clients that go in the middle, with and without the end of their line."""
    for end in (b"", b"\r\n"):
        name, password = talk.person("dropped", with_hash=True)
        secret = password.encode()
        message = b64encode(b"\0" + name.encode() + b"\0" + secret)
        for lines in (
            [f"USER {name}".encode(), b"PASS " + secret],
            [PLAIN + b" " + message],
            [PLAIN, message],
            [b"AUTH LOGIN", b64encode(name.encode()), b64encode(secret)],
            [b"AUTH LOGIN " + b64encode(name.encode()), b64encode(secret)],
        ):
            with SaslClient(talk.gateway) as client:
                for text in lines[:-1]:
                    client.ask(text)
                client._socket.sendall(lines[-1] + end)
        respond, _ = talk.ntlm(name, password)
        with SaslClient(talk.gateway) as client:
            challenge = client.challenge(b"AUTH NTLM " + b64encode(respond(b"")))
            client._socket.sendall(b64encode(respond(challenge)) + end)
        ticket = Ticket(talk.kdc.ccache("alice"))
        with SaslClient(talk.gateway) as client:
            challenge = client.challenge(b"AUTH GSSAPI " + b64encode(ticket(b"")))
            client.challenge(b64encode(ticket(challenge)))
        with SaslClient(talk.gateway) as client:
            client._socket.sendall(b"AUTH GSSAPI " + b64encode(ticket.sent[0]) + end)
        talk.canaries.token(ticket.sent[0], "a Kerberos token of a client that went away")


def outages(talk: Talk) -> None:
    """Nobody can tell whether a password is right."""
    name, password = talk.person("outage", with_hash=True)
    accounts, away = talk.gateway.accounts, talk.gateway.directory.parent / "accounts-away"
    accounts.rename(away)
    secret = password.encode()
    replies = [
        talk.say(f"USER {name}".encode(), b"PASS " + secret),
        talk.say(PLAIN + b" " + b64encode(b"\0" + name.encode() + b"\0" + secret)),
        talk.say(b"AUTH LOGIN", b64encode(name.encode()), b64encode(secret)),
    ]
    respond, _ = talk.ntlm(name, password)
    with SaslClient(talk.gateway) as client:
        replies.append(client.log_in("NTLM", respond))
    ticket = Ticket(talk.kdc.ccache("alice"))
    with SaslClient(talk.gateway) as client:
        replies.append(client.log_in("GSSAPI", ticket))
    away.rename(accounts)
    keytab = talk.gateway.directory / "pop.keytab"
    keytab.write_bytes(b"no keytab")
    with SaslClient(talk.gateway) as client:
        late = Ticket(talk.kdc.ccache("alice"))
        replies.append(client.log_in("GSSAPI", late))
    for token in (*ticket.sent, *late.sent):
        talk.canaries.token(token, "a Kerberos token in an outage")
    assert all(reply.startswith(b"-ERR [SYS/") for reply in replies), replies


def test_no_proof_of_anybody_shows_itself_anywhere(tmp_path: Path, kdc: Kdc) -> None:
    state = tmp_path / "state"
    state.mkdir()
    keytab = state / "pop.keytab"
    keytab.write_bytes(kdc.keytab.read_bytes())
    gateway = Verbose(
        state,
        '[directory]\nfile = "accounts"\ndelegates = true\n'
        '[ntlm]\nprovider = "hashes"\nlegacy_networks = ["127.0.0.0/8"]\n'
        f'[gssapi]\nkeytab = "{keytab}"\nrealms = ["MIT.TEST"]\nlogin = "user"\n'
        "[throttle]\ndelay = 0.0",
    )
    canaries = Canaries()
    passwd_entries.put(
        str(gateway.accounts), "alice", canaries.password("alice").encode(), "SSHA256"
    )
    gateway.run(PYTHONPATH=str(Path(verbose_log.__file__).parent))
    talk = Talk(gateway, canaries, kdc)
    try:
        for part in (good_logins, bad_logins, malformed, oversized, dropped, outages):
            part(talk)
    finally:
        gateway.stop(signal.SIGTERM)
    gateway.wait_for(b"(end of output)")
    log = gateway.log
    for method in ("PASS", "PLAIN", "LOGIN", "NTLM", "GSSAPI"):
        assert f"method={method}" in log
    assert canaries.found_in(gateway._output) == []
    assert "Traceback" not in log
    files = [path for path in state.rglob("*") if path.is_file() and path != gateway.accounts]
    assert keytab in files
    assert {str(path): canaries.found_in(path.read_bytes()) for path in files} == {
        str(path): [] for path in files
    }


def test_what_is_looked_for_would_be_found() -> None:
    canaries = Canaries()
    password = canaries.password("control")
    token = os.urandom(200)
    canaries.octets(token, "a token")
    secret = password.encode()
    for shown in (
        secret,
        b64encode(secret),
        b64encode(b"\0name\0" + secret),
        b64encode(b"az\0name\0" + secret),
        b64encode(b"\0longer\0" + secret),
        secret.hex().encode(),
        password.encode("utf-16-le"),
        nt_hash(password).hex().encode(),
        nt_hash(password).hex().upper().encode(),
        repr(nt_hash(password)).encode(),
        b64encode(token),
        b64encode(b"x" + token),
        b64encode(b"xy" + token),
        token.hex().encode(),
        repr(token).encode(),
        token[60:140],
    ):
        assert canaries.found_in(b"before " + shown + b" after"), shown
    assert canaries.found_in(b"before after " + b64decode(b64encode(b"harmless"))) == []
