"""Every exception that pop3gw raises on purpose.

Each class is one event.  What a client reads about it stands in one table for
each protocol, ``gateway.pop3.refusals`` and ``gateway.lmtp.refusals``; the text
given to the exception is for the log.
"""

from __future__ import annotations

from twisted.cred.error import UnauthorizedLogin

__all__ = [
    "BadCredentials",
    "BadMailboxName",
    "CleartextRefused",
    "ClientNotAllowed",
    "ConfigError",
    "DirectoryDown",
    "DirectoryMisconfigured",
    "GatewayError",
    "HomedElsewhere",
    "LargerThanQuota",
    "LedgerUnusable",
    "LoginTooSoon",
    "MailboxUnusable",
    "MaildropBusy",
    "MechanismFailed",
    "MechanismUnknown",
    "MessageGone",
    "MessageUnreadable",
    "NoRoom",
    "NoSuchMailbox",
    "NotAdmitted",
    "OverQuota",
    "Overloaded",
    "RecipientBarred",
    "RefusedByPolicy",
    "RequestMalformed",
    "RetentionMalformed",
    "SizeChanged",
    "StoreDown",
    "TooManyGuesses",
    "TooManySessions",
    "TookTooLong",
    "UnknownRecipient",
]


class GatewayError(Exception):
    """Parent of all of them; anything else that escapes is a bug."""

    logged = False
    """True if the code that raised the error has logged it, once for all callers."""


class BadCredentials(GatewayError, UnauthorizedLogin):
    """The name, the password or the proof was wrong, or the account may not log in.

    Every application of Twisted takes it for a wrong password.  No other error
    here is a ``LoginFailed``: an outage must not read as a wrong password.
    """

    guessed = True
    """Somebody may have guessed at a password.  False: the proof was right, or there was nothing
    that any proof could have been compared with."""

    def __init__(self, reason: str = "", *, account: str = "", guessed: bool | None = None) -> None:
        """``account``: the name of the account that the login name stood for, where known."""
        super().__init__(reason)
        self.account = account
        if guessed is not None:
            self.guessed = guessed


class NotAdmitted(BadCredentials):
    """The proof was right, but the mailbox is another's who does not let this one in."""

    guessed = False


class TooManyGuesses(GatewayError):
    """Too many wrong passwords came from there: new ones are rejected for a while."""


class CleartextRefused(GatewayError):
    """A password would have crossed an unencrypted line outside the secure networks."""


class MechanismUnknown(GatewayError):
    """No SASL mechanism of that name can be used on this connection."""


class MechanismFailed(GatewayError):
    """The client's SASL response does not follow the mechanism's grammar."""


class ClientNotAllowed(GatewayError):
    """The client's address is in none of the networks that may connect."""


class TooManySessions(GatewayError):
    """The account, the address or the server already has as many as it may."""


class LoginTooSoon(GatewayError):
    """The user's last login was a shorter time ago than LOGIN-DELAY says."""


class MaildropBusy(GatewayError):
    """Another session holds the exclusive lock (RFC 1939 section 4)."""


class NoSuchMailbox(GatewayError):
    """The account is fine but its mailbox does not exist and may not be made."""


class HomedElsewhere(GatewayError):
    """The account is fine but another server has its mailbox."""


class BadMailboxName(GatewayError):
    """The mailbox name cannot safely become a path."""


class MailboxUnusable(GatewayError):
    """The mailbox exists but an administrator must act: permissions, a corrupt file."""


class MessageUnreadable(MailboxUnusable):
    """A message is compressed or encrypted in a way that cannot be read here, or damaged."""


class OverQuota(GatewayError):
    """The mailbox is full, or would be with this message."""

    def __init__(self, reason: str = "", *, size: int = 0) -> None:
        """``size``: the message's, in octets; 0: not known."""
        super().__init__(reason)
        self.size = size


class LargerThanQuota(OverQuota):
    """The message is larger than all that the mailbox may hold."""


class RequestMalformed(GatewayError):
    """A mail server's question does not follow Postfix's policy protocol."""


class RetentionMalformed(GatewayError):
    """The text of a retention policy cannot be read; ``column``, from 1, is where."""

    def __init__(self, column: int, word: str, cure: str) -> None:
        """``word``: what stands there; ``cure``: what should."""
        super().__init__(f"column {column}: {word[:40]!r}: {cure}")
        self.column = column


class StoreDown(GatewayError):
    """The store cannot serve just now: full disk, I/O error, a lock held too long."""


class NoRoom(StoreDown):
    """The disk is full, or the user that owns the mailbox has no more blocks or files."""


class UnknownRecipient(GatewayError):
    """No account has that mail address."""


class RecipientBarred(GatewayError):
    """The account is there, but its directory says that it takes no mail."""


class RefusedByPolicy(GatewayError):
    """A rule of the administrator's refuses this sender, recipient or message."""


class LedgerUnusable(GatewayError):
    """What pop3gw remembers beside the mail cannot be read: an administrator must act."""


class DirectoryDown(GatewayError):
    """The directory did not answer; nothing is known about the password."""

    def __init__(self, reason: str = "", *, logged: bool = False) -> None:
        """``logged``: as part of an outage."""
        super().__init__(reason)
        self.logged = logged


class DirectoryMisconfigured(GatewayError):
    """The directory answers, but its data cannot be used as configured."""


class Overloaded(GatewayError):
    """A worker's queue is full."""


class TookTooLong(GatewayError):
    """A back-end missed the deadline for one piece of work."""


class MessageGone(GatewayError):
    """The message was in the snapshot but another program has removed it."""


class SizeChanged(GatewayError):
    """A message's file ended early or its content changed while it was being sent."""


class ConfigError(GatewayError):
    """The configuration cannot be used; ``problems`` has one line for each fault."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = [_one_line(problem) for problem in problems]
        super().__init__("; ".join(self.problems))


def _one_line(text: str) -> str:
    """Names and values in it can be anything, and of any length."""
    if len(text) > 1000:
        text = f"{text[:600]}...{text[-300:]}"
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
