"""What happens in the server, as frozen values; ``gateway.observe.bus`` hands them out.

Import them from here; ``clients``, ``mail``, ``backends`` and ``server`` are where to read.

The log, counters, quota warnings and retention subscribe.  An event has no password,
no SASL response and no traceback.  The audit is no subscriber: it may refuse a removal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from gateway.events.backends import (
    AccountsKept,
    BackEndAsked,
    BackEndBack,
    BackEndDown,
    CachedPasswordAccepted,
    CacheLookup,
    DirectoryAsked,
    DirectoryProblem,
    NTLMv1Accepted,
)
from gateway.events.clients import (
    HEALTH_CHECK,
    ActionFailed,
    CommandDone,
    CommandsDone,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    LMTPSessionEnded,
    LoginDelayed,
    LoginFailed,
    LoginSucceeded,
    POP3SessionEnded,
    Problem,
    TLSEstablished,
    problem_of,
)
from gateway.events.mail import (
    BodyMissing,
    DeliveryFailed,
    Envelope,
    MessageDelivered,
    MessagesExpired,
    PolicyRefused,
    QuotaCheckFailed,
    QuotaDecided,
    QuotaDigestFailed,
    QuotaDigestSent,
    QuotaExceeded,
    QuotaLevelsCounted,
    QuotaWarningSent,
    RecipientRefused,
    RetentionPostponed,
    RetentionStopped,
)
from gateway.events.operators import OperationDone, RequestServed
from gateway.events.server import (
    BackEndReplaced,
    CertificateProblem,
    CertificateRejected,
    CertificateReloaded,
    ListenerStarted,
    ListenerStopped,
    ParentAway,
    ParentBack,
    QueueTaken,
    ReloadEnded,
    ReloadStarted,
    ServerReady,
    ServerStopped,
    ServerStopping,
    SessionsCounted,
    WorkerEnded,
    WorkerKilled,
    WorkerReady,
    WorkerStarted,
    WorkerUnusable,
)

__all__ = [
    "EVENTS",
    "HEALTH_CHECK",
    "AccountsKept",
    "ActionFailed",
    "BackEndAsked",
    "BackEndBack",
    "BackEndDown",
    "BackEndReplaced",
    "BodyMissing",
    "CacheLookup",
    "CachedPasswordAccepted",
    "CertificateProblem",
    "CertificateRejected",
    "CertificateReloaded",
    "CommandDone",
    "CommandsDone",
    "ConnectionClosed",
    "ConnectionOpened",
    "ConnectionRefused",
    "DeliveryFailed",
    "DirectoryAsked",
    "DirectoryProblem",
    "Emit",
    "Envelope",
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
    "OperationDone",
    "POP3SessionEnded",
    "ParentAway",
    "ParentBack",
    "PolicyRefused",
    "Problem",
    "QueueTaken",
    "QuotaCheckFailed",
    "QuotaDecided",
    "QuotaDigestFailed",
    "QuotaDigestSent",
    "QuotaExceeded",
    "QuotaLevelsCounted",
    "QuotaWarningSent",
    "RecipientRefused",
    "ReloadEnded",
    "ReloadStarted",
    "RequestServed",
    "RetentionPostponed",
    "RetentionStopped",
    "ServerReady",
    "ServerStopped",
    "ServerStopping",
    "SessionsCounted",
    "Subscription",
    "TLSEstablished",
    "WorkerEnded",
    "WorkerKilled",
    "WorkerReady",
    "WorkerStarted",
    "WorkerUnusable",
    "problem_of",
]

Event = (
    ConnectionOpened
    | ConnectionRefused
    | ConnectionClosed
    | LoginDelayed
    | LoginSucceeded
    | LoginFailed
    | TLSEstablished
    | CommandsDone
    | ActionFailed
    | POP3SessionEnded
    | LMTPSessionEnded
    | BodyMissing
    | MessageDelivered
    | RecipientRefused
    | DeliveryFailed
    | PolicyRefused
    | QuotaDecided
    | QuotaLevelsCounted
    | QuotaExceeded
    | QuotaWarningSent
    | QuotaDigestSent
    | QuotaCheckFailed
    | QuotaDigestFailed
    | MessagesExpired
    | RetentionStopped
    | RetentionPostponed
    | BackEndDown
    | BackEndAsked
    | BackEndBack
    | BackEndReplaced
    | DirectoryAsked
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
    | OperationDone
    | RequestServed
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
