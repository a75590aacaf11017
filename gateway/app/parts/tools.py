"""The parts of a server that operations work with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from gateway.app.parts.delivery import limits_of
from gateway.app.parts.retention import guard_of
from gateway.config.settings import Settings
from gateway.errors import NotSupported
from gateway.interfaces import IDelivery, IDirectory, IMailboxes, IProcesses, IState, IStore, Run
from gateway.mailboxes.owners import AllMailboxes
from gateway.mailboxes.recipients import Recipients
from gateway.mailboxes.survey import Survey
from gateway.model import Account
from gateway.operations.tools import Tools, Verify
from gateway.retention.policies import Policies


@implementer(IMailboxes, IDelivery)
class _Lacking:
    """The parts that the store of the configuration does not have: nothing of it works."""

    lists_mailboxes = False

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def names(self) -> Deferred[Any]:
        """Fails."""
        return fail(NotSupported(f"store.kind: {self._kind} cannot list its mailboxes"))

    def present(self, accounts: Sequence[Account]) -> Deferred[Any]:  # noqa: ARG002
        """Fails."""
        return self.names()

    def prepare(self, account: Account) -> Deferred[Any]:  # noqa: ARG002
        """Fails."""
        return fail(NotSupported(f"store.kind: {self._kind} takes no mail in"))

    receive = usage = prepare


def tools_of(
    settings: Settings,
    directory: IDirectory,
    store: IStore,
    state: IState,
    *,
    policies: Policies,
    processes: IProcesses,
    run: Run,
    verify: Verify | None = None,
    now: Callable[[], float] = time.time,
) -> Tools:
    """What operations work with; parts that the store lacks fail with ``NotSupported``."""
    lacking = _Lacking(settings.store.kind)
    here = settings.directory.here
    mailboxes = AllMailboxes(directory, IMailboxes(store, lacking), run, hosts=here)
    recipients = Recipients(
        directory,
        IDelivery(store, lacking),
        limits_of(settings.quota),
        hosts=here,
        delimiter=settings.lmtp.recipient_delimiter,
    )
    return Tools(
        settings=settings,
        directory=directory,
        store=store,
        state=state,
        mailboxes=mailboxes,
        recipients=recipients,
        survey=Survey(mailboxes, recipients, run, now),
        policies=policies,
        guard=guard_of(settings.retention),
        processes=processes,
        run=run,
        now=now,
        verify=verify,
    )
