"""Which of several LDAP servers is asked; those here take connections, and say nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from ldap3.core.exceptions import (
    LDAPCertificateError,
    LDAPInvalidFilterError,
    LDAPInvalidValueError,
    LDAPResponseTimeoutError,
    LDAPSocketOpenError,
    LDAPSocketReceiveError,
)

from gateway.directory.ldap_servers import Reach, Servers
from gateway.errors import DirectoryDown, DirectoryMisconfigured

FIRST, SECOND = 0, 1


class Pair:
    """Two servers, both there."""

    def __init__(self, listening: list[socket.socket]) -> None:
        self.listening = listening
        self.ports = [line.getsockname()[1] for line in listening]
        uris = tuple(f"ldap://127.0.0.1:{port}" for port in self.ports)
        self.servers = Servers(Reach(uris=uris), lambda _: None, lambda: 0.0)

    def asked(self, error: Exception | None, *, at: int = FIRST) -> list[int]:
        """Those that were asked for some work, in which one of them fails."""
        asked = []

        def work(connection: Any) -> None:
            asked.append(self.ports.index(connection.server.port))
            if error is not None and asked[-1] == at:
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


def test_a_port_that_no_socket_has_is_an_error_before_anybody_logs_in() -> None:
    with pytest.raises(ValueError, match="range"):
        Servers(Reach(uris=("ldap://h:99999", "ldap://two")), lambda _: None, lambda: 0.0)
