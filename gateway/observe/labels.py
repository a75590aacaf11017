"""The values of labels: each is of a closed set, whatever a client sends."""

from __future__ import annotations

from collections.abc import Mapping

from gateway import errors
from gateway.events import HEALTH_CHECK

END_OF: Mapping[str, str] = {
    "quit": "quit",
    "quit, not all was removed": "quit_incomplete",
    "over": "closed",
    "dropped": "dropped",
    "idle": "idle",
    "stalled": "stalled",
    "aborted": "aborted",
    "server stopping": "server_stopping",
    "kicked": "kicked",
    "a back-end took too long": "timeout",
    "TLS handshake failed": "tls_handshake_failed",
    "TLS failed": "tls_failed",
    "TLS to a plain port": "tls_to_a_plain_port",
    "dropped before TLS began": "dropped_before_tls",
    HEALTH_CHECK: "health_check",
}
"""How a session ended, by the words of the log."""

VERSIONS: Mapping[str, str] = {
    "TLSv1.3": "1.3",
    "TLSv1.2": "1.2",
    "TLSv1.1": "1.1",
    "TLSv1": "1.0",
}

_REASONS: Mapping[type[BaseException], str] = {
    errors.NotAdmitted: "no_delegate",
    errors.UnknownLogin: "no_such_user",
    errors.WrongPassword: "wrong_password",
    errors.LoginDisabled: "disabled",
    errors.BadCredentials: "wrong_credentials",
    errors.TooManyGuesses: "throttled",
    errors.CleartextRefused: "cleartext",
    errors.MechanismUnknown: "bad_exchange",
    errors.MechanismFailed: "bad_exchange",
    errors.ClientNotAllowed: "not_allowed",
    errors.TooManySessions: "too_many_sessions",
    errors.LoginTooSoon: "too_soon",
    errors.MaildropBusy: "in_use",
    errors.NoSuchMailbox: "no_mailbox",
    errors.BadMailboxName: "bad_mailbox",
    errors.HomedElsewhere: "elsewhere",
    errors.MailboxUnusable: "bad_mailbox",
    errors.LargerThanQuota: "larger_than_quota",
    errors.OverQuota: "over_quota",
    errors.RetentionMalformed: "bad_policy",
    errors.NoRoom: "disk_full",
    errors.StoreDown: "store_down",
    errors.UnknownRecipient: "unknown",
    errors.RecipientBarred: "barred",
    errors.RefusedByPolicy: "policy",
    errors.LedgerUnusable: "state_unusable",
    errors.DirectoryDown: "directory_down",
    errors.DirectoryMisconfigured: "directory_misconfigured",
    errors.Overloaded: "overloaded",
    errors.TookTooLong: "timeout",
    errors.MessageGone: "gone",
    errors.SizeChanged: "changed",
}


def reason_of(error: type[BaseException]) -> str:
    """The word for a class of errors; ``internal_error`` if it is none of ours."""
    for kind in error.__mro__:
        if (found := _REASONS.get(kind)) is not None:
            return found
    return "other" if issubclass(error, errors.GatewayError) else "internal_error"


_MECHANISMS = frozenset(
    {"PASS", "PLAIN", "LOGIN", "NTLM", "GSSAPI", "EXTERNAL", "XOAUTH2", "OAUTHBEARER"}
    | {"CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "GSS-SPNEGO"}
)


def mechanism_of(method: str) -> str:
    """``PASS`` or a SASL mechanism; ``other``: of another package, or none yet."""
    return method if method in _MECHANISMS else "other"
