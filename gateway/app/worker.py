"""A worker process: it serves clients on the sockets that its parent has bound.

The parent starts it by ``python -m gateway.app.worker``; it is of no use without.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from attrs import frozen
from twisted.cred.strcred import makeChecker
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort
from twisted.logger import LogEvent, Logger, LogLevel, globalLogBeginner
from twisted.python.threadable import isInIOThread

from gateway.app.assembly import Assembly
from gateway.app.parts.admissions import AdmissionsOfWorker
from gateway.app.server.control import CONTROL
from gateway.app.server.figures import QUESTION
from gateway.app.server.observers import OBSERVERS_OF_WORKER, Observer
from gateway.app.server.questions import WorkerProcesses
from gateway.app.server.reload import Handover
from gateway.app.server.runtime import Role
from gateway.app.server.service import Listener, Server, set_up
from gateway.config.live import merge
from gateway.config.load import load_settings_of
from gateway.errors import GatewayError
from gateway.events import ServerReady
from gateway.net.clock import follow_boot_time, installed_clock
from gateway.net.tls.shared_contexts import SharedContexts
from gateway.observe.figures import Figures, Snapshot
from gateway.observe.log_file import BufferedLog
from gateway.observe.looping import looping
from gateway.processes.channel import Channel, connect
from gateway.processes.fork_server import serve
from gateway.processes.log_pipe import LinePipe
from gateway.processes.sockets import Inherited
from gateway.processes.spawn import CHANNEL, FORK
from gateway.processes.supervision import BEAT, SHOW_STACKS

LAST_WITHIN = 1.0
"""Seconds in which the parent takes the last figures; it kills a worker that ends too late."""

_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""Signals that a terminal or an administrator sends to all processes, and the parent handles."""


@frozen
class Sockets:
    """The sockets of all listeners, and which of them are this worker's."""

    reactor: Any
    number: int
    descriptors: Mapping[str, list[int]]
    """Of each endpoint: the socket of each worker, or the one that all share."""

    families: Mapping[str, int]

    def endpoint(self, key: str, number: int) -> Inherited:
        """The socket of a worker for this endpoint."""
        found = self.descriptors[key]
        return Inherited(self.reactor, found[number % len(found)], self.families[key])

    def own(self, _: Any, key: str, __: str) -> Inherited:
        """The socket of this worker, as a ``FindEndpoint``."""
        return self.endpoint(key, self.number)

    def is_shared(self, key: str) -> bool:
        """Whether all workers accept clients from one socket."""
        return len(self.descriptors[key]) == 1

    def close(self) -> None:
        """Close all of them: clients would wait there in vain."""
        for found in self.descriptors.values():
            for descriptor in found:
                with suppress(OSError):
                    os.close(descriptor)


class Queues:
    """The queues of other workers, while these do not serve."""

    def __init__(self, sockets: Sockets, listeners: Collection[Listener]) -> None:
        self._sockets = sockets
        self._listeners = listeners
        self._ports: dict[int, list[IListeningPort]] = {}

    def serve(self, numbers: Collection[int]) -> None:
        """Accept clients from the queues of these workers, and of no others."""
        for number in self._ports.keys() - set(numbers):
            for port in self._ports.pop(number):
                port.stopListening()
        for number in set(numbers) - self._ports.keys() - {self._sockets.number}:
            ports = self._ports[number] = []
            for listener in self._listeners:
                key = f"{listener.section}.endpoint"
                if not self._sockets.is_shared(key):
                    listening = self._sockets.endpoint(key, number).listen(listener.wire)
                    listening.addCallback(set_up).addCallback(ports.append)


class Worker:
    """Serves clients for as long as there is a parent."""

    log = Logger()

    def __init__(self, reactor: Any, channel: Channel, contexts: SharedContexts) -> None:
        self._reactor = reactor
        self._channel = channel
        self._contexts = contexts
        self._server: Server | None = None
        self._beats = looping(self._beat, "beat of a worker", reactor)
        self.exit_status = 0
        for name, take in (
            ("serve", self._serve),
            ("drain", self._stop),
            ("hurry", self._hurry),
        ):
            channel.handle(name, take)
        channel.at_loss(self._stop)
        self._beats.start(BEAT)

    def _beat(self) -> None:
        counts = {} if self._server is None else self._server.open_counts()
        self._channel.offer("beat", counts)

    def _serve(self, handed: Mapping[str, Any]) -> None:
        try:
            self._start(handed)
        except GatewayError as error:
            self._give_up(getattr(error, "problems", [str(error)]))
        except Exception as error:
            self.log.failure("internal error: start of a worker")
            self._give_up([f"internal error: {type(error).__name__}"])

    def _give_up(self, problems: list[str]) -> None:
        self.exit_status = 1
        self._channel.tell("unusable", problems)
        self._channel.close()

    def _start(self, handed: Mapping[str, Any]) -> None:
        number = handed["number"]
        sockets = Sockets(self._reactor, number, handed["sockets"], handed["families"])
        self._contexts.advance(handed["generation"])
        self._contexts.ask = partial(self._channel.tell, "renew")
        role = Role(
            observers=(*OBSERVERS_OF_WORKER, lambda *_: Observer({ServerReady: self._ready})),
            find_endpoint=sockets.own,
            make_admission=AdmissionsOfWorker(self._channel, handed["admission"]),
            make_processes=partial(WorkerProcesses, self._channel),
            make_context=self._contexts.make,
            is_alone=False,
            is_first=number == 0,
        )
        settings = load_settings_of(handed["document"])
        if handed["reloaded"] is not None:
            # What needs a restart of the server stays as it was at the start of that.
            settings = merge(settings, load_settings_of(handed["reloaded"])).settings
        checkers = [makeChecker(argument) for argument in handed["auth"]]
        assembly = Assembly(self._reactor, settings, checkers, role)
        server = assembly.server()
        queues = Queues(sockets, server.listeners)
        self._channel.handle("queues", queues.serve)
        server.privilegedStartService()
        server.startService()
        self._reactor.addSystemEventTrigger(
            "before", "shutdown", self._leave, server, assembly.runtime.figures, sockets, queues
        )
        if CONTROL in sockets.descriptors and server.reloading is not None:
            site = assembly.control(server.reloading)
            server.sites.add(site)
            sockets.endpoint(CONTROL, number).listen(site)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._server = server
        self._channel.handle(QUESTION, lambda _: assembly.runtime.figures.snapshot())
        self._channel.handle("renew", partial(self._renew, assembly, server))
        if server.reloading is not None:
            handover = Handover(server.reloading, directory=not checkers)
            for name in ("prepare", "commit", "drop"):
                self._channel.handle(name, getattr(handover, name))

    def _renew(self, first: Assembly, server: Server, generation: int) -> None:
        """The parent has a new generation of ticket keys for all workers."""
        self._contexts.advance(generation)
        assembly = first if server.reloading is None else server.reloading.assembly
        assembly.certificates.renew()

    def _ready(self, event: ServerReady) -> None:
        self._channel.tell("ready", event.problem)

    def _leave(
        self, server: Server, figures: Figures, sockets: Sockets, queues: Queues
    ) -> Deferred[Any]:
        """No new clients here; the parent gives them to another worker."""
        self._channel.tell("leaving")
        queues.serve(())
        sockets.close()
        return server.stopService().addCallback(lambda _: self._say_last(figures.snapshot()))

    def _say_last(self, counted: Snapshot) -> Deferred[None]:
        """Tell what was counted; fires when the parent has it, or does not read."""
        self._channel.offer(QUESTION, counted)
        # The reactor ends next, and drops what is not written by then.
        said = self._channel.close().addTimeout(LAST_WITHIN, self._reactor)
        return said.addErrback(lambda _: None)

    def _stop(self, _: object = None) -> None:
        """The parent stops, or is gone."""
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _hurry(self, _: object) -> None:
        if self._server is not None:
            self._server.hurry()


def main() -> None:
    """Run a worker in this process, or fork them; the arguments are in ``spawn.py``."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    faulthandler.register(SHOW_STACKS)
    _drop_privileges()
    contexts = SharedContexts()
    if sys.argv[1:2] == [FORK]:
        contexts = SharedContexts(sys.argv[2:])
        if not serve():
            return
    run(contexts)


def run(contexts: SharedContexts) -> None:
    """Run a worker in this process."""
    reactor: Any = installed_clock()
    follow_boot_time(reactor)

    def may_wait() -> bool:
        return bool(reactor.running) and isInIOThread()

    pipe = LinePipe(sys.stdout.fileno(), reactor, may_wait)
    log = BufferedLog(pipe.write, reactor.callLater, may_wait)
    atexit.register(pipe.finish, 1.0)
    atexit.register(log.flush)
    os.register_at_fork(before=log.flush)

    def take(event: LogEvent) -> None:
        if not _is_of_twisted(event):
            log(event)

    observer: Any = take
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    channel = Channel(reactor)
    worker = Worker(reactor, channel, contexts)
    connect(reactor, CHANNEL, channel)
    reactor.run()
    sys.exit(worker.exit_status)


def _is_of_twisted(event: LogEvent) -> bool:
    """Whether it is a line about ports and the reactor, which the log of the parent has too."""
    is_twisted = str(event.get("log_namespace", "")).startswith(("twisted.", "log_legacy"))
    return is_twisted and event.get("log_level") is LogLevel.info


def _drop_privileges() -> None:
    """Give up root for good, where ``twistd --euid`` has kept it as the real user."""
    group, user = os.getegid(), os.geteuid()
    if (os.getgid(), os.getuid()) != (group, user):
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)


if __name__ == "__main__":
    main()
