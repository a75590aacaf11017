"""What happens in the server, as frozen values, and the bus that hands them to subscribers.

Whoever acts emits; the log, counters, quota warnings and retention subscribe.  An
event has no password, no SASL response and no traceback.  The audit is not a
subscriber: it is asked before a removal and may refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

from gateway.errors import GatewayError
from gateway.model import Account, Connection, Level

__all__ = [
    "EVENTS",
    "AccountsKept",
    "ActionFailed",
    "BackEndBack",
    "BackEndDown",
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
    "Events",
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
    "Problem",
    "QuotaCheckFailed",
    "QuotaDigestFailed",
    "QuotaDigestSent",
    "QuotaExceeded",
    "QuotaWarningSent",
    "RecipientRefused",
    "RetentionPostponed",
    "RetentionStopped",
    "Subscription",
    "problem_of",
]


class Problem(NamedTuple):
    """Why something failed, for the log and for counters; clients read less."""

    error: type[BaseException]
    reason: str
    logged: bool = False
    """The log has a line of it already: an outage, or a traceback."""


def problem_of(error: BaseException) -> Problem:
    """The problem behind an error; what nobody foresaw is an internal error."""
    if isinstance(error, GatewayError):
        return Problem(type(error), str(error), error.logged)
    return Problem(type(error), "internal error", logged=True)


# -- connections and sessions ------------------------------------------------


class ConnectionOpened(NamedTuple):
    """A client connected and was let in."""

    connection: Connection
    protocol: str
    """``pop3``, ``lmtp`` or ``policy``."""


class ConnectionRefused(NamedTuple):
    """A client connected and was sent away before its session began."""

    connection: Connection
    protocol: str
    """``pop3``, ``lmtp`` or ``policy``."""

    reason: str


class ConnectionClosed(NamedTuple):
    """A connection that was opened is closed."""

    connection: Connection
    protocol: str


class LoginDelayed(NamedTuple):
    """After wrong passwords a login waits before its password is looked at."""

    session: str
    """The connection's id."""

    user: str
    host: str
    seconds: float


class LoginSucceeded(NamedTuple):
    """A client is in the TRANSACTION state (RFC 1939 section 5)."""

    connection: Connection
    user: str
    mailbox: str
    method: str
    """``PASS`` or the SASL mechanism."""


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
    """An LMTP connection is closed."""

    connection: Connection
    end: str
    tls: bool
    lhlo: str
    """The name that the client gave itself."""

    messages: int
    delivered: int
    refused: int
    octets: int
    reason: str


# -- mail that comes in ------------------------------------------------------


class MessageDelivered(NamedTuple):
    """A message is on stable storage in a mailbox, and can be seen there."""

    connection: Connection
    message: str
    """The number of the message in its Received header."""

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
    """A mailbox had no room for a message that would fit into an empty one."""

    account: Account
    octets: int
    """The size of the message; 0: not known."""


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
    """The removal guard, or a policy that cannot be read, keeps mail from being removed."""

    mailbox: str
    reason: str
    """With what an operator can do about it."""


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
    """It answers again."""

    name: str
    seconds: int
    """How long it did not."""


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
    """Clients can connect."""

    name: str
    address: str
    tls: str
    """``none``, ``stls`` or ``implicit``."""


class ListenerStopped(NamedTuple):
    """The port is closed."""

    name: str


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
    | DirectoryProblem
    | AccountsKept
    | CachedPasswordAccepted
    | NTLMv1Accepted
    | CacheLookup
    | ListenerStarted
    | ListenerStopped
    | CertificateReloaded
    | CertificateRejected
    | CertificateProblem
)

EVENTS: tuple[type[Event], ...] = get_args(Event)
"""All of them, for a subscriber that wants each."""

Emit = Callable[[Event], None]
"""Hands an event to its subscribers.  Never fails; may be called on any thread."""

Subscription = Mapping[type[Event], Callable[[Any], object]]
"""What a subscriber does with each kind of event that it wants."""


class Events:
    """The bus: subscribers in the order in which they subscribed."""

    def __init__(self, fault: Callable[[Event], None]) -> None:
        """``fault`` logs the exception at hand, with which a subscriber failed."""
        self._fault = fault
        self._takers: dict[type[Event], tuple[Callable[[Any], object], ...]] = {}

    def subscribe(self, subscription: Subscription) -> None:
        """From now on call these.

        They are called at once, on the thread that emits, so they neither block nor
        wait.  ``MessageDelivered`` and ``QuotaExceeded`` come on the reactor's thread.
        """
        for kind, take in subscription.items():
            self._takers[kind] = (*self._takers.get(kind, ()), take)

    def emit(self, event: Event) -> None:
        """Call the event's subscribers; one that fails keeps no other from its event."""
        for take in self._takers.get(type(event), ()):
            try:
                take(event)
            except Exception:
                self._fault(event)
