"""What observes a running server: one row for each subscriber to all that happens."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import evolve, frozen

from gateway import events
from gateway.config.settings import Settings
from gateway.events import Subscription
from gateway.observe.counts import Counts
from gateway.observe.figures import Figures
from gateway.observe.log import log_lines
from gateway.observe.log_form import FORM
from gateway.observe.loop_lag import LoopLag
from gateway.observe.systemd import SystemdNotices


def _nothing(*_: object) -> None:
    """There is nothing to begin, to end or to configure."""


@frozen
class Observer:
    """One of them."""

    subscription: Subscription
    start: Callable[[], object] = _nothing
    """Called when the ports are bound."""

    stop: Callable[[], object] = _nothing
    """Called last, when no more events come; must not block."""

    configure: Callable[[Settings], object] = _nothing
    """Called at a reload, with other settings; must not fail."""


def _log(settings: Settings, _: Any) -> Observer:
    current = [settings.log]

    def configure(new: Settings) -> None:
        current[:] = [new.log]
        FORM.configure(new.log.format, new.log.level)

    configure(settings)
    return Observer(log_lines(lambda: current[0].sessions), configure=configure)


def _counts(settings: Settings, reactor: Any) -> Observer:
    counts = Counts(reactor)
    return Observer(
        counts.subscription,
        lambda: counts.start(settings.log.counts),
        counts.stop,
        configure=lambda new: counts.start(new.log.counts),
    )


def _systemd(_: Settings, reactor: Any) -> Observer:
    notices = SystemdNotices(reactor, os.environ)
    return Observer(notices.subscription, notices.start, notices.stop)


def observer_of_figures(figures: Figures, reactor: Any) -> Observer:
    """What has a process count; ``runtime.py`` and ``app/parent.py`` keep the figures."""
    lag = LoopLag(reactor, partial(figures.time, "pop3gw_event_loop_lag_seconds"))
    return Observer(figures.subscription, lag.start, lag.stop)


Make = Callable[[Settings, Any], Observer]

OBSERVERS: tuple[Make, ...] = (_log, _counts, _systemd)
"""Makes each, from the settings and the reactor.  The check of a configuration makes them too, so
making one touches no file."""

OBSERVERS_OF_PARENT: tuple[Make, ...] = (_log, _systemd)
"""Those of a process that only supervises workers."""


def _log_of_worker(settings: Settings, reactor: Any) -> Observer:
    log = _log(settings, reactor)
    lines = log.subscription
    return evolve(log, subscription={kind: lines[kind] for kind in lines.keys() - _SAID_BY_PARENT})


_SAID_BY_PARENT = {
    events.ListenerStarted,
    events.ListenerStopped,
    events.ServerReady,
    events.ServerStopping,
    events.ServerStopped,
    events.CertificateReloaded,
    events.CertificateRejected,
    events.ReloadEnded,
}
"""Events of every worker that the log has once, from the parent."""

OBSERVERS_OF_WORKER: tuple[Make, ...] = (_log_of_worker, _counts)
"""Those of a worker process."""
