"""The server as one Twisted service: listeners, threads, signals, orderly shutdown."""

from __future__ import annotations

import gc
import socket
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from operator import attrgetter
from typing import Any, TypeVar

from attrs import define
from twisted.application.service import Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    FirstError,
    TimeoutError,
    maybeDeferred,
    succeed,
)
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

from gateway.app.obstacles import cure, obstacle
from gateway.app.server.control import ControlSocket
from gateway.app.server.observers import Observer
from gateway.app.server.reload import Reloading
from gateway.app.server.signals import SignalledService
from gateway.app.server.unix_sockets import UnixSocket
from gateway.endpoints import MODE, parse, shown
from gateway.errors import ConfigError, GatewayError
from gateway.events import (
    Emit,
    ListenerStarted,
    ReloadEnded,
    ServerReady,
    ServerStopped,
)
from gateway.jobs.thread_pool import ThreadPool
from gateway.model import OpenSession
from gateway.observe.log import emit_to_log
from gateway.operations.users.sessions import are_all_meant, is_meant
from gateway.processes.sockets import Inherited, shown_address

T = TypeVar("T")

SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread yields the interpreter lock to another one."""

FULL_COLLECTION = 100
"""Collections of generation 1 before a full garbage collection; Python has 10.

A full one visits all that is kept of mailboxes, about 20 objects each, and no session goes on
meanwhile: 0.1 s for 5,000 mailboxes.  Cycles seldom live long enough to need it.
"""

READY = 5.0
"""Most seconds that clients wait at start, for EXPIRE for example."""

ACCEPTS = 10
"""Connections that a listener accepts in a row before other sockets have their turn."""


@define(eq=False)
class Listener:
    """A listener."""

    name: str
    endpoint: IStreamServerEndpoint
    wire: Any
    """The factory to listen with: ``sessions``, or TLS around it."""
    sessions: Any = None
    """The factory to drain at shutdown, such as a ``POP3Factory``; None: nothing to drain."""
    tls: str = "none"
    """``none``, ``stls`` or ``implicit``; a reload may change it."""
    site: Any = None
    """The site that answers there, its last requests at shutdown too; None: it is no HTTP."""

    section: str = ""
    """The section of its settings, for messages; empty: none."""


FindEndpoint = Callable[[Any, str, str], IStreamServerEndpoint]
"""Finds the endpoint of a setting: reactor, the setting's place, its text."""


def endpoint_of(reactor: Any, place: str, text: str) -> IStreamServerEndpoint:
    """The endpoint that the setting at ``place`` describes; raises ``ConfigError``."""
    try:
        read = parse(text)
        if problem := obstacle(read):
            raise ConfigError([f"{place}: {problem}"])
        if read.path:
            mode, backlog = read.given.get("mode", MODE), read.given.get("backlog", "50")
            return UnixSocket(reactor, read.path, int(mode, 8), int(backlog))
        endpoint: IStreamServerEndpoint = serverFromString(reactor, text)
    except ValueError as error:
        raise ConfigError([f"{place}: {shown(text)} is no endpoint: {error}"]) from error
    except LookupError as error:
        # Sockets from systemd are looked up at once.
        unit = "only a service that its .socket unit starts has one; else use tcp:PORT"
        raise ConfigError(
            [f"{place}: {shown(text)}: no such socket came from systemd: {unit}"]
        ) from error
    if isinstance(endpoint, AdoptedStreamServerEndpoint):
        return Inherited(reactor, endpoint.fileno, endpoint.addressFamily)
    return endpoint


class Server(SignalledService):
    """The service of the whole server."""

    def __init__(
        self,
        reactor: Any,
        listeners: Sequence[Listener],
        pools: Sequence[ThreadPool],
        *,
        observers: Sequence[Observer] = (),
        drain_timeout: float,
        words: Sequence[str] = (),
        emit: Emit = emit_to_log,
        at_start: Callable[[], Deferred[None]] = lambda: succeed(None),
        try_directory: Callable[[], Deferred[str]] = lambda: succeed(""),
        state_dir: str = "",
        reloading: Reloading | None = None,
        at_reload: Callable[[], Deferred[ReloadEnded]] = lambda: succeed(ReloadEnded()),
        at_end: Callable[[], Deferred[None]] = lambda: succeed(None),
        control: Any = None,
    ) -> None:
        """``words`` are logged and ``at_start`` is called once all listeners listen.

        Who connects before that has fired waits, but for no more than ``READY`` seconds.
        ``try_directory`` asks the directory once and fires with its problem, or "". The server is
        ready after that, and after ``READY`` seconds in any case.
        ``reloading`` has the assembly.  ``at_reload`` is called at SIGHUP, never twice at once,
        and does not fail.

        ``at_end`` is called once no session holds anything any more, and waited for
        as long as is left of ``drain_timeout``, in seconds.

        ``control``, a site, serves the control socket in ``state_dir``; None: another process
        has it.
        """
        super().__init__(reactor, at_reload, emit)
        self._observers = observers
        self._at_start = at_start
        self._try_directory = try_directory
        self.state_dir = state_dir
        self.reloading = reloading
        self._at_end = at_end
        self._control_socket = ControlSocket(reactor, state_dir)
        self._control = control
        self.listeners = listeners
        self.sites: set[Any] = {control, *(listener.site for listener in listeners)} - {None}
        """What answers the requests that are here before the server ends."""
        self._pools = pools
        self.drain_timeout = drain_timeout
        self._words = words
        self._ports: list[IListeningPort] = []
        self._deadline = 0.0
        self._finishing: Deferred[None] = succeed(None)

    def privilegedStartService(self) -> None:
        """Bind the ports, while the process may be root."""
        self._handle_hangup()
        for listener in self.listeners:
            listening = listener.endpoint.listen(listener.wire).addCallback(set_up)
            self._ports.append(listened(listening, listener.section or listener.name))

    def startService(self) -> None:
        """Handle SIGHUP, and log the listeners."""
        Service.startService(self)
        if not self._ports:
            self.privilegedStartService()
        # A thread that computes yields the interpreter only after this time; the
        # reactor asks after each system call, a dozen times in a login.
        sys.setswitchinterval(SWITCH_INTERVAL)
        # Exclude what is loaded from garbage collection: a full collection of it
        # would delay every session by 50 ms.
        gc.collect()
        gc.freeze()
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, FULL_COLLECTION)
        for observer in self._observers:
            observer.start()
        accepting = self._accept_after(self._at_start())
        if self._control is not None:
            self._control_socket.listen(self._control)
        self._reloads.start()
        for words in self._words:
            self.log.info("{words}", words=words)
        for listener, port in zip(self.listeners, self._ports, strict=True):
            self._emit(ListenerStarted(listener.name, shown_address(port.getHost()), listener.tls))
        tried = self._within_time(self._try_directory())
        tried.addErrback(lambda _: f"no answer within {READY:g} s")
        tried.addCallback(lambda problem: accepting.addCallback(self._ready, problem))

    def _ready(self, _: None, problem: str) -> None:
        if self.running:
            self._emit(ServerReady(problem))

    def _accept_after(self, started: Deferred[None]) -> Deferred[None]:
        """Accept clients when this has fired, or ``READY`` seconds have passed."""
        started.addErrback(lambda failure: self.log.failure("internal error: start", failure))
        if started.called:
            return started
        for port in self._ports:
            port.stopReading()  # type: ignore[attr-defined]
        return self._within_time(started).addErrback(lambda _: None).addCallback(self._accept)

    def _within_time(self, work: Deferred[T]) -> Deferred[T]:
        """Fires as ``work`` does, or fails after ``READY`` seconds; slow work is not cancelled."""
        waiting = Deferred[T]()
        work.addCallback(lambda result: None if waiting.called else waiting.callback(result))
        return waiting.addTimeout(READY, self._reactor)

    def _accept(self, _: None) -> None:
        for port in self._ports:
            port.startReading()  # type: ignore[attr-defined]

    def stopService(self) -> Deferred[Any]:
        """SIGTERM: no new sessions, running commits finish, and all of it in bounded time."""
        self._begin_stop(self.drain_timeout)
        self._deadline = self._reactor.seconds() + self.drain_timeout
        closing = [
            maybeDeferred(port.stopListening).addCallback(self._stopped_listening, listener.name)
            for listener, port in zip(self.listeners, self._ports, strict=True)
        ]
        closing.append(self._control_socket.close())
        self._ports = []
        drained = self._sessions() | self.sites
        draining = [one.drain(self.drain_timeout) for one in drained]
        done: Deferred[Any] = DeferredList([*closing, *draining])
        return done.addCallback(self._finish).addCallback(self._end_work)

    def open_sessions(self, asked: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The open sessions of this process, the oldest first; ``asked`` as by ``is_meant``.

        ``most``: how many are told of; ``total``: how many there are.
        """
        asked = asked or {}
        most = asked.get("most")
        if are_all_meant(asked):
            # The page asks for few of very many, again and again.
            total = sum(sessions.open_count for sessions in self._sessions())
            parts = (islice(sessions.open_sessions(), most) for sessions in self._sessions())
            found = sorted(chain.from_iterable(parts), key=attrgetter("since"))
        else:
            shown = (one for sessions in self._sessions() for one in sessions.open_sessions())
            found = sorted(filter(is_meant(asked), shown), key=attrgetter("since"))
            total = len(found)
        return {"total": total, "sessions": found[:most]}

    def kick(self, asked: Mapping[str, Any]) -> list[tuple[OpenSession, bool]]:
        """End sessions of this process; ``asked`` as by ``is_meant``, and ``operator``.

        None where nothing is asked for: a field that stayed empty is no wish to end all.
        """
        if are_all_meant(asked):
            return []
        meant, operator = is_meant(asked), asked["operator"]
        return [one for sessions in self._sessions() for one in sessions.kick(meant, operator)]

    def count_sessions_in(self, mailbox: str) -> int:
        """How many sessions of this process have a mailbox open."""
        return sum(sessions.count_in(mailbox) for sessions in self._sessions())

    @property
    def places(self) -> list[tuple[Listener, str]]:
        """The listeners of this process, and where each listens."""
        pairs = zip(self.listeners, self._ports, strict=False)
        return [(listener, shown_address(port.getHost())) for listener, port in pairs]

    def open_counts(self) -> dict[str, int]:
        """How many sessions are open, by protocol."""
        counts = Counter[str]()
        for sessions in self._sessions():
            counts[sessions.protocol_name] += sessions.open_count
        return dict(counts)

    def session_factories(self) -> set[Any]:
        """What makes the sessions of all listeners."""
        return self._sessions()

    def _sessions(self) -> set[Any]:
        return {listener.sessions for listener in self.listeners} - {None}

    def hurry(self) -> None:
        """While the server stops: close remaining sessions, and end at once."""
        for one in self._sessions() | self.sites:
            one.abort()
        self._deadline = self._reactor.seconds()
        self._finishing.cancel()

    def _finish(self, _: object) -> Deferred[None]:
        """Finish pending work of sessions, in the remaining time."""
        left = max(0.0, self._deadline - self._reactor.seconds())
        self._finishing = maybeDeferred(self._at_end).addTimeout(left, self._reactor)
        return self._finishing.addErrback(self._unfinished)

    def _unfinished(self, failure: Failure) -> None:
        if failure.check(FirstError):
            # One of several that were waited for.
            failure = failure.value.subFailure  # type: ignore[union-attr]
        if failure.check(TimeoutError, CancelledError):
            self.log.warn("shutdown: not all work finished in time")
        elif failure.check(GatewayError):
            # The database of a cluster is away, for example.
            self.log.warn("shutdown: not all work finished: {error}", error=failure.value)
        else:
            self.log.failure("internal error: shutdown", failure)

    def _end_work(self, _: object) -> None:
        for pool in self._pools:
            # Join threads only if nothing hangs; others end with the process.
            if not pool.outstanding:
                pool.stop()
        for observer in self._observers:
            observer.stop()
        self._emit(ServerStopped())


def set_up(port: Any) -> Any:
    """Have a port take few connections in a row, and send small replies on them at once.

    Twisted's take a hundred in a burst, and more.
    """
    accept = port.doRead
    with suppress(OSError, AttributeError):  # a UNIX socket has no such option
        # Connections inherit it, which saves a system call for each.
        port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def accept_few() -> object:
        port.numberAccepts = min(port.numberAccepts, ACCEPTS)
        return accept()

    port.doRead = accept_few
    return port


def listened(listening: Deferred[T], section: str) -> T:
    """What listens now; raises ``ConfigError`` that names the section if it cannot."""
    found: list[T] = []
    problems: list[Failure] = []
    listening.addCallbacks(found.append, _cannot_listen, errbackArgs=(section,))
    listening.addErrback(problems.append)
    if problems:
        problems[0].raiseException()
    return found[0]


def _cannot_listen(failure: Failure, place: str) -> None:
    error = getattr(failure.value, "socketError", failure.value)
    raise ConfigError([f"{place}: {failure.getErrorMessage()}{cure(error)}"])
