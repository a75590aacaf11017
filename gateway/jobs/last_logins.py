"""The last login to each mailbox: noted as users log in, stored a few seconds later."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.events import LoginSucceeded, Subscription
from gateway.interfaces import ILoginState
from gateway.model import LastLogin
from gateway.networks import network_kind
from gateway.observe.failures import complain

log = Logger()

EVERY = 10.0
"""Seconds after which a login is stored: a process that is killed loses those of this time."""

MOST = 20_000
"""Mailboxes that wait to be stored; while the state fails, further ones are not noted."""


class LastLogins:
    """Stores the last login to each mailbox; each process stores those of its own clients.

    A login costs an entry of a dictionary.  All that were noted are stored by one call of the
    state, in a thread; where that fails they are stored with the next ones.
    """

    def __init__(
        self, state: ILoginState, *, clock: IReactorTime, now: Callable[[], float]
    ) -> None:
        """``now`` in Unix seconds."""
        self._state = state
        self._clock = clock
        self._now = now
        self._noted: dict[str, LastLogin] = {}
        self._timer: IDelayedCall | None = None
        self._storing: Deferred[None] = succeed(None)
        self._stopped = self._failing = False
        self.subscription: Subscription = {LoginSucceeded: self._note}

    def _note(self, event: LoginSucceeded) -> None:
        if len(self._noted) < MOST or event.mailbox in self._noted:
            network = network_kind(event.connection.host)
            self._noted[event.mailbox] = LastLogin(self._now(), event.method, network)
            if self._timer is None:
                self._time()

    def _time(self) -> None:
        if self._timer is None and not self._stopped:
            self._timer = self._clock.callLater(EVERY, self._turn)

    def _turn(self) -> None:
        self._timer = None
        if self._storing.called:
            self._storing = self._store()
        else:
            # A slow disk: what was noted meanwhile waits here, not in the queue of threads.
            self._time()

    def _store(self) -> Deferred[None]:
        noted, self._noted = self._noted, {}
        if not noted:
            return succeed(None)

        def stored(_: None) -> None:
            self._failing = False

        def failed(failure: Failure) -> None:
            self._noted = noted | self._noted
            if not self._failing:
                complain(log, "last logins are not stored", failure)
            self._failing = True
            self._time()

        return self._state.keep_logins(noted).addCallbacks(stored, failed)

    def store_now(self) -> Deferred[None]:
        """Store what was noted, before the time; fires when that is done, or has failed."""
        if self._storing.called:
            self._storing = self._store()
        done: Deferred[None] = Deferred()
        self._storing.addCallback(lambda _: done.callback(None))
        return done

    def stop(self) -> Deferred[None]:
        """Store what was noted; fires when that is done, or has failed."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        done: Deferred[None] = Deferred()
        # What is being stored may fail, and is then stored once more.
        self._storing.addCallback(lambda _: self._store()).addBoth(lambda _: done.callback(None))
        return done
