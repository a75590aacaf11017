"""What gateways of a cluster tell each other of sessions and of passwords."""

from __future__ import annotations

from typing import NamedTuple


class SessionChange(NamedTuple):
    """What began and ended in a mailbox, in one process; sessions by numbers of its own."""

    mailbox: str
    ended: tuple[int, ...] = ()
    known: tuple[int, ...] = ()
    """Sessions that began while nobody could be asked."""

    undone: tuple[int, ...] = ()
    """Sessions that were let in and failed then: they began no LOGIN-DELAY."""

    new: int | None = None
    """A session that wants to begin."""

    delay: float = 0.0
    """Its LOGIN-DELAY in seconds; 0: none."""

    ago: float | None = None
    """Seconds since the last login while nobody could be asked; None: there was none."""


class Entrance(NamedTuple):
    """Whether a new session is in."""

    sessions: int = 0
    """Refused: the mailbox has that many sessions."""

    since: float | None = None
    """Refused: the last login was that many seconds ago."""


class Guess(NamedTuple):
    """A password that was tried."""

    name: str
    """The canonical login name."""

    host: str
    """The client's address."""

    digest: str
    """Of the password, under a key of the cluster."""

    account: str
    """The account that the directory found; empty: unknown."""

    is_answer: bool
    """It answers a challenge."""

    is_right: bool

    def __repr__(self) -> str:
        return f"Guess(name={self.name!r}, host={self.host!r}, is_right={self.is_right})"


class Forgiveness(NamedTuple):
    """What an operator forgives."""

    names: tuple[str, ...]
    """Of an account: wrong passwords for it are forgotten; empty: for any."""

    address: str
    """Those from this address or network; empty: from any."""

    mailboxes: tuple[str, ...]
    """Their LOGIN-DELAY ends."""
