"""What CAPA announces as EXPIRE before a login, in every process, from its start on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.interfaces import IDirectory, IOwnRetention
from gateway.model import Account
from gateway.observe.failures import complain
from gateway.retention.policies import Policies

log = Logger()

AGAIN = 60.0
"""Seconds until a directory is asked again that did not answer."""


class AnnouncedExpire:
    """The smallest EXPIRE that any user has (RFC 2449 section 6.7).

    The default and the domains' policies are known; which users have one of
    their own the directory is asked, at the start and again and again.  Until
    it has answered nothing is announced: any number might promise too much.
    """

    def __init__(
        self,
        directory: IDirectory,
        policies: Policies,
        hosts: Collection[str],
        clock: IReactorTime,
        *,
        every: float,
    ) -> None:
        """``hosts``: this server's names; ``every``: seconds between two questions."""
        self._directory = directory
        self._policies = policies
        self._hosts = hosts
        self._clock = clock
        self._every = every
        self._timer: IDelayedCall | None = None
        self._stopped = False
        self.expire = ""
        """The arguments of EXPIRE; empty: nothing can be said."""

    def start(self) -> Deferred[None]:
        """Begin; fires when the directory has answered for the first time, or has not."""
        asked: Deferred[list[Account]] = maybeDeferred(self._ask)
        return asked.addCallbacks(self._told, self._not_told)

    def _ask(self) -> Deferred[list[Account]]:
        own: Any = IOwnRetention(self._directory, None)
        return self._directory.accounts() if own is None else own.with_retention()

    def _told(self, accounts: list[Account]) -> None:
        here = (one for one in accounts if not one.is_elsewhere(self._hosts))
        self.expire = self._policies.expire_of_all({one.retention for one in here})
        self._again(self._every)

    def _not_told(self, failure: Failure) -> None:
        complain(log, "no smallest EXPIRE to announce", failure)
        self._again(min(AGAIN, self._every))

    def _again(self, seconds: float) -> None:
        if not self._stopped:
            self._timer = self._clock.callLater(seconds, self.start)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
