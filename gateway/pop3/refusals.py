"""The table of errors and their POP3 replies.

Response codes: RFC 2449 section 8 and RFC 3206.  ``AUTH`` makes clients drop a saved
password, so it means wrong credentials only: an outage is ``SYS/TEMP``, a fault that
needs an administrator ``SYS/PERM``.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway import errors

REFUSALS: Mapping[type[Exception], tuple[str, str]] = {
    errors.BadCredentials: ("AUTH", "credentials"),
    errors.CleartextRefused: ("", "cleartext"),
    errors.MechanismUnknown: ("", "mechanism"),
    errors.MechanismFailed: ("", "mechanism_failed"),
    errors.LoginTooSoon: ("LOGIN-DELAY", "too_soon"),
    errors.MaildropBusy: ("IN-USE", "busy"),
    errors.TooManySessions: ("SYS/TEMP", "sessions"),
    errors.TooManyGuesses: ("SYS/TEMP", "guesses"),
    errors.Kicked: ("SYS/TEMP", "closing"),
    errors.NoSuchMailbox: ("SYS/PERM", "no_mailbox"),
    errors.HomedElsewhere: ("SYS/PERM", "elsewhere"),
    errors.BadMailboxName: ("SYS/PERM", "unusable"),
    errors.MailboxUnusable: ("SYS/PERM", "unusable"),
    errors.MessageUnreadable: ("SYS/PERM", "unreadable"),
    errors.DirectoryMisconfigured: ("SYS/PERM", "unusable"),
    errors.MessageGone: ("", "gone"),
}
"""Error class to response code and text; other errors: ``SYS/TEMP``, ``trouble``."""


class Refused(Exception):
    """Raised for a command that gets ``-ERR`` with this text."""

    def __init__(self, key: str, code: str = "") -> None:
        super().__init__(key)
        self.key = key
        self.code = code


def refusal_of(error: BaseException) -> tuple[str, str]:
    """The response code (may be empty) and the key of the text for ``error``."""
    for kind in type(error).__mro__:
        if kind in REFUSALS:
            return REFUSALS[kind]
    return ("SYS/TEMP", "trouble")
