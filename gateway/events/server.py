"""Events of the server: listeners, reload, worker processes, certificates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class BackEndReplaced(NamedTuple):
    """A reload has changed or removed a back-end that was down."""

    name: str


class ListenerStarted(NamedTuple):
    """Clients can connect; ``tls`` is ``none``, ``stls`` or ``implicit``."""

    name: str
    address: str
    tls: str


class ListenerStopped(NamedTuple):
    """The port is closed."""

    name: str


class ServerReady(NamedTuple):
    """All listeners accept clients, and the directory was asked once."""

    problem: str
    """Why the directory did not answer; empty: it did."""


class ReloadStarted(NamedTuple):
    """The server reads its configuration again."""


class ReloadEnded(NamedTuple):
    """The server has taken the new configuration, or kept the old one."""

    changed: tuple[str, ...] = ()
    """The settings that have changed, by key."""

    restart: tuple[str, ...] = ()
    """The settings that keep their old value until a restart, by key."""

    problems: tuple[str, ...] = ()
    """Why the whole configuration stays as it was, one line each; empty: it was taken."""

    kept: tuple[str, ...] = ()
    """Why certificates stay as they were, one line each."""


class ServerStopping(NamedTuple):
    """No new sessions; open work has ``seconds`` to finish."""

    seconds: float


class ServerStopped(NamedTuple):
    """All open work is finished, or has run out of time."""


class WorkerStarted(NamedTuple):
    """The parent has started a worker process; workers are numbered from 1."""

    worker: int
    pid: int


class WorkerReady(NamedTuple):
    """A worker process accepts clients."""

    worker: int
    pid: int


class WorkerEnded(NamedTuple):
    """A worker process has ended, or could not be started."""

    worker: int
    pid: int
    """0: it could not be started."""

    reason: str
    """``signal SIGKILL``, ``exit status 0``, ..."""

    restart_in: float | None
    """Seconds until it is started again; None: the server is stopping."""


class WorkerKilled(NamedTuple):
    """The parent has sent SIGKILL to a worker process."""

    worker: int
    pid: int
    reason: str


class WorkerUnusable(NamedTuple):
    """A worker process cannot serve."""

    worker: int
    problems: tuple[str, ...]


class QueueTaken(NamedTuple):
    """A worker does not serve its clients; another one accepts them meanwhile."""

    worker: int
    by: int


class ParentAway(NamedTuple):
    """The parent does not answer: this worker keeps to its share of each limit."""

    workers: int
    """How many share each limit."""


class ParentBack(NamedTuple):
    """The parent answers again, after ``seconds``."""

    seconds: int


class SessionsCounted(NamedTuple):
    """The sessions that are open in all workers, by protocol; at most once a second."""

    open: Mapping[str, int]


class CertificateReloaded(NamedTuple):
    """New connections get the certificate as it is in the file now."""

    path: str


class CertificateRejected(NamedTuple):
    """The certificate in the file cannot be used; the old one stays in use."""

    reason: str


class CertificateProblem(NamedTuple):
    """A certificate has expired, will soon, or does not fit its listeners."""

    path: str
    reason: str
    section: str
    """Of the configuration, with the setting of the path."""
