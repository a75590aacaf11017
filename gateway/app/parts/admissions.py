"""The admission of each service: of one process, or of a worker and its parent."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from attrs import asdict
from twisted.internet.interfaces import IReactorTime

from gateway.admission.inspection import PasswordTests
from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.admission.parent_link import ParentLink
from gateway.admission.remote import RemoteAdmission
from gateway.admission.rules import AdmissionRules
from gateway.admission.served import ServedAdmission
from gateway.admission.throttle import ThrottleLimits
from gateway.app.server.questions import Questions
from gateway.config.settings import Settings
from gateway.events import Emit
from gateway.processes.channel import Channel

Admission = LocalAdmission | RemoteAdmission

MakeAdmission = Callable[[Any, str, AdmissionRules, Emit], Admission]
"""Makes the admission of a service, given the reactor and the service's name."""


def admission_rules(settings: Settings) -> dict[str, AdmissionRules]:
    """The rules of each service that has limits of its own, by name."""
    limits = settings.limits
    throttle = asdict(settings.throttle) | {"refuse_after": settings.refuse_after}
    pop3 = AdmissionRules(
        ConnectionLimits(
            connections=limits.connections,
            per_address=limits.connections_per_address,
            per_user=limits.sessions_per_user,
        ),
        ThrottleLimits(**throttle),
        settings.profile,
    )
    return {
        "pop3": pop3,
        "lmtp": _connections("lmtp", settings.lmtp.connections),
        "policy": _connections("policy", settings.policy.connections),
    }


def _connections(service: str, most: int) -> AdmissionRules:
    return AdmissionRules(ConnectionLimits(most, most, setting=f"{service}.connections"))


def local_admission(reactor: Any, _: str, rules: AdmissionRules, emit: Emit) -> LocalAdmission:
    """The admission of a single process, as a ``MakeAdmission``."""
    return LocalAdmission(lambda: reactor, emit=emit, **asdict(rules, recurse=False))


class AdmissionsOfWorker:
    """Makes the admissions of a worker, as a ``MakeAdmission``."""

    def __init__(self, channel: Channel, handed: Mapping[str, Any]) -> None:
        """``handed``: what ``AdmissionsOfParent.join`` returned for this worker."""
        self._channel = channel
        self._handed = handed
        self._link: ParentLink | None = None

    def __call__(
        self, reactor: Any, name: str, rules: AdmissionRules, emit: Emit
    ) -> RemoteAdmission:
        """The admission of a service."""
        workers = self._handed["workers"]
        self._link = self._link or ParentLink(self._channel, reactor, workers, emit)
        return RemoteAdmission(
            name,
            self._link,
            rules,
            workers=workers,
            key=bytes.fromhex(self._handed["key"]),
            shares=self._handed["shares"][name],
            clock=lambda: reactor,
            emit=emit,
        )


def answer_operators(questions: Questions, admissions: Mapping[str, Admission]) -> None:
    """Have a process answer what operators ask of admission."""
    pop3 = admissions["pop3"]
    questions.answer("counted", pop3.counted)
    if isinstance(pop3, LocalAdmission):
        _answer(questions, pop3)


def _answer(questions: Questions, pop3: LocalAdmission | ServedAdmission) -> None:
    """Answer what only the process with the throttle knows."""
    questions.answer("waiting", pop3.waiting)
    questions.answer("forgive", pop3.forgive)
    questions.answer("permit test", PasswordTests(pop3.seconds).permit)


class AdmissionsOfParent:
    """The parent's side of the admissions of all services."""

    def __init__(self, clock: IReactorTime, settings: Settings, workers: int) -> None:
        """``workers``: how many share the limits, whether they run or not."""
        self._key = os.urandom(32).hex()
        self._workers = workers
        self._served = {
            name: ServedAdmission(name, rules, workers=workers, clock=clock)
            for name, rules in admission_rules(settings).items()
        }

    def join(self, worker: int, channel: Channel) -> dict[str, Any]:
        """A worker begins; returns, as JSON, what it must have before it serves clients."""
        shares = {name: served.join(worker, channel) for name, served in self._served.items()}
        return {"workers": self._workers, "key": self._key, "shares": shares}

    def leave(self, worker: int) -> None:
        """A worker has ended."""
        for served in self._served.values():
            served.leave(worker)

    def answer_operators(self, questions: Questions) -> None:
        """Have the parent answer what operators ask of admission."""
        _answer(questions, self._served["pop3"])

    def configure(self, settings: Settings) -> None:
        """Other limits from now on; what was counted stays counted."""
        for name, rules in admission_rules(settings).items():
            self._served[name].configure(rules)
