"""Which of several LDAP servers is asked, without any server."""

from __future__ import annotations

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

from gateway.directory.ldap_servers import Reach, Servers, _Server
from gateway.errors import DirectoryDown, DirectoryMisconfigured

FIRST, SECOND = "ldap://one", "ldap://two"


class Connection:
    """One that only knows its server."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def unbind(self) -> None:
        """Nothing to end."""


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    """Two servers, both there."""
    monkeypatch.setattr(_Server, "open", lambda self: Connection(self.uri))
    return Servers(Reach(uris=(FIRST, SECOND)), lambda _: None, lambda: 0.0)


def asked(servers: Servers, error: Exception | None, *, at: str = FIRST) -> list[str]:
    """The servers that were asked for some work, in which one of them fails."""
    uris = []

    def work(connection: Any) -> None:
        uris.append(connection.uri)
        if error is not None and connection.uri == at:
            raise error

    try:
        servers.use(work)
    finally:
        assert uris
    return uris


def down(servers: Servers) -> list[str]:
    """Those that are left alone for now."""
    return [server.uri for server in servers._servers if server.down_until > 0]


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("error", [LDAPInvalidFilterError("x"), LDAPInvalidValueError("x")])
def test_a_question_that_cannot_be_asked_does_not_make_a_server_look_down(
    servers: Servers, error: Exception, kept: bool
) -> None:
    if kept:
        asked(servers, None)
    with pytest.raises(DirectoryMisconfigured, match=type(error).__name__):
        asked(servers, error)
    assert down(servers) == []
    assert asked(servers, None) == [FIRST]


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
def test_a_server_that_does_not_answer_is_passed_over(servers: Servers, error: Exception) -> None:
    assert asked(servers, error) == [FIRST, SECOND]
    assert down(servers) == [FIRST]
    with pytest.raises(DirectoryDown):
        asked(servers, error, at=SECOND)
    assert down(servers) == [FIRST, SECOND]


def test_a_port_that_no_socket_has_is_an_error_before_anybody_logs_in() -> None:
    with pytest.raises(ValueError, match="range"):
        Servers(Reach(uris=("ldap://h:99999", SECOND)), lambda _: None, lambda: 0.0)
