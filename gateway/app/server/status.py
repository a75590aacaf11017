"""What processes answer to operators about themselves: status, certificates, configuration."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import asdict
from twisted.internet.defer import Deferred

import gateway
from gateway.app.server.questions import Questions
from gateway.app.server.reload import Reloading, Source
from gateway.config.settings import Settings
from gateway.interfaces import Run
from gateway.operations.server.configuration import settings_in_force

if TYPE_CHECKING:
    from gateway.app.server.service import Server


def answer_of_process(questions: Questions, server: Server, reloading: Reloading) -> None:
    """Have a process that serves clients answer ``process`` and ``certificates``."""
    started = time.time()

    def process(_: object) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "since": started,
            "sessions": server.open_counts(),
            "listeners": [
                {"name": one.name, "address": address, "tls": one.tls}
                for one, address in server.places
            ],
        }

    def certificates(_: object) -> list[dict[str, Any]]:
        return [asdict(one) for one in reloading.assembly.described_certificates()]

    questions.answer("process", process)
    questions.answer("certificates", certificates)


def answer_of_server(
    questions: Questions, source: Source, running: Callable[[], Settings], run: Run, workers: int
) -> None:
    """Have the process with the configuration answer ``server`` and ``configuration``.

    ``running``: the settings in force; ``run``: a thread for reading the file.
    """
    started = time.time()

    def server(_: object) -> dict[str, Any]:
        found = {"version": gateway.__version__, "pid": os.getpid(), "since": started}
        return found | {"workers": workers}

    def configuration(_: object) -> Deferred[dict[str, Any]]:
        settings = running()
        return run(lambda: settings_in_force(settings, source.path, source.environ)).addCallback(
            asdict
        )

    questions.answer("server", server)
    questions.answer("configuration", configuration)
