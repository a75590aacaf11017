"""The last login to each mailbox: what is stored, when, and what an outage of the state costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import StoreDown
from gateway.events import LoginSucceeded
from gateway.jobs.last_logins import EVERY, MOST, LastLogins
from gateway.model import Connection, LastLogin
from gateway.state.memory import MemoryState


class SlowState(MemoryState):
    """A state whose thread ends when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Deferred[None], Mapping[str, LastLogin]]] = []

    def keep_logins(self, logins: Mapping[str, LastLogin]) -> Deferred[None]:
        """Begin, and do not end."""
        begun: Deferred[None] = Deferred()
        self.calls.append((begun, dict(logins)))
        return begun

    def end(self, failure: Exception | None = None) -> None:
        """End the oldest call."""
        begun, logins = self.calls.pop(0)
        if failure is not None:
            begun.errback(failure)
        else:
            super().keep_logins(logins)
            begun.callback(None)


class LastLoginsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.state = SlowState()
        self.logins = LastLogins(self.state, clock=self.clock, now=lambda: self.clock.seconds())

    def log_in(self, mailbox: str, host: str = "192.0.2.1", method: str = "PASS") -> None:
        """Somebody logs in."""
        event = LoginSucceeded(Connection("c1", host), mailbox, mailbox, method)
        self.logins.subscription[LoginSucceeded](event)

    def stored(self) -> Any:
        """What the state has."""
        return self.successResultOf(self.state.last_logins("", 2 * MOST))

    def test_all_logins_of_a_few_seconds_are_stored_by_one_call(self) -> None:
        self.log_in("alice", "127.0.0.1")
        self.clock.advance(1)
        self.log_in("bob", "10.1.2.3", "NTLM")
        self.log_in("alice", "2001:4860:4860::8888")
        self.assertEqual(self.state.calls, [])
        self.clock.advance(EVERY)
        self.assertEqual(len(self.state.calls), 1)
        self.state.end()
        alice, bob = LastLogin(1.0, "PASS", "public"), LastLogin(1.0, "NTLM", "private")
        self.assertEqual(self.stored(), {"alice": alice, "bob": bob})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_client_of_a_unix_socket_is_local(self) -> None:
        self.log_in("alice", "")
        self.clock.advance(EVERY)
        self.state.end()
        self.assertEqual(self.stored()["alice"].network, "local")

    def test_logins_wait_for_the_disk_here_and_not_in_the_queue_of_threads(self) -> None:
        self.log_in("alice")
        self.clock.advance(EVERY)
        self.log_in("bob")
        self.clock.pump([EVERY] * 5)
        self.assertEqual(len(self.state.calls), 1)
        self.state.end()
        self.clock.advance(EVERY)
        self.state.end()
        self.assertEqual(list(self.stored()), ["alice", "bob"])

    def test_what_could_not_be_stored_is_stored_with_the_next_logins(self) -> None:
        self.log_in("alice")
        self.log_in("bob")
        self.clock.advance(EVERY)
        self.log_in("bob")
        self.state.end(StoreDown("disk full"))
        self.clock.advance(EVERY)
        self.state.end()
        self.assertEqual(
            {name: one.at for name, one in self.stored().items()}, {"alice": 0.0, "bob": EVERY}
        )

    def test_an_outage_costs_no_more_memory_than_its_bound(self) -> None:
        for number in range(MOST + 5):
            self.log_in(f"user{number}")
        self.log_in("user0", "127.0.0.1")
        self.clock.advance(EVERY)
        self.state.end()
        self.assertEqual(len(self.stored()), MOST)
        self.assertEqual(self.stored()["user0"].network, "local")

    def test_a_stop_waits_for_what_was_begun_and_stores_the_rest(self) -> None:
        self.log_in("alice")
        self.clock.advance(EVERY)
        self.log_in("bob")
        stopped = self.logins.stop()
        self.assertNoResult(stopped)
        self.state.end(StoreDown("disk full"))
        self.assertNoResult(stopped)
        self.state.end()
        self.successResultOf(stopped)
        self.assertEqual(list(self.stored()), ["alice", "bob"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_operator_has_logins_stored_at_once(self) -> None:
        self.log_in("alice")
        stored = self.logins.store_now()
        again = self.logins.store_now()
        self.assertEqual(len(self.state.calls), 1)
        self.assertNoResult(stored)
        self.state.end()
        for one in (stored, again, self.logins.store_now()):
            self.successResultOf(one)
        self.assertEqual(list(self.stored()), ["alice"])
        self.clock.advance(EVERY)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_stop_ends_though_nothing_can_be_stored(self) -> None:
        self.log_in("alice")
        stopped = self.logins.stop()
        self.state.end(StoreDown("disk full"))
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
