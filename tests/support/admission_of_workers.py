"""Admission in several processes, in memory."""

from __future__ import annotations

from twisted.internet.task import Clock

from channels import Ends
from gateway.admission.limits import ConnectionLimits
from gateway.admission.parent_link import ParentLink
from gateway.admission.remote import RemoteAdmission
from gateway.admission.rules import AdmissionRules
from gateway.admission.served import ServedAdmission
from gateway.admission.throttle import ThrottleLimits
from gateway.pop3.profile import Profile
from gateway.testing.admission_contract import (
    CONNECTIONS,
    DELAY,
    FREE,
    LOGIN_DELAY,
    PER_ADDRESS,
    PER_USER,
)


class Workers:
    """A parent and its workers, each with an admission; joined in memory."""

    def __init__(self, count: int, clock: Clock, rules: AdmissionRules | None = None) -> None:
        self.clock, self.count = clock, count
        self.events: list[object] = []
        self.rules = rules or AdmissionRules(
            limits=ConnectionLimits(CONNECTIONS, PER_ADDRESS, PER_USER),
            throttle=ThrottleLimits(free=FREE, delay=DELAY),
            profile=Profile(login_delay=f"{LOGIN_DELAY} USER"),
        )
        self.served = ServedAdmission("pop3", self.rules, workers=count, clock=clock)
        self.ends: dict[int, Ends] = {}
        self.admissions: dict[int, RemoteAdmission] = {}
        for number in range(count):
            self.start(number)

    def start(self, number: int) -> None:
        """A worker begins."""
        ends = self.ends[number] = Ends(self.clock)
        shares = self.served.join(number, ends.parent)
        link = ParentLink(ends.worker, self.clock, self.count, self.events.append)
        self.admissions[number] = RemoteAdmission(
            "pop3",
            link,
            self.rules,
            workers=self.count,
            key=b"key",
            shares=shares,
            clock=lambda: self.clock,
            emit=self.events.append,
        )
        self.advance(0)

    def kill(self, number: int) -> None:
        """A worker ends."""
        self.ends.pop(number).end()
        del self.admissions[number]
        self.served.leave(number)

    def advance(self, seconds: float) -> None:
        """What was said arrives; then time passes."""
        for step in (0.0, seconds):
            self.clock.advance(step)
            for ends in list(self.ends.values()):
                ends.turn()
