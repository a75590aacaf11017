"""Looks whether this process can serve clients, for probes: cheap, and in bounded time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, TimeoutError, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from gateway.app.parts.logins import try_directory
from gateway.config.settings import Settings
from gateway.events import ServerStopping, Subscription, problem_of
from gateway.interfaces import IDirectory, IProcesses, IState, Run
from gateway.operations.server.readiness import Check, readiness_of

KEPT = 2.0
"""Seconds for which an answer is good for all who ask."""

WITHIN = 2.0
"""Seconds that a check may take."""

OTHERS_WITHIN = 0.5
"""Seconds that other processes have: a worker that hangs must not fail the probes of others."""

LEAST_OCTETS = 2**20
"""Free octets below which nothing can be written any more."""

LOW = 0.05
"""Share of free space, or of free inodes, below which an administrator is warned."""

Look = Callable[[], "Deferred[Check]"]


class Readiness:
    """The checks of one process; a reload gives it others."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._looks: Mapping[str, Look] = {}
        self._is_stopping = False
        self._unanswered: set[Look] = set()
        """Checks that did not answer in time, and have not since: they are not begun again."""
        self._found: list[Check] = []
        self._until = float("-inf")
        self._waiting: list[Deferred[list[Check]]] = []

    @property
    def subscription(self) -> Subscription:
        """Know that the server stops."""
        return {ServerStopping: self._stops}

    def _stops(self, _: ServerStopping) -> None:
        self._is_stopping = True

    def use(self, looks: Mapping[str, Look]) -> None:
        """Look at these from now on."""
        self._looks = looks
        self._until = float("-inf")

    def checks(self) -> Deferred[list[Check]]:
        """The results, at most ``KEPT`` seconds old; does not fail."""
        if self._is_stopping:
            return succeed([Check("stopping", "fail", "the server is stopping")])
        if self._clock.seconds() < self._until:
            return succeed(self._found)
        asked = Deferred[list[Check]]()
        self._waiting.append(asked)
        if len(self._waiting) == 1:
            looks = [self._look(name, look) for name, look in self._looks.items()]
            DeferredList(looks).addCallback(self._looked)
        return asked

    def as_json(self, _: object = None) -> Deferred[list[dict[str, str]]]:
        """The answer to the question ``readiness``."""

        def shown(found: list[Check]) -> list[dict[str, str]]:
            return [{"name": one.name, "state": one.state, "reason": one.reason} for one in found]

        return self.checks().addCallback(shown)

    def _look(self, name: str, look: Look) -> Deferred[Check]:
        if look in self._unanswered:
            return succeed(_late(name))
        looked = Deferred[Check]()

        def answered(result: Any) -> None:
            self._unanswered.discard(look)
            if not looked.called:
                looked.callback(result)

        self._unanswered.add(look)
        maybeDeferred(look).addBoth(answered)
        # Not the check itself is cancelled: it may be in a thread.
        looked.addTimeout(WITHIN, self._clock)
        return looked.addErrback(_failed, name)

    def _looked(self, results: list[tuple[bool, Any]]) -> None:
        self._found = [check for _, check in results]
        self._until = self._clock.seconds() + KEPT
        waiting, self._waiting = self._waiting, []
        for asked in waiting:
            asked.callback(self._found)


def _failed(failure: Failure, name: str) -> Check:
    if failure.check(TimeoutError):
        return _late(name)
    assert failure.value is not None
    return Check(name, "fail", problem_of(failure.value).reason)


def _late(name: str) -> Check:
    return Check(name, "fail", f"no answer within {WITHIN:g} s")


def looks_of(
    clock: IReactorTime,
    settings: Settings,
    directory: IDirectory,
    state: IState,
    processes: IProcesses,
    run: Run,
    away: Callable[[], Iterable[str]] = tuple,
) -> Mapping[str, Look]:
    """What a server needs to serve clients; ``away``: back-ends of the store in an outage."""
    state_dir = os.path.abspath(settings.state_dir)
    places = list(settings.store_kind.places(settings.store, state_dir))
    looks: dict[str, Look] = {
        "directory": lambda: try_directory(directory).addCallback(_checked, "directory"),
        "store": lambda: run(
            lambda: _worst("store", (*map(_store_at, places), *map(_is_away, away())))
        ),
        "disk": lambda: run(lambda: _worst("disk", map(_disk_at, (*places, state_dir)))),
        "state": lambda: state.find_expire().addCallback(lambda _: Check("state", "ok")),
    }
    if settings.retention.enabled or settings.quota.warn_from:
        looks["leader"] = lambda: _look_for_leader(clock, processes)
    return looks


def _checked(problem: str, name: str) -> Check:
    return Check(name, "fail" if problem else "ok", problem)


def _worst(name: str, checks: Iterable[Check]) -> Check:
    (found,) = readiness_of([Check(name, "ok"), *checks]).checks
    return found


def _is_away(name: str) -> Check:
    # Without S3 logins and removals go on; without the database the state fails too.
    return Check("store", "warn", f"{name} does not answer")


def _store_at(place: str) -> Check:
    if not os.path.isdir(place):
        # The first delivery makes it, unless a file system is not mounted.
        return Check("store", "warn", f"no such directory: {place}")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        return Check("store", "fail", f"{place}: permission denied for the user of the server")
    return Check("store", "ok")


def _disk_at(place: str) -> Check:
    try:
        return disk_check(place, os.statvfs(place))
    except FileNotFoundError:
        return Check("disk", "ok")


def disk_check(place: str, disk: os.statvfs_result) -> Check:
    """Whether there is room on a disk; inodes count, too, where a file system has them."""
    free = disk.f_bavail * disk.f_frsize
    space = disk.f_bavail / disk.f_blocks if disk.f_blocks else 1.0
    inodes = disk.f_favail / disk.f_files if disk.f_files else 1.0
    if free < LEAST_OCTETS:
        return Check("disk", "fail", f"{place}: disk full: {free} octets left")
    if not inodes:
        return Check("disk", "fail", f"{place}: disk full: no inodes left")
    if min(space, inodes) < LOW:
        text = f"{place}: {space:.1%} of the space and {inodes:.1%} of the inodes are left"
        return Check("disk", "warn", text)
    return Check("disk", "ok")


def _look_for_leader(clock: IReactorTime, processes: IProcesses) -> Deferred[Check]:
    """One process must run retention and quota checks: of this server, or of its cluster."""
    asked = Deferred[list[bool]]()
    answers = processes.ask_each("is_led")
    answers.addBoth(lambda result: None if asked.called else asked.callback(result))
    asked.addTimeout(OTHERS_WITHIN, clock)

    def found(led: list[bool]) -> Check:
        reason = "" if any(led) else "no process runs retention and quota checks"
        return Check("leader", "warn" if reason else "ok", reason)

    return asked.addCallbacks(found, lambda _: Check("leader", "warn", "a process does not answer"))
