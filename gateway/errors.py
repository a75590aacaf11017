"""Every exception that pop3gw raises on purpose.

Each class is one event.  A table per protocol has the reply to the client,
``gateway.pop3.refusals`` and ``gateway.lmtp.refusals``; the text of the exception is for
the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Self

from twisted.cred.error import UnauthorizedLogin

from gateway.printable import printable

__all__ = [
    "AskFailed",
    "BadCredentials",
    "BadMailboxName",
    "BadRequest",
    "BadValue",
    "BodyTooLarge",
    "CleartextRefused",
    "ClientNotAllowed",
    "ConfigError",
    "CopyDiffers",
    "DirectoryDown",
    "DirectoryMisconfigured",
    "GatewayError",
    "HomedElsewhere",
    "Kicked",
    "LargerThanQuota",
    "LedgerUnusable",
    "LoginDisabled",
    "LoginTooSoon",
    "MailboxExists",
    "MailboxUnusable",
    "MaildropBusy",
    "MechanismFailed",
    "MechanismUnknown",
    "MessageGone",
    "MessageUnreadable",
    "NoRoom",
    "NoSuchMailbox",
    "NoSuchUser",
    "NotAdmitted",
    "NotConfirmed",
    "NotFound",
    "NotInScope",
    "NotLetIn",
    "NotSupported",
    "OnHold",
    "OverQuota",
    "Overloaded",
    "PasswordUnanswered",
    "PeerGone",
    "ProxyHeaderMalformed",
    "RecipientBarred",
    "RefusedByPolicy",
    "RequestMalformed",
    "RetentionMalformed",
    "ServedElsewhere",
    "SizeChanged",
    "StoreDown",
    "TooManyGuesses",
    "TooManySessions",
    "TooManyTraces",
    "TookTooLong",
    "UnknownLogin",
    "UnknownRecipient",
    "WrongPassword",
]


class GatewayError(Exception):
    """Parent of all of them; any other exception is a bug."""

    logged = False
    """True if the code that raised the error has logged it, once for all callers."""

    done: Mapping[str, int] | None = None
    """How much was done before it failed, such as ``messages``; None: nothing, as far as known."""

    def after(self, **counts: int) -> Self:
        """Say that so much was done before, besides what it says already; returns the error."""
        self.done = dict(Counter(self.done) + Counter(counts)) or None
        return self


class BadCredentials(GatewayError, UnauthorizedLogin):
    """Wrong name, password or response, or the account may not log in.

    Every Twisted application treats it as a wrong password.  No other error here is a
    ``LoginFailed``: an outage must not look like a wrong password.
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


class UnknownLogin(BadCredentials):
    """The directory has no account of that login name; a client gets the reply to its parent."""


class WrongPassword(BadCredentials):
    """The account exists, and the password or the proof of it is wrong."""


class LoginDisabled(BadCredentials):
    """The account exists and may not log in."""


class NotAdmitted(BadCredentials):
    """The credentials are right, but the user is no delegate of the mailbox."""

    guessed = False


class TooManyGuesses(GatewayError):
    """Too many wrong passwords from this client: new ones are rejected for a while."""


class CleartextRefused(GatewayError):
    """A plain-text password without TLS, outside the secure networks."""


class MechanismUnknown(GatewayError):
    """No SASL mechanism of that name can be used on this connection."""


class MechanismFailed(GatewayError):
    """The client's SASL response is malformed."""


class ClientNotAllowed(GatewayError):
    """The client's address is in none of the networks that may connect."""


class TooManySessions(GatewayError):
    """The limit of sessions or connections is reached."""


class LoginTooSoon(GatewayError):
    """The user's last login is more recent than LOGIN-DELAY allows."""


class MaildropBusy(GatewayError):
    """Another session holds the exclusive lock (RFC 1939 section 4)."""


class ServedElsewhere(MaildropBusy):
    """The mailbox was copied, and another place serves it."""


class NoSuchMailbox(GatewayError):
    """The mailbox of the account does not exist, and must not be created."""


class MailboxExists(GatewayError):
    """There is a mailbox of this name already."""


class CopyDiffers(GatewayError):
    """A mailbox was copied, and is not the same in both places."""


class NotConfirmed(GatewayError):
    """What an operator asks for removes mail, and was not confirmed."""


class OnHold(GatewayError):
    """The retention policy of the mailbox has ``hold``: none of its mail may be removed."""


class BadRequest(GatewayError):
    """A request to the operator's API is malformed; ``problems``: one line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = [_one_line(problem) for problem in problems]
        super().__init__("; ".join(self.problems))


class BadValue(BadRequest):
    """A request is well-formed, but an operation cannot take its values; ``problems``: as there."""


class BodyTooLarge(GatewayError):
    """The body of a request is larger than any that an operation needs."""


class NotLetIn(GatewayError):
    """A request to the operator's API has no valid token."""


class NotInScope(GatewayError):
    """The token is valid, but not for this operation."""


class NotFound(GatewayError):
    """There is nothing of the name that an operator gave."""


class Kicked(GatewayError):
    """An operator has ended the session."""


class NotSupported(GatewayError):
    """The store or the directory cannot do this; the text has the cure."""


class NoSuchUser(GatewayError):
    """No account has this login name, mail address or mailbox."""


class HomedElsewhere(GatewayError):
    """Another server has the mailbox of the account."""


class BadMailboxName(GatewayError):
    """The mailbox name cannot be part of a path."""


class MailboxUnusable(GatewayError):
    """An administrator must repair the mailbox: permissions, a damaged file."""


class MessageUnreadable(MailboxUnusable):
    """A message is damaged, encrypted, or has an unsupported compression."""


class OverQuota(GatewayError):
    """The mailbox is full, or has no room for this message."""

    def __init__(self, reason: str = "", *, size: int = 0) -> None:
        """``size``: of the message in octets; 0: unknown."""
        super().__init__(reason)
        self.size = size


class LargerThanQuota(OverQuota):
    """The message is larger than the limit of the mailbox."""


class RequestMalformed(GatewayError):
    """A request violates Postfix's policy protocol."""


class RetentionMalformed(GatewayError):
    """The text of a retention policy is malformed; ``column``: where, from 1."""

    def __init__(self, column: int, word: str, cure: str) -> None:
        """``word``: the text there; ``cure``: what was expected."""
        super().__init__(f"column {column}: {word[:40]!r}: {cure}")
        self.column = column


class StoreDown(GatewayError):
    """A temporary failure of the store: full disk, I/O error, a lock held too long."""


class NoRoom(StoreDown):
    """The disk is full, or the disk quota of the mailbox's owner is."""


class UnknownRecipient(GatewayError):
    """No account has that mail address."""


class RecipientBarred(GatewayError):
    """The account exists but gets no mail."""


class RefusedByPolicy(GatewayError):
    """A rule of the administrator rejects this sender, recipient or message."""


class LedgerUnusable(GatewayError):
    """The ledger cannot be used: an administrator must act."""


class DirectoryDown(GatewayError):
    """The directory did not answer; the password was not verified."""

    def __init__(self, reason: str = "", *, logged: bool = False) -> None:
        """``logged``: the outage is in the log already."""
        super().__init__(reason)
        self.logged = logged


class PasswordUnanswered(DirectoryDown):
    """The directory got a password and did not answer in time: it may count it as a wrong one."""


class DirectoryMisconfigured(GatewayError):
    """The directory answers, but its data do not fit the configuration."""


class Overloaded(GatewayError):
    """The queue of a thread pool is full, or work has waited there for too long."""


class TooManyTraces(Overloaded):
    """As many traces run as may: one must end first."""


class TookTooLong(GatewayError):
    """A request to a back-end timed out."""


class PeerGone(GatewayError):
    """The process at the other end of a channel has ended."""


class AskFailed(GatewayError):
    """The process at the other end of a channel could not answer; the text is its own."""


class ProxyHeaderMalformed(GatewayError):
    """What came is no header of the PROXY protocol; the text says what is wrong with it."""


class MessageGone(GatewayError):
    """Another program removed the message after the listing."""


class SizeChanged(GatewayError):
    """The file of a message changed after the listing."""


class ConfigError(GatewayError):
    """The configuration has errors; ``problems``: one line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = [_one_line(problem) for problem in problems]
        super().__init__("; ".join(self.problems))


def _one_line(text: str) -> str:
    """Names and values in it can be anything, and of any length."""
    if len(text) > 1000:
        text = f"{text[:600]}...{text[-300:]}"
    return printable(text)
