"""Frozen values that packages exchange."""

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
    "OpenSession",
    "Peer",
    "Proxy",
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


def _numbered(values: Sequence[object], first: int) -> bytes:
    """A line for each value, with its number before it."""
    lines = [f"{number} {value}\r\n" for number, value in enumerate(values, first)]
    return "".join(lines).encode("ascii")


UNLIMITED = 2**63 - 1
"""In a ``Quota``: no limit, whatever the defaults are."""


@frozen
class Quota:
    """The limits of an account or a domain; None: not set.

    0 allows nothing.  A source in which 0 means no limit converts it to ``UNLIMITED``.
    """

    octets: int | None = None
    warn_octets: int | None = None
    """The warning level, in octets."""

    messages: int | None = None


@frozen
class Usage:
    """Usage of a mailbox."""

    octets: int = 0
    messages: int = 0


@frozen
class Limits:
    """The effective limits of a mailbox; None: no limit."""

    octets: int | None = None
    messages: int | None = None
    grace_octets: int = 0
    """Octets by which the last message may exceed ``octets``."""

    warn_octets: int | None = None
    """The warning level, in octets."""

    @property
    def is_none(self) -> bool:
        """Whether there is no limit."""
        return self.octets is None and self.messages is None


class Level(IntEnum):
    """The level of a mailbox, for quota warnings."""

    NORMAL = 0
    WARN = 1
    OVER = 2
    """Full: it takes no mail, or rejected the last message."""


@frozen
class WarningState:
    """The level of a mailbox, and the times of warnings in Unix seconds; None: never."""

    level: Level = Level.NORMAL
    """The last level."""

    warned: float | None = None
    """When the user was last warned that the mailbox is nearly full."""

    over: float | None = None
    """When the user was last warned that the mailbox is full."""


class WarningChange(NamedTuple):
    """The result of recording a level."""

    was: WarningState
    now: WarningState
    notice: Level | None
    """The warning to send; no other process gets the same."""


class DigestClaim(NamedTuple):
    """A claim to send a digest; times in Unix seconds."""

    was: float | None
    """When the last digest was sent."""

    now: float


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
    """When it was scanned."""

    messages: int
    """Messages that were left."""

    stopped: str | None = None
    """Why nothing is removed before an operator releases it."""


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

    released: bool
    """Whether to remove all that was due then, regardless of the removal guard."""


@frozen
class Reason:
    """Why messages are removed: by a rule of retention, or by a client's session."""

    rule: str = ""
    session: str = ""
    """The id of the session in the log."""

    client: str = ""
    """Its IP address."""


class Removed(NamedTuple):
    """An entry of the audit log, before removal of a message; times in Unix seconds."""

    action: str
    """``discard``, ``hide`` or ``purge``."""

    mailbox: str
    uid: str
    message_id: str | None
    """The Message-ID of the header."""

    size: int
    received: float
    read: float | None
    cause: Reason


@frozen
class Account:
    """An account of the directory."""

    name: str
    """The login name in its canonical form."""

    mailbox: str
    """The name of the mailbox; the store decides where it is."""

    home: str | None = None
    """The home directory, absolute."""

    secret: str = field(default="", repr=False)
    """The password hash with its scheme; empty if the directory does not give it."""

    nt_hash: bytes = field(default=b"", repr=False)
    """The NT hash ([MS-NLMP] section 3.3.1), 16 octets; empty: none."""

    may_log_in: bool = True
    """False: no login; delegates may still open the mailbox."""

    gets_mail: bool = True
    """False: mail to it is rejected; logins are not affected."""

    host: str = ""
    """The server of the mailbox; empty: unknown."""

    addresses: tuple[str, ...] = ()
    """Its mail addresses."""

    names: frozenset[str] = frozenset()
    """Other names of the account as a delegate: login names, DNs, DNs of groups; folded."""

    delegates: frozenset[str] = frozenset()
    """Delegates of the mailbox: names, addresses or DNs; folded."""

    quota: Quota = Quota()
    retention: str = ""
    """The retention policy in its text form."""

    languages: tuple[str, ...] = ()
    """Language tags of the user (RFC 5646), preferred first."""

    def is_elsewhere(self, hosts: Collection[str]) -> bool:
        """Whether another server has the mailbox; ``hosts``: this server, empty: all here."""
        return bool(hosts and self.host) and self.host not in hosts

    def admits(self, other: Account) -> bool:
        """Whether ``other`` may open this mailbox as its delegate."""
        spelt = {name.casefold() for name in (other.name, *other.addresses)}
        return not self.delegates.isdisjoint(spelt | other.names)


@frozen
class Terms:
    """Capabilities of a user that may differ by user (RFC 2449 section 6)."""

    expire: str = ""
    """EXPIRE after login: days, or ``NEVER``; empty: the value before login."""

    login_delay: int | None = None
    """LOGIN-DELAY in seconds, at most the value before login; None: that value."""


class Proxy(NamedTuple):
    """A proxy that says which client it connects for."""

    host: str
    """Its IP address; empty: it connects to a UNIX socket."""

    session: str = ""
    """The id of the client's connection in the log of the proxy; empty: unknown."""

    local: bool = False
    """No client: the proxy connects for itself, for example to check that the server is there."""


class Connection(NamedTuple):
    """One client's connection, the same for every protocol.  The acceptor makes it."""

    id: str
    """The id in the log, unique across processes and restarts."""

    host: str
    """The client's IP address; empty for a client of a UNIX socket."""

    secure: bool = False
    """Whether TLS is active, here or at a proxy that counts as secure."""

    listener: str = ""
    """The listener's name in the configuration; empty for an application's own endpoint."""

    proxy: Proxy | None = None
    """The proxy that the client came through; None: the client connects itself."""


class OpenSession(NamedTuple):
    """A session that is open now, for an operator."""

    id: str
    """The id in the log."""

    protocol: str
    """``pop3``, ``lmtp`` or ``policy``."""

    user: str
    """The login name; empty: nobody has logged in."""

    host: str
    listener: str
    secure: bool
    since: float
    """When it began, in Unix seconds."""


class Peer(NamedTuple):
    """The client of a session; the ``mind`` of ``Portal.login``."""

    host: str
    """The client's IP address."""

    secure: bool
    """Whether TLS is active."""

    session: str
    """The id of the connection in the log."""

    certificates: Callable[[], Sequence[bytes]] = tuple
    """The server's certificates in DER, of which this client knows one; empty without TLS.

    There are several where a listener has several: OpenSSL does not tell which one the client of a
    resumed session has seen when the session began.
    """


class LoginAttempt(NamedTuple):
    """A login with something that can be guessed, before it is tried."""

    peer: Peer
    username: bytes
    """As the client sent it."""

    secret: bytes
    """The password, or the answer to a challenge."""

    account: str = ""
    """The account of this login name; empty: unknown."""

    is_answer: bool = False
    """``secret`` answers a challenge: the same password never gives the same answer."""

    def __repr__(self) -> str:
        return f"LoginAttempt(username={self.username!r}, host={self.peer.host!r})"


def cause_of(mind: object) -> Reason:
    """The reason of a session's removals, from the ``mind`` of its login."""
    return Reason(session=mind.session, client=mind.host) if isinstance(mind, Peer) else Reason()
