"""What retention remembers of mailboxes, and what operators have asked of it."""

from __future__ import annotations

from typing import NamedTuple


class LastScan(NamedTuple):
    """What retention found when it last looked at a mailbox; times in Unix seconds."""

    policy: str
    """The text of the policy that held."""

    due: float | None
    """When to look again; None: not before something else changes."""

    looked: float
    messages: int
    """So many were left."""

    stopped: str | None = None
    """Why nothing is removed before an operator says so."""


class Order(NamedTuple):
    """An operator's word that retention is to look at a mailbox now."""

    given: float
    """When, in Unix seconds."""

    released: bool
    """Whether all that was due then may go, however much it is."""
