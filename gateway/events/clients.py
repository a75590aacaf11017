"""Events of clients: connections, logins, sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.errors import GatewayError
from gateway.model import Connection


class Problem(NamedTuple):
    """Why something failed: for the log and counters; a client gets a shorter text."""

    error: type[BaseException]
    reason: str
    logged: bool = False
    """The log has a line of it already: an outage, or a traceback."""


def problem_of(error: BaseException) -> Problem:
    """The problem behind an error; an unforeseen one is an internal error."""
    if isinstance(error, GatewayError):
        return Problem(type(error), str(error), error.logged)
    return Problem(type(error), "internal error", logged=True)


class ConnectionOpened(NamedTuple):
    """A client was let in; ``protocol``: ``pop3``, ``lmtp`` or ``policy``."""

    connection: Connection
    protocol: str


class ConnectionRefused(NamedTuple):
    """A client was sent away before its session began."""

    connection: Connection
    protocol: str
    reason: str


class ConnectionClosed(NamedTuple):
    """A connection that was opened is closed."""

    connection: Connection
    protocol: str


class LoginDelayed(NamedTuple):
    """After wrong passwords a login waits; ``session``: the connection's id."""

    session: str
    user: str
    host: str
    seconds: float
    listener: str = ""


class LoginSucceeded(NamedTuple):
    """A client logged in; ``method``: ``PASS`` or the SASL mechanism."""

    connection: Connection
    user: str
    mailbox: str
    method: str
    tls: str = "no"
    """As in ``POP3SessionEnded``."""


class LoginFailed(NamedTuple):
    """A proof was wrong, or the mailbox could not be opened."""

    connection: Connection
    user: str
    """The login name as the client sent it, without control characters; empty: none yet."""
    method: str
    problem: Problem
    tls: str = "no"
    """As in ``POP3SessionEnded``."""


class TLSEstablished(NamedTuple):
    """A TLS handshake is complete; ``version`` as OpenSSL names it, such as ``TLSv1.3``."""

    connection: Connection
    version: str


CommandDone = tuple[str, bool, float, bool]
"""A POP3 command that was answered: its name, whether it came before the login, seconds until the
reply was written, and whether that was ``-ERR``.

The name is in capitals; or ``response`` for the client's part of a SASL exchange, or ``other``.
"""


class CommandsDone(NamedTuple):
    """Commands of a session were answered, in this order."""

    connection: Connection
    commands: Sequence[CommandDone]


class ActionFailed(NamedTuple):
    """A back-end failed during a POP3 session."""

    connection: Connection
    user: str
    action: str
    """``fetch``, ``QUIT`` or ``marking as read``."""

    problem: Problem


HEALTH_CHECK = "health check"
"""The end of a session in which a client on this machine said QUIT and nothing else; not logged."""


class POP3SessionEnded(NamedTuple):
    """A POP3 connection is closed."""

    connection: Connection
    end: str
    """How it ended: ``quit``, ``idle``, ``dropped`` and so on."""

    user: str
    tls: str
    """The version of TLS, such as ``TLSv1.3``; ``yes``: it ended at a proxy; ``no``."""

    method: str
    retr: int
    retr_octets: int
    top: int
    top_octets: int
    removed: int
    messages: int
    """In the mailbox at login."""

    seconds: float
    reason: str
    """Why it ended so, or why nobody logged in; empty where ``end`` says it."""


class LMTPSessionEnded(NamedTuple):
    """An LMTP connection is closed; ``lhlo``: the name that the client gave itself.

    ``refused``: recipients refused after their message had come; before it they have events only.
    """

    connection: Connection
    end: str
    tls: str
    lhlo: str
    messages: int
    delivered: int
    refused: int
    octets: int
    reason: str
