"""Settings to retention: what removes mail whose time has come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed

from gateway.app.logins import all_mailboxes_of
from gateway.config.retention import Retention
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.events import Emit, MessageDelivered, Subscription
from gateway.interfaces import IDirectory, ILeader, IRetentionStore, IState
from gateway.jobs.announced_expire import AnnouncedExpire
from gateway.jobs.expunger import Budget, Expunger
from gateway.jobs.rate_limit import RateLimit
from gateway.jobs.retention import Mailboxes, RetentionJob
from gateway.observe.log import emit_to_log
from gateway.operations.retention import Retained
from gateway.retention.policies import Policies
from gateway.retention.removal_guard import Guard


class Keeper:
    """Retention, as far as it is set up."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        directory: IDirectory,
        store: Any,
        state: IState,
        leader: ILeader,
        *,
        queued: Callable[[], int],
        policies: Policies,
        now: Callable[[], float] = time.time,
        emit: Emit = emit_to_log,
    ) -> None:
        """``queued``: how much work waits for threads; ``now`` in Unix seconds.

        ``emit`` takes what happens.  Raises ``ConfigError``.
        """
        self._reactor = reactor
        self._settings = settings
        self._state = state
        self._leader = leader
        self._queued = queued
        self._now = now
        self._emit = emit
        self._mailboxes = mailboxes_of(settings, directory, store, policies)
        self._announced = AnnouncedExpire(
            directory,
            policies,
            settings.directory.here,
            state,
            leader,
            clock=reactor,
            now=now,
            every=settings.retention.check_every,
        )
        self.retention_job = self._make_sweeper(store) if settings.retention.enabled else None

    def _make_sweeper(self, store: Any) -> RetentionJob:
        said = self._settings.retention
        guard, clock = guard_of(said), self._reactor
        rate_limit = RateLimit(
            clock, rate=said.rate, load=self._queued, most=said.pause_above_queue
        )
        budget = Budget(guard, self._state, self._now)
        clearing = Expunger(
            keeping_of(store),
            rate_limit,
            budget,
            guard,
            batch=said.batch,
            now=self._now,
            seconds=clock.seconds,
        )
        return RetentionJob(
            self._mailboxes,
            clearing,
            budget,
            rate_limit,
            self._state,
            self._leader,
            clock=clock,
            now=self._now,
            every=said.check_every,
            emit=self._emit,
        )

    def expire(self) -> str:
        """The arguments of CAPA's EXPIRE before a login; empty: nothing is to be said."""
        return self._announced.expire

    def start(self) -> Deferred[None]:
        """Begin; fires once ``expire`` is known, or nobody can tell just now."""
        if self.retention_job is None:
            return succeed(None)
        self.retention_job.start()
        return self._announced.start()

    @property
    def subscription(self) -> Subscription:
        """What retention wants to know."""
        job = self.retention_job
        return {} if job is None else {MessageDelivered: lambda event: job.delivered(event.account)}

    def stop(self) -> Deferred[None]:
        """No more of that; fires when the step that is being done is done."""
        self._announced.stop()
        return succeed(None) if self.retention_job is None else self.retention_job.stop()


def keeping_of(store: Any) -> IRetentionStore:
    """The store, if retention can work with it; raises ``ConfigError``."""
    keeping: IRetentionStore | None = IRetentionStore(store, None)
    if keeping is None:
        raise ConfigError(["retention.enabled: expected false, since the store has no retention"])
    return keeping


def retained_of(settings: Settings, directory: IDirectory, store: Any, state: IState) -> Retained:
    """What operations about retention work with; raises ``ConfigError``."""
    return Retained(
        all_mailboxes_of(settings, directory, store),
        keeping_of(store),
        state,
        policies_of(settings.retention),
        guard_of(settings.retention),
    )


def mailboxes_of(
    settings: Settings, directory: IDirectory, store: Any, policies: Policies
) -> Mailboxes:
    """Those of the store, and what holds for them."""
    return Mailboxes(all_mailboxes_of(settings, directory, store), policies)


def guard_of(said: Retention) -> Guard:
    """How much may go without an operator's word."""
    return Guard(share=said.max_removal_share, least=said.max_removal_least)


def policies_of(said: Retention) -> Policies:
    """What holds for whom."""
    return Policies(said.policy, {name: one.policy for name, one in said.domains.items()})
