"""Build retention from the settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed

from gateway.app.parts.logins import all_mailboxes_of
from gateway.config.retention import Retention
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.events import Emit, MessageDelivered, Subscription
from gateway.interfaces import IDirectory, ILeader, IRetentionStore, IState, IStore, Run
from gateway.jobs.announced_expire import AnnouncedExpire
from gateway.jobs.expunger import Budget, Expunger
from gateway.jobs.rate_limit import RateLimit
from gateway.jobs.retention import Mailboxes, RetentionJob
from gateway.observe.log import emit_to_log
from gateway.retention.policies import Policies
from gateway.retention.removal_guard import Guard


class RetentionService:
    """Retention, if it is enabled, and the EXPIRE that CAPA announces."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        directory: IDirectory,
        store: IStore,
        state: IState,
        leader: ILeader,
        *,
        queued: Callable[[], int],
        run: Run,
        policies: Policies,
        now: Callable[[], float] = time.time,
        emit: Emit = emit_to_log,
    ) -> None:
        """``queued``: how much work waits for threads; ``run`` computes; ``now`` in Unix seconds.

        ``emit`` takes events.  Raises ``ConfigError``.
        """
        self._reactor = reactor
        self._settings = settings
        self._state = state
        self._leader = leader
        self._queued = queued
        self._run = run
        self._now = now
        self._emit = emit
        self._announced = AnnouncedExpire(
            directory,
            policies,
            settings.directory.here,
            state,
            leader,
            run,
            clock=reactor,
            now=now,
            every=settings.retention.check_every,
        )
        self.retention_job: RetentionJob | None = None
        if settings.retention.enabled:
            retention_store = keeping_of(store)
            every = all_mailboxes_of(settings, directory, store, run)
            mailboxes = Mailboxes(every, policies)
            self.retention_job = self._make_job(retention_store, mailboxes)

    def _make_job(self, store: IRetentionStore, mailboxes: Mailboxes) -> RetentionJob:
        section = self._settings.retention
        guard, clock = guard_of(section), self._reactor
        rate_limit = RateLimit(
            clock, rate=section.rate, load=self._queued, most=section.pause_above_queue
        )
        budget = Budget(guard, self._state, self._now)
        expunger = Expunger(
            store,
            rate_limit,
            budget,
            guard,
            batch=section.batch,
            run=self._run,
            now=self._now,
            seconds=clock.seconds,
        )
        return RetentionJob(
            mailboxes,
            expunger,
            budget,
            rate_limit,
            self._state,
            self._leader,
            self._run,
            clock=clock,
            now=self._now,
            every=section.check_every,
            emit=self._emit,
        )

    def expire(self) -> str:
        """The arguments of EXPIRE in CAPA before a login; empty: CAPA has no EXPIRE."""
        return self._announced.expire

    def start(self) -> Deferred[None]:
        """Begin; fires once ``expire`` is known, or cannot be known now."""
        if self.retention_job is None:
            return succeed(None)
        self.retention_job.start()
        return self._announced.start()

    @property
    def subscription(self) -> Subscription:
        """Subscriptions of retention."""
        job = self.retention_job
        return {} if job is None else {MessageDelivered: lambda event: job.delivered(event.account)}

    def stop(self) -> Deferred[None]:
        """End; fires when the current step is done."""
        self._announced.stop()
        return succeed(None) if self.retention_job is None else self.retention_job.stop()


def keeping_of(store: IStore) -> IRetentionStore:
    """The store as an ``IRetentionStore``; raises ``ConfigError`` if it is none."""
    keeping: IRetentionStore | None = IRetentionStore(store, None)
    if keeping is None:
        raise ConfigError(["retention.enabled: expected false, since the store has no retention"])
    return keeping


def guard_of(section: Retention) -> Guard:
    """How much may be removed without an operator's release."""
    return Guard(share=section.max_removal_share, least=section.max_removal_least)


def policies_of(section: Retention) -> Policies:
    """The policies by default and by domain."""
    return Policies(section.policy, {name: one.policy for name, one in section.domains.items()})
