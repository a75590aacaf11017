"""Supervision of the worker processes: start, replace, kill, end."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from functools import partial
from typing import Any, Protocol

from attrs import define
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from gateway.errors import AskFailed
from gateway.events import (
    Emit,
    QueueTaken,
    SessionsCounted,
    WorkerEnded,
    WorkerKilled,
    WorkerReady,
    WorkerStarted,
    WorkerUnusable,
)
from gateway.observe.looping import looping
from gateway.processes.channel import Channel

BEAT = 1.0
"""Seconds between two beats of a worker, and between two looks at all of them."""

START_WITHIN = 60.0
"""Seconds in which a worker must have begun to respond, at least."""

READY_WITHIN = 10.0
"""Seconds after which the server is ready though only some of the workers are."""

SHOW_STACKS = signal.SIGUSR2
"""Has a worker write the stack of each thread to standard error, even if it hangs."""

SHOWN_WITHIN = 0.5
"""Seconds that a worker has for that before it is killed."""

SOON = 60.0
"""A worker that ends within this many seconds after its start has failed."""

LONGEST_DELAY = 30.0
"""Seconds until a worker that fails again and again is started again, at most."""

TAKEN_AFTER = 3
"""Beats without a worker that has served, after which another one takes its queues too."""

GRACE = 2.0
"""Seconds that a worker has beyond the time of its drain."""


class Running(Protocol):
    """A worker process that was started."""

    channel: Channel

    @property
    def pid(self) -> int:
        """Its process id."""

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""


Start = Callable[[int, Callable[[str], None]], Running]
"""Starts a worker, given its number and what to call with the reason when it has ended.

Raises ``OSError``."""


class State(Enum):
    """Of a worker."""

    AWAY = auto()
    """There is no process; one will be started."""

    STARTING = auto()
    SERVING = auto()

    LEAVING = auto()
    """It accepts no clients and finishes its work."""

    KILLED = auto()
    """It was sent SIGKILL, and has not ended yet."""


@define
class _Worker:
    number: int
    state: State = State.AWAY
    running: Running | None = None
    started: float = 0.0
    silent: int = 0
    """Beats missed in a row."""

    away: int = 0
    """Looks at it in a row that found no serving process."""

    has_served: bool = False
    """Whether any process of it has served: at the start of a server all take their time."""

    failures: int = 0
    """Ends soon after a start, in a row."""

    queues: frozenset[int] = frozenset()
    """The workers of which it was told to serve the queues."""

    restart: IDelayedCall | None = None
    open: Mapping[str, int] = {}
    """Its open sessions, by protocol."""

    @property
    def is_served(self) -> bool:
        """Whether the worker serves its queues itself."""
        return self.state is State.SERVING and self.silent < TAKEN_AFTER

    @property
    def needs_another(self) -> bool:
        """Whether another worker should serve its queues."""
        if self.state is State.SERVING:
            return not self.is_served
        longest = TAKEN_AFTER if self.has_served else READY_WITHIN
        return self.state is State.LEAVING or self.away * BEAT >= longest


def _channels(workers: Iterable[_Worker]) -> list[tuple[int, Channel]]:
    return [(one.number, one.running.channel) for one in workers if one.running is not None]


class Supervisor:
    """Keeps the workers running; numbers count from 0, and are shown from 1."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        start: Start,
        *,
        workers: int,
        hang_timeout: float,
        emit: Emit,
        all_ready: Callable[[str], None],
        unusable: Callable[[list[str]], None],
    ) -> None:
        """``all_ready`` is called once, when all workers serve, with the directory's problem or "";
        or when some have served for ``READY_WITHIN`` seconds.

        ``unusable`` is called if the first worker finds that it cannot start, with the problems.
        """
        self._clock = clock
        self._start = start
        self._hang_timeout = hang_timeout
        self._emit = emit
        self._all_ready: Callable[[str], None] | None = all_ready
        self._unusable: Callable[[list[str]], None] | None = unusable
        self._workers = [_Worker(number) for number in range(workers)]
        self._looks = looping(self._look, "supervision of workers", clock)
        self._waited = 0
        """Looks at workers of which some serve, while the server is not ready."""
        self._stopped: Deferred[None] | None = None
        self._late: IDelayedCall | None = None
        self._counts = Counter[str]()

    def begin(self) -> None:
        """Start all workers."""
        for worker in self._workers:
            self._begin(worker)
        self._looks.start(BEAT, now=False)

    @property
    def serving(self) -> list[tuple[int, Channel]]:
        """The workers that serve clients, with their channels."""
        return _channels(worker for worker in self._workers if worker.state is State.SERVING)

    @property
    def responding(self) -> list[tuple[int, Channel]]:
        """Those of them that have been heard lately: who asks one that hangs waits in vain."""
        return _channels(worker for worker in self._workers if worker.is_served)

    def ask_all(self, name: str, body: object = None) -> Deferred[dict[int, Any]]:
        """Ask all workers that serve; the answers by number, without those that failed."""
        serving = self.serving
        asked = [channel.ask(name, body) for _, channel in serving]

        def gathered(results: list[tuple[bool, Any]]) -> dict[int, Any]:
            pairs = zip(serving, results, strict=True)
            return {number: answer for (number, _), (is_good, answer) in pairs if is_good}

        return DeferredList(asked, consumeErrors=True).addCallback(gathered)

    def ask_everyone(self, name: str, body: object = None) -> Deferred[list[Any]]:
        """The answers of all workers that may have clients: also those that start, drain or hang.

        Fails with ``AskFailed`` unless all of them answer.
        """
        # One that starts accepts clients before it is ready, which may wait for the directory. It
        # reads the question after its settings, so it answers as soon as it can have clients.
        there = _channels(self._workers)
        asked = [channel.ask(name, body) for _, channel in there]

        def gathered(results: list[tuple[bool, Any]]) -> list[Any]:
            pairs = zip(there, results, strict=True)
            silent = [str(number + 1) for (number, _), (is_good, _) in pairs if not is_good]
            if silent:
                raise AskFailed(
                    f"no answer of worker {', '.join(silent)}, which may have sessions:"
                    " try again when it answers or has been replaced"
                )
            return [answer for _, answer in results]

        return DeferredList(asked, consumeErrors=True).addCallback(gathered)

    def tell_all(self, name: str, body: object) -> None:
        """Tell all workers that serve, or that will."""
        for _, channel in self.serving:
            channel.tell(name, body)
        self.tell_starting(name, body)

    def tell_starting(self, name: str, body: object) -> None:
        """Tell the workers that do not serve yet, after what they were handed at their start."""
        for worker in self._workers:
            if worker.running is not None and worker.state is State.STARTING:
                worker.running.channel.tell(name, body)

    # -- one worker --------------------------------------------------------------

    def _begin(self, worker: _Worker) -> None:
        worker.restart = None
        worker.started = self._clock.seconds()
        worker.silent, worker.queues = 0, frozenset()

        def ended(reason: str) -> None:
            self._ended(worker, reason)

        try:
            running = self._start(worker.number, ended)
        except OSError as error:
            self._ended(worker, f"cannot be started: {error.strerror}")
            return
        worker.state, worker.running = State.STARTING, running
        takes: dict[str, Callable[[_Worker, Running, Any], None]] = {
            "beat": self._beaten,
            "ready": self._ready,
            "leaving": self._leaving,
            "unusable": self._is_unusable,
        }
        for name, take in takes.items():
            running.channel.handle(name, partial(take, worker, running))
        self._emit(WorkerStarted(worker.number + 1, running.pid))

    def _beaten(self, worker: _Worker, running: Running, counts: Mapping[str, int]) -> None:
        if worker.running is running:
            worker.silent, worker.open = 0, counts

    def _ready(self, worker: _Worker, running: Running, problem: str) -> None:
        if worker.running is not running or worker.state is not State.STARTING:
            return
        worker.state, worker.away, worker.has_served = State.SERVING, 0, True
        worker.queues = frozenset({worker.number})
        self._emit(WorkerReady(worker.number + 1, running.pid))
        self._unusable = None
        self._share_queues()
        if all(one.state is State.SERVING for one in self._workers):
            self._tell_ready(problem)

    def _tell_ready(self, problem: str) -> None:
        if self._all_ready is not None:
            all_ready, self._all_ready = self._all_ready, None
            all_ready(problem)

    def _leaving(self, worker: _Worker, running: Running, _: object) -> None:
        if worker.running is running and worker.state is not State.KILLED:
            worker.state = State.LEAVING
            self._share_queues()

    def _is_unusable(self, worker: _Worker, running: Running, problems: list[str]) -> None:
        if worker.running is not running:
            return
        self._emit(WorkerUnusable(worker.number + 1, tuple(problems)))
        if self._unusable is not None:
            unusable, self._unusable = self._unusable, None
            unusable(problems)

    def _ended(self, worker: _Worker, reason: str) -> None:
        pid = 0 if worker.running is None else worker.running.pid
        worker.state, worker.running, worker.open = State.AWAY, None, {}
        if self._stopped is not None:
            self._emit(WorkerEnded(worker.number + 1, pid, reason, None))
            self._check_end(self._stopped)
            return
        lived = self._clock.seconds() - worker.started
        worker.failures = worker.failures + 1 if lived < SOON else 0
        delay = 0.0 if worker.failures < 2 else min(2.0 ** (worker.failures - 2), LONGEST_DELAY)
        worker.restart = self._clock.callLater(delay, self._begin, worker)
        self._emit(WorkerEnded(worker.number + 1, pid, reason, delay))
        self._share_queues()

    # -- all of them -------------------------------------------------------------

    def _look(self) -> None:
        """Kill workers that hang, and give queues to others.

        Beats are counted, not seconds: a parent that was stopped itself kills nobody.
        """
        for worker in self._workers:
            worker.silent += 1
            worker.away = 0 if worker.state is State.SERVING else worker.away + 1
            running = worker.running
            if running is None or worker.state is State.KILLED:
                continue
            longest = self._hang_timeout
            if worker.state is State.STARTING:
                longest = max(longest, START_WITHIN)
            if worker.silent * BEAT >= longest:
                worker.state = State.KILLED
                reason = f"it did not respond for {worker.silent * BEAT:g} s"
                self._emit(WorkerKilled(worker.number + 1, running.pid, reason))
                running.signal(SHOW_STACKS)
                self._clock.callLater(SHOWN_WITHIN, running.signal, signal.SIGKILL)
        self._share_queues()
        self._count()
        if self._all_ready is not None and self.serving:
            self._waited += 1
            if self._waited * BEAT >= READY_WITHIN:
                self._tell_ready("")

    def _count(self) -> None:
        counts = Counter[str]()
        for worker in self._workers:
            counts.update(worker.open)
        if counts != self._counts:
            self._counts = counts
            self._emit(SessionsCounted(dict(counts)))

    def _share_queues(self) -> None:
        """Tell each worker of which workers it serves the queues."""
        able = [worker for worker in self._workers if worker.is_served]
        shares = {worker.number: {worker.number} for worker in able}
        if self._stopped is None and able:
            for worker in self._workers:
                if worker.needs_another:
                    shares[able[worker.number % len(able)].number].add(worker.number)
        for worker in able:
            queues = frozenset(shares[worker.number])
            if queues == worker.queues or worker.running is None:
                continue
            for number in sorted(queues - worker.queues):
                self._emit(QueueTaken(number + 1, worker.number + 1))
            worker.queues = queues
            worker.running.channel.tell("queues", sorted(queues))

    # -- the end -----------------------------------------------------------------

    def stop(self, seconds: float) -> Deferred[None]:
        """Let all workers finish their work; kill what is left after ``seconds``.

        Fires when all have ended.
        """
        stopped = self._stopped = Deferred[None]()
        if self._looks.running:
            self._looks.stop()
        for worker in self._workers:
            if worker.restart is not None:
                worker.restart.cancel()
                worker.restart = None
            elif worker.running is not None and worker.state is not State.STARTING:
                worker.running.channel.tell("drain")
            elif worker.running is not None:
                worker.running.signal(signal.SIGKILL)
        self._late = self._clock.callLater(seconds + GRACE, self._kill)
        self._check_end(stopped)
        return stopped

    def hurry(self) -> None:
        """Have all workers end at once; kill what is left soon."""
        for worker in self._workers:
            if worker.running is not None:
                worker.running.channel.tell("hurry")
        if self._late is not None and self._late.active():
            self._late.reset(min(GRACE, self._late.getTime() - self._clock.seconds()))

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.running is not None:
                reason = "its work was not finished in time"
                self._emit(WorkerKilled(worker.number + 1, worker.running.pid, reason))
                worker.running.signal(signal.SIGKILL)

    def _check_end(self, stopped: Deferred[None]) -> None:
        if all(worker.running is None for worker in self._workers) and not stopped.called:
            if self._late is not None and self._late.active():
                self._late.cancel()
            stopped.callback(None)
