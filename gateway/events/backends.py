"""Events of back-ends: directories, the password cache."""

from __future__ import annotations

from typing import NamedTuple

from gateway.events.clients import Problem


class BackEndDown(NamedTuple):
    """LDAP, winbind, an accounts file, PostgreSQL, S3 or the limits of a cluster do not answer.

    Once in an outage.
    """

    name: str
    reason: str


class BackEndBack(NamedTuple):
    """The back-end answers again, ``seconds`` after the outage began."""

    name: str
    seconds: int


class BackEndAsked(NamedTuple):
    """PostgreSQL or S3 was asked, with all repetitions; ``name`` as in ``BackEndDown``."""

    name: str
    seconds: float
    answered: bool


class DirectoryAsked(NamedTuple):
    """A server was asked; ``name`` as in ``BackEndDown``."""

    name: str
    seconds: float
    answered: bool


class DirectoryProblem(NamedTuple):
    """The directory answers, but an account or all of them cannot be read."""

    reason: str


class AccountsKept(NamedTuple):
    """The accounts file has changed and cannot be read; the accounts before stay in use."""

    reason: str


class CachedPasswordAccepted(NamedTuple):
    """The directory could not check a password; it was right shortly before."""

    user: str
    problem: Problem


class NTLMv1Accepted(NamedTuple):
    """A client logged in by a proof that is easy to break ([MS-NLMP] 3.3.1)."""

    user: str


class CacheLookup(NamedTuple):
    """A cache was asked: how much work it saves."""

    cache: str
    """``passwords`` or ``accounts``."""

    outcome: str
    """``remembered``: it knew.  ``asked``, ``searched``: the directory was asked.  ``stale``: in an
    outage it knew what would else have expired."""
