"""Shares of limits: never more than the limit, never refused below it, whatever the order."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from gateway.admission.shares import Key, ParentShares, WorkerShares

KEYS = (Key("user", "alice"), Key("user", "bob"))


class Processes:
    """A parent and its workers, with messages that arrive when the test says so."""

    def __init__(self, limit: int, workers: int) -> None:
        self.limit, self.count = limit, workers
        self.parent = ParentShares({"user": limit}, workers, self._to_worker, self._began)
        self.workers: dict[int, WorkerShares] = {}
        self.to_parent: dict[int, deque[tuple[str, Any]]] = {}
        self.to_worker: dict[int, deque[tuple[str, Any]]] = {}
        self.counted: Counter[tuple[int, Key]] = Counter()
        self.open: Counter[int] = Counter()
        self.refused = 0
        self.rounds: list[tuple[Key, int]] = []
        self.messages = 0
        for number in range(workers):
            self.start(number)

    def _to_worker(self, worker: int, name: str, body: object) -> None:
        self.messages += 1
        self.to_worker[worker].append((name, body))

    def _began(self, key: Key, number: int) -> None:
        self.rounds.append((key, number))

    def start(self, number: int) -> None:
        """A worker begins."""
        self.to_worker[number] = deque()
        queue = self.to_parent[number] = deque()

        def tell(name: str, body: object) -> None:
            self.messages += 1
            queue.append((name, body))

        shares = self.parent.join(number)
        worker = self.workers[number] = WorkerShares({"user": self.limit}, self.count, tell)
        for share in shares:
            worker.take_share(share)

    def kill(self, number: int) -> None:
        """A worker ends: its sessions, and its messages, are gone."""
        del self.workers[number], self.to_worker[number], self.to_parent[number]
        for key in KEYS:
            del self.counted[number, key]
        del self.open[number]
        self.parent.leave(number)

    def enter(self, number: int, key: Key) -> None:
        """A client comes."""
        worker = self.workers[number]
        if worker.take(key):
            self.counted[number, key] += 1
            return
        self.open[number] += 1

        def decided(is_counted: bool) -> None:
            self.open[number] -= 1
            if is_counted:
                self.counted[number, key] += 1
            else:
                self.refused += 1

        worker.want(key, decided)

    def leave(self, number: int, key: Key) -> None:
        """A client goes, if there is one."""
        if self.counted[number, key]:
            self.counted[number, key] -= 1
            self.workers[number].leave(key)

    def deliver(self, number: int, *, down: bool) -> bool:
        """The oldest message of a direction arrives; False: there is none."""
        queue = (self.to_worker if down else self.to_parent).get(number)
        if not queue:
            return False
        name, body = queue.popleft()
        if down:
            worker = self.workers[number]
            (worker.take_share if name == "share" else worker.take_spare)(body)
        elif name == "want":
            self.parent.take_want(number, body)
        else:
            self.parent.take_share(number, body)
        return True

    def drain(self) -> None:
        """Everything arrives."""
        while any(
            self.deliver(number, down=down)
            for number in list(self.workers)
            for down in (True, False)
        ):
            pass

    def in_all(self, key: Key) -> int:
        """What is counted."""
        return sum(count for (_, of), count in self.counted.items() if of == key)


class SharesMachine(RuleBasedStateMachine):
    """Clients, messages and ends of workers in any order."""

    numbers = st.integers(0, 3)
    keys = st.sampled_from(KEYS)

    def __init__(self) -> None:
        super().__init__()
        self.processes = Processes(self.limit, self.workers)

    limit, workers = 5, 3

    @rule(number=numbers, key=keys, times=st.integers(1, 4))
    def clients_come(self, number: int, key: Key, times: int) -> None:
        if number in self.processes.workers:
            for _ in range(times):
                self.processes.enter(number, key)

    @rule(number=numbers, key=keys, times=st.integers(1, 4))
    def clients_go(self, number: int, key: Key, times: int) -> None:
        for _ in range(times):
            self.processes.leave(number, key)

    @rule(number=numbers, down=st.booleans(), times=st.integers(1, 4))
    def messages_arrive(self, number: int, down: bool, times: int) -> None:
        for _ in range(times):
            self.processes.deliver(number, down=down)

    @rule(number=numbers)
    def a_worker_ends_or_begins(self, number: int) -> None:
        if number in self.processes.workers:
            self.processes.kill(number)
        elif number < self.workers:
            self.processes.start(number)

    @rule()
    def a_round_takes_too_long(self) -> None:
        for key, number in self.processes.rounds:
            self.processes.parent.end_round(key, number)
        self.processes.rounds.clear()

    @rule(number=numbers)
    def the_parent_is_away(self, number: int) -> None:
        if number in self.processes.workers:
            worker = self.processes.workers[number]
            for wanted in list(worker._wanted):
                worker.give_up(wanted)

    @rule(number=numbers, key=keys)
    def when_all_messages_arrived_the_limit_is_exact(self, number: int, key: Key) -> None:
        processes = self.processes
        if number not in processes.workers:
            return
        processes.drain()
        is_room, refused = processes.in_all(key) < self.limit, processes.refused
        processes.enter(number, key)
        processes.drain()
        assert (processes.refused == refused) is is_room
        assert not any(processes.open.values())

    @rule()
    def when_all_clients_have_gone_nothing_is_kept(self) -> None:
        processes = self.processes
        processes.drain()
        for number in processes.workers:
            for key in KEYS:
                while processes.counted[number, key]:
                    processes.leave(number, key)
        processes.drain()
        assert not [*processes.parent.contested]
        for worker in processes.workers.values():
            assert not worker._offsets
            assert not worker._used

    @invariant()
    def never_more_than_the_limit(self) -> None:
        for key in KEYS:
            assert self.processes.in_all(key) <= self.limit


class OneEachMachine(SharesMachine):
    """A limit of one, which no worker has a share of."""

    limit, workers = 1, 2


SharesTests = SharesMachine.TestCase
OneEachTests = OneEachMachine.TestCase
SharesTests.settings = OneEachTests.settings = settings(max_examples=60, stateful_step_count=40)


class CostTests(SynchronousTestCase):
    def test_a_worker_within_its_share_tells_nothing(self) -> None:
        processes = Processes(16, 2)
        for _ in range(100):
            for _ in range(8):
                processes.enter(0, KEYS[0])
            for _ in range(8):
                processes.leave(0, KEYS[0])
        self.assertEqual(processes.messages, 0)

    def test_beyond_its_share_it_is_granted_more_than_it_asks_for(self) -> None:
        processes = Processes(10_000, 2)
        for _ in range(9_000):
            processes.enter(0, KEYS[0])
            processes.drain()
        self.assertEqual((processes.in_all(KEYS[0]), processes.refused), (9_000, 0))
        self.assertLess(processes.messages, 100)

    @given(st.integers(1, 40), st.integers(1, 5), st.lists(st.integers(0, 4), max_size=60))
    def test_a_crowd_over_all_workers_gets_exactly_the_limit(
        self, limit: int, workers: int, crowd: list[int]
    ) -> None:
        processes = Processes(limit, workers)
        for number in crowd:
            processes.enter(number % workers, KEYS[0])
        processes.drain()
        self.assertEqual(processes.in_all(KEYS[0]), min(limit, len(crowd)))
