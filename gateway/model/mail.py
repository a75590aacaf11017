"""Values of mail: messages, listings, removals."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import cached_property
from typing import Literal, NamedTuple

from attrs import frozen

from gateway.model.accounts import Usage


class Form(IntEnum):
    """How the octets of a stored message differ from those that RETR sends."""

    STORED = 0
    """Unknown: convert line ends and stuff dots."""

    CANONICAL = 1
    """Every line ends in CRLF, the last one too, and no dot follows a lone CR."""

    CLEAN = 2
    """As CANONICAL, and no line begins with a dot: send unchanged."""


class Listing:
    """The snapshot of a maildrop that a session uses.

    ``sizes[i]`` is the octet count of message ``i + 1`` as RETR sends it, dot
    stuffing not counted (RFC 1939 section 11); ``uids[i]`` its unique-id.
    Immutable, so that all sessions of a mailbox can share one, with its
    replies rendered once.
    """

    def __init__(self, sizes: Sequence[int], uids: Sequence[str]) -> None:
        self.sizes = sizes
        self.uids = uids

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def octets(self) -> int:
        """The sum of all sizes."""
        return sum(self.sizes)

    @cached_property
    def scan_lines(self) -> bytes:
        """``number size`` of every message, one line each."""
        return _numbered(self.sizes, 1)

    @cached_property
    def uid_lines(self) -> bytes:
        """``number unique-id`` of every message, one line each."""
        return _numbered(self.uids, 1)

    def longer(self, sizes: Sequence[int], uids: Sequence[str]) -> Listing:
        """This listing with further messages at its end; replies rendered so far are kept."""
        longer = Listing([*self.sizes, *sizes], [*self.uids, *uids])
        rendered, first = self.__dict__, len(self) + 1
        if "octets" in rendered:
            longer.octets = self.octets + sum(sizes)
        if "scan_lines" in rendered:
            longer.scan_lines = self.scan_lines + _numbered(sizes, first)
        if "uid_lines" in rendered:
            longer.uid_lines = self.uid_lines + _numbered(uids, first)
        return longer

    def prepare(self) -> None:
        """Render the replies now, in this thread, and not at first use."""
        self.octets, self.scan_lines, self.uid_lines  # noqa: B018


_PIECE = 1000
"""Lines to make at once."""


def _numbered(values: Sequence[object], first: int) -> bytes:
    """A line for each value, with its number before it."""
    # In pieces: each takes the memory that the one before has freed.
    return b"".join(
        _lines(values[at : at + _PIECE], first + at) for at in range(0, len(values), _PIECE)
    )


def _lines(values: Sequence[object], first: int) -> bytes:
    lines = [f"{number} {value}\r\n" for number, value in enumerate(values, first)]
    return "".join(lines).encode("ascii")


class StoredMessage(NamedTuple):
    """The data of a stored message for retention; times in Unix seconds.

    Sorted by its fields: older messages first.
    """

    received: float
    uid: str
    """Its unique-id."""

    octets: int
    read: float | None
    """When it was read; None: unread."""


class LastScan(NamedTuple):
    """The result of retention's last scan of a mailbox; times in Unix seconds."""

    policy: str
    """The text of its policy."""

    due: float | None
    """When to scan again; None: not before something else changes."""

    looked: float
    """When it was scanned by a visit that did all it could do."""

    messages: int
    """Messages that were left."""

    stopped: str | None = None
    """Why nothing is removed before an operator releases it."""

    hidden: int = 0
    """Hidden messages that were left, if the policy purges them."""


class DueDay(NamedTuple):
    """What retention will remove from a mailbox, or from all, on one day."""

    day: int
    """Days of UTC since 1970-01-01."""

    messages: int
    octets: int


class KnownExpire(NamedTuple):
    """What CAPA announces as EXPIRE before a login (RFC 2449 section 6.7)."""

    expire: str
    """The arguments; empty: nothing is announced."""

    until: float
    """When the leader asks the directory again, in Unix seconds."""


class RetentionOrder(NamedTuple):
    """An order that retention visits a mailbox now, of an operator or of another process."""

    given: float
    """When, in Unix seconds."""

    released_at: float | None = None
    """What was due then goes, regardless of the removal guard; in Unix seconds, None: not so."""

    policy: str = ""
    """The text of the policy that was released: under another one the guard is asked."""


@frozen
class Reason:
    """Why messages are removed: by a rule of retention, a client's session, or an operator."""

    rule: str = ""
    session: str = ""
    """The id of the session in the log."""

    client: str = ""
    """Its IP address."""

    operator: str = ""
    """Who asked for it, as the log names operators: ``uid 0``, ``token NAME``, ``account NAME``."""


class Removed(NamedTuple):
    """An entry of the audit log, before a message goes or returns; times in Unix seconds."""

    action: str
    """``discard``, ``hide``, ``purge`` or ``restore``."""

    mailbox: str
    uid: str
    message_id: str | None
    """The Message-ID of the header."""

    size: int
    received: float
    read: float | None
    cause: Reason


class Contents(NamedTuple):
    """All mail of a mailbox."""

    shown: Usage = Usage()
    """What POP3 shows."""

    hidden: Usage = Usage()
    """Hidden messages."""

    folders: Usage = Usage()
    """Messages in other folders, which only IMAP shows."""

    @property
    def total(self) -> Usage:
        """All of it."""
        return Usage(sum(one.octets for one in self), sum(one.messages for one in self))


class UsageChange(NamedTuple):
    """The result of a recalculation of usage."""

    before: Usage | None
    """What the mailbox was thought to hold; None: nothing was known."""

    after: Usage


@frozen
class Delivery:
    """What became of a message for a mailbox."""

    at: float
    """In Unix seconds."""

    outcome: Literal["delivered", "refused", "failed", "policy"]
    """``refused``: this recipient, by LMTP.  ``failed``: the message for all its recipients.
    ``policy``: Postfix was told not to take it."""

    mailbox: str
    """Empty: no account has the address, or it is not known yet."""

    recipients: tuple[str, ...]
    sender: str
    """Empty: a bounce."""

    message: str
    """Its id in the log and in Received; for ``policy`` Postfix's queue id."""

    message_id: str
    """The Message-ID of the header; empty: none, or the message was not sent."""

    client: str
    session: str
    octets: int
    seconds: float
    """From the end of the message until it was stored."""

    error: str
    """The kind of problem, such as ``OverQuota``."""

    reason: str
