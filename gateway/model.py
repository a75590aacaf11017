"""Frozen values that travel between the packages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

from attrs import field, frozen

__all__ = [
    "UNLIMITED",
    "Account",
    "Connection",
    "DigestClaim",
    "Form",
    "KnownExpire",
    "LastScan",
    "Level",
    "Limits",
    "Listing",
    "LoginAttempt",
    "Peer",
    "Quota",
    "Reason",
    "Removed",
    "RetentionOrder",
    "StoredMessage",
    "Terms",
    "Usage",
    "WarningChange",
    "WarningState",
    "cause_of",
]


class Form(IntEnum):
    """How far the octets of a stored message are from what RETR sends."""

    STORED = 0
    """Nothing is known of them."""

    CANONICAL = 1
    """Every line ends in CRLF, the last one too, and no dot follows a lone CR."""

    CLEAN = 2
    """And no line begins with a dot: they can go out as they are."""


class Listing:
    """A maildrop as it stood at one moment: the snapshot a session works on.

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
        return "".join(
            [f"{number} {size}\r\n" for number, size in enumerate(self.sizes, 1)]
        ).encode("ascii")

    @cached_property
    def uid_lines(self) -> bytes:
        """``number unique-id`` of every message, one line each."""
        return "".join([f"{number} {uid}\r\n" for number, uid in enumerate(self.uids, 1)]).encode(
            "ascii"
        )

    def prepare(self) -> None:
        """Render now, on whatever thread this is, what is otherwise rendered when asked for."""
        self.octets, self.scan_lines, self.uid_lines  # noqa: B018


UNLIMITED = 2**63 - 1
"""As an item of a ``Quota``: there is no limit, whatever the defaults are."""


@frozen
class Quota:
    """What a mailbox may hold; None: not set.

    0 allows nothing.  What means no limit by 0 has made it ``UNLIMITED`` before.
    """

    octets: int | None = None
    warn_octets: int | None = None
    """From here on the user is warned."""

    messages: int | None = None


@frozen
class Usage:
    """What a mailbox holds."""

    octets: int = 0
    messages: int = 0


@frozen
class Limits:
    """What a mailbox may hold, once everything that has a say in it is heard; None: no limit."""

    octets: int | None = None
    messages: int | None = None
    grace_octets: int = 0
    """By so much one last message may go beyond ``octets``."""

    warn_octets: int | None = None
    """From here on the user is warned."""

    @property
    def is_none(self) -> bool:
        """Whether nothing can be too much for the mailbox."""
        return self.octets is None and self.messages is None


class Level(IntEnum):
    """How full a mailbox is, as its user should know."""

    NORMAL = 0
    WARN = 1
    OVER = 2
    """It takes no more mail, or not the message that came."""


@frozen
class WarningState:
    """How full a mailbox was, and when its user was warned; in Unix seconds, None: never."""

    level: Level = Level.NORMAL
    """As it was found last."""

    warned: float | None = None
    """When the user was last warned that the mailbox is nearly full."""

    over: float | None = None
    """When the user was last warned that the mailbox is full."""


class WarningChange(NamedTuple):
    """What recording a mailbox's level has changed."""

    was: WarningState
    now: WarningState
    notice: Level | None
    """The warning to send; no other process gets the same."""


class DigestClaim(NamedTuple):
    """The right to send one digest; times in Unix seconds."""

    was: float | None
    """When the last one was sent."""

    now: float


class StoredMessage(NamedTuple):
    """A stored message as retention sees it; times in Unix seconds.

    In the order of its fields, so that the older of two messages sorts first.
    """

    received: float
    uid: str
    """No two messages of a mailbox have the same."""

    octets: int
    read: float | None
    """When it was read; None: it has not been."""


class LastScan(NamedTuple):
    """What retention found when it last scanned a mailbox; times in Unix seconds."""

    policy: str
    """The text of the policy that held."""

    due: float | None
    """When to scan again; None: not before something else changes."""

    looked: float
    """When it was scanned."""

    messages: int
    """How many were left."""

    stopped: str | None = None
    """Why nothing is removed before an operator releases it."""


class KnownExpire(NamedTuple):
    """What CAPA announces as EXPIRE before a login (RFC 2449 section 6.7)."""

    expire: str
    """The arguments; empty: nothing is announced."""

    until: float
    """When the leader asks the directory again, in Unix seconds."""


class RetentionOrder(NamedTuple):
    """An operator's order that retention visits a mailbox now."""

    given: float
    """When, in Unix seconds."""

    released: bool
    """Whether all that was due then may go, however much it is."""


@frozen
class Reason:
    """Why messages are removed: by a rule of retention, or by a client's session."""

    rule: str = ""
    session: str = ""
    """The short id that ties a session's log lines together."""

    client: str = ""
    """Its IP address."""


class Removed(NamedTuple):
    """What the audit says of one message that is about to be removed; times in Unix seconds."""

    action: str
    """``discard``, ``hide`` or ``purge``."""

    mailbox: str
    uid: str
    message_id: str | None
    """As its header has it."""

    size: int
    received: float
    read: float | None
    cause: Reason


@frozen
class Account:
    """What the directory knows of one user."""

    name: str
    """The login name in its canonical form."""

    mailbox: str
    """The mailbox's name; the store decides where it lives."""

    home: str | None = None
    """An absolute directory that the administrator set for this account's mailbox."""

    secret: str = field(default="", repr=False)
    """The stored password, scheme included; empty where the directory keeps it to itself."""

    nt_hash: bytes = field(default=b"", repr=False)
    """MD4 of the password ([MS-NLMP] 3.3.1), 16 octets; empty where there is none."""

    may_log_in: bool = True
    """False: no login, whatever is proven; delegates may still open the mailbox."""

    gets_mail: bool = True
    """False: mail to it is refused; logins are another matter."""

    host: str = ""
    """The server that has the mailbox; empty where the directory says nothing of it."""

    addresses: tuple[str, ...] = ()
    """Mail addresses that reach it."""

    names: frozenset[str] = frozenset()
    """What delegates are named by besides: login names, DNs, DNs of groups, folded."""

    delegates: frozenset[str] = frozenset()
    """Who may open the mailbox besides: names, addresses or DNs, folded."""

    quota: Quota = Quota()
    retention: str = ""
    """The retention policy in its text form."""

    languages: tuple[str, ...] = ()
    """Tags of those that the user reads (RFC 5646), the preferred one first."""

    def is_elsewhere(self, hosts: Collection[str]) -> bool:
        """Whether another server has it; ``hosts``: the names of this one, empty: it has all."""
        return bool(hosts and self.host) and self.host not in hosts

    def admits(self, other: Account) -> bool:
        """Whether ``other`` may open this mailbox as its delegate."""
        spelt = {name.casefold() for name in (other.name, *other.addresses)}
        return not self.delegates.isdisjoint(spelt | other.names)


@frozen
class Terms:
    """What CAPA tells one user, where it is not the same for all (RFC 2449 section 6)."""

    expire: str = ""
    """EXPIRE in CAPA after login: days, or ``NEVER``; empty: the value from before the login."""

    login_delay: int | None = None
    """Seconds from one login to the next, no more than all were told; None: as many."""


class Connection(NamedTuple):
    """One client's connection, the same for every protocol.  The acceptor makes it."""

    id: str
    """Ties log lines together; no connection of any process ever has the same."""

    host: str
    """The client's IP address; empty for a client of a UNIX socket."""

    secure: bool = False
    """TLS protects the connection."""

    listener: str = ""
    """The listener's name in the configuration; empty for an application's own endpoint."""


class Peer(NamedTuple):
    """Who is on the other end of a session; the ``mind`` of ``Portal.login``."""

    host: str
    """The client's IP address."""

    secure: bool
    """True once TLS protects the line."""

    session: str
    """The connection's id, which ties a session's log lines together."""

    certificate: Callable[[], bytes] = bytes
    """This server's certificate as the client has seen it, in DER; empty without TLS."""


class LoginAttempt(NamedTuple):
    """A login with something that can be guessed, before it is tried."""

    peer: Peer
    username: bytes
    """As the client sent it."""

    secret: bytes
    """The password, or the answer to a challenge."""

    account: str = ""
    """The name of the account that has this login name; empty: not known."""

    is_answer: bool = False
    """``secret`` answers a challenge: the same password never gives the same answer."""

    def __repr__(self) -> str:
        return f"LoginAttempt(username={self.username!r}, host={self.peer.host!r})"


def cause_of(mind: object) -> Reason:
    """Why a session removes messages, by the ``mind`` of its login; nothing is known of others."""
    return Reason(session=mind.session, client=mind.host) if isinstance(mind, Peer) else Reason()
