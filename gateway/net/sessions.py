"""The factories of all protocols: admission of clients, open sessions, orderly shutdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.python.failure import Failure

from gateway.errors import ClientNotAllowed
from gateway.events import Emit
from gateway.interfaces import IAdmission, Leave
from gateway.model import Connection, OpenSession
from gateway.net.clock import installed_clock
from gateway.net.fair_turns import FairTurns
from gateway.net.timeouts import Timeouts
from gateway.observe.log import emit_to_log


class Drainable(Protocol):
    """A session, as a server that stops sees it."""

    def drain(self) -> None:
        """Finish running work, then close."""

    def abort(self) -> None:
        """Close now."""

    @property
    def shown(self) -> OpenSession:
        """The session, for an operator."""

    @property
    def mailbox(self) -> str:
        """The mailbox that it has open; empty: none."""

    def kick(self, operator: str) -> bool:
        """End the session; False: that is so once running work is done."""


S = TypeVar("S", bound=Drainable)


class Sessions(Generic[S]):
    """The open sessions of a factory, and those that still wait for a back-end."""

    def __init__(self, clock: Callable[[], IReactorTime]) -> None:
        self._clock = clock
        self._open: dict[S, None] = {}
        """In the order in which they were opened."""
        self._empty: Deferred[None] | None = None
        self.draining = False
        """Whether ``drain`` or ``abort`` was called."""

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[S]:
        return iter(self._open)

    def opened(self, session: S) -> None:
        """Add a session."""
        self._open[session] = None

    def closed(self, session: S) -> None:
        """Remove a session that has released everything."""
        self._open.pop(session, None)
        if self._empty is not None and not self._open:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def drain(self, seconds: float) -> Deferred[None]:
        """Let running work finish, close idle sessions, and after ``seconds`` all others.

        Fires when no session is left, at the latest a moment after ``seconds``.
        No session begins any more.
        """
        self.draining = True
        drained: Deferred[None] = Deferred()
        self._empty = drained
        if not self._open:
            self._empty = None
            drained.callback(None)
            return drained
        for session in list(self._open):
            session.drain()
        if self._empty is None:
            return drained
        late = self._clock().callLater(seconds, self.abort)

        def in_time(result: Failure | None) -> Failure | None:
            if late.active():
                late.cancel()
            return result

        return drained.addBoth(in_time)

    def abort(self) -> None:
        """End all sessions now; ``drain`` fires."""
        self.draining = True
        for session in list(self._open):
            session.abort()
        if self._empty is not None:
            # Running work ends with the process, which is safe at any step.
            empty, self._empty = self._empty, None
            empty.callback(None)


def _both(first: Callable[[Any], None], then: Callable[[Any], None], one: Any) -> None:
    first(one)
    then(one)


class SessionFactory(ServerFactory):
    """What the factories of all protocols have in common."""

    noisy = False
    protocol_name = ""
    """Its settings are in the section of this name; for events, too."""

    def __init__(
        self,
        admission: IAdmission,
        *,
        emit: Emit = emit_to_log,
        clock: IReactorTime | None = None,
        turns: FairTurns | None = None,
    ) -> None:
        """Sessions take ``turns``, which other factories may share."""
        self.admission = admission
        self.tls: object | None = None
        """An ``IOpenSSLServerConnectionCreator``, which makes STARTTLS available; or None."""
        self.timeouts = Timeouts()
        self.allows: Callable[[str], bool] | None = None
        """Whether a client address may connect; None: all may."""
        self.emit = emit
        self._clock = clock
        self.turns = turns or FairTurns(lambda: self.clock)
        self._sessions: Sessions[Drainable] = Sessions(lambda: self.clock)
        self.opened, self.closed = self._sessions.opened, self._sessions.closed

    def tell(self, opened: Callable[[Any], None] | None, closed: Callable[[Any], None]) -> None:
        """Have each session told that begins, after it was counted, or ends; None: nobody."""
        counted = self._sessions
        self.opened, self.closed = counted.opened, counted.closed
        if opened is not None:
            self.opened = partial(_both, counted.opened, opened)
            self.closed = partial(_both, counted.closed, closed)

    @property
    def sessions(self) -> Iterator[Any]:
        """Those that are open."""
        return iter(self._sessions)

    @property
    def open_count(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def open_sessions(self) -> Iterator[OpenSession]:
        """The open sessions, the oldest first; each takes time."""
        return (session.shown for session in self._sessions)

    def count_in(self, mailbox: str) -> int:
        """How many sessions have this mailbox open."""
        return sum(session.mailbox == mailbox for session in self._sessions)

    def kick(
        self, is_meant: Callable[[OpenSession], bool], operator: str
    ) -> list[tuple[OpenSession, bool]]:
        """End sessions, each as it was and whether it has ended at once."""
        meant = [(one, shown) for one in self._sessions if is_meant(shown := one.shown)]
        return [(shown, one.kick(operator)) for one, shown in meant]

    @property
    def clock(self) -> IReactorTime:
        """The clock; by default the reactor's."""
        if self._clock is None:
            self._clock = installed_clock()
        return self._clock

    @property
    def draining(self) -> bool:
        """Whether the server is stopping: no session begins any more."""
        return self._sessions.draining

    def admit(self, connection: Connection) -> Deferred[Leave]:
        """Count a new connection; fails with ``ClientNotAllowed`` or as ``IAdmission.connect``."""
        if self.allows is not None and not self.allows(connection.host):
            setting = f"{self.protocol_name}.allowed_networks"
            return fail(ClientNotAllowed(f"{setting} has no such address"))
        return self.admission.connect(connection)

    def drain(self, seconds: float) -> Deferred[None]:
        """Let running work finish, close idle sessions, and after ``seconds`` all others.

        Fires when no session is left, at the latest a moment after ``seconds``.
        No session begins any more.
        """
        return self._sessions.drain(seconds)

    def abort(self) -> None:
        """End all sessions now."""
        self._sessions.abort()
