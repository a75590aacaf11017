"""What every state and every leader promises: memory, ledger and file lock pass the same suites."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import LedgerUnusable
from gateway.state.leader import FlockLeader
from gateway.state.ledger import LedgerState
from gateway.state.ledger_file import NAME
from gateway.state.memory import MemoryLeader, MemoryState
from gateway.testing.state_contract import leader_tests, state_tests
from gateway.testing.store_contract import run_now


def directory(test: SynchronousTestCase) -> str:
    """A state directory."""
    path = os.path.abspath(test.mktemp())
    os.mkdir(path)
    return path


def memory(_: SynchronousTestCase) -> Callable[[], MemoryState]:
    state = MemoryState()
    return lambda: state


def ledger(test: SynchronousTestCase) -> Callable[[], LedgerState]:
    path = directory(test)

    def opened() -> LedgerState:
        state = LedgerState(path, run_now)
        test.addCleanup(state.close)
        return state

    return opened


def seat(_: SynchronousTestCase) -> Callable[[], MemoryLeader]:
    leaders: list[object] = []
    return lambda: MemoryLeader(leaders)


def lock(test: SynchronousTestCase) -> Callable[[], FlockLeader]:
    path = directory(test)

    def candidate() -> FlockLeader:
        leader = FlockLeader(path, run_now)
        test.addCleanup(leader.resign)
        return leader

    return candidate


class MemoryStateTests(state_tests(memory)):  # type: ignore[misc]
    pass


class LedgerStateTests(state_tests(ledger)):  # type: ignore[misc]
    pass


class MemoryLeaderTests(leader_tests(seat)):  # type: ignore[misc]
    pass


class FlockLeaderTests(leader_tests(lock)):  # type: ignore[misc]
    pass


class Later:
    """What the workers are to do, done when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        """As a worker has it."""
        answer: Deferred[Any] = Deferred()
        self.waiting.append(lambda: maybeDeferred(work).chainDeferred(answer))
        return answer

    def go(self) -> None:
        """Do all of it."""
        while self.waiting:
            self.waiting.pop(0)()


class OpeningTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = directory(self)
        self.workers = Later()
        self.opened = 0

    def state(self) -> LedgerState:
        """One that nobody has asked yet."""
        state = LedgerState(self.path, self.workers.run)
        self.addCleanup(state.close_now)
        return state

    def test_the_ledger_is_opened_once_for_all_who_ask_and_for_all_marks(self) -> None:
        connect, opened = sqlite3.connect, list[Any]()
        self.patch(sqlite3, "connect", lambda *a, **k: opened.append(a) or connect(*a, **k))  # type: ignore[func-returns-value]
        state = self.state()
        answers = [state.orders(), state.last_scans("", 99), state.count_removed(1, 1)]
        self.assertEqual(opened, [])
        self.workers.go()
        for answer in answers:
            self.successResultOf(answer)
        state.high_water("/mail/alice", 5)
        self.assertEqual(len(opened), 1)

    def test_a_ledger_that_could_not_be_opened_is_tried_again(self) -> None:
        os.rmdir(self.path)
        state = self.state()
        answers = [state.orders(), state.orders()]
        self.workers.go()
        for answer in answers:
            self.failureResultOf(answer, LedgerUnusable)
        os.mkdir(self.path)
        again = state.orders()
        self.workers.go()
        self.assertEqual(self.successResultOf(again), {})

    def test_a_ledger_that_nobody_wants_is_not_made(self) -> None:
        closed = self.state().close()
        self.assertEqual(self.workers.waiting, [])
        self.successResultOf(closed)
        self.assertEqual(os.listdir(self.path), [])

    def test_the_ledger_is_closed_at_the_end(self) -> None:
        state = self.state()
        state.orders()
        self.workers.go()
        self.assertGreater(len(os.listdir(self.path)), 1)
        closed = state.close()
        self.workers.go()
        self.successResultOf(closed)
        self.assertEqual(os.listdir(self.path), [NAME])

    def test_it_is_closed_once_all_have_their_answers_and_is_not_opened_again(self) -> None:
        state = self.state()
        asked = [state.orders(), state.last_scans("", 99)]
        closed = state.close()
        late = state.orders()
        self.failureResultOf(late, LedgerUnusable)
        self.assertNoResult(closed)
        self.workers.go()
        for answer in asked:
            self.assertEqual(self.successResultOf(answer), {})
        self.successResultOf(closed)
        self.assertRaises(LedgerUnusable, state.high_water, "/a", 1)
        self.assertEqual(os.listdir(self.path), [NAME])

    def test_a_state_directory_that_is_moved_keeps_what_it_knows_of_maildirs_in_it(self) -> None:
        state = self.state()
        state.high_water(f"{self.path}/a", 500)
        state.close_now()
        os.rename(self.path, f"{self.path}.moved")
        self.path += ".moved"
        self.assertEqual(self.state().high_water(f"{self.path}/a", 0), 500)

    def test_a_file_that_is_no_ledger_is_for_the_administrator(self) -> None:
        Path(self.path, NAME).write_bytes(b"garbage" * 1000)
        self.assertRaises(LedgerUnusable, self.state().high_water, "/a", 1)
