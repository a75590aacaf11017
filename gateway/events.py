"""What happens in the server, as frozen values; ``gateway.observe.bus`` hands them out.

The log, counters, quota warnings and retention subscribe.  An event has no password,
no SASL response and no traceback.  The audit is no subscriber: it may refuse a removal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

from gateway.errors import GatewayError
from gateway.model import Account, Connection, Level

__all__ = [
    "EVENTS",
    "HEALTH_CHECK",
    "AccountsKept",
    "ActionFailed",
    "BackEndBack",
    "BackEndDown",
    "BackEndReplaced",
    "CacheLookup",
    "CachedPasswordAccepted",
    "CertificateProblem",
    "CertificateRejected",
    "CertificateReloaded",
    "ConnectionClosed",
    "ConnectionOpened",
    "ConnectionRefused",
    "DeliveryFailed",
    "DirectoryProblem",
    "Emit",
    "Event",
    "LMTPSessionEnded",
    "ListenerStarted",
    "ListenerStopped",
    "LoginDelayed",
    "LoginFailed",
    "LoginSucceeded",
    "MessageDelivered",
    "MessagesExpired",
    "NTLMv1Accepted",
    "POP3SessionEnded",
    "ParentAway",
    "ParentBack",
    "Problem",
    "QueueTaken",
    "QuotaCheckFailed",
    "QuotaDigestFailed",
    "QuotaDigestSent",
    "QuotaExceeded",
    "QuotaWarningSent",
    "RecipientRefused",
    "ReloadEnded",
    "ReloadStarted",
    "RetentionPostponed",
    "RetentionStopped",
    "ServerReady",
    "ServerStopped",
    "ServerStopping",
    "SessionsCounted",
    "Subscription",
    "WorkerEnded",
    "WorkerKilled",
    "WorkerReady",
    "WorkerStarted",
    "WorkerUnusable",
    "problem_of",
]


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


# -- connections and sessions ------------------------------------------------


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


class LoginSucceeded(NamedTuple):
    """A client logged in; ``method``: ``PASS`` or the SASL mechanism."""

    connection: Connection
    user: str
    mailbox: str
    method: str


class LoginFailed(NamedTuple):
    """A proof was wrong, or the mailbox could not be opened."""

    connection: Connection
    user: str
    """The login name as the client sent it, without control characters; empty: none yet."""
    method: str
    problem: Problem


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
    tls: bool
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
    """An LMTP connection is closed; ``lhlo``: the name that the client gave itself."""

    connection: Connection
    end: str
    tls: bool
    lhlo: str
    messages: int
    delivered: int
    refused: int
    octets: int
    reason: str


# -- mail that comes in ------------------------------------------------------


class MessageDelivered(NamedTuple):
    """A message is on stable storage in a mailbox; ``message``: its id in Received."""

    connection: Connection
    message: str
    account: Account


class RecipientRefused(NamedTuple):
    """RCPT was refused, or the message was not delivered to this recipient."""

    connection: Connection
    recipient: str
    problem: Problem


class DeliveryFailed(NamedTuple):
    """A message could not be taken in at all."""

    connection: Connection
    problem: Problem


# -- quotas ------------------------------------------------------------------


class QuotaExceeded(NamedTuple):
    """A mailbox has no room for a message of ``octets`` (0: unknown) that fits an empty one."""

    account: Account
    octets: int


class QuotaWarningSent(NamedTuple):
    """A user has a message that says how full the mailbox is."""

    user: str
    level: Level


class QuotaDigestSent(NamedTuple):
    """An administrator has a list of full mailboxes."""

    to: str
    mailboxes: int


class QuotaCheckFailed(NamedTuple):
    """Nobody can tell how full a mailbox is."""

    mailbox: str
    """Empty: of none."""

    problem: Problem


class QuotaDigestFailed(NamedTuple):
    """An administrator does not get the list of full mailboxes."""

    to: str
    problem: Problem


# -- retention ---------------------------------------------------------------


class MessagesExpired(NamedTuple):
    """Retention removed messages of a mailbox, or hid them."""

    mailbox: str
    messages: int
    left: int
    hidden: bool


class RetentionStopped(NamedTuple):
    """The removal guard, or a policy that cannot be read, keeps mail; ``reason`` has the cure."""

    mailbox: str
    reason: str


class RetentionPostponed(NamedTuple):
    """A visit to a mailbox, or the whole run, failed and is tried again later."""

    mailbox: str
    """Empty: the run."""

    problem: Problem


# -- the server --------------------------------------------------------------


class BackEndDown(NamedTuple):
    """An LDAP server, winbind or an accounts file does not answer; once in an outage."""

    name: str
    reason: str


class BackEndBack(NamedTuple):
    """The back-end answers again, ``seconds`` after the outage began."""

    name: str
    seconds: int


class BackEndReplaced(NamedTuple):
    """A reload has changed or removed a back-end that was down."""

    name: str


class DirectoryProblem(NamedTuple):
    """The directory answers, but an account or all of them cannot be read."""

    reason: str


class AccountsKept(NamedTuple):
    """The accounts file has changed and cannot be read; the accounts before stay in use."""

    reason: str


class CachedPasswordAccepted(NamedTuple):
    """The directory could not check a password; it was right shortly before."""

    user: str
    problem: Problem


class NTLMv1Accepted(NamedTuple):
    """A client logged in by a proof that is easy to break ([MS-NLMP] 3.3.1)."""

    user: str


class CacheLookup(NamedTuple):
    """A cache was asked: how much work it saves."""

    cache: str
    """``passwords`` or ``accounts``."""

    outcome: str
    """``remembered``: it knew.  ``asked``, ``searched``: the directory was asked.  ``stale``: in an
    outage it knew what would else have expired."""


class ListenerStarted(NamedTuple):
    """Clients can connect; ``tls`` is ``none``, ``stls`` or ``implicit``."""

    name: str
    address: str
    tls: str


class ListenerStopped(NamedTuple):
    """The port is closed."""

    name: str


class ServerReady(NamedTuple):
    """All listeners accept clients, and the directory was asked once."""

    problem: str
    """Why the directory did not answer; empty: it did."""


class ReloadStarted(NamedTuple):
    """The server reads its configuration again."""


class ReloadEnded(NamedTuple):
    """The server has taken the new configuration, or kept the old one."""

    changed: tuple[str, ...] = ()
    """The settings that have changed, by key."""

    restart: tuple[str, ...] = ()
    """The settings that keep their old value until a restart, by key."""

    problems: tuple[str, ...] = ()
    """Why the whole configuration stays as it was, one line each; empty: it was taken."""

    kept: tuple[str, ...] = ()
    """Why certificates stay as they were, one line each."""


class ServerStopping(NamedTuple):
    """No new sessions; open work has ``seconds`` to finish."""

    seconds: float


class ServerStopped(NamedTuple):
    """All open work is finished, or has run out of time."""


class WorkerStarted(NamedTuple):
    """The parent has started a worker process; workers are numbered from 1."""

    worker: int
    pid: int


class WorkerReady(NamedTuple):
    """A worker process accepts clients."""

    worker: int
    pid: int


class WorkerEnded(NamedTuple):
    """A worker process has ended, or could not be started."""

    worker: int
    pid: int
    """0: it could not be started."""

    reason: str
    """``signal SIGKILL``, ``exit status 0``, ..."""

    restart_in: float | None
    """Seconds until it is started again; None: the server is stopping."""


class WorkerKilled(NamedTuple):
    """The parent has sent SIGKILL to a worker process."""

    worker: int
    pid: int
    reason: str


class WorkerUnusable(NamedTuple):
    """A worker process cannot serve."""

    worker: int
    problems: tuple[str, ...]


class QueueTaken(NamedTuple):
    """A worker does not serve its clients; another one accepts them meanwhile."""

    worker: int
    by: int


class ParentAway(NamedTuple):
    """The parent does not answer: this worker keeps to its share of each limit."""

    workers: int
    """How many share each limit."""


class ParentBack(NamedTuple):
    """The parent answers again, after ``seconds``."""

    seconds: int


class SessionsCounted(NamedTuple):
    """The sessions that are open in all workers, by protocol; at most once a second."""

    open: Mapping[str, int]


class CertificateReloaded(NamedTuple):
    """New connections get the certificate as it is in the file now."""

    path: str


class CertificateRejected(NamedTuple):
    """The certificate in the file cannot be used; the old one stays in use."""

    reason: str


class CertificateProblem(NamedTuple):
    """A certificate has expired, will soon, or does not fit its listeners."""

    path: str
    reason: str
    section: str
    """Of the configuration, with the setting of the path."""


Event = (
    ConnectionOpened
    | ConnectionRefused
    | ConnectionClosed
    | LoginDelayed
    | LoginSucceeded
    | LoginFailed
    | ActionFailed
    | POP3SessionEnded
    | LMTPSessionEnded
    | MessageDelivered
    | RecipientRefused
    | DeliveryFailed
    | QuotaExceeded
    | QuotaWarningSent
    | QuotaDigestSent
    | QuotaCheckFailed
    | QuotaDigestFailed
    | MessagesExpired
    | RetentionStopped
    | RetentionPostponed
    | BackEndDown
    | BackEndBack
    | BackEndReplaced
    | DirectoryProblem
    | AccountsKept
    | CachedPasswordAccepted
    | NTLMv1Accepted
    | CacheLookup
    | ListenerStarted
    | ListenerStopped
    | ServerReady
    | ReloadStarted
    | ReloadEnded
    | ServerStopping
    | ServerStopped
    | WorkerStarted
    | WorkerReady
    | WorkerEnded
    | WorkerKilled
    | WorkerUnusable
    | QueueTaken
    | SessionsCounted
    | ParentAway
    | ParentBack
    | CertificateReloaded
    | CertificateRejected
    | CertificateProblem
)

EVENTS: tuple[type[Event], ...] = get_args(Event)
"""All of them, for a subscriber that wants each."""

Emit = Callable[[Event], None]
"""Hands an event to its subscribers.  Never fails; may be called on any thread."""

Subscription = Mapping[type[Event], Callable[[Any], object]]
"""The function that a subscriber has for each kind of event.

They are called on the thread that emits, so they neither block nor wait.  Directories emit on
any thread, all others on the reactor's.
"""
