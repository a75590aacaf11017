"""What a process has once, whatever its settings come to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults

from gateway.admission.clustered import ClusterAdmission
from gateway.app.parts.admissions import (
    MakeAdmission,
    admission_rules,
    answer_operators,
    local_admission,
)
from gateway.app.parts.retention import policies_of
from gateway.app.parts.rows import make_shared_admission, make_state
from gateway.app.server.figures import ServerFigures
from gateway.app.server.observers import OBSERVERS, Make, observer_of_figures
from gateway.app.server.questions import Questions, SingleProcess, answer_visits
from gateway.app.server.readiness import Readiness
from gateway.app.server.readings import workers
from gateway.app.server.service import FindEndpoint, endpoint_of
from gateway.config.settings import Settings
from gateway.interfaces import IAdmission, IProcesses
from gateway.jobs.thread_pool import ThreadPool
from gateway.model import Account
from gateway.net.fair_turns import FairTurns
from gateway.net.tls.context import MakeContext
from gateway.observe.bus import EventBus
from gateway.observe.figures import Figures
from gateway.observe.outage import Outages
from gateway.observe.recent import Recent


@frozen
class Role:
    """What a process does differently where there are several; this is the role of a single one."""

    observers: Sequence[Make] = OBSERVERS
    find_endpoint: FindEndpoint = endpoint_of
    make_admission: MakeAdmission = local_admission
    make_processes: Callable[[Questions], IProcesses] = SingleProcess
    make_context: MakeContext | None = None
    """Makes TLS contexts, if the parent says when there are new ticket keys."""
    is_alone: bool = True
    """Whether it is the only process of the server."""
    is_first: bool = True
    """Whether it does what only one of them does, without an election."""


class Runtime:
    """Events, threads, admission, state and leader: a reload keeps them, with all they know."""

    def __init__(self, reactor: Any, settings: Settings, role: Role) -> None:
        self.reactor = reactor
        self.role = role
        self.events = EventBus()
        self.figures = Figures()
        self.observers = [
            observer_of_figures(self.figures, reactor),
            *(make(settings, reactor) for make in role.observers),
        ]
        for observer in self.observers:
            self.events.subscribe(observer.subscription)
        self.turns = FairTurns(lambda: reactor)
        pools = {
            purpose: ThreadPool(reactor, purpose, turns=self.turns, **numbers)
            for purpose, numbers in _threads_of(settings).items()
        }
        self.pools = list(pools.values())
        (
            self.disk,
            self.deliveries,
            self.passwords,
            self.listing,
            self.operations,
            self.reloading,
        ) = self.pools
        self.admissions = {
            name: role.make_admission(reactor, name, rules, self.events.emit)
            for name, rules in admission_rules(settings).items()
        }
        self.outages = Outages(self.events.emit)
        self.events.subscribe(self.outages.subscription)
        self._shared_admission = self._share_admission(settings)
        shared = make_state(settings, self.disk.run, self.outages.watch)
        self.state, self._close_state = shared.state, shared.close_now
        self.questions = Questions()
        self.processes = role.make_processes(self.questions)
        if role.is_alone:
            self.figures.read("workers", lambda: workers(1, 1))
            self.observers.append(ServerFigures(reactor, self.figures).observer(self.questions))
        self._policies = policies_of(settings.retention)
        self.leader = shared.leader
        self.readiness = Readiness(reactor)
        self.events.subscribe(self.readiness.subscription)
        self.questions.answer("readiness", self.readiness.as_json)
        answer_operators(self.questions, self.admissions)
        if role.is_alone:
            answer_visits(self.questions)
        recent = Recent()
        self.events.subscribe(recent.subscription)
        self.questions.answer("deliveries", recent.deliveries)
        self.questions.answer("failed logins", recent.failed_logins)
        self.questions.answer("is_led", lambda _: self.leader.is_led)

    def _share_admission(self, settings: Settings) -> ClusterAdmission | None:
        """Have logins count in all servers that share the store, where its kind can."""
        shared = make_shared_admission(settings, self.outages.watch)
        if shared is None:
            return None
        own, rules = self.admissions["pop3"], admission_rules(settings)["pop3"]
        admission = ClusterAdmission(
            own,
            shared.limits,
            self.disk.run,
            self.reactor,
            rules,
            count_sessions=shared.count_sessions,
            key=shared.key_of(settings.store),
            emit=self.events.emit,
        )
        self._key_of = shared.key_of
        admission.start()
        return admission

    @property
    def login_admission(self) -> IAdmission:
        """The admission of POP3: that of this machine, or of all that share the store."""
        return self._shared_admission or self.admissions["pop3"]

    def is_held(self, account: Account) -> bool:
        """Whether a mailbox is on hold by the settings of now, also for sessions of before."""
        return self._policies.is_held(account)

    def queued(self) -> int:
        """How much work of sessions waits for threads or is in them."""
        return self.disk.outstanding + self.deliveries.outstanding

    def configure(self, settings: Settings) -> None:
        """Go on with other settings.  Never fails."""
        self._policies = policies_of(settings.retention)
        for name, rules in admission_rules(settings).items():
            self.admissions[name].configure(rules)
            if name == "pop3" and self._shared_admission is not None:
                self._shared_admission.configure(rules, self._key_of(settings.store))
        for pool, numbers in zip(self.pools, _threads_of(settings).values(), strict=True):
            pool.configure(**numbers)
        for observer in self.observers:
            observer.configure(settings)

    def close(self) -> Deferred[Any]:
        """No more state, and no leader any more."""
        closing: list[Deferred[Any]] = [self.leader.resign(), self.state.close()]
        if self._shared_admission is not None:
            closing.append(self._shared_admission.close())
        return gatherResults(closing, consumeErrors=True)

    def stop_threads(self) -> None:
        """What was begun is done first."""
        for pool in self.pools:
            pool.stop()
        self._close_state()


def _threads_of(settings: Settings) -> dict[str, dict[str, Any]]:
    """The numbers of each pool of threads, by its purpose."""
    directory, store = settings.directory, settings.store
    # Hashes of a passwd-file are computed without the interpreter lock.
    hashes = directory.threads if settings.directory_kind.hashes else 1
    return {
        "disk": {"threads": store.threads, "queue": store.queue},
        "deliveries": {"threads": settings.lmtp.threads, "queue": store.queue},
        "passwords": {"threads": directory.threads, "queue": directory.queue, "least": hashes},
        # A separate thread: a hanging list must not delay logins.
        "listing": {"threads": 1, "queue": directory.queue},
        "operations": {"threads": 2, "queue": 100},
        "reload": {"threads": 1, "queue": 1},
    }
