"""The parent of worker processes: it binds the listeners, and starts and supervises the workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IStreamServerEndpoint

from gateway import endpoints
from gateway.app.demo import hints
from gateway.app.parts.admissions import AdmissionsOfParent
from gateway.app.parts.delivery import PARTS
from gateway.app.server.control import CONTROL, ControlSocket
from gateway.app.server.figures import ServerFigures
from gateway.app.server.observers import OBSERVERS_OF_PARENT, Observer, observer_of_figures
from gateway.app.server.questions import ParentProcesses, Questions, answer_visits
from gateway.app.server.readings import process, workers
from gateway.app.server.reload import STOPPING, Source, problems_of, read, told
from gateway.app.server.service import endpoint_of, listened
from gateway.app.server.signals import SignalledService
from gateway.app.server.status import answer_of_server
from gateway.config.live import Difference
from gateway.config.load import Document
from gateway.config.settings import Settings
from gateway.events import (
    CertificateRejected,
    Emit,
    ListenerStarted,
    ReloadEnded,
    ServerReady,
    ServerStopped,
)
from gateway.jobs.thread_pool import ThreadPool
from gateway.model import OpenSession
from gateway.observe.bus import EventBus
from gateway.observe.figures import Figures
from gateway.observe.looping import looping
from gateway.processes.channel import Channel
from gateway.processes.sockets import Bound, Unread, bind, unread
from gateway.processes.spawn import CHANNEL, WorkerProcess, fork_server_of, spawn
from gateway.processes.supervision import Supervisor

PassOn = Callable[[bytes], object]
"""Takes lines of a worker's log."""


@frozen
class Place:
    """Where the server listens, by its settings."""

    name: str
    section: str
    endpoint: IStreamServerEndpoint
    tls: str
    balanced: bool
    """Whether each worker may have a socket of its own."""

    @property
    def key(self) -> str:
        """The place of the endpoint's setting."""
        return f"{self.section}.endpoint"


def places_of(reactor: Any, settings: Settings) -> list[Place]:
    """All places; raises ``ConfigError``."""
    sections = {name: (f"listeners.{name}", one) for name, one in settings.listeners.items()}
    sections |= {part: (part, getattr(settings, part)) for part in (*PARTS, "http")}
    return [
        Place(
            name,
            section,
            endpoint_of(reactor, f"{section}.endpoint", one.endpoint),
            getattr(one, "tls", "none"),
            endpoints.parse(one.endpoint).kind.startswith("tcp"),
        )
        for name, (section, one) in sections.items()
        if one.endpoint
    ]


@frozen
class Handed:
    """What each worker is handed beside its sockets."""

    document: Document
    source: Source
    """Where a reload finds the settings."""

    auth: Sequence[str] = ()
    """The arguments of ``--auth``."""


class Parent(SignalledService):
    """The service of a server with worker processes."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        handed: Handed,
        *,
        environ: Mapping[str, str],
        observers: Sequence[Observer],
        figures: Figures,
        emit: Emit,
        pass_on: PassOn,
        words: Sequence[str] = (),
    ) -> None:
        """``words`` are logged once all workers serve; ``environ``, ``figures``: its own."""
        super().__init__(reactor, self._reload, emit)
        self._settings = settings
        self._handed = handed
        self._reloaded: Document | None = None
        """What the last reload has taken."""
        self._reading = ThreadPool(reactor, "reload", threads=1, queue=1)
        self._environ = environ
        self._pass_on = pass_on
        self._words = words
        self._places = places_of(reactor, settings)
        self._bound: list[Bound] = []
        self._count = settings.processes.count
        self._admissions = AdmissionsOfParent(reactor, settings, self._count)
        self.gave_up = False
        """Whether the server stops because no worker can serve."""
        self._generation = 0
        """Of the ticket keys that all workers share."""
        self._renewal = looping(self._renew, "renewal of ticket keys", reactor)
        names = [*(f"listeners.{name}" for name in settings.listeners), "lmtp"]
        self._fork_server = fork_server_of(reactor, environ, names)
        self.supervisor = Supervisor(
            reactor,
            self._start,
            workers=self._count,
            hang_timeout=settings.processes.hang_timeout,
            emit=emit,
            all_ready=self._ready,
            unusable=self._give_up,
        )
        self.questions = Questions()
        self._admissions.answer_operators(self.questions)
        answer_visits(self.questions)
        self.questions.answer("reload", lambda _: self.reload().addCallback(told))
        answer_of_server(
            self.questions, handed.source, lambda: self._settings, self._reading.run, self._count
        )
        self._control_socket = ControlSocket(reactor, settings.state_dir)
        self._control: Bound | None = None
        self.processes = ParentProcesses(self.supervisor, self.questions)
        figures.read("workers", lambda: workers(self._count, len(self.supervisor.serving)))
        self._figures = ServerFigures(reactor, figures, lambda: dict(self.supervisor.responding))
        self._observers = [*observers, self._figures.observer(self.questions)]

    @property
    def state_dir(self) -> str:
        """The state directory."""
        return self._settings.state_dir

    def privilegedStartService(self) -> None:
        """Bind the ports, while the process may be root."""
        for place in self._places:
            binding = bind(place.endpoint, self._count, balanced=place.balanced)
            self._bound.append(listened(binding, place.section))

    def startService(self) -> None:
        """Start the workers, as the user that they run as."""
        Service.startService(self)
        if not self._bound:
            self.privilegedStartService()
        for observer in self._observers:
            observer.start()
        self._handle_hangup()
        for place, bound in zip(self._places, self._bound, strict=True):
            self._emit(ListenerStarted(place.name, bound.address, place.tls))
        port = self._control_socket.listen(Unread())
        if port is not None:
            self._control = unread(port)
        if self._fork_server is None:
            self._begin(None)
        else:
            self._fork_server.start().addCallback(self._begin)

    def _begin(self, _: None) -> None:
        if self.running:
            self.supervisor.begin()
            self._time_renewals()
            self._reloads.start()

    def _start(self, number: int, ended: Callable[[str], None]) -> WorkerProcess:
        channel = Channel(self._reactor)

        def left(reason: str) -> None:
            self._admissions.leave(number)
            ended(reason)

        channel.handle("renew", self._outdated)
        self.processes.serve(channel)
        self._figures.join(channel)
        # Not when the process has ended: its last figures may be read after that is known.
        channel.at_loss(lambda: self._figures.leave(channel))
        process = WorkerProcess(number, channel, self._pass_on, left)
        descriptors: list[int] = []
        sockets: dict[str, list[int]] = {}
        for place, bound in zip(self._places, self._bound, strict=True):
            first = CHANNEL + 1 + len(descriptors)
            descriptors += bound.descriptors
            sockets[place.key] = list(range(first, CHANNEL + 1 + len(descriptors)))
        families = {
            place.key: bound.family for place, bound in zip(self._places, self._bound, strict=True)
        }
        if self._control is not None:
            sockets[CONTROL] = [CHANNEL + 1 + len(descriptors)]
            families[CONTROL] = self._control.family
            descriptors += self._control.descriptors
        channel.tell(
            "serve",
            {
                "document": self._handed.document,
                "reloaded": self._reloaded,
                "auth": self._handed.auth,
                "number": number,
                "generation": self._generation,
                "admission": self._admissions.join(number, channel),
                "sockets": sockets,
                "families": families,
            },
        )
        try:
            spawn(self._reactor, process, descriptors, self._environ, self._fork_server)
        except OSError:
            self._admissions.leave(number)
            self._figures.leave(channel)
            raise
        return process

    def _ready(self, problem: str) -> None:
        for words in self._words:
            self.log.info("{words}", words=words)
        self._emit(ServerReady(problem))

    def _give_up(self, _: list[str]) -> None:
        self.gave_up = True
        self.log.error("no worker can serve: stopping")
        self._reactor.stop()

    # -- ticket keys -------------------------------------------------------------

    def _time_renewals(self) -> None:
        lifetime = self._settings.tls.ticket_key_lifetime
        if self._renewal.running and self._renewal.interval != lifetime:
            self._renewal.stop()
        if lifetime and not self._renewal.running:
            self._renewal.start(lifetime, now=False)

    def _outdated(self, generation: int) -> None:
        """A worker has taken other certificates than those of this generation."""
        if generation == self._generation:
            self._renew()

    def _renew(self) -> None:
        self._generation += 1
        self.log.info("renewed ticket keys: generation={number}", number=self._generation)
        self.supervisor.tell_all("renew", self._generation)

    def open_sessions(self) -> Deferred[list[OpenSession]]:
        """The open sessions of all workers; the oldest first.  A worker that hangs is left out."""

        def gathered(answers: list[dict[str, Any]]) -> list[OpenSession]:
            found = [OpenSession(*one) for answer in answers for one in answer["sessions"]]
            return sorted(found, key=attrgetter("since"))

        return self.processes.ask_each("sessions").addCallback(gathered)

    # -- reload and stop ---------------------------------------------------------

    def _reload(self) -> Deferred[ReloadEnded]:
        """Have all workers take other settings, or none of them."""
        source, running = self._handed.source, self._settings
        read_again = self._reading.run(lambda: read(source, running))
        taken = read_again.addCallback(lambda found: Deferred.fromCoroutine(self._take(*found)))
        return taken.addErrback(lambda failure: ReloadEnded(problems=problems_of(failure)))

    async def _take(self, found: Difference, document: Document) -> ReloadEnded:
        if not self.running:
            return STOPPING
        answers = await self.supervisor.ask_all("prepare", document)
        problems = tuple(dict.fromkeys(one for said in answers.values() for one in said))
        if problems:
            await self.supervisor.ask_all("drop")
            return ReloadEnded(problems=problems)
        self._settings, self._reloaded = found.settings, document
        self._admissions.configure(found.settings)
        for observer in self._observers:
            observer.configure(found.settings)
        self.supervisor.tell_starting("commit", document)
        answers = await self.supervisor.ask_all("commit", document)
        self._time_renewals()
        kept = tuple(dict.fromkeys(one for said in answers.values() for one in said))
        for problem in kept:
            self._emit(CertificateRejected(problem))
        return ReloadEnded(found.changed, found.restart, kept=kept)

    def stopService(self) -> Deferred[Any]:
        """SIGTERM: no new sessions; the workers finish their work, and are killed if late."""
        seconds = self._settings.limits.drain_timeout
        self._begin_stop(seconds)
        stopped = self.supervisor.stop(seconds)
        closing = [
            bound.close().addCallback(self._stopped_listening, place.name)
            for place, bound in zip(self._places, self._bound, strict=True)
        ]
        closing.append(self._control_socket.close())
        ended: Deferred[Any] = DeferredList([stopped, *closing])
        if self._fork_server is not None:
            # It tells how the workers have ended.
            fork_server = self._fork_server
            ended.addCallback(lambda _: fork_server.stop())
        return ended.addCallback(self._stopped)

    def hurry(self) -> None:
        """While the server stops: have the workers close their sessions, and end at once."""
        self.supervisor.hurry()

    def _stopped(self, _: object) -> None:
        if self._renewal.running:
            self._renewal.stop()
        if not self._reading.outstanding:
            self._reading.stop()
        for observer in self._observers:
            observer.stop()
        self._emit(ServerStopped())


def make_parent(
    reactor: Any,
    settings: Settings,
    handed: Handed,
    environ: Mapping[str, str],
    pass_on: PassOn,
) -> Parent:
    """The service of a process that starts workers."""
    events = EventBus()
    figures = Figures()
    figures.read("process", process)
    observers = [
        observer_of_figures(figures, reactor),
        *(make(settings, reactor) for make in OBSERVERS_OF_PARENT),
    ]
    for observer in observers:
        events.subscribe(observer.subscription)
    return Parent(
        reactor,
        settings,
        handed,
        environ=environ,
        observers=observers,
        figures=figures,
        emit=events.emit,
        pass_on=pass_on,
        words=hints(settings),
    )
