"""Admissions of several gateways, with a real database and clocks that tests advance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ENGINES
from gateway.admission.clustered import ClusterAdmission
from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.admission.rules import AdmissionRules
from gateway.admission.throttle import ThrottleLimits
from gateway.errors import WrongPassword
from gateway.interfaces import Leave, Run
from gateway.model import Connection, LoginAttempt, Peer, Terms
from gateway.pop3.profile import Profile
from gateway.postgresql.database import Database, Parameters
from gateway.state.cluster.limits import ClusterLimits
from gateway.testing.admission_contract import (
    CONNECTIONS,
    DELAY,
    FREE,
    LOGIN_DELAY,
    PER_ADDRESS,
    PER_USER,
    AdmissionBench,
)
from gateway.testing.store_contract import run_now

KEY = b"of the cluster"

DEFAULT = ThrottleLimits()

HERE = "192.0.2.1"


class Counting(Database):
    """A database that remembers what it was asked."""

    def __init__(self, conninfo: str, **more: Any) -> None:
        super().__init__(conninfo, **more)
        self.asked: list[str] = []

    def read(self, query: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Remember."""
        self.asked.append(query)
        return super().read(query, parameters)


class Member:
    """The admission of one gateway."""

    def __init__(
        self,
        clock: Clock,
        *,
        url: str = "",
        run: Run = run_now,
        limits: ConnectionLimits = ConnectionLimits(per_user=2),
        login_delay: str = "0",
        count_sessions: bool = True,
        throttle: ThrottleLimits = DEFAULT,
        key: bytes = KEY,
    ) -> None:
        self.events: list[Any] = []
        self.database = Counting(url or ENGINES[0].url, timeout=2.0)
        self._rules = rules = AdmissionRules(limits, throttle, Profile(login_delay=login_delay))
        self._own = own = LocalAdmission(
            lambda: clock,
            limits=limits,
            throttle=throttle,
            profile=rules.profile,
            emit=self.events.append,
        )
        self.admission = ClusterAdmission(
            own,
            ClusterLimits(self.database, clock.seconds),
            run,
            clock,
            rules,
            count_sessions=count_sessions,
            key=key,
            emit=self.events.append,
        )
        self.admission.start()

    def take_key(self, key: bytes) -> None:
        """As a reload does."""
        self.admission.configure(self._rules, key)

    def forgive(
        self, *, names: Sequence[str] = (), address: str = "", mailboxes: Sequence[str] = ()
    ) -> Any:
        """What an operator asks of this gateway."""
        return self._own.forgive({"names": names, "address": address, "mailboxes": mailboxes})

    def enter(self, mailbox: str = "alice") -> Deferred[Leave]:
        """A login."""
        return self.admission.enter(Connection("", HERE), mailbox, Terms())

    def try_password(
        self, password: bytes, *, right: bool = False, name: bytes = b"alice"
    ) -> tuple[Deferred[str], list[bool]]:
        """A login with it, and whether the directory was asked."""
        asked: list[bool] = []

        def log_in() -> Deferred[str]:
            asked.append(True)
            return succeed("in") if right else fail(WrongPassword("wrong", account="alice"))

        attempt = LoginAttempt(Peer(HERE, False, ""), name, password)
        return self.admission.attempt(attempt, log_in), asked


class Cluster:
    """Gateways, and time."""

    def __init__(self, test: SynchronousTestCase) -> None:
        ENGINES[0].clear()
        self._test = test
        self.clock = Clock()
        self.owner = ENGINES[0].owner

    def gateway(self, *, clock: Clock | None = None, **more: Any) -> Member:
        """Another gateway."""
        member = Member(clock or self.clock, **more)
        self._test.addCleanup(member.database.close)
        (clock or self.clock).advance(0)
        return member

    def pass_time(self, seconds: int, *clocks: Clock) -> None:
        """Let the database's clock go on, and those of gateways."""
        for _ in range(seconds):
            self.shift(1)
            for clock in clocks or (self.clock,):
                clock.advance(1)

    def shift(self, seconds: float) -> None:
        """Let the database's clock alone go on."""
        by = f"- {seconds} * interval '1 second'"

        def shift(cursor: Any, _: bool) -> None:
            for table, column in (("member", "until"), ("login", "at"), ("guess", "at")):
                cursor.execute(f"UPDATE pop3gw.{table} SET {column} = {column} {by}")

        self.owner.transact(shift)

    def sessions(self, mailbox: str = "alice") -> int:
        """How many the database has of members that live."""
        rows = self.owner.read(
            "SELECT count(*) FROM pop3gw.login, unnest(sessions) one"
            " JOIN pop3gw.member ON id = one >> 32 WHERE mailbox = %s AND until > now()",
            (mailbox,),
        )
        return int(rows[0][0])


def bench_on(url: Callable[[], str]) -> Callable[[SynchronousTestCase], AdmissionBench]:
    """What ``admission_tests`` takes: one gateway of a cluster, with the database at ``url``."""

    def bench(test: SynchronousTestCase) -> AdmissionBench:
        cluster = Cluster(test)
        member = cluster.gateway(
            url=url(),
            limits=ConnectionLimits(CONNECTIONS, PER_ADDRESS, PER_USER),
            login_delay=f"{LOGIN_DELAY} USER",
            throttle=ThrottleLimits(free=FREE, delay=DELAY),
        )

        def advance(seconds: float) -> None:
            cluster.shift(seconds)
            cluster.clock.advance(seconds)

        return AdmissionBench(member.admission, advance)

    return bench
