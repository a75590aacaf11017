"""The admission of one process keeps to the contract; sessions wait for one that takes its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from admission_of_workers import Workers
from certificates import own_certificate
from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.admission.throttle import ThrottleLimits
from gateway.errors import LoginTooSoon, TooManySessions
from gateway.interfaces import IAdmission, Leave
from gateway.model import Connection, LoginAttempt, Peer, Terms
from gateway.net.acceptor import Acceptor
from gateway.net.tls.certificates import Certificate
from gateway.net.tls.context import TLSContext
from gateway.net.tls.transport import TLSFactory
from gateway.pop3.profile import Profile
from gateway.testing.admission_contract import (
    CONNECTIONS,
    DELAY,
    FREE,
    LOGIN_DELAY,
    PER_ADDRESS,
    PER_USER,
    AdmissionBench,
    admission_tests,
)
from harness import ALICE, Client, Line, Wire

T = TypeVar("T")


def local_bench(_: SynchronousTestCase) -> AdmissionBench:
    """Of one process."""
    clock = Clock()
    admission = LocalAdmission(
        lambda: clock,
        limits=ConnectionLimits(CONNECTIONS, PER_ADDRESS, PER_USER),
        throttle=ThrottleLimits(free=FREE, delay=DELAY),
        profile=Profile(login_delay=f"{LOGIN_DELAY} USER"),
    )
    return AdmissionBench(admission, clock.advance)


class LocalAdmissionTests(admission_tests(local_bench)):  # type: ignore[misc]
    pass


def workers_bench(count: int) -> Callable[[SynchronousTestCase], AdmissionBench]:
    """One worker of so many."""

    def bench(_: SynchronousTestCase) -> AdmissionBench:
        workers = Workers(count, Clock())
        return AdmissionBench(workers.admissions[0], workers.advance)

    return bench


class OnlyWorkerTests(admission_tests(workers_bench(1))):  # type: ignore[misc]
    pass


class OneOfTwoWorkersTests(admission_tests(workers_bench(2))):  # type: ignore[misc]
    pass


class OneOfFiveWorkersTests(admission_tests(workers_bench(5))):  # type: ignore[misc]
    pass


@implementer(IAdmission)
class SlowAdmission:
    """Answers when the test says so."""

    def __init__(self, local: LocalAdmission) -> None:
        self._local = local
        self.asked: list[tuple[Deferred[None], Deferred[object]]] = []

    def _later(self, ask: Callable[[], Deferred[T]]) -> Deferred[T]:
        begun: Deferred[None] = Deferred()
        answer = begun.addCallback(lambda _: ask())
        self.asked.append((begun, answer))  # type: ignore[arg-type]
        return answer  # type: ignore[return-value]

    def go(self, error: Exception | None = None) -> None:
        """Answer the first question."""
        begun, _ = self.asked.pop(0)
        if error is None:
            begun.callback(None)
        else:
            begun.errback(error)

    def connect(self, connection: Connection) -> Deferred[Leave]:
        """Later."""
        return self._later(lambda: self._local.connect(connection))

    def attempt(self, attempt: LoginAttempt, log_in: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Later."""
        return self._later(lambda: self._local.attempt(attempt, log_in))

    def check(self, mailbox: str, terms: Terms) -> Deferred[None]:
        """Later."""
        return self._later(lambda: self._local.check(mailbox, terms))

    def enter(self, connection: Connection, mailbox: str, terms: Terms) -> Deferred[Leave]:
        """Later."""
        return self._later(lambda: self._local.enter(connection, mailbox, terms))


class SlowTests(SynchronousTestCase):
    def setUp(self) -> None:
        made: list[SlowAdmission] = []

        def slow(local: LocalAdmission) -> SlowAdmission:
            made.append(SlowAdmission(local))
            return made[-1]

        self.wire = Wire(limits=ConnectionLimits(connections=1, per_user=1), admission=slow)
        (self.slow,) = made

    def let_in(self) -> Client:
        """A client with its greeting."""
        client = self.wire.connect()
        self.slow.go()
        client.greeting = client.read()
        return client

    def test_nothing_is_read_and_nothing_is_sent_before_the_answer(self) -> None:
        client = self.wire.connect()
        self.assertEqual((client.greeting, client.line.producerState), (b"", "paused"))
        self.slow.go()
        self.assertTrue(client.read().startswith(b"+OK "))
        self.assertEqual(client.line.producerState, "producing")

    def test_over_tls_no_handshake_begins_before_the_answer(self) -> None:
        paths = own_certificate(self)
        certificate = TLSContext([Certificate(*paths)], minimum="1.2")
        wire = TLSFactory(certificate, self.wire.factory)
        line = Line("192.0.2.1")
        protocol = Acceptor("pop3s", wire, secure=True).buildProtocol(line.getPeer())
        assert protocol is not None
        protocol.makeConnection(line)
        self.assertEqual((line.value(), line.producerState), (b"", "paused"))
        self.slow.go(TooManySessions("full"))
        self.assertEqual((line.value(), line.aborted), (b"", True))

    def test_a_late_refusal_closes_the_connection(self) -> None:
        self.let_in()
        second = self.wire.connect()
        self.slow.go()
        self.assertTrue(second.read().startswith(b"-ERR [SYS/TEMP] "))
        self.assertTrue(second.closed)

    def test_a_client_that_went_meanwhile_gives_its_place_back(self) -> None:
        client = self.wire.connect()
        client.hang_up()
        self.slow.go()
        self.assertEqual(client.read(), b"")
        self.assertTrue(self.let_in().greeting.startswith(b"+OK "))
        self.assertEqual(self.wire.clock.getDelayedCalls()[1:], [])

    def test_an_internal_error_of_admission_closes_the_connection(self) -> None:
        client = self.wire.connect()
        self.slow.go(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(client.line.aborted)
        client.hang_up()
        self.assertTrue(self.let_in().greeting.startswith(b"+OK "))

    def test_a_server_that_stops_lets_nobody_in(self) -> None:
        client = self.wire.connect()
        self.assertIsNone(self.successResultOf(self.wire.factory.drain(1)))
        self.slow.go()
        self.assertEqual(client.read(), b"")
        self.assertTrue(client.line.aborted)

    def test_commands_wait_for_each_answer_of_a_login(self) -> None:
        client = self.let_in()
        self.assertTrue(client.send(b"USER " + ALICE.encode()).startswith(b"+OK "))
        self.assertEqual(client.send(b"PASS wonderland", b"STAT", b"QUIT"), b"")
        for _ in ("attempt", "check"):
            self.slow.go()
            self.assertEqual(client.read(), b"")
        self.slow.go()
        self.assertEqual(client.read().count(b"+OK "), 3)

    def test_a_login_that_enter_refuses_gives_its_maildrop_back(self) -> None:
        client = self.let_in()
        for error, code in ((LoginTooSoon(), b"LOGIN-DELAY"), (TooManySessions(), b"SYS/TEMP")):
            client.log_in()
            self.slow.go()
            self.slow.go()
            self.slow.go(error)
            self.assertIn(code, client.read())
        client.log_in()
        for _ in range(3):
            self.slow.go()
        self.assertTrue(client.read().startswith(b"+OK "))

    def test_a_client_that_went_before_enter_answered_leaves_no_session(self) -> None:
        client = self.let_in()
        client.log_in()
        self.slow.go()
        self.slow.go()
        client.hang_up()
        self.slow.go()
        again = self.let_in()
        again.log_in()
        for _ in range(3):
            self.slow.go()
        self.assertTrue(again.read().startswith(b"+OK "))


class LoginAttemptTests(SynchronousTestCase):
    def test_its_representation_has_no_password(self) -> None:
        attempt = LoginAttempt(Peer("192.0.2.1", True, "1"), b"alice", b"wonderland")
        self.assertIn("alice", repr(attempt))
        self.assertNotIn("wonderland", repr(attempt))
