"""Retention through months, on a clock that is advanced and a store that keeps account."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock, deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.directory.memory import MemoryDirectory
from gateway.errors import DirectoryDown, MailboxUnusable, NoSuchMailbox, StoreDown
from gateway.interfaces import Run
from gateway.jobs.expunger import Budget, Expunger
from gateway.jobs.rate_limit import RateLimit
from gateway.jobs.retention import Mailboxes, RetentionJob
from gateway.mailboxes.owners import AllMailboxes
from gateway.model import Account, LastScan, RetentionOrder
from gateway.retention.policies import Policies
from gateway.retention.removal_guard import Guard
from gateway.state.ledger import Ledger, LedgerState
from gateway.state.memory import MemoryLeader
from harness import ALICE, Wire
from kept_mail import KeptMail
from long_lists import Threads

HOUR, DAY = 3600.0, 86_400.0
EXAMPLE = "unread 60d, read 7d"
UNGUARDED = Guard(share=1.0)
START = 1_800_000_000.0
LATE = 1.25 * HOUR + 60
"""A message goes so late at most: a round's time, its mailbox's share of the spread, a turn."""


class House:
    """A store and a directory, and whoever sweeps there."""

    def __init__(
        self,
        case: SynchronousTestCase,
        *,
        policy: str = EXAMPLE,
        guard: Guard = UNGUARDED,
        own: Mapping[str, str] | None = None,
        listen: float = 60.0,
        every: float = HOUR,
        run: Run = maybeDeferred,
    ) -> None:
        self.thread = run
        self.clock = Clock()
        self.wrong_by = START
        """Seconds by which the time of day differs from the clock."""
        self.store = KeptMail(self.now)
        self.policy, self.guard, self.listen, self.every = policy, guard, listen, every
        self.own = dict(own or {})
        self.load = 0
        self.rate, self.batch = 1e6, 100
        self.directory: Any = MemoryDirectory({})
        self.path = case.mktemp()
        os.mkdir(self.path)
        self.ledger = Ledger(self.path)
        self.state = LedgerState(self.path, maybeDeferred)
        case.addCleanup(lambda: self.ledger.close())
        case.addCleanup(self.state.close)
        self.leaders: list[object] = []
        """Who leads, if anybody does."""
        self.candidates: dict[RetentionJob, MemoryLeader] = {}

    def now(self) -> float:
        """The time of day."""
        return self.wrong_by + self.clock.seconds()

    def retention_job(self) -> RetentionJob:
        """One more, which begins."""
        rate_limit = RateLimit(self.clock, rate=self.rate, load=lambda: self.load, most=4)
        budget = Budget(self.guard, self.state, self.now)
        seconds = self.clock.seconds
        expunger = Expunger(
            self.store,
            rate_limit,
            budget,
            self.guard,
            batch=self.batch,
            run=self.thread,
            now=self.now,
            seconds=seconds,
        )
        retention_job = RetentionJob(
            Mailboxes(
                AllMailboxes(self, self.store, maybeDeferred, hosts=()), Policies(self.policy)
            ),
            expunger,
            budget,
            rate_limit,
            self.state,
            leader := MemoryLeader(self.leaders),
            maybeDeferred,
            clock=self.clock,
            now=self.now,
            every=self.every,
            listen=self.listen,
        )
        self.candidates[retention_job] = leader
        retention_job.start()
        self.run(0)
        return retention_job

    def owner(self, mailbox: str) -> Deferred[Account | None]:
        """As a directory does, in which everybody is."""
        return succeed(Account(name=mailbox, mailbox=mailbox, retention=self.own.get(mailbox, "")))

    def run(self, seconds: float) -> None:
        """Let time pass, from one call to the next."""
        end = self.clock.seconds() + seconds
        while (calls := self.clock.getDelayedCalls()) and calls[0].getTime() <= end:
            self.clock.advance(max(calls[0].getTime() - self.clock.seconds(), 0))
        self.clock.advance(end - self.clock.seconds())

    def release(self, mailbox: str) -> None:
        """As an operator does."""
        policy = self.ledger.last_scans("", 99)[mailbox].policy
        self.ledger.add_order(mailbox, RetentionOrder(self.now(), self.now(), policy))

    def count(self, mailbox: str) -> int:
        """How many messages are there."""
        return len(self.store.mail[mailbox])


class SweeperCase(SynchronousTestCase):
    def listen(self) -> list[str]:
        """What is logged from here on."""
        said: list[str] = []

        def hear(event: Any) -> None:
            said.append(str(event["log_format"]).format(**event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        return said


class MonthsTests(SweeperCase):
    @pytest.mark.conformance("X-E0005")
    def test_unread_mail_goes_after_60_days_and_read_mail_after_7(self) -> None:
        house = House(self, listen=HOUR)
        wire = Wire(store=house.store)
        house.clock = wire.clock
        read, unread = house.store.add(ALICE, 2)
        house.retention_job()
        house.run(30 * DAY)
        client = wire.login()
        self.assertTrue(client.send(b"RETR 1").startswith(b"+OK"))
        client.send(b"QUIT")

        def shown() -> list[str]:
            client = wire.login()
            uids = [line.split()[1].decode() for line in client.lines(b"UIDL")]
            client.send(b"QUIT")
            return uids

        house.run(7 * DAY - 1)
        self.assertEqual(shown(), [read, unread])
        house.run(LATE + HOUR)
        self.assertEqual(shown(), [unread])
        house.run(23 * DAY - LATE - HOUR)
        self.assertEqual(shown(), [unread])
        house.run(LATE + HOUR)
        self.assertEqual(shown(), [])
        self.assertEqual([one.rule for one in house.store.removals], ["read 7d", "unread 60d"])

    def test_a_session_that_listed_a_removed_message_gets_err_for_it(self) -> None:
        house = House(self, policy="any 1d")
        house.store.add(ALICE, 2, age=2 * DAY)
        wire = Wire(store=house.store)
        house.clock = wire.clock
        client = wire.login()
        house.retention_job()
        for _ in range(int(LATE / 300) + 1):
            house.run(300)
            self.assertTrue(client.send(b"NOOP").startswith(b"+OK"))
        self.assertEqual(house.count(ALICE), 0)
        self.assertTrue(client.send(b"STAT").startswith(b"+OK 2 "))
        self.assertTrue(client.send(b"RETR 1").startswith(b"-ERR"))
        self.assertTrue(client.send(b"QUIT").startswith(b"+OK"))

    def test_only_threads_go_through_all_messages_of_a_mailbox(self) -> None:
        threads = Threads()
        house = House(self, policy="any 1d, hide 1d", run=threads.run)
        scan, list_hidden = house.store.scan, house.store.list_hidden

        def long(answer: Deferred[Any]) -> Deferred[Any]:
            return answer.addCallback(threads.long)

        house.store.scan = lambda account: long(scan(account))  # type: ignore[method-assign]
        house.store.list_hidden = lambda account: long(list_hidden(account))  # type: ignore[method-assign]
        house.store.add("a", 5)
        house.retention_job()
        house.run(DAY + LATE)
        self.assertEqual((house.count("a"), len(house.store.away["a"])), (0, 5))
        house.run(DAY + LATE)
        self.assertEqual(len(house.store.away["a"]), 0)

    def test_orders_that_take_long_to_read_are_read_in_a_tenth_of_the_time(self) -> None:
        house, asked = House(self), list[float]()
        orders = house.state.orders

        def late() -> Deferred[Any]:
            asked.append(house.clock.seconds())
            return deferLater(house.clock, 30, orders)

        house.state.orders = late  # type: ignore[method-assign,assignment]
        house.retention_job()
        house.run(HOUR)
        self.assertGreaterEqual(min(b - a for a, b in pairwise(asked)), 300)
        self.assertGreaterEqual(len(asked), HOUR / 400)

    def test_a_state_that_did_not_answer_a_new_leader_is_asked_again(self) -> None:
        house = House(self, policy="any 1d")
        house.store.add("a")
        house.retention_job()
        house.leaders.clear()
        scanned = house.store.scans["a"]
        last_scans = house.state.last_scans
        house.state.last_scans = lambda *_: fail(StoreDown("down"))  # type: ignore[method-assign]
        job = house.retention_job()
        self.assertFalse(job.is_leading)
        house.state.last_scans = last_scans  # type: ignore[method-assign]
        house.run(60)
        self.assertTrue(job.is_leading)
        self.assertEqual(house.store.scans["a"], scanned)

    def test_a_message_a_day_for_a_year_goes_when_it_is_due_and_never_before(self) -> None:
        house = House(self, listen=HOUR)
        came: dict[str, float] = {}
        was_read: dict[str, float] = {}
        house.store.add("a", 0)
        house.retention_job()
        for day in range(365):
            (uid,) = house.store.add("a")
            came[uid] = house.now()
            if day % 3 == 0:
                house.run(DAY / 3)
                house.store.read("a", uid)
                was_read[uid] = house.now()
                house.run(DAY * 2 / 3)
            else:
                house.run(DAY)
        for one in house.store.removals:
            due = was_read[one.uid] + 7 * DAY if one.uid in was_read else came[one.uid] + 60 * DAY
            self.assertTrue(0 <= one.when - due <= LATE + HOUR, one)
        self.assertGreater(len(house.store.removals), 300)
        self.assertEqual(house.count("a"), 365 - len(house.store.removals))

    def test_ten_thousand_mailboxes_are_looked_at_only_when_something_can_be_due(self) -> None:
        house = House(self, policy="any 30d", listen=HOUR, every=8 * HOUR)
        names = [f"u{number}" for number in range(10_000)]
        for number, name in enumerate(names):
            house.store.add(name, 2, age=number * 60.0)
        house.retention_job()
        house.run(45 * DAY)
        self.assertEqual(sum(map(len, house.store.mail.values())), 0)
        self.assertEqual(len(house.store.removals), 20_000)
        late = {
            one.when - (START - int(one.mailbox[1:]) * 60.0 + 30 * DAY)
            for one in house.store.removals
        }
        self.assertGreaterEqual(min(late), 0)
        self.assertLessEqual(max(late), 11 * HOUR)
        # When it was new, when its mail was due, and once because of what might have come.
        self.assertLessEqual(max(house.store.scans.values()), 3)

    def test_hidden_messages_are_purged_when_due(self) -> None:
        house = House(self, policy="any 20d, hide 14d", listen=HOUR)
        house.store.add("a", 3)
        house.retention_job()
        house.run(20 * DAY + LATE + HOUR)
        self.assertEqual((house.count("a"), len(house.store.away["a"])), (0, 3))
        uid = next(iter(house.store.away["a"]))
        self.successResultOf(house.store.restore(Account(name="a", mailbox="a"), [uid]))
        house.run(14 * DAY + LATE + HOUR)
        rules = {(one.action, one.rule) for one in house.store.removals}
        self.assertEqual(rules, {("hide", "any 20d"), ("purge", "hide 14d")})
        self.assertEqual(len(house.store.away["a"]), 0)
        self.assertEqual(list(house.store.mail["a"]), [uid])


class FindingTests(SweeperCase):
    def test_a_new_mailbox_and_a_changed_policy_are_found_by_the_next_round(self) -> None:
        house = House(self, policy="any 1y")
        house.store.add("a", age=30 * DAY)
        house.retention_job()
        house.store.add("b", age=400 * DAY)
        house.run(HOUR + LATE)
        self.assertEqual((house.count("a"), house.count("b")), (1, 0))
        house.own["a"] = "any 7d"
        house.run(HOUR + LATE)
        self.assertEqual(house.count("a"), 0)

    def test_a_round_looks_into_no_mailbox_that_is_known(self) -> None:
        house = House(self)
        house.store.add("a")
        house.retention_job()
        house.run(7 * DAY)
        self.assertEqual(house.store.scans, {"a": 1})

    def test_a_delivery_tells_of_a_new_mailbox_before_the_next_round(self) -> None:
        house = House(self)
        retention_job = house.retention_job()
        house.store.add("a", age=90 * DAY)
        retention_job.delivered(Account(name="a", mailbox="a"))
        house.run(0)
        self.assertEqual(house.count("a"), 0)
        house.store.add("a")
        retention_job.delivered(Account(name="a", mailbox="a"))
        house.run(0)
        self.assertEqual(house.store.scans["a"], 1)

    def test_a_delivery_to_another_process_tells_the_leader_of_a_new_mailbox(self) -> None:
        house = House(self)
        house.retention_job()
        other = house.retention_job()
        house.store.add("a", age=90 * DAY)
        for _ in range(3):
            other.delivered(Account(name="a", mailbox="a"))
        house.run(60)
        self.assertEqual(house.count("a"), 0)
        scans = house.store.scans["a"]
        house.run(HOUR)
        house.store.add("a")
        other.delivered(Account(name="a", mailbox="a"))
        house.run(60)
        self.assertEqual(house.store.scans["a"], scans)

    def test_an_order_of_another_process_that_fails_is_given_again(self) -> None:
        house = House(self)
        house.retention_job()
        other = house.retention_job()
        house.store.add("a", age=90 * DAY)
        add_order = house.state.add_order
        house.state.add_order = lambda *_: fail(StoreDown("full"))  # type: ignore[method-assign]
        other.delivered(Account(name="a", mailbox="a"))
        house.run(60)
        self.assertEqual(house.count("a"), 1)
        house.state.add_order = add_order  # type: ignore[method-assign]
        other.delivered(Account(name="a", mailbox="a"))
        house.run(60)
        self.assertEqual(house.count("a"), 0)

    def test_a_mailbox_without_a_policy_is_not_scanned(self) -> None:
        house = House(self, policy="", own={"b": "never", "c": "hold, any 1d"})
        for name in "abc":
            house.store.add(name, age=1000 * DAY)
        house.retention_job()
        house.run(10 * DAY)
        self.assertEqual(house.store.scans, {"b": 1, "c": 1})
        self.assertEqual(house.store.removals, [])

    def test_a_policy_that_is_taken_away_is_forgotten(self) -> None:
        house = House(self, policy="", own={"a": "any 10d"})
        house.store.add("a")
        house.retention_job()
        self.assertEqual(list(house.ledger.last_scans("", 99)), ["a"])
        del house.own["a"]
        house.run(HOUR)
        self.assertEqual(house.ledger.last_scans("", 99), {})
        house.run(20 * DAY)
        self.assertEqual(house.count("a"), 1)

    def test_what_crowds_out_is_found_within_a_day(self) -> None:
        house = House(self, policy="newest 2")
        house.store.add("a", 2)
        house.retention_job()
        house.run(HOUR)
        house.store.add("a", 3)
        house.run(DAY + LATE)
        self.assertEqual(house.count("a"), 2)


class FailureTests(SweeperCase):
    def test_a_malformed_policy_keeps_all_mail_and_its_place_is_logged(self) -> None:
        house = House(self, policy="any 1d", own={"a": "any 1d, red 7d"})
        house.store.add("a", age=90 * DAY)
        house.store.add("b", age=90 * DAY)
        said = self.listen()
        house.retention_job()
        house.run(LATE)
        self.assertEqual((house.count("a"), house.count("b")), (1, 0))
        wrong = "retention_stopped: a: retention keeps everything: column 9: 'red': expected"
        self.assertTrue([line for line in said if line.startswith(wrong)], said)
        house.own["a"] = "any 1d, read 7d"
        house.run(HOUR + LATE)
        self.assertEqual(house.count("a"), 0)

    def test_a_mailbox_that_fails_keeps_no_other_and_is_tried_again_later_and_later(self) -> None:
        house = House(self, policy="any 1d")
        for name in "abc":
            house.store.add(name, age=90 * DAY)
        house.store.broken = {"b": StoreDown("no"), "c": ZeroDivisionError()}
        house.retention_job()
        house.run(DAY)
        self.assertEqual([house.count(name) for name in "abc"], [0, 1, 1])
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        self.assertLess(house.store.scans["b"], 45)
        self.assertGreater(house.store.scans["b"], 5)
        house.store.broken.clear()
        house.run(7 * HOUR)
        self.assertEqual([house.count(name) for name in "abc"], [0, 0, 0])

    def test_a_deleted_mailbox_is_forgotten_and_new_when_it_comes_back(self) -> None:
        house = House(self, policy="any 10d", every=DAY)
        for name in "ab":
            house.store.add(name)
        house.retention_job()
        away = {name: house.store.mail.pop(name) for name in "ab"}
        house.store.broken = {name: NoSuchMailbox(name) for name in "ab"}
        # A visit finds out in one of them, and a round in the other.
        house.ledger.add_order("a", RetentionOrder(house.now()))
        house.own["b"] = "any 5d"
        said = self.listen()
        house.run(20 * DAY)
        self.assertEqual(said, [])
        self.assertEqual(house.store.scans, {"a": 2, "b": 2})
        self.assertEqual((house.ledger.last_scans("", 99), house.ledger.orders()), ({}, {}))
        house.store.broken.clear()
        house.store.mail.update(away)
        house.run(2 * DAY)
        self.assertEqual((house.count("a"), house.count("b")), (0, 0))

    def test_a_renamed_mailbox_is_visited_when_its_mail_is_due(self) -> None:
        house = House(self, policy="any 10d")
        house.store.add("a", 3)
        house.retention_job()
        house.run(HOUR)
        house.ledger.begin_rename("a", "b")
        house.store.mail["b"] = house.store.mail.pop("a")
        house.store.broken["a"] = NoSuchMailbox("a")
        house.ledger.finish_rename("a")
        house.run(10 * DAY + LATE)
        self.assertEqual(house.count("b"), 0)
        self.assertEqual(list(house.ledger.last_scans("", 99)), ["b"])

    def test_a_mailbox_that_an_operator_deleted_counts_no_more_after_the_next_round(self) -> None:
        house = House(self, policy="any 30d", guard=Guard(share=0.25, least=100))
        for number in range(400):
            house.store.add(f"u{number}", 5)
        house.store.add("large", 10_000)
        house.store.add("stopped", 300, age=40 * DAY)
        job = house.retention_job()
        house.run(HOUR)
        self.assertEqual(dict(job.readings(house.now()))["mailboxes_stopped"], 1)
        for name in ("large", "stopped"):
            del house.store.mail[name]
            house.store.broken[name] = NoSuchMailbox(name)
            house.ledger.forget_mailbox(name)
        house.run(HOUR)
        self.assertEqual(dict(job.readings(house.now()))["mailboxes_stopped"], 0)
        house.wrong_by += 100 * DAY
        house.run(HOUR)
        self.assertEqual(len(house.store.removals), 500)

    def test_nothing_goes_while_the_directory_is_down_and_everything_is_caught_up(self) -> None:
        house = House(self, policy="any 1d")
        house.store.add("a")
        retention_job = house.retention_job()
        owner = house.owner
        house.owner = lambda _: fail(DirectoryDown("down"))  # type: ignore[method-assign]
        house.run(3 * DAY)
        self.assertEqual(house.count("a"), 1)
        house.owner = owner  # type: ignore[method-assign]
        house.run(7 * HOUR)
        self.assertEqual(house.count("a"), 0)
        self.successResultOf(retention_job.stop())

    def test_in_an_outage_all_mailboxes_wait_together_and_the_log_has_one_line(self) -> None:
        for outage, lines in ((DirectoryDown("down"), 1), (DirectoryDown("down", logged=True), 0)):
            house = House(self, policy="any 1d")
            names = [f"{number}" for number in range(150)]
            for name in names:
                house.store.add(name, age=DAY)
            house.retention_job()
            owner, asked = house.owner, []
            house.owner = lambda name: asked.append(name) or fail(outage)  # type: ignore[method-assign,func-returns-value]  # noqa: B023
            said = self.listen()
            house.run(DAY)
            self.assertEqual(len(said), lines)
            # One question in a minute, and not one for each mailbox.
            self.assertLess(len(asked), DAY / 60 + 5)
            house.owner = owner  # type: ignore[method-assign]
            house.run(2 * HOUR)
            self.assertEqual({house.count(name) for name in names}, {0})

    def test_one_mailbox_that_cannot_be_asked_for_keeps_no_round_from_the_others(self) -> None:
        house = House(self, policy="any 1d")
        for name in "abc":
            house.store.add(name, age=90 * DAY)
        owner = house.owner

        def found(name: str) -> Deferred[Account | None]:
            return fail(DirectoryDown("too slow")) if name == "a" else owner(name)

        house.owner = found  # type: ignore[method-assign]
        house.retention_job()
        house.run(DAY)
        self.assertEqual([house.count(name) for name in "abc"], [1, 0, 0])

    def test_a_store_that_cannot_tell_its_mailboxes_is_asked_again(self) -> None:
        house = House(self, policy="any 1d")
        house.store.add("a", age=90 * DAY)
        names = house.store.names
        house.store.names = lambda: fail(StoreDown("no"))  # type: ignore[method-assign]
        house.retention_job()
        house.run(HOUR)
        self.assertEqual(house.count("a"), 1)
        house.store.names = names  # type: ignore[method-assign]
        house.run(12 * HOUR)
        self.assertEqual(house.count("a"), 0)


class GuardTests(SweeperCase):
    def test_more_than_anybody_can_have_meant_stops_the_mailbox_until_it_is_released(self) -> None:
        house = House(self, policy="any 1d", guard=Guard(share=0.5, least=100))
        house.store.add("a", 200, age=90 * DAY)
        house.store.add("b", 2000)
        said = self.listen()
        house.retention_job()
        house.run(0.9 * DAY)
        self.assertEqual((house.count("a"), house.count("b")), (200, 2000))
        stopped = [line for line in said if "200 of 200 messages of mailbox a would go" in line]
        self.assertEqual(len(stopped), 1)
        self.assertIn("pop3gw retention release --config FILE a", stopped[0])
        self.assertIn("200 of 200", str(house.ledger.last_scans("", 99)["a"].stopped))
        house.release("a")
        house.run(61)
        self.assertEqual(house.count("a"), 0)
        self.assertEqual(house.ledger.orders(), {})
        self.assertIsNone(house.ledger.last_scans("", 99)["a"].stopped)

    def test_a_release_is_for_the_policy_that_the_operator_saw(self) -> None:
        for meanwhile in ("any 60d", "any 60 days"):
            house = House(self, policy="any 60d", guard=Guard(share=0.5, least=100))
            house.store.add("a", 1000, age=10 * DAY)
            house.store.add("a", 1500, age=100 * DAY)
            house.store.add("b", 20_000)
            house.retention_job()
            house.run(DAY)
            house.store.broken["a"] = MailboxUnusable("x")
            house.own["a"] = meanwhile
            house.release("a")
            house.run(3 * DAY)
            house.store.broken.clear()
            house.own["a"] = "any 1min"
            house.run(6 * HOUR + LATE)
            self.assertEqual((house.count("a"), house.ledger.orders()), (2500, {}))
            self.assertIn("2500 of 2500", str(house.ledger.last_scans("", 99)["a"].stopped))

    def test_it_stays_stopped_over_a_restart_until_the_policy_changes(self) -> None:
        house = House(self, policy="any 1d", guard=Guard(share=0.5, least=100))
        house.store.add("a", 200, age=9 * DAY)
        house.store.add("b", 2000)
        self.successResultOf(house.retention_job().stop())
        house.leaders.clear()
        house.retention_job()
        house.run(0.9 * DAY)
        self.assertEqual(house.count("a"), 200)
        house.own["a"] = "any 10d"
        house.store.add("a", 300)
        house.run(1.1 * DAY + LATE)
        self.assertEqual(house.count("a"), 300)

    def test_many_small_mailboxes_together_stop_at_the_share_of_the_store(self) -> None:
        house = House(self, policy="any 30d", guard=Guard(share=0.25, least=100))
        for number in range(400):
            house.store.add(f"u{number}", 5)
        house.retention_job()
        house.wrong_by += 100 * DAY
        house.run(HOUR)
        self.assertEqual(len(house.store.removals), 500)
        self.assertEqual(sum(map(len, house.store.mail.values())), 1500)

    def test_what_could_not_be_removed_does_not_count_for_the_share_of_a_day(self) -> None:
        house = House(self, policy="any 60d", guard=Guard(share=0.5, least=100))
        for number in range(100):
            house.store.add(f"u{number}", 44)
            house.store.add(f"u{number}", 6, age=60 * DAY - 600)
        house.retention_job()

        def broken(_: str) -> None:
            raise StoreDown("audit.log: Input/output error")

        house.store.before = broken
        house.run(12 * HOUR)
        self.assertEqual(house.ledger.count_removed(int(house.now() // DAY), 0), 0)
        house.store.before = lambda _: None
        house.run(12 * HOUR)
        self.assertEqual(len(house.store.removals), 600)
        self.assertEqual({one.stopped for one in house.ledger.last_scans("", 99).values()}, {None})

    def test_a_clock_that_jumps_ahead_and_back_costs_nothing_that_was_not_due(self) -> None:
        house = House(self, policy="any 30d", guard=Guard(share=0.25, least=100))
        house.store.add("a", 500)
        house.retention_job()
        house.wrong_by += 365 * DAY
        house.run(HOUR)
        self.assertEqual(house.count("a"), 500)
        house.wrong_by -= 365 * DAY
        house.run(29 * DAY)
        self.assertEqual(house.count("a"), 500)
        self.assertIsNone(house.ledger.last_scans("", 99)["a"].stopped)

    def test_a_clock_that_jumps_ahead_and_back_costs_no_hidden_mail(self) -> None:
        for policy in ("any 30d, hide 14d", "newest 1000, hide 14d"):
            house = House(self, policy=policy, guard=Guard(share=0.5, least=100))
            house.store.add("a", 500)
            house.store.add_hidden("a", 400, age=HOUR)
            house.retention_job()
            house.wrong_by += 365 * DAY
            house.run(HOUR + LATE)
            self.assertEqual(len(house.store.away["a"]), 400)
            self.assertIn(
                "of mailbox a would go", str(house.ledger.last_scans("", 99)["a"].stopped)
            )
            house.wrong_by -= 365 * DAY
            house.run(12 * DAY)
            self.assertEqual(len(house.store.away["a"]), 400)
            house.run(3 * DAY)
            self.assertEqual((house.count("a"), len(house.store.away["a"])), (500, 0))

    def test_a_mistyped_hide_stops_the_mailbox_until_it_is_released(self) -> None:
        house = House(self, policy="any 30d, hide 14d", guard=Guard(share=0.5, least=100))
        house.store.add("a", 2000)
        for day in range(14):
            house.store.add_hidden("a", 30, age=day * DAY)
        house.retention_job()
        house.run(HOUR)
        house.own["a"] = "any 30d, hide 14min"
        house.run(HOUR + LATE)
        self.assertEqual(len(house.store.away["a"]), 420)
        self.assertIn(
            "420 of 420 messages of the hidden mail of mailbox a would go",
            str(house.ledger.last_scans("", 99)["a"].stopped),
        )
        house.release("a")
        house.run(61)
        self.assertEqual(len(house.store.away["a"]), 0)

    def test_a_mistyped_hide_stops_many_small_mailboxes_at_the_share_of_all_hidden_mail(
        self,
    ) -> None:
        house = House(self, policy="any 30d, hide 14d", guard=Guard(share=0.5, least=100))
        names = [f"u{number}" for number in range(50)]
        for name in names:
            house.store.add(name, 200)
            house.store.add_hidden(name, 20, age=5 * DAY)
        house.retention_job()
        house.run(HOUR)
        house.own = dict.fromkeys(names, "any 30d, hide 14min")
        house.run(2 * LATE)
        self.assertEqual(sum(map(len, house.store.away.values())), 500)

    def test_a_new_leader_goes_on_with_the_purges_of_the_day(self) -> None:
        for then, purged in ((30, 500), (2, 440)):
            house = House(self, policy="any 30d, hide 14d", guard=Guard(share=0.5, least=100))
            names = [f"u{number}" for number in range(50)]
            for name in names:
                house.store.add(name, 200)
                house.store.add_hidden(name, 20, age=5 * DAY)
            first = house.retention_job()
            house.run(HOUR)
            house.own = dict.fromkeys(names[:20], "any 30d, hide 14min")
            house.run(2 * LATE)
            self.assertEqual(sum(map(len, house.store.away.values())), 600)
            self.successResultOf(first.stop())
            house.leaders.clear()
            house.retention_job()
            house.run(HOUR)
            house.own |= dict.fromkeys(names[20 : 20 + then], "any 30d, hide 14min")
            house.run(2 * LATE)
            self.assertEqual(sum(map(len, house.store.away.values())), 1000 - purged)

    def test_purges_of_the_day_stop_no_removals_where_nothing_is_to_be_purged(self) -> None:
        house = House(self, policy="any 30d, hide 14d", guard=Guard(share=0.5, least=100))
        for number in range(20):
            house.store.add_hidden(f"u{number}", 20, age=5 * DAY)
            house.own[f"u{number}"] = "any 30d, hide 14min"
            house.store.add(f"u{number}", 1)
        house.store.add_hidden("a", 600, age=14 * DAY - 4 * HOUR)
        house.store.add("a", 1000)
        house.store.add("b", 50, age=30 * DAY - 8 * HOUR)
        house.retention_job()
        house.run(8 * HOUR + LATE)
        self.assertEqual([name for name, gone in house.store.away.items() if gone], ["b"])
        self.assertEqual((house.count("a"), house.count("b")), (1000, 0))

    def test_hidden_mail_that_comes_due_day_by_day_stops_nothing(self) -> None:
        house = House(self, policy="any 30d, hide 14d", guard=Guard(share=0.5, least=10))
        for day in range(14):
            house.store.add_hidden("a", 30, age=day * DAY)
        house.store.add_hidden("b", 400)
        house.store.add("b", 400)
        house.retention_job()
        house.run(14 * DAY + LATE)
        self.assertEqual(len(house.store.removals), 820)
        self.assertEqual({one.stopped for one in house.ledger.last_scans("", 99).values()}, {None})

    def test_hidden_mail_that_became_due_while_no_server_ran_stops_nothing(self) -> None:
        house = House(self, policy="any 60d, hide 14d", guard=Guard(share=0.5, least=10))
        house.rate, house.batch = 10.0, 50
        house.store.add("a", 10)
        house.store.add_hidden("a", 4000, age=DAY)
        self.successResultOf(house.retention_job().stop())
        house.leaders.clear()
        house.run(30 * DAY)
        house.retention_job()
        house.run(2 * HOUR)
        self.assertEqual((house.count("a"), len(house.store.away["a"])), (10, 0))

    def test_a_clock_that_was_behind_only_keeps_mail_longer(self) -> None:
        house = House(self, policy="any 30d")
        house.store.add("a", 1)
        house.retention_job()
        house.run(DAY)
        house.wrong_by -= 10 * DAY
        house.run(30 * DAY)
        self.assertEqual(house.count("a"), 1)
        house.run(9 * DAY + LATE + HOUR)
        self.assertEqual(house.count("a"), 0)


class PaceTests(SweeperCase):
    def test_the_rate_limits_removals_and_other_mailboxes_get_their_turn(self) -> None:
        house = House(self, policy="any 1d")
        house.rate, house.batch = 10.0, 50
        house.store.add("a", 2000, age=3 * DAY)
        house.store.add("b", 50, age=2 * DAY)
        house.retention_job()
        house.run(2 * LATE)
        removals = house.store.removals
        self.assertEqual(len(removals), 2050)
        self.assertGreaterEqual(removals[-1].when - removals[0].when, 2000 / 10)
        last_of = {one.mailbox: one.when for one in removals}
        self.assertEqual(set(last_of), {"a", "b"})

    def test_it_waits_while_others_have_much_to_do(self) -> None:
        house = House(self, policy="any 1d")
        house.store.add("a", 5, age=3 * DAY)
        house.load = 5
        retention_job = house.retention_job()
        house.run(DAY)
        self.assertEqual((house.count("a"), house.store.scans["a"]), (5, 0))
        house.load = 4
        house.run(LATE)
        self.assertEqual(house.count("a"), 0)
        self.successResultOf(retention_job.stop())

    def test_a_hold_that_is_set_while_it_waits_for_others_is_kept(self) -> None:
        house = House(self, policy="any 1d")
        house.store.add("a", 5, age=0.5 * DAY)
        house.retention_job()
        house.load = 5
        house.run(2 * DAY)
        house.own["a"] = "hold"
        house.run(60)
        house.load = 0
        house.run(LATE)
        self.assertEqual((house.count("a"), house.store.removals), (5, []))

    def test_who_no_longer_leads_after_a_wait_for_others_removes_nothing(self) -> None:
        house = House(self, policy="any 1d")
        house.store.add("a", 5, age=0.5 * DAY)
        house.retention_job()
        house.load = 5
        house.run(2 * DAY)
        house.leaders[:] = ["another process"]
        house.load = 0
        house.run(LATE)
        self.assertEqual((house.count("a"), house.store.removals), (5, []))

    def test_who_reads_a_message_while_others_go_keeps_it(self) -> None:
        house = House(self, policy="unread 1d, read 7d")
        house.rate, house.batch = 1.0, 20
        uids = house.store.add("a", 200, age=3 * DAY)
        house.retention_job()
        while not house.store.removals:
            house.run(10)
        left = [uid for uid in uids if uid in house.store.mail["a"]]
        house.store.read("a", left[-1])
        house.run(LATE)
        self.assertEqual(list(house.store.mail["a"]), [left[-1]])

    def test_a_hold_that_is_set_while_hidden_mail_goes_keeps_the_rest(self) -> None:
        house = House(self, policy="any 30d, hide 14d")
        house.rate, house.batch = 10.0, 50
        house.store.add("a", 1)
        house.store.add_hidden("a", 20_000, age=15 * DAY)
        house.retention_job()
        while not house.store.removals:
            house.run(10)
        house.own["a"] = "hold"
        house.run(HOUR)
        # 10 a second, for as long as a scan is fresh.
        self.assertGreater(len(house.store.away["a"]), 20_000 - 500)

    def test_the_end_waits_for_the_step_that_is_being_done_and_for_no_other(self) -> None:
        house = House(self, policy="any 1d")
        house.batch = 10
        house.store.add("a", 100, age=3 * DAY)
        answer: Deferred[Any] = Deferred()
        really = house.store.remove

        def slow(*arguments: Any) -> Deferred[int]:
            done = really(*arguments)
            return answer.addCallback(lambda _: done)

        house.store.remove = slow  # type: ignore[method-assign]
        retention_job = house.retention_job()
        house.run(LATE)
        ended = retention_job.stop()
        self.assertNoResult(ended)
        answer.callback(None)
        self.successResultOf(ended)
        self.assertEqual(house.count("a"), 90)
        self.assertEqual(house.clock.getDelayedCalls(), [])


class ForecastTests(SweeperCase):
    def due(self, house: House) -> dict[str, list[tuple[float, int]]]:
        """The forecasts that are kept: days from the start, and how many messages."""
        today = int(START // DAY)
        return {
            name: [(one.day - today, one.messages) for one in due]
            for name, due in house.ledger.forecasts("", 99).items()
        }

    def test_each_visit_keeps_what_goes_day_by_day_in_place_of_what_it_kept_before(self) -> None:
        house = House(self, policy="any 10d", listen=HOUR)
        house.store.add("a", 2, age=8 * DAY)
        house.store.add("a", 1, age=0.0)
        house.retention_job()
        self.assertEqual(self.due(house), {"a": [(2, 2), (10, 1)]})
        house.run(3 * DAY)
        self.assertEqual(self.due(house), {"a": [(10, 1)]})
        house.run(8 * DAY)
        self.assertEqual((house.count("a"), self.due(house)), (0, {}))

    def test_what_is_stopped_by_the_guard_is_in_the_forecast_of_today(self) -> None:
        house = House(self, policy="any 10d", guard=Guard(least=2))
        house.store.add("a", 3, age=11 * DAY)
        house.retention_job()
        house.run(HOUR * 2)
        self.assertEqual((house.count("a"), self.due(house)), (3, {"a": [(0, 3)]}))

    def test_a_mailbox_that_is_gone_has_no_forecast(self) -> None:
        house = House(self, policy="any 10d")
        house.store.add("a", 1)
        house.retention_job()
        self.assertIn("a", self.due(house))
        house.own["a"] = "never"
        house.store.mail.pop("a")
        house.run(2 * HOUR)
        self.assertEqual(self.due(house), {})


class RestartTests(SweeperCase):
    def test_after_a_restart_only_due_mailboxes_are_scanned(self) -> None:
        house = House(self, listen=HOUR)
        for name in "abc":
            house.store.add(name)
        self.successResultOf(house.retention_job().stop())
        house.leaders.clear()
        house.store.scans.clear()
        house.run(DAY)
        house.store.add("d")
        house.own["b"] = "any 30d"
        house.retention_job()
        house.run(6 * DAY)
        self.assertEqual(house.store.scans, {"b": 1, "d": 1})
        house.run(60 * DAY)
        self.assertEqual(sum(map(len, house.store.mail.values())), 0)

    def test_a_run_that_was_cut_off_is_gone_on_with(self) -> None:
        house = House(self, policy="any 1d")
        house.rate, house.batch = 1.0, 10
        house.store.add("a", 500, age=3 * DAY)
        retention_job = house.retention_job()
        while not house.store.removals:
            house.run(10)
        self.successResultOf(retention_job.stop())
        self.assertGreater(house.count("a"), 400)
        house.leaders.clear()
        house.rate = 1e6
        house.retention_job()
        house.run(LATE)
        self.assertEqual(house.count("a"), 0)
        self.assertEqual(len({one.uid for one in house.store.removals}), 500)

    def test_of_two_on_one_ledger_only_one_removes_and_the_other_takes_over(self) -> None:
        house = House(self, policy="any 1d")
        first, second = house.retention_job(), house.retention_job()
        house.store.add("a", 50, age=3 * DAY)
        second.delivered(Account(name="a", mailbox="a"))
        house.run(HOUR + LATE)
        self.assertEqual(house.store.scans["a"], 1)
        self.assertEqual(len(house.store.removals), 50)
        self.successResultOf(first.stop())
        house.leaders.clear()
        house.store.add("a", 1, age=3 * DAY)
        house.run(DAY + LATE + HOUR)
        self.assertEqual(house.count("a"), 0)
        self.assertIs(house.leaders[0], house.candidates[second])

    def test_who_does_not_lead_reads_the_scans_of_no_mailbox_without_a_delivery(self) -> None:
        house = House(self)
        house.leaders.append("another process")
        house.ledger.keep_scan("a", LastScan(EXAMPLE, None, START, 1))
        asked: list[object] = []
        find_scans = house.state.find_scans
        house.state.last_scans = lambda *them: asked.append(them) or fail(StoreDown("no"))  # type: ignore[method-assign,func-returns-value]
        house.state.find_scans = lambda them: asked.append([*them]) or find_scans(them)  # type: ignore[method-assign,func-returns-value]
        job = house.retention_job()
        house.run(5 * HOUR)
        self.assertEqual(asked, [])
        for name in "ab":
            job.delivered(Account(name=name, mailbox=name))
        house.run(60)
        self.assertEqual(asked, [["a"], ["b"]])
        self.assertEqual(list(house.ledger.orders()), ["b"])

    def test_who_no_longer_leads_holds_nothing_and_knows_all_when_it_leads_again(self) -> None:
        house = House(self, policy="any 30d", guard=Guard(share=0.5, least=5))
        for name in "abc":
            house.store.add(name, 10, age=29 * DAY)
        house.store.add("d", 10, age=40 * DAY)
        house.store.add("e", 100)
        job = house.retention_job()
        house.run(HOUR + LATE)
        figures = {"mailboxes": 4.0, "mailboxes_due": 0.0, "mailboxes_stopped": 1.0}
        self.assertLessEqual(figures.items(), dict(job.readings(house.now())).items())
        house.leaders[:] = ["another process"]
        house.run(60)
        self.assertEqual(set(dict(job.readings(house.now())).values()), {0})
        house.leaders.clear()
        house.run(60)
        self.assertLessEqual(figures.items(), dict(job.readings(house.now())).items())
        # The guard of the whole store knows how much mail there is.
        house.run(DAY + LATE)
        self.assertEqual([house.count(name) for name in "abcde"], [10, 10, 10, 10, 100])
        self.assertEqual(len(dict(house.ledger.orders())), 0)

    def test_an_order_of_a_mailbox_that_is_nobodys_is_done_with(self) -> None:
        house = House(self)
        house.owner = lambda _: succeed(None)  # type: ignore[method-assign]
        house.retention_job()
        house.ledger.add_order("nobody", RetentionOrder(house.now()))
        house.run(61)
        self.assertEqual(house.ledger.orders(), {})


AGES = st.lists(st.integers(0, 40), max_size=30)


@settings(max_examples=40)
@given(
    AGES,
    st.sets(st.integers(0, 29)),
    st.integers(1, 7),
    st.sampled_from([0.05, 1.0, 1e6]),
    st.sampled_from([EXAMPLE, "any 20d, newest 5", "unread 10d, floor 15d", "size 9, read 1d"]),
)
def test_what_goes_does_not_depend_on_the_size_and_the_pace_of_steps(
    ages: list[int], read: set[int], batch: int, rate: float, policy: str
) -> None:
    def left(batch: int, rate: float) -> tuple[list[str], set[str]]:
        case = SynchronousTestCase()
        house = House(case, policy=policy)
        house.batch, house.rate = batch, rate
        for age in ages:
            house.store.add("a", age=age * DAY)
        house.store.mail.setdefault("a", {})
        house.store.read("a", *(str(one) for one in read))
        retention_job = house.retention_job()
        house.run(DAY / 2)
        retention_job.stop()
        house.ledger.close()
        return sorted(house.store.mail["a"]), {one.rule for one in house.store.removals}

    assert left(batch, rate) == left(1000, 1e6)
