"""Warnings of a full mailbox, on fakes and a clock that is advanced."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.directory.memory import MemoryDirectory
from gateway.errors import DirectoryDown, OverQuota, StoreDown
from gateway.events import QuotaExceeded
from gateway.jobs.quota_warnings import CHECK_AGAIN, MOST_REJECTED, QuotaWarner
from gateway.mailboxes.recipients import Recipients, admit
from gateway.model import Account, Level, Limits, Usage
from gateway.observe.log import logged_events
from gateway.state.ledger import Ledger, LedgerState
from gateway.state.memory import MemoryLeader
from gateway.store.memory import MemoryStore

ALICE = "alice@example.org"
ACCOUNT = Account(name=ALICE, mailbox=ALICE)


def heard(case: SynchronousTestCase) -> list[str]:
    """What is logged from here on."""
    said: list[str] = []

    def hear(event: Any) -> None:
        said.append(str(event["log_format"]).format(**event))

    globalLogPublisher.addObserver(hear)
    case.addCleanup(globalLogPublisher.removeObserver, hear)
    return said


class Office:
    """A warner, whom it warns and what it remembers."""

    def __init__(self, case: SynchronousTestCase, *, interval: float = 100.0) -> None:
        self.clock = Clock()
        self.store = MemoryStore(admit=admit)
        self.mailbox = self.store.add(ALICE)
        self.limits = Limits(octets=1000, warn_octets=500)
        directory = MemoryDirectory({ALICE: "x"})
        self.directory = directory
        self.waiting: list[Callable[[], None]] | None = None
        path = case.mktemp()
        os.mkdir(path)
        self.seat: list[object] = []
        """Where a test puts another process that leads."""
        self.ledger = Ledger(path)
        case.addCleanup(self.ledger.close)

        def compose(_: Account, __: Usage, ___: Limits, found: Level) -> bytes:
            return b"Subject: " + found.name.encode() + b"\r\n\r\n"

        events = logged_events()
        self.recipients = Recipients(
            directory,
            self.store,
            lambda _: self.limits,
            emit=events.emit,
        )
        self.quota_warner = warner = QuotaWarner(
            self.recipients,
            directory,
            self.store,
            LedgerState(path, self.run),
            MemoryLeader(self.seat),
            compose,
            interval=interval,
            now=self.clock.seconds,
        )
        events.subscribe({QuotaExceeded: warner.subscription[QuotaExceeded]})

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Now, or when the test does it."""
        if self.waiting is None:
            return maybeDeferred(work)
        answer: Deferred[Any] = Deferred()
        self.waiting.append(lambda: answer.callback(work()))
        return answer

    @property
    def warned(self) -> list[bytes]:
        """The warnings in the mailbox."""
        return [one for one in self.mailbox.messages.values() if one.startswith(b"Subject")]


class LookTests(SynchronousTestCase):
    def test_a_warning_comes_into_a_mailbox_however_full_it_is_and_once_an_interval(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 2000)
        for _ in range(3):
            self.successResultOf(office.quota_warner.look(ACCOUNT))
        self.assertEqual(office.warned, [b"Subject: OVER\r\n\r\n"])
        office.clock.advance(100)
        self.successResultOf(office.quota_warner.look(ACCOUNT))
        self.assertEqual(len(office.warned), 2)

    def test_a_warning_that_could_not_be_sent_is_sent_at_the_next_look(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 600)
        receive = office.store.receive
        office.store.receive = lambda _: fail(StoreDown("down"))  # type: ignore[method-assign]
        self.successResultOf(office.quota_warner.look(ACCOUNT))
        self.assertEqual(office.warned, [])
        office.store.receive = receive  # type: ignore[method-assign]
        self.successResultOf(office.quota_warner.look(ACCOUNT))
        self.assertEqual(office.warned, [b"Subject: WARN\r\n\r\n"])

    def test_what_changes_during_a_look_is_looked_at_once_more(self) -> None:
        office = Office(self)
        office.waiting = []
        first = office.quota_warner.look(ACCOUNT)
        office.mailbox.deliver(b"x" * 600)
        for _ in range(5):
            self.successResultOf(office.quota_warner.look(ACCOUNT))
        self.assertEqual(len(office.waiting), 1)
        while office.waiting:
            office.waiting.pop(0)()
        self.successResultOf(first)
        self.assertEqual(office.warned, [b"Subject: WARN\r\n\r\n"])

    def test_a_store_that_breaks_does_not_keep_a_mailbox_from_being_looked_at_again(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 600)
        usage = office.store.usage

        def broken(_: Account) -> Deferred[Usage]:
            raise ZeroDivisionError

        office.store.usage = broken  # type: ignore[method-assign]
        self.successResultOf(office.quota_warner.look(ACCOUNT))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        office.store.usage = usage  # type: ignore[method-assign]
        self.successResultOf(office.quota_warner.look(ACCOUNT))
        self.assertEqual(len(office.warned), 1)


class RefusalTests(SynchronousTestCase):
    def offer(self, office: Office, size: int) -> None:
        """A message that there is no room for."""
        self.failureResultOf(office.recipients.make_room(ACCOUNT, size), OverQuota)

    def test_a_nearly_full_mailbox_that_rejected_a_message_gets_the_warning_that_it_is_full(
        self,
    ) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 600)
        self.successResultOf(office.quota_warner.look(ACCOUNT))
        self.offer(office, 401)
        self.assertEqual(office.warned, [b"Subject: WARN\r\n\r\n", b"Subject: OVER\r\n\r\n"])

    def test_it_is_full_for_as_long_as_the_message_would_not_fit(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 600)
        self.offer(office, 500)
        levels = []
        for octets in (600, 500, 499, 600):
            office.mailbox.messages = {1: b"x" * octets}
            self.successResultOf(office.quota_warner.look(ACCOUNT))
            levels.append(office.ledger.warning_state(ALICE).level)
        self.assertEqual(levels, [Level.OVER, Level.WARN, Level.NORMAL, Level.WARN])

    def test_messages_that_come_and_fail_again_and_again_tell_once_an_interval(self) -> None:
        office = Office(self)
        told = []
        for _ in range(250):
            office.mailbox.messages = {1: b"x" * 600}
            self.offer(office, 500)
            told += office.warned
            office.mailbox.messages = {1: b"x" * 550}
            self.successResultOf(office.quota_warner.look(ACCOUNT))
            office.mailbox.messages = {1: b"x" * 400}
            self.successResultOf(office.quota_warner.look(ACCOUNT))
            told += office.warned
            office.clock.advance(1)
        self.assertEqual(told, [b"Subject: OVER\r\n\r\n"] * 3)

    def test_a_full_mailbox_is_looked_at_for_the_first_of_many_messages(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 1000)
        looks: list[str] = []
        look = office.quota_warner.look
        office.quota_warner.look = lambda account: looks.append(account.name) or look(account)  # type: ignore[func-returns-value,method-assign]
        for _ in range(100):
            self.offer(office, 0)
        self.assertEqual((looks, len(office.warned)), ([ALICE], 1))

    def test_a_mailbox_that_goes_on_to_reject_mail_is_warned_each_interval_without_rounds(
        self,
    ) -> None:
        office = Office(self, interval=1000.0)
        office.seat.append("another process")
        office.mailbox.deliver(b"x" * 1000)
        for _ in range(25):
            self.offer(office, 10)
            office.clock.advance(100)
        self.assertEqual(office.warned, [b"Subject: OVER\r\n\r\n"] * 3)

    def test_a_mailbox_that_could_not_be_checked_is_checked_again_when_it_rejects_mail(
        self,
    ) -> None:
        office = Office(self, interval=1000.0)
        office.mailbox.deliver(b"x" * 1000)
        receive = office.store.receive
        office.store.receive = lambda _: fail(StoreDown("down"))  # type: ignore[method-assign]
        self.offer(office, 10)
        office.store.receive = receive  # type: ignore[method-assign]
        self.offer(office, 10)
        self.assertEqual(office.warned, [])
        office.clock.advance(CHECK_AGAIN)
        self.offer(office, 10)
        self.assertEqual(office.warned, [b"Subject: OVER\r\n\r\n"])

    def test_the_memory_for_rejected_mail_has_a_bound_and_what_it_forgets_is_checked_again(
        self,
    ) -> None:
        office = Office(self)
        office.waiting = []
        looks: list[str] = []
        office.quota_warner.look = lambda account: looks.append(account.name) or succeed(None)  # type: ignore[func-returns-value,method-assign]
        names = [f"{number}@example.org" for number in range(MOST_REJECTED + 1)]
        for name in (*names, names[-1], names[0]):
            office.quota_warner.over_quota(QuotaExceeded(Account(name=name, mailbox=name), 5))
        self.assertEqual(looks, [*names, names[0]])

    def test_a_message_that_is_too_large_for_a_mailbox_with_room_warns_nobody(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 499)
        self.offer(office, 900)
        self.offer(office, 2000)
        self.assertEqual(office.warned, [])
        self.assertEqual(office.ledger.warning_states(), {})

    def test_a_message_refused_during_a_look_is_not_forgotten_by_it(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 600)
        office.waiting = []
        office.quota_warner.look(ACCOUNT)
        self.offer(office, 500)
        while office.waiting:
            office.waiting.pop(0)()
        self.assertEqual(office.ledger.warning_state(ALICE).level, Level.OVER)


class RoundTests(SynchronousTestCase):
    def rounds(self, office: Office, every: float) -> list[float]:
        """When rounds begin, from the start of the warner on."""
        began: list[float] = []

        def mailboxes() -> Deferred[list[str]]:
            began.append(office.clock.seconds())
            return succeed([ALICE])

        office.quota_warner.start(office.clock, every, mailboxes)
        self.addCleanup(office.quota_warner.stop)
        return began

    def test_a_server_that_restarts_more_often_than_rounds_come_has_a_round_each_time(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 600)
        began = self.rounds(office, 86_400)
        self.assertEqual(began, [])
        office.clock.pump([10] * 30)
        self.assertEqual(began, [60])
        self.assertEqual(len(office.warned), 1)

    def test_rounds_come_at_their_interval_whether_minutes_divide_it_or_not(self) -> None:
        for every, times in {
            0.5: [0.5, 1, 1.5],
            90: [45, 135, 225],
            3600: [60, 3660, 7260],
        }.items():
            office = Office(self)
            began = self.rounds(office, every)
            office.clock.pump([every / 240] * 780)
            self.assertEqual([round(one, 1) for one in began[: len(times)]], times)

    def test_who_leads_only_later_does_not_wait_for_a_whole_interval(self) -> None:
        office = Office(self)
        office.seat.append("another process")
        began = self.rounds(office, 86_400)
        office.clock.pump([10] * 100)
        office.seat.clear()
        office.clock.pump([10] * 100)
        self.assertEqual(began, [1020])

    def test_an_outage_does_not_cost_a_whole_interval(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 600)
        owner = office.directory.owner
        office.directory.owner = lambda _: fail(DirectoryDown("down", logged=True))  # type: ignore[method-assign]
        began = self.rounds(office, 86_400)
        office.clock.pump([10] * 7)
        office.directory.owner = owner  # type: ignore[method-assign]
        office.clock.pump([10] * 100)
        self.assertEqual((began, len(office.warned)), ([60, 120], 1))

    def test_ten_thousand_mailboxes_of_nobody_need_no_stack_and_the_last_is_reached(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 600)
        names = [*(f"{number}@example.org" for number in range(10_000)), ALICE]
        office.quota_warner.start(office.clock, 10, lambda: succeed(names))
        office.clock.advance(10)
        self.assertEqual(len(office.warned), 1)
        office.quota_warner.stop()
        self.assertEqual(office.clock.getDelayedCalls(), [])

    def test_a_round_is_the_leaders_and_a_delivery_is_looked_at_by_any_process(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 600)
        office.seat.append("another process")
        office.quota_warner.start(office.clock, 10, lambda: succeed([ALICE]))
        office.clock.advance(10)
        self.assertEqual(office.warned, [])
        office.seat.clear()
        office.clock.advance(10)
        self.assertEqual(len(office.warned), 1)
        office.seat[:] = ["another process"]
        office.mailbox.messages = {1: b"x" * 1000}
        self.successResultOf(office.quota_warner.look(ACCOUNT))
        self.assertEqual(office.warned, [b"Subject: OVER\r\n\r\n"])
        office.quota_warner.stop()

    def test_a_full_mailbox_that_nobody_has_any_more_counts_no_longer(self) -> None:
        office = Office(self)
        gone = "gone@example.org"
        for name in (ALICE, gone):
            office.ledger.weigh(name, Level.OVER, 0.0, 100.0)
        office.mailbox.deliver(b"x" * 2000)
        office.quota_warner.start(office.clock, 10, lambda: succeed([ALICE, gone, "new"]))
        office.clock.advance(10)
        self.assertEqual(list(office.ledger.warning_states(Level.WARN)), [ALICE])
        office.clock.pump([10] * 10)
        self.assertEqual(list(office.ledger.warning_states()), [ALICE])
        office.quota_warner.stop()

    def test_a_full_mailbox_of_which_the_directory_cannot_tell_stays_full(self) -> None:
        office = Office(self)
        office.ledger.weigh(ALICE, Level.OVER, 0.0, 100.0)
        errors = [DirectoryDown("down", logged=True), StoreDown("this name only")]
        office.directory.owner = lambda _: fail(errors.pop(0))  # type: ignore[method-assign]
        office.quota_warner.start(office.clock, 10, lambda: succeed([ALICE]))
        office.clock.pump([10] * 2)
        self.assertEqual((errors, list(office.ledger.warning_states(Level.OVER))), ([], [ALICE]))
        office.quota_warner.stop()

    def test_a_name_that_cannot_be_asked_for_costs_nobody_else_the_round(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 600)
        owner = office.directory.owner

        def found(mailbox: str) -> Deferred[Account | None]:
            mailbox.encode("utf-8")
            return owner(mailbox)

        office.directory.owner = found  # type: ignore[method-assign]
        office.quota_warner.start(office.clock, 10, lambda: succeed(["\udcff@example.org", ALICE]))
        office.clock.advance(10)
        self.assertEqual(len(office.warned), 1)
        office.quota_warner.stop()

    def test_a_directory_that_is_down_ends_the_round_with_one_question(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 600)
        owner, asked = office.directory.owner, []

        def down(mailbox: str) -> Deferred[Account | None]:
            asked.append(mailbox)
            return fail(DirectoryDown("down", logged=True))

        office.directory.owner = down  # type: ignore[method-assign]
        said = heard(self)
        names = [*(f"{number}@example.org" for number in range(100)), ALICE]
        office.quota_warner.start(office.clock, 10, lambda: succeed(names))
        office.clock.advance(10)
        self.assertEqual((len(asked), said), (1, []))
        office.directory.owner = owner  # type: ignore[method-assign]
        office.clock.advance(10)
        self.assertEqual(len(office.warned), 1)
        office.quota_warner.stop()

    def test_a_round_that_fails_is_not_the_last(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 600)
        failing = [True, True, False]

        def mailboxes() -> Deferred[list[str]]:
            if failing.pop(0):
                raise ZeroDivisionError
            return succeed([ALICE])

        office.quota_warner.start(office.clock, 10, mailboxes)
        for _ in range(3):
            office.clock.advance(10)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(len(office.warned), 1)
        office.quota_warner.stop()

    def test_the_end_waits_until_who_is_remembered_as_warned_has_been(self) -> None:
        office = Office(self)
        office.waiting = []
        office.mailbox.deliver(b"x" * 600)
        office.quota_warner.look(ACCOUNT)
        stopped = office.quota_warner.stop()
        self.assertNoResult(stopped)
        office.waiting.pop(0)()
        self.successResultOf(stopped)
        self.assertEqual(office.warned, [b"Subject: WARN\r\n\r\n"])

    def test_after_the_end_nobody_who_still_asks_makes_the_closed_ledger_be_asked(self) -> None:
        office = Office(self)
        office.mailbox.deliver(b"x" * 1000)
        self.successResultOf(office.quota_warner.stop())
        office.waiting = []
        office.quota_warner.over_quota(QuotaExceeded(ACCOUNT, 5))
        self.successResultOf(office.quota_warner.look(ACCOUNT))
        self.assertEqual((office.warned, self.flushLoggedErrors()), ([], []))
        self.assertEqual(office.waiting, [])

    def test_what_changes_during_the_last_look_does_not_begin_another(self) -> None:
        office = Office(self)
        office.waiting = []
        office.quota_warner.look(ACCOUNT)
        office.quota_warner.look(ACCOUNT)
        stopped = office.quota_warner.stop()
        (answer,) = office.waiting
        office.waiting = []
        answer()
        self.successResultOf(stopped)
        self.assertEqual(office.waiting, [])

    def test_the_end_waits_for_the_mailbox_that_a_round_has_come_to(self) -> None:
        office = Office(self)
        office.waiting = []
        office.mailbox.deliver(b"x" * 600)
        office.quota_warner.start(office.clock, 10, lambda: succeed([ALICE, ALICE]))
        office.clock.advance(10)
        stopped = office.quota_warner.stop()
        self.assertNoResult(stopped)
        (answer,) = office.waiting
        answer()
        self.successResultOf(stopped)
        self.assertEqual(len(office.warned), 1)
        self.assertEqual(office.clock.getDelayedCalls(), [])

    def test_after_the_end_no_more_mailboxes_are_looked_at(self) -> None:
        office = Office(self)
        answer: Deferred[list[str]] = Deferred()
        office.mailbox.deliver(b"x" * 600)
        office.quota_warner.start(office.clock, 10, lambda: answer)
        office.clock.advance(10)
        office.quota_warner.stop()
        answer.callback([ALICE])
        self.assertEqual(office.warned, [])
