"""AUTH on the wire, with clients that keep to no rule: every line is answered, none is a fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.cred.portal import Portal
from twisted.trial.unittest import SynchronousTestCase

from answers import result
from gateway.auth.delegates import Delegates
from gateway.auth.ntlm import HashAuthority, NtlmChecker
from gateway.auth.password_cache import PasswordCache
from gateway.auth.passwords import PasswordChecker
from gateway.auth.realm import MaildropRealm
from gateway.directory.memory import MemoryDirectory
from gateway.interfaces import IDirectory
from gateway.model import Account, Peer
from gateway.pop3.profile import Profile
from gateway.sasl.md4 import nt_hash
from gateway.sasl.mechanisms import MECHANISMS
from gateway.sasl.ntlm import Ntlm, NtlmOptions
from gateway.saslprep import login_name
from gateway.store.memory import MemoryStore
from gateway.testing.directory_contract import PASSWORDS
from harness import ALICE, SECRET, Client, Wire, b64, plain
from ldap_people import directory
from ntlm_client import Client as NtlmClient
from servers import Slapd

NOW = 1_609_459_200.0
OPTIONS = NtlmOptions("MAIL", "EXAMPLE")
PROFILE = Profile(mechanisms=("NTLM", "PLAIN", "LOGIN"))
OPENED = b"+OK The maildrop is open.\r\n"
WRONG = b"-ERR [AUTH] Wrong name or password.\r\n"
CLOSING = b"-ERR Too many refused commands; closing.\r\n"
TOO_LONG = b"-ERR The line is too long.\r\n"


def ntlm(peer: Peer) -> Ntlm:
    """A mechanism that always asks the same."""
    return Ntlm(OPTIONS, peer, now=lambda: NOW, random=bytes, legacy=True)


def wire(people: IDirectory | None = None) -> Wire:
    """A server with all mechanisms that ask nobody else."""
    if people is None:
        account = Account(name=ALICE, mailbox=ALICE, nt_hash=nt_hash(SECRET))
        people = MemoryDirectory({ALICE: SECRET}, {ALICE: account})
    store = MemoryStore()
    store.add(ALICE)
    checkers = [
        PasswordChecker(
            people, PasswordCache(lambda: NOW, ttl=0, size=1), Delegates(people, allowed=True)
        ),
        NtlmChecker(HashAuthority(people)),
    ]
    return Wire(
        store=store,
        portal=Portal(MaildropRealm(people, store), checkers),
        profile=PROFILE,
        mechanisms={**MECHANISMS, "NTLM": ntlm},
    )


# -- what clients send ------------------------------------------------------------


def _good_messages() -> Iterator[bytes]:
    for how in ({}, {"oem": True, "mic": False}, {"v1": True, "mic": False}):
        client = NtlmClient(ALICE, SECRET, now=NOW, **how)  # type: ignore[arg-type]
        negotiate = client.negotiate()
        challenge = result(ntlm(Peer("127.0.0.1", False, "1")).step(negotiate)).octets
        yield negotiate
        yield client.authenticate(challenge)
        yield challenge


GOOD = tuple(_good_messages())


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A good message of NTLM with octets changed, and an end that comes early or late."""
    message = bytearray(draw(st.sampled_from(GOOD)))
    for at, octet in draw(
        st.lists(st.tuples(st.integers(0, len(message) - 1), st.integers(0, 255)), max_size=4)
    ):
        message[at] = octet
    end = draw(st.none() | st.integers(0, len(message)))
    return bytes(message[:end]) + draw(st.binary(max_size=8))


NAMES = st.sampled_from([ALICE, "", "*", f"x/{ALICE}", "\u00ad", "\u202e", "\x00"]) | st.text()
FIELDS = st.tuples(NAMES, NAMES, st.just(SECRET) | st.text())
MESSAGES = (
    spoilt()
    | st.binary(max_size=200)
    | st.binary(max_size=200).map(b"NTLMSSP\0\1\0\0\0".__add__)
    | st.binary(max_size=200).map(b"NTLMSSP\0\3\0\0\0".__add__)
    | FIELDS.map(lambda fields: "\0".join(fields).encode("utf-8", "surrogatepass"))
)
GARBAGE = (
    st.binary(max_size=80).map(lambda line: line.replace(b"\n", b""))
    | st.sampled_from([b"", b"*", b"=", b"====", b"A", b"AAAA====", b"\r", b"\0"])
    | st.from_regex(rb"\A[A-Za-z0-9+/=]{0,60}\Z")
)
AUTH = st.sampled_from([b"AUTH NTLM", b"AUTH PLAIN", b"AUTH LOGIN"])
FIRST = AUTH | st.tuples(AUTH, MESSAGES).map(lambda pair: b"%b %b" % (pair[0], b64(pair[1])))
LINES = st.lists(MESSAGES.map(b64) | MESSAGES.map(b64) | GARBAGE | FIRST, max_size=12)


class AnyExchangeTests(SynchronousTestCase):
    def answers(self, client: Client, lines: list[bytes]) -> list[bytes]:
        """The reply to each line, up to the one after which the server closes."""
        replies = []
        refused = 0
        for line in lines:
            reply = client.send(line)
            self.assertRegex(reply, rb"\A(-ERR [^\r\n]+|\+ [A-Za-z0-9+/=]*|\+OK[^\r\n]*)\r\n")
            self.assertEqual(reply.count(b"\r\n") > 1, reply.endswith(b"\r\n.\r\n"))
            replies.append(reply)
            if reply.startswith(b"-ERR"):
                refused += 1
            elif client.closed:
                self.assertEqual(line.strip().upper(), b"QUIT")
            if reply == OPENED:
                refused = 0
            if client.closed:
                break
        if client.closed and replies[-1].startswith(b"-ERR"):
            self.assertEqual((refused, replies[-1]), (PROFILE.refused_in_a_row, CLOSING))
        return replies

    @settings(max_examples=300)
    @given(FIRST, LINES)
    def test_every_line_of_any_exchange_is_answered(self, first: bytes, rest: list[bytes]) -> None:
        client = wire().connect()
        replies = self.answers(client, [first, *rest])
        if not client.closed:
            inside = replies[-1].startswith(b"+ ")
            if inside:
                self.assertTrue(client.send(b"*").startswith(b"-ERR "))
            if not client.closed:
                self.assertTrue(client.send(b"CAPA").startswith(b"+OK "))
        client.hang_up()
        self.assertEqual(self.flushLoggedErrors(), [])

    @given(FIRST, LINES, st.lists(st.integers(0, 3000), max_size=6))
    def test_how_lines_are_cut_into_pieces_changes_no_reply(
        self, first: bytes, rest: list[bytes], cuts: list[int]
    ) -> None:
        lines = [first, *rest]
        one_by_one = b"".join(self.answers(wire().connect(), lines))
        octets = b"".join(line + b"\r\n" for line in lines)
        places = sorted({0, len(octets), *(min(cut, len(octets)) for cut in cuts)})
        client = wire().connect()
        pieces = [octets[a:b] for a, b in pairwise(places)]
        self.assertEqual(b"".join(map(client.send_octets, pieces)), one_by_one)
        self.assertEqual(self.flushLoggedErrors(), [])

    @given(FIRST, LINES, st.integers(0, 3000))
    def test_a_client_that_goes_at_any_time_leaves_nothing_behind(
        self, first: bytes, rest: list[bytes], cut: int
    ) -> None:
        server = wire()
        client = server.connect()
        client.send_octets(b"".join(line + b"\r\n" for line in [first, *rest])[:cut])
        client.hang_up()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(server.clock.getDelayedCalls(), [])

    def test_the_good_messages_are_good(self) -> None:
        for negotiate, authenticate in zip(GOOD[::3], GOOD[1::3], strict=True):
            client = wire().connect()
            self.answers(client, [b"AUTH NTLM", b64(negotiate)])
            self.assertEqual(client.send(b64(authenticate)), OPENED)


class LimitTests(SynchronousTestCase):
    def test_a_line_at_the_limit_is_looked_at_and_one_over_it_is_not(self) -> None:
        limit = PROFILE.sasl_line_limit
        for mechanism in PROFILE.mechanisms:
            command = b"AUTH " + mechanism.encode()
            for lines, before in (([command], b""), ([], command + b" ")):
                for over in (0, 1, 5, limit):
                    room = limit - 2 - len(before)
                    text = before + b"A" * (room // 4 * 4 + over)
                    text += b" " * (room - len(text) if before and not over else 0)
                    client = wire().connect()
                    for line in lines:
                        client.send(line)
                    reply = client.send(text)
                    too_long = len(text) + 2 > limit
                    self.assertEqual(reply == TOO_LONG, too_long, (mechanism, before, over))
                    self.assertRegex(reply, rb"\A(-ERR [^\r\n]+|\+ UGFzc3dvcmQ6)\r\n\Z")
                    client.send(b"*")
                    self.assertEqual(client.send(b"AUTH PLAIN " + plain()), OPENED)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_line_that_is_too_long_ends_the_exchange(self) -> None:
        client = wire().connect()
        client.send(b"AUTH PLAIN")
        self.assertEqual(client.send(b"A" * PROFILE.sasl_line_limit), TOO_LONG)
        self.assertEqual(client.send(plain()), b"-ERR Unknown command.\r\n")

    def test_long_fields_are_as_wrong_as_short_ones(self) -> None:
        most = (PROFILE.sasl_line_limit - 2) // 4 * 3
        for message in (
            b"\0" + ALICE.encode() + b"\0" + b"x" * (most - len(ALICE) - 2),
            b"\0" + b"x" * (most - 3) + b"\0x",
            b"x" * (most - len(ALICE) - len(SECRET) - 2) + plain_octets(),
            b"\0" + b"/" * (most - 3) + b"\0x",
            b"\0" + "\u00df".encode() * (most // 2 - 2) + b"\0x",
        ):
            client = wire().connect()
            client.send(b"AUTH PLAIN")
            self.assertEqual(client.send(b64(message)), WRONG)
        self.assertEqual(self.flushLoggedErrors(), [])


def plain_octets() -> bytes:
    """PLAIN's message without an authorization identity's octets."""
    return b"\0%b\0%b" % (ALICE.encode(), SECRET.encode())


# -- names ------------------------------------------------------------------------


class NameTests(SynchronousTestCase):
    def test_utf_8_that_is_none_is_refused_in_every_field(self) -> None:
        bad = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a\x80")
        for octets in bad:
            for place in range(3):
                fields = [b"", ALICE.encode(), SECRET.encode()]
                fields[place] = octets
                client = wire().connect()
                reply = client.send(b"AUTH PLAIN " + b64(b"\0".join(fields)))
                against = b"-ERR The response does not follow the mechanism.\r\n"
                self.assertEqual(reply, WRONG if place == 2 else against)

    def test_a_password_that_is_not_utf_8_is_wrong_by_every_way_alike(self) -> None:
        people = MemoryDirectory({ALICE: SECRET})
        asked: list[bytes] = []
        verify = people.verify
        people.verify = lambda *words: asked.append(words[1]) or verify(*words)  # type: ignore[method-assign,func-returns-value]
        for octets in (b"\xff", b"pass\xe4wort", b"\xed\xa0\x80", b"\xc0\x80"):
            client = wire(people).connect()
            self.assertTrue(client.send(b"USER " + ALICE.encode()).startswith(b"+OK"))
            replies = [client.send(b"PASS " + octets)]
            message = b"\0".join([b"", ALICE.encode(), octets])
            replies.append(client.send(b"AUTH PLAIN " + b64(message)))
            client.send(b"AUTH LOGIN " + b64(ALICE.encode()))
            replies.append(client.send(b64(octets)))
            self.assertEqual(replies, [WRONG] * 3)
        self.assertEqual(asked, [])

    @given(st.text(), st.text(min_size=1), st.text(min_size=1))
    def test_only_the_name_itself_with_its_password_gets_in(
        self, authzid: str, name: str, password: str
    ) -> None:
        message = f"{authzid}\0{name}\0{password}".encode("utf-8", "surrogatepass")
        client = wire().connect()
        reply = client.send(b"AUTH PLAIN " + b64(message))
        self.assertTrue(reply.startswith(b"-ERR "), reply)
        self.assertEqual(self.flushLoggedErrors(), [])


PEOPLE = Slapd.BASE
INJECTIONS = (
    "*",
    "a*",
    "alice*",
    "*)(uid=*",
    f"{ALICE})(|(uid=*",
    f"{ALICE})(uid=*))(|(uid=*",
    f"*)(mail={ALICE}",
    "\\2a",
    "\\2A",
    r"alice\40example.org",
    f"{ALICE}\\00",
    f"uid={ALICE},{PEOPLE}",
    f"{ALICE},{PEOPLE}",
    f"{ALICE},ou=people",
    f"{ALICE}+sn=somebody",
    f"x+uid={ALICE}",
    f'"{ALICE}"',
    f"#{ALICE.encode().hex()}",
    "#0411" + ALICE.encode().hex(),
    f"{ALICE}\\",
    f"\\{ALICE}",
    f"<{ALICE}>",
    f"{ALICE};x-tag",
    f"x/{ALICE}",
    f"{ALICE}/",
    "(objectClass=*)",
    "cn=admin,dc=example,dc=org",
    Slapd.READER,
    "{login}",
    "{user}",
    "\u2217",
    "\uff0a",
    "\uff08uid=\uff0a\uff09",
)
_PIECES = [ALICE, "uid=", "*", "(", ")", "\\", ",", "+", "=", "#", ";", '"', "<", "&", "|", "!"]
_PIECES += ["/", " ", "\t", "2a", "00", "ou=people", PEOPLE, "\uff0a", "\u00ad", "{login}", "alice"]


_ALICE = re.compile(
    rf"{ALICE}|(?:[^\\/]+[\\/])?{ALICE}[\\/](?:{ALICE}|alice)|[^\\/@]+[\\/]alice(?:[\\/](?:{ALICE}|alice))?"
)
"""Her name, hers in a domain, or hers as her own delegate's ([MS-OXPOP3])."""


@pytest.fixture(scope="module", params=["search", "bind"])
def servers(request: pytest.FixtureRequest, slapd: Slapd) -> Wire:
    """A gateway in front of it; the names of users stand in filters, and then in DNs, too."""
    how: dict[str, Any] = {}
    if request.param == "bind":
        how["bind_as"] = f"uid={{login}},{PEOPLE}"
        how["bind_dn"] = Slapd.READER
    return wire(directory(slapd, **how))


def try_name(servers: Wire, name: str, password: str) -> bytes:
    """The reply to a login by PLAIN."""
    client = servers.connect()
    message = f"\0{name}\0{password}".encode("utf-8", "surrogatepass")
    reply = client.send(b"AUTH PLAIN " + b64(message))
    client.hang_up()
    return reply


@pytest.mark.interop
def test_names_with_the_syntax_of_filters_and_dns_find_nobody(servers: Wire) -> None:
    password = PASSWORDS[ALICE]
    for name in INJECTIONS:
        for word in (password, "reader", "admin"):
            assert re.match(rb"-ERR (\[AUTH\]|The response)", try_name(servers, name, word)), name
    # The directory is as it was.
    assert try_name(servers, ALICE, password) == OPENED


@pytest.mark.interop
@given(st.lists(st.sampled_from(_PIECES), min_size=1, max_size=6).map("".join))
def test_only_a_spelling_of_the_name_is_the_name(servers: Wire, name: str) -> None:
    reply = try_name(servers, name, PASSWORDS[ALICE])
    try:
        is_alice = bool(_ALICE.fullmatch(login_name(name.encode())))
    except ValueError:
        is_alice = False
    # Not each form is known in each way to bind.
    assert is_alice if reply == OPENED else re.match(rb"-ERR (\[AUTH\]|The response)", reply), name
