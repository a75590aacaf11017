"""Sessions in all gateways, whatever happens to gateways and to the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.admission.limits import ConnectionLimits
from gateway.errors import StoreDown, TooManySessions
from gateway.interfaces import Leave
from gateway.state.cluster.limits import LEASE
from gateway.testing.store_contract import run_now
from shared_admission import Cluster, Member

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]

PER_USER = 2
GATEWAYS = st.integers(0, 2)
USERS = st.sampled_from(["alice", "bob"])


class Gateway:
    """A gateway that can be cut off from the database."""

    def __init__(self, cluster: Cluster) -> None:
        self.is_away = False
        self.clock = Clock()
        self.sessions: list[tuple[str, Leave]] = []
        self.member: Member = cluster.gateway(
            clock=self.clock, run=self.run, limits=ConnectionLimits(per_user=PER_USER)
        )

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Ask the database, where it can be reached."""
        return fail(StoreDown("away")) if self.is_away else run_now(work)

    def open(self) -> Counter[str]:
        """Its sessions."""
        return Counter(mailbox for mailbox, _ in self.sessions)


class LeasesMachine(RuleBasedStateMachine):
    """Beside a model: what each gateway has open, and for how long the dead ones count."""

    test: SynchronousTestCase

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(self.test)
        self.gateways = [Gateway(self.cluster) for _ in range(3)]
        self.dead: list[tuple[Counter[str], float]] = []
        """Sessions of gateways that have died, and seconds since then."""

    def teardown(self) -> None:
        """Close the connections."""
        for gateway in self.gateways:
            gateway.member.database.close()

    def open(self, user: str) -> int:
        """Sessions of a user in gateways that live."""
        return sum(one.open()[user] for one in self.gateways)

    @rule(which=GATEWAYS, user=USERS)
    def log_in(self, which: int, user: str) -> None:
        """A login is refused if, and only if, the limit is reached."""
        gateway = self.gateways[which]
        answers: list[Any] = []
        gateway.member.enter(user).addBoth(answers.append)
        (answer,) = answers
        if callable(answer):
            gateway.sessions.append((user, answer))
            if not any(one.is_away for one in self.gateways):
                assert self.open(user) <= PER_USER
            return
        assert answer.check(TooManySessions), answer
        if gateway.is_away:
            assert gateway.open()[user] >= PER_USER
            return
        ghosts = sum(sessions[user] for sessions, _ in self.dead)
        assert self.open(user) + ghosts >= PER_USER

    @rule(which=GATEWAYS, at=st.integers(0, 5))
    def log_out(self, which: int, at: int) -> None:
        """A session ends, twice: that changes nothing."""
        gateway = self.gateways[which]
        if gateway.sessions:
            _, leave = gateway.sessions.pop(at % len(gateway.sessions))
            leave()
            leave()

    @rule(which=GATEWAYS)
    def die(self, which: int) -> None:
        """A gateway is killed, and another one starts in its place."""
        gateway = self.gateways[which]
        self.dead.append((gateway.open(), 0.0))
        gateway.member.database.close()
        self.gateways[which] = Gateway(self.cluster)

    @rule(which=GATEWAYS)
    def go_away(self, which: int) -> None:
        """A gateway cannot reach the database."""
        self.gateways[which].is_away = True

    @rule(which=GATEWAYS)
    def come_back(self, which: int) -> None:
        """It can again, and says what it has within a second."""
        self.gateways[which].is_away = False
        self.pass_time(1)

    @rule(seconds=st.sampled_from([1, 10, 25, 70]))
    def pass_time(self, seconds: int) -> None:
        """Time passes everywhere."""
        self.cluster.pass_time(seconds, *(one.clock for one in self.gateways))
        self.dead = [
            (sessions, since + seconds) for sessions, since in self.dead if since + seconds <= LEASE
        ]

    @invariant()
    def the_database_has_what_is_open(self) -> None:
        """Where all gateways reach it; and what the dead ones had, for at most a term."""
        if any(one.is_away for one in self.gateways):
            return
        for user in ("alice", "bob"):
            ghosts = sum(sessions[user] for sessions, _ in self.dead)
            assert self.open(user) <= self.cluster.sessions(user) <= self.open(user) + ghosts


class LeaseTests(SynchronousTestCase):
    def test_sessions_count_whatever_happens(self) -> None:
        machine = type("Machine", (LeasesMachine,), {"test": self})
        case = machine.TestCase
        case.settings = settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        case().runTest()
