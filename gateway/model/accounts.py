"""Values of accounts: quotas, usage, warnings, terms."""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum
from typing import NamedTuple

from attrs import field, frozen

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

    def room(self, size: int) -> Usage:
        """The most usage beside which a message of this size is within the limits.

        Without the grace; each number at most ``UNLIMITED``, and negative if there is no such
        usage.  A size of 0 counts as one octet.
        """
        octets = UNLIMITED if self.octets is None else self.octets - max(size, 1)
        messages = UNLIMITED if self.messages is None else self.messages - 1
        return Usage(min(octets, UNLIMITED), min(messages, UNLIMITED))


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


class LastLogin(NamedTuple):
    """The last login to a mailbox, by its owner or a delegate."""

    at: float
    """In Unix seconds."""

    method: str
    """``PASS`` or the SASL mechanism."""

    network: str
    """Where the client was: ``local``, ``private`` or ``public``."""


_NT_HASH_OF_NOTHING = bytes.fromhex("31d6cfe0d16ae931b73c59d7e0c089c0")


def _of_a_password(nt_hash: bytes) -> bytes:
    # Some directories write it where there is no password.  An empty one lets nobody in.
    return b"" if nt_hash == _NT_HASH_OF_NOTHING else nt_hash


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

    nt_hash: bytes = field(default=b"", repr=False, converter=_of_a_password)
    """The NT hash ([MS-NLMP] section 3.3.1), 16 octets; empty: none, as that of no password is."""

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


AS_BEFORE_LOGIN = Terms()
"""Terms that do not differ by user."""
