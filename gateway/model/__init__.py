"""Frozen values that packages exchange.

Import them from here; ``mail``, ``audit``, ``transfer``, ``accounts``, ``clients`` and
``admission`` are where to read.
"""

from __future__ import annotations

from gateway.model.accounts import (
    AS_BEFORE_LOGIN,
    UNLIMITED,
    Account,
    DigestClaim,
    LastLogin,
    Level,
    Limits,
    Quota,
    Terms,
    Usage,
    WarningChange,
    WarningState,
)
from gateway.model.admission import Entrance, Forgiveness, Guess, SessionChange
from gateway.model.audit import AuditEntry, AuditLines, AuditQuery
from gateway.model.clients import (
    Connection,
    FailedLogin,
    LoginAttempt,
    OpenSession,
    Peer,
    Proxy,
    Scope,
    cause_of,
)
from gateway.model.mail import (
    Contents,
    Delivery,
    DueDay,
    Form,
    KnownExpire,
    LastScan,
    Listing,
    Reason,
    Removed,
    RetentionOrder,
    StoredMessage,
    UsageChange,
)
from gateway.model.transfer import CopiedMessage, MailboxImage

__all__ = [
    "AS_BEFORE_LOGIN",
    "UNLIMITED",
    "Account",
    "AuditEntry",
    "AuditLines",
    "AuditQuery",
    "Connection",
    "Contents",
    "CopiedMessage",
    "Delivery",
    "DigestClaim",
    "DueDay",
    "Entrance",
    "FailedLogin",
    "Forgiveness",
    "Form",
    "Guess",
    "KnownExpire",
    "LastLogin",
    "LastScan",
    "Level",
    "Limits",
    "Listing",
    "LoginAttempt",
    "MailboxImage",
    "OpenSession",
    "Peer",
    "Proxy",
    "Quota",
    "Reason",
    "Removed",
    "RetentionOrder",
    "Scope",
    "SessionChange",
    "StoredMessage",
    "Terms",
    "Usage",
    "UsageChange",
    "WarningChange",
    "WarningState",
    "cause_of",
]
