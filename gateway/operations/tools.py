"""What operations work with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from attrs import frozen
from twisted.internet.defer import Deferred

from gateway.config.settings import Settings
from gateway.interfaces import IDirectory, IProcesses, IState, IStore, Run
from gateway.mailboxes.owners import AllMailboxes
from gateway.mailboxes.recipients import Recipients
from gateway.mailboxes.survey import Survey
from gateway.retention.policies import Policies
from gateway.retention.removal_guard import Guard


class Verified(NamedTuple):
    """What a right password opens."""

    login: str
    """The login name of the owner of the mailbox."""

    is_delegate: bool
    """Whether somebody else has logged in, so that the owner need not be allowed to."""


Verify = Callable[[bytes, bytes, bytes], Deferred[Verified]]
"""Checks name, password and the owner of the wanted mailbox (empty: own) as a login does, without
the throttle."""


@frozen
class Tools:
    """The parts of a server that an operation uses, and who asks for it."""

    settings: Settings
    directory: IDirectory
    store: IStore
    """An operation asks it for further interfaces, by the functions of ``stored_mail.py``."""

    state: IState
    mailboxes: AllMailboxes
    recipients: Recipients
    policies: Policies
    guard: Guard
    processes: IProcesses
    survey: Survey
    """All mailboxes and their usage, kept for a while."""

    run: Run
    """Threads of its own: sessions do not wait for an operator's work."""

    now: Callable[[], float]
    """The time in Unix seconds."""

    verify: Verify | None = None
    """None: this process serves no clients."""

    operator: str = ""
    """Who asks, for the log and the audit: ``uid 0``, ``token NAME`` or ``account NAME``."""

    @property
    def is_server(self) -> bool:
        """Whether this process serves clients; otherwise it is a command."""
        return self.verify is not None
