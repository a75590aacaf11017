"""Which of several LDAP servers is asked; those here take connections, and say nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from attrs import evolve
from ldap3.core.exceptions import (
    LDAPCertificateError,
    LDAPInvalidFilterError,
    LDAPInvalidValueError,
    LDAPResponseTimeoutError,
    LDAPSocketOpenError,
    LDAPSocketReceiveError,
)
from twisted.internet.task import Clock

from gateway.directory.ldap_servers import KEPT, Reach, Servers, ServerUnavailable
from gateway.errors import DirectoryDown, DirectoryMisconfigured
from gateway.events import BackEndDown, BackEndReplaced, DirectoryAsked

FIRST, SECOND = 0, 1


class Pair:
    """Two servers, both there."""

    def __init__(self, listening: list[socket.socket]) -> None:
        self.listening = listening
        self.ports = [line.getsockname()[1] for line in listening]
        uris = tuple(f"ldap://127.0.0.1:{port}" for port in self.ports)
        self.clock = Clock()
        self.reach = Reach(uris=uris)
        self.servers = Servers(
            self.reach, lambda _: None, lambda: 0.0, monotonic=self.clock.seconds
        )

    def asked(self, error: Exception | None, *, at: int = FIRST, after: float = 0.0) -> list[int]:
        """Those that were asked for some work, in which one of them fails, ``after`` seconds."""
        asked = []

        def work(connection: Any) -> None:
            asked.append(self.ports.index(connection.server.port))
            if error is not None and asked[-1] == at:
                self.clock.advance(after)
                raise error

        try:
            self.servers.use(work)
        finally:
            assert asked
        return asked

    def down(self) -> list[int]:
        """Those that are left alone for now."""
        servers = self.servers._servers
        return [which for which, server in enumerate(servers) if server.down_until > 0]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two servers of this test's own."""
    with ExitStack() as stack:
        lines = [socket.create_server(("127.0.0.1", 0)) for _ in (FIRST, SECOND)]
        yield Pair([stack.enter_context(line) for line in lines])


def test_a_connection_that_a_firewall_may_have_forgotten_is_not_used_again(pair: Pair) -> None:
    used = []
    for idle in (0.0, KEPT, KEPT + 1):
        pair.clock.advance(idle)
        pair.servers.use(used.append)
    first, second, third = used
    assert first is second
    assert third is not first
    assert first.closed


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("error", [LDAPInvalidFilterError("x"), LDAPInvalidValueError("x")])
def test_a_question_that_cannot_be_asked_does_not_make_a_server_look_down(
    pair: Pair, error: Exception, kept: bool
) -> None:
    if kept:
        pair.asked(None)
    with pytest.raises(DirectoryMisconfigured, match=type(error).__name__):
        pair.asked(error)
    assert pair.down() == []
    assert pair.asked(None) == [FIRST]


@pytest.mark.parametrize(
    "error",
    [
        LDAPSocketOpenError("x"),
        LDAPSocketReceiveError("x"),
        LDAPResponseTimeoutError("x"),
        LDAPCertificateError("x"),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
def test_a_server_that_does_not_answer_is_passed_over(pair: Pair, error: Exception) -> None:
    assert pair.asked(error) == [FIRST, SECOND]
    assert pair.down() == [FIRST]
    with pytest.raises(DirectoryDown):
        pair.asked(error, at=SECOND)
    assert pair.down() == [FIRST, SECOND]


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
def test_one_that_says_that_it_is_busy_is_asked_once_and_passed_over(
    pair: Pair, kept: bool
) -> None:
    if kept:
        pair.asked(None)
    assert pair.asked(ServerUnavailable("51 busy")) == [FIRST, SECOND]
    assert pair.down() == [FIRST]
    assert pair.asked(None) == [SECOND]


def test_a_service_account_that_a_busy_server_does_not_bind_is_bound_at_the_next(
    pair: Pair,
) -> None:
    def bind(connection: Any) -> None:
        if connection.server.port == pair.ports[FIRST]:
            raise ServerUnavailable("52 unavailable")

    pair.servers = Servers(pair.reach, bind, lambda: 0.0)
    assert pair.asked(None) == [SECOND]
    assert pair.down() == [FIRST]


def test_where_there_is_one_and_it_is_busy_each_login_asks_it(pair: Pair) -> None:
    told: list[Any] = []
    name = pair.reach.uris[0]
    pair.servers = Servers(
        evolve(pair.reach, uris=(name,)),
        lambda _: None,
        lambda: 0.0,
        monotonic=pair.clock.seconds,
        emit=told.append,
    )
    for _ in range(3):
        with pytest.raises(DirectoryDown) as caught:
            # It answers, however late.
            pair.asked(ServerUnavailable("51 busy"), after=pair.reach.timeout - 1)
        assert caught.value.logged
    assert pair.asked(None) == [FIRST]
    outage = [one for one in told if not isinstance(one, DirectoryAsked)]
    assert outage[0] == BackEndDown(f"LDAP server {name}", "51 busy")
    assert len(outage) == 2


def test_where_all_are_down_only_those_that_refuse_at_once_are_asked_again(pair: Pair) -> None:
    assert pair.asked(TimeoutError(), after=pair.reach.timeout / 2) == [FIRST, SECOND]
    with pytest.raises(DirectoryDown):
        pair.asked(ConnectionRefusedError(), at=SECOND)
    assert pair.down() == [FIRST, SECOND]
    assert pair.asked(None) == [SECOND]


def test_a_server_that_dribbles_its_answer_is_given_up(pair: Pair) -> None:
    wait = pair.reach.timeout / 2
    read = []

    def work(connection: Any) -> None:
        if connection.server.port != pair.ports[FIRST]:
            return
        client, _ = pair.listening[FIRST].accept()
        with client:
            connection.socket.sendall(b"a question")
            for _ in range(9):
                # Each octet comes long before the time for a silence is over.
                client.sendall(b"\x30")
                read.append(connection.socket.recv(100))
                pair.clock.advance(wait)

    pair.servers.use(work)
    assert read == [b"\x30", b"\x30"]
    assert pair.down() == [FIRST]


def test_the_time_for_an_answer_begins_with_its_question(pair: Pair) -> None:
    def work(connection: Any) -> list[bytes]:
        client, _ = pair.listening[FIRST].accept()
        read = []
        with client:
            for _ in range(3):
                connection.socket.sendall(b"a question")
                client.sendall(b"\x30")
                read.append(connection.socket.recv(100))
                pair.clock.advance(pair.reach.timeout)
        return read

    assert pair.servers.use(work) == [b"\x30"] * 3


def test_a_port_that_no_socket_has_is_an_error_before_anybody_logs_in() -> None:
    with pytest.raises(ValueError, match="range"):
        Servers(Reach(uris=("ldap://h:99999", "ldap://two")), lambda _: None, lambda: 0.0)


def connection_of(servers: Servers) -> Any:
    """The connection with which the work is done."""
    found: list[Any] = []
    servers.use(found.append)
    return found[0]


def following(pair: Pair, **reach: Any) -> Servers:
    """The servers after a reload; ``reach`` is what it changes."""
    how = {"bound_as": reach.pop("bound_as", None), "before": pair.servers}
    return Servers(evolve(pair.reach, **reach), lambda _: None, lambda: 0.0, **how)


def test_a_reload_keeps_the_connections_of_servers_that_are_the_same(pair: Pair) -> None:
    kept = connection_of(pair.servers)
    after = following(pair, uris=pair.reach.uris[::-1], retry_after=1.0)
    pair.servers.close()
    third = Servers(pair.reach, lambda _: None, lambda: 0.0, before=after)
    after.close()
    assert connection_of(third) is kept
    assert not kept.closed
    third.close()
    assert kept.closed


@pytest.mark.parametrize("other", [{"timeout": 9}, {"bound_as": "another"}])
def test_a_connection_that_does_not_fit_is_closed_when_nobody_uses_it(
    pair: Pair, other: dict[str, Any]
) -> None:
    kept = connection_of(pair.servers)
    after = following(pair, **other)
    assert connection_of(after) is not kept
    assert not kept.closed

    def work(connection: Any) -> None:
        assert connection is kept
        pair.servers.close()
        assert not kept.closed

    pair.servers.use(work)
    assert kept.closed
    after.close()


def test_a_reload_ends_the_outage_of_a_server_that_it_removes(pair: Pair) -> None:
    told: list[Any] = []
    reach = evolve(pair.reach, uris=pair.reach.uris[:1])
    servers = Servers(reach, lambda _: None, lambda: 0.0, emit=told.append)

    def work(_: Any) -> None:
        raise ConnectionResetError

    with pytest.raises(DirectoryDown):
        servers.use(work)
    servers.close()
    with pytest.raises(DirectoryDown):
        servers.use(work)
    name = f"LDAP server {reach.uris[0]}"
    assert [(type(one), one.name) for one in told] == [
        (DirectoryAsked, name),
        (BackEndDown, name),
        (BackEndReplaced, name),
        (DirectoryAsked, name),
    ]
    assert [one.answered for one in told if isinstance(one, DirectoryAsked)] == [False, False]
