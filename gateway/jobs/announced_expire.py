"""What CAPA announces as EXPIRE before a login: the same in every process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.interfaces import IDirectory, IExpireState, ILeader, IOwnRetention, Run
from gateway.model import Account, KnownExpire
from gateway.observe.failures import complain
from gateway.retention.policies import Policies

log = Logger()

AGAIN = 60.0
"""Seconds until the leader asks a directory again that did not answer."""

SOON = 2.0
"""Seconds until a follower looks again for what the leader is about to store."""


class AnnouncedExpire:
    """The smallest EXPIRE of all users (RFC 2449 section 6.7), which every process announces.

    The leader asks the directory which users have a policy of their own, at the
    start and every ``every`` seconds, and stores the value.  The others read it.
    Until the directory has answered nothing is announced: any number might
    promise too much.
    """

    def __init__(
        self,
        directory: IDirectory,
        policies: Policies,
        hosts: Collection[str],
        state: IExpireState,
        leader: ILeader,
        run: Run,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        every: float,
    ) -> None:
        """``hosts``: this server's names; ``run`` goes through all users.

        ``now`` in Unix seconds.
        """
        self._directory = directory
        self._policies = policies
        self._hosts = hosts
        self._state = state
        self._leader = leader
        self._run = run
        self._clock = clock
        self._now = now
        self._every = every
        self._pause = SOON
        """Seconds until a follower looks again: twice as many each time, for a value that was
        stored before the last start may still be there at first."""
        self._problem = ""
        """Why the last turn failed, as it was logged; empty: it did not."""
        self._timer: IDelayedCall | None = None
        self._stopped = False
        self.expire = ""
        """The arguments of EXPIRE; empty: nothing is announced."""

    def start(self) -> Deferred[None]:
        """Begin; fires after the first turn, however it went."""
        turn: Deferred[float] = Deferred.fromCoroutine(self._turn())
        return turn.addErrback(self._failed).addCallback(self._again)

    async def _turn(self) -> float:
        """Learn what to announce; seconds until the next turn."""
        if await self._leader.is_leader():
            return await self._lead()
        known = await self._state.find_expire()
        if known is not None:
            self.expire = known.expire
        left = 0.0 if known is None else known.until - self._now()
        self._problem = ""
        self._pause *= 2
        return min(left if left > 0 else SOON, self._pause, self._every)

    async def _lead(self) -> float:
        delay = self._every
        try:
            accounts = await self._accounts()
            self.expire = await self._run(lambda: self._smallest(accounts))
        except Exception as error:
            self._complain(Failure(error))
            delay = min(AGAIN, self._every)
        else:
            self._problem = ""
        # Also what was known before an outage, or that nothing is known.
        await self._state.keep_expire(KnownExpire(self.expire, self._now() + delay))
        return delay

    def _smallest(self, accounts: Sequence[Account]) -> str:
        here = (one for one in accounts if not one.is_elsewhere(self._hosts))
        return self._policies.expire_of_all({one.retention for one in here})

    async def _accounts(self) -> list[Account]:
        own: IOwnRetention | None = IOwnRetention(self._directory, None)
        return await (self._directory.accounts() if own is None else own.with_retention())

    def _failed(self, failure: Failure) -> float:
        # At the end the state is closed, which is no problem to tell.
        if not self._stopped:
            self._complain(failure)
        return min(AGAIN, self._every)

    def _complain(self, failure: Failure) -> None:
        """Log a problem once, for as long as it is the same."""
        problem = str(failure.value)
        if problem != self._problem:
            complain(log, "smallest EXPIRE of all users not known", failure)
        self._problem = problem

    def _again(self, seconds: float) -> None:
        if not self._stopped:
            self._timer = self._clock.callLater(seconds, self.start)

    def stop(self) -> None:
        """No more turns."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
