"""Have figures and probes look at the parts of the server that runs."""

from __future__ import annotations

from functools import partial

from gateway.app.parts.certificates import Certificates
from gateway.app.parts.retention import RetentionService
from gateway.app.server.readiness import looks_of
from gateway.app.server.readings import readings_of
from gateway.app.server.runtime import Runtime
from gateway.config.settings import Settings
from gateway.interfaces import IDirectory


def watch(
    runtime: Runtime,
    settings: Settings,
    directory: IDirectory,
    certificates: Certificates,
    retention: RetentionService | None,
) -> None:
    """Look at these parts, in place of those before a reload."""
    readings = partial(readings_of, runtime.pools, certificates, retention)
    runtime.figures.read("parts", readings)
    runtime.readiness.use(
        looks_of(
            runtime.reactor,
            settings,
            directory,
            runtime.state,
            runtime.processes,
            runtime.operations.run,
            runtime.outages.away,
        )
    )
