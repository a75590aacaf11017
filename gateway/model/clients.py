"""Values of clients: connections and logins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from attrs import frozen

from gateway.model.mail import Reason


class Proxy(NamedTuple):
    """A proxy that says which client it connects for."""

    host: str
    """Its IP address; empty: it connects to a UNIX socket."""

    session: str = ""
    """The id of the client's connection in the log of the proxy; empty: unknown."""

    local: bool = False
    """No client: the proxy connects for itself, for example to check that the server is there."""


class Connection(NamedTuple):
    """One client's connection, the same for every protocol.  The acceptor makes it."""

    id: str
    """The id in the log, unique across processes and restarts."""

    host: str
    """The client's IP address; empty for a client of a UNIX socket."""

    secure: bool = False
    """Whether TLS is active, here or at a proxy that counts as secure."""

    listener: str = ""
    """The listener's name in the configuration; empty for an application's own endpoint."""

    proxy: Proxy | None = None
    """The proxy that the client came through; None: the client connects itself."""


class OpenSession(NamedTuple):
    """A session that is open now, for an operator."""

    id: str
    """The id in the log."""

    protocol: str
    """``pop3``, ``lmtp`` or ``policy``."""

    user: str
    """The login name; empty: nobody has logged in."""

    host: str
    listener: str
    secure: bool
    since: float
    """When it began, in Unix seconds."""

    mailbox: str = ""
    """The mailbox that it has open; empty: none."""

    method: str = ""
    """``PASS`` or the SASL mechanism of the login; empty: none yet."""

    tls: str = ""
    """The version of TLS as OpenSSL names it, such as ``TLSv1.3``; empty: no TLS here."""

    state: str = ""
    """What it does: ``logging in``, ``logged in``, ``sending`` and so on."""

    octets: int = 0
    """Of the messages that it has sent, or received by LMTP."""


class Peer(NamedTuple):
    """The client of a session; the ``mind`` of ``Portal.login``."""

    host: str
    """The client's IP address."""

    secure: bool
    """Whether TLS is active."""

    session: str
    """The id of the connection in the log."""

    certificates: Callable[[], Sequence[bytes]] = tuple
    """The server's certificates in DER, of which this client knows one; empty without TLS.

    There are several where a listener has several: OpenSSL does not tell which one the client of a
    resumed session has seen when the session began.
    """

    listener: str = ""
    """The listener's name in the configuration; empty for an application's own endpoint."""


class LoginAttempt(NamedTuple):
    """A login with something that can be guessed, before it is tried."""

    peer: Peer
    username: bytes
    """As the client sent it."""

    secret: bytes
    """The password, or the answer to a challenge."""

    account: str = ""
    """The account of this login name; empty: unknown."""

    is_answer: bool = False
    """``secret`` answers a challenge: the same password never gives the same answer."""

    def __repr__(self) -> str:
        return f"LoginAttempt(username={self.username!r}, host={self.peer.host!r})"


@frozen
class FailedLogin:
    """A login that failed."""

    at: float
    user: str
    """As the client has sent it; empty: it sent none."""

    method: str
    client: str
    session: str
    listener: str
    error: str
    """The kind of problem, such as ``BadCredentials``."""

    reason: str


class Scope(Enum):
    """What a token lets its owner do."""

    QUOTA = "quota"
    METRICS = "metrics"
    READ = "read"
    OPERATE = "operate"


def cause_of(mind: object) -> Reason:
    """The reason of a session's removals, from the ``mind`` of its login."""
    return Reason(session=mind.session, client=mind.host) if isinstance(mind, Peer) else Reason()
