"""LDAP servers that answer wrongly: never a success, and never a wrong password."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest
from twisted.internet.task import Clock

from answers import result
from gateway.directory.entry_map import EntryMap
from gateway.directory.ldap import LdapDirectory
from gateway.directory.ldap_accounts import Search
from gateway.directory.ldap_messages import message_length, read_elements
from gateway.directory.ldap_servers import Reach, Servers
from gateway.errors import (
    BadCredentials,
    DirectoryDown,
    DirectoryMisconfigured,
    PasswordUnanswered,
    WrongPassword,
)
from gateway.testing.store_contract import run_now

BIND, SEARCH, EXTENDED = 0x60, 0x63, 0x77
Answer = Callable[[bytes], bytes]
"""From a message id to all that answers it."""


def tlv(tag: int, *parts: bytes) -> bytes:
    """An element in BER, of fewer than 256 octets."""
    body = b"".join(parts)
    return bytes((tag, len(body)) if len(body) < 0x80 else (tag, 0x81, len(body))) + body


def reply(tag: int, *parts: bytes) -> Answer:
    """One message with this operation."""
    return lambda identity: tlv(0x30, tlv(0x02, identity), tlv(tag, *parts))


def ended(tag: int, code: int = 0, *more: bytes) -> Answer:
    """A result."""
    return reply(tag, tlv(0x0A, bytes((code,))), tlv(0x04), tlv(0x04), *more)


def both(*answers: Answer) -> Answer:
    """One after the other."""
    return lambda identity: b"".join(answer(identity) for answer in answers)


MAIL = tlv(0x30, tlv(0x04, b"mail"), tlv(0x31, tlv(0x04, b"alice@e")))
ALICE = reply(0x64, tlv(0x04, b"cn=alice"), tlv(0x30, MAIL))
FOUND = both(ALICE, ended(0x65))


def reference(uri: bytes) -> Answer:
    """To another server, instead of an entry."""
    return reply(0x73, tlv(0x04, uri))


Serve = Callable[..., LdapDirectory]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A directory that asks a server with these answers to a bind, a search and StartTLS."""
    with ExitStack() as stack:

        def start(
            bind: Answer,
            search: Answer,
            starttls: Answer | None = None,
            now: Callable[[], float] = time.monotonic,
            following: Sequence[LdapDirectory] = (),
            bind_as: str = "",
        ) -> LdapDirectory:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            answers = {BIND: bind, SEARCH: search}
            answers |= {EXTENDED: starttls} if starttls else {}
            thread = threading.Thread(target=_serve, args=(listening, answers))
            thread.start()
            stack.callback(thread.join)
            stack.callback(listening.shutdown, socket.SHUT_RDWR)
            uri = f"ldap://127.0.0.1:{listening.getsockname()[1]}"
            uris = [one.entries.searching._reach.uris[0] for one in following]
            reach = Reach((uri, *uris), start_tls=starttls is not None)
            accounts = Search("dc=e", bind_as=bind_as)
            return LdapDirectory(reach, accounts, EntryMap(), run_now, now=now)

        yield start


def _serve(listening: socket.socket, answers: dict[int, Answer]) -> None:
    threads = []
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            break
        threads.append(threading.Thread(target=_answer, args=(client, answers), daemon=True))
        threads[-1].start()


def _answer(client: socket.socket, answers: dict[int, Answer]) -> None:
    data = b""
    with client:
        while more := client.recv(65_536):
            data += more
            length = message_length(data)
            if length and len(data) >= length:
                identity, operation, *_ = read_elements(data[:length])[0].content
                data = data[length:]
                if operation.tag not in answers:
                    return
                client.sendall(answers[operation.tag](identity.content))


def test_a_server_that_answers_rightly_lets_in(serve: Serve) -> None:
    directory = serve(ended(0x61), FOUND)
    assert result(directory.verify("alice", b"x")).name == "alice@e"
    with pytest.raises(BadCredentials):
        result(serve(ended(0x61, 49), FOUND).verify("alice", b"x"))


def test_logins_that_follow_quickly_do_not_keep_an_account_from_being_searched_again(
    serve: Serve,
) -> None:
    searched: list[float] = []
    clock = [0.0]

    def search(identity: bytes) -> bytes:
        searched.append(clock[0])
        return FOUND(identity)

    directory = serve(ended(0x61), search, now=lambda: clock[0])
    for moment in (0.0, 0.6, 1.2, 1.8):
        clock[0] = moment
        result(directory.verify("alice", b"x"))
    assert searched == [0.0, 1.2]


def test_a_dn_that_is_not_utf_8_is_bound_as_it_was_found(serve: Serve) -> None:
    entry = reply(0x64, tlv(0x04, b"cn=\xff\xfe"), tlv(0x30, MAIL))
    found = both(entry, ended(0x65))
    assert result(serve(ended(0x61), found).verify("alice", b"x")).name == "alice@e"


@pytest.mark.parametrize(
    "bind",
    [
        *(ended(0x65), ended(0x78), ended(0x69), ended(0x6B), ALICE, reference(b"ldap://x/dc=y")),
        *(both(ALICE, ended(0x61)), both(ended(0x65), ended(0x61)), reply(0x79)),
        reply(0x61, tlv(0x0A), tlv(0x04), tlv(0x04)),
        reply(0x61, tlv(0x02, b"\0"), tlv(0x04), tlv(0x04)),
        reply(0x61, b"\x0a\x80", tlv(0x04), tlv(0x04)),
        *(reply(0x61, tlv(0x0A, b"\0")), reply(0x61), reply(0x41)),
        lambda _: tlv(0x30, tlv(0x02), tlv(0x61, tlv(0x0A, b"\0"), tlv(0x04), tlv(0x04))),
    ],
)
def test_a_bind_that_is_answered_by_anything_else_is_an_outage(serve: Serve, bind: Answer) -> None:
    with pytest.raises(DirectoryDown):
        result(serve(bind, FOUND).verify("alice", b"x"))


WITHOUT_TLS = [
    *(ended(0x78, 2), ended(0x61), ended(0x65), reply(0x78), reply(0x41), ALICE),
    *(reply(0x78, tlv(0x0A), tlv(0x04), tlv(0x04)), lambda _: b"HTTP/1.1 400 Bad Request\r\n"),
    lambda _: tlv(0x30, tlv(0x02, b"\x77"), tlv(0x78, tlv(0x0A, b"\0"), tlv(0x04), tlv(0x04))),
    *(lambda _: b"\x30\x80", lambda _: b"\0" * 9, lambda _: tlv(0x30, tlv(0x02, b"\1"), b"\x78\0")),
]


@pytest.mark.parametrize("starttls", WITHOUT_TLS)
def test_tls_that_is_not_begun_rightly_is_an_outage_and_no_password_is_sent(
    serve: Serve, starttls: Answer
) -> None:
    bound: list[bytes] = []

    def bind(identity: bytes) -> bytes:
        bound.append(identity)
        return ended(0x61)(identity)

    directory = serve(bind, FOUND, starttls)
    for asked in (directory.verify("alice", b"x"), directory.find("alice")):
        with pytest.raises(DirectoryDown):
            result(asked)
    assert bound == []


@pytest.mark.parametrize("search", [ended(0x61), ended(0x78), both(ALICE, ended(0x61)), ALICE])
def test_a_search_that_is_not_ended_by_its_own_result_is_an_outage(
    serve: Serve, search: Answer
) -> None:
    directory = serve(ended(0x61), both(search, ended(0x78)))
    for asked in (directory.find("alice"), directory.recipient("alice@e")):
        with pytest.raises(DirectoryDown):
            result(asked)


@pytest.mark.parametrize(
    "search",
    [
        both(reference(b"ldap://other/dc=e"), ended(0x65)),
        ended(0x65, 10, tlv(0xA3, tlv(0x04, b"ldap://other/dc=e"))),
        both(
            reference(b"ldap://e/CN=Configuration,DC=e"),
            reference(b"ldap://other/dc=e"),
            ended(0x65),
        ),
    ],
)
def test_who_is_only_referred_to_is_neither_unknown_nor_wrong(serve: Serve, search: Answer) -> None:
    directory = serve(ended(0x61), search)
    for asked in (
        *(directory.verify("alice", b"x"), directory.find("alice"), directory.recipient("alice@e")),
        *(directory.owner("alice@e"), directory.accounts()),
    ):
        with pytest.raises(
            DirectoryMisconfigured, match="returned only referrals to ldap://other/dc=e"
        ):
            result(asked)


def test_a_referral_beside_an_entry_or_to_a_part_without_people_changes_nothing(
    serve: Serve,
) -> None:
    beside = both(reference(b"ldap://other/dc=e"), FOUND)
    assert result(serve(ended(0x61), beside).find("alice")).name == "alice@e"
    parts = [
        reference(b"ldap://lab.test/CN=Configuration,DC=lab,DC=test"),
        reference(b"ldap://DomainDnsZones.lab.test/DC=DomainDnsZones,DC=lab,DC=test"),
        reference(b"ldaps://ForestDnsZones.lab.test/DC=ForestDnsZones,DC=lab,DC=test"),
    ]
    nobody = serve(ended(0x61, 49), both(*parts, ended(0x65)))
    assert result(nobody.find("alice")) is None
    with pytest.raises(BadCredentials):
        result(nobody.verify("alice", b"x"))


def test_a_bind_that_is_referred_elsewhere_is_no_wrong_password(serve: Serve) -> None:
    with pytest.raises(DirectoryDown):
        result(serve(ended(0x61, 10), FOUND).verify("alice", b"x"))


AD_SAYS = b"80090308: LdapErr: data 533, v1db1"


@pytest.mark.parametrize("code", [1, 2, 8, 13, 34, 50, 51, 52, 3, 4, 11, 80, 10, 19, 32, 48, 53])
def test_each_result_of_a_users_bind_has_its_meaning(serve: Serve, code: int) -> None:
    bind = reply(0x61, tlv(0x0A, bytes((code,))), tlv(0x04), tlv(0x04, AD_SAYS))
    expected: type[Exception] = DirectoryDown
    if code in (19, 32, 48, 53):
        expected = BadCredentials
    elif code in (1, 2, 8, 13, 34, 50):
        expected = DirectoryMisconfigured
    with pytest.raises(expected, match=r"account disabled"):
        result(serve(bind, FOUND).verify("alice", b"x"))


BUSY, UNAVAILABLE = 51, 52


@pytest.mark.parametrize("code", [BUSY, UNAVAILABLE])
@pytest.mark.parametrize("bind_as", ["", "uid={login},dc=e"], ids=["found", "directly"])
@pytest.mark.parametrize("fails", [BIND, SEARCH])
def test_a_login_that_one_server_has_no_time_for_is_done_by_the_next(
    serve: Serve, code: int, bind_as: str, fails: int
) -> None:
    good = {BIND: ended(0x61), SEARCH: FOUND}
    following = serve(good[BIND], good[SEARCH])
    answers = good | {fails: ended(fails + (1 if fails == BIND else 2), code)}
    directory = serve(answers[BIND], answers[SEARCH], following=[following], bind_as=bind_as)
    assert result(directory.verify("alice", b"x")).name == "alice@e"


@pytest.mark.parametrize("code", [19, 32, 48, 49, 53, 80])
@pytest.mark.parametrize("bind_as", ["", "uid={login},dc=e"], ids=["found", "directly"])
def test_no_other_answer_to_a_bind_has_the_next_server_count_a_second_wrong_password(
    serve: Serve, code: int, bind_as: str
) -> None:
    asked: list[bytes] = []

    def bind(identity: bytes) -> bytes:
        asked.append(identity)
        return ended(0x61)(identity)

    following = serve(bind, FOUND)
    directory = serve(ended(0x61, code), FOUND, following=[following], bind_as=bind_as)
    with pytest.raises((BadCredentials, DirectoryDown)):
        result(directory.verify("alice", b"x"))
    assert asked == []


GOOD, WRONG = ended(0x61), ended(0x61, 49)


class Binds:
    """A server that answers its binds by these in turn; they may be late."""

    def __init__(self, *answers: Answer) -> None:
        self.clock = Clock()
        self.asked = 0
        self._answers = list(answers)

    def __call__(self, identity: bytes) -> bytes:
        self.asked += 1
        return self._answers.pop(0)(identity)

    def late(self, _: bytes) -> bytes:
        """Begin an answer, and take longer than there is time for the rest."""
        self.clock.advance(60.0)
        return b"\x30"

    def add(self, *answers: Answer) -> None:
        self._answers += answers

    def of(self, directory: LdapDirectory) -> LdapDirectory:
        """Time the binds by this clock."""
        entries = directory.entries
        reach, now = entries.binding._reach, self.clock.seconds
        entries.binding = Servers(reach, lambda _: None, now, monotonic=now)
        return directory


@pytest.mark.parametrize("bind_as", ["", "uid={login},dc=e"], ids=["found", "directly"])
@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
def test_a_password_whose_bind_times_out_is_sent_once_and_makes_no_server_look_down(
    serve: Serve, kept: bool, bind_as: str
) -> None:
    first, second = Binds(), Binds(GOOD)
    directory = first.of(serve(first, FOUND, following=[serve(second, FOUND)], bind_as=bind_as))
    if kept:
        first.add(WRONG)
        with pytest.raises(WrongPassword):
            result(directory.verify("alice", b"wrong"))
    first.asked = 0
    first.add(first.late, GOOD)
    with pytest.raises(PasswordUnanswered, match=r"bind of alice in time"):
        result(directory.verify("alice", b"slow"))
    password_and_probe = 2
    assert first.asked == password_and_probe
    first.add(GOOD, GOOD)
    assert result(directory.verify("alice", b"right")).name == "alice@e"
    assert second.asked == 0


def test_a_server_that_answers_no_bind_at_all_is_passed_over(serve: Serve) -> None:
    first, second = Binds(), Binds(GOOD, GOOD)
    directory = first.of(serve(first, FOUND, following=[serve(second, FOUND)]))
    first.add(first.late, first.late)
    # An outage, and nothing that counts for the password.
    with pytest.raises(DirectoryDown) as caught:
        result(directory.verify("alice", b"x"))
    assert type(caught.value) is DirectoryDown
    for _ in range(2):
        assert result(directory.verify("alice", b"x")).name == "alice@e"
    assert (first.asked, second.asked) == (2, 2)


def test_a_bind_on_a_kept_connection_that_the_server_closes_is_sent_again(serve: Serve) -> None:
    closing = ended(0x78)  # Nothing that answers a bind: the connection ends.
    binds = Binds(GOOD, closing, GOOD)
    directory = binds.of(serve(binds, FOUND))
    for _ in range(2):
        assert result(directory.verify("alice", b"x")).name == "alice@e"
    assert binds.asked == 3
