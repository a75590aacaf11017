"""The survey of all mailboxes: shared, kept for a while, and no more at once than allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.directory.memory import MemoryDirectory
from gateway.errors import DirectoryDown, MailboxUnusable, StoreDown
from gateway.mailboxes.owners import AllMailboxes
from gateway.mailboxes.recipients import Recipients
from gateway.mailboxes.remembered import KEPT
from gateway.mailboxes.survey import AT_ONCE, Survey, some_at_once
from gateway.model import Account, Limits, Usage
from gateway.store.memory import MemoryStore


class CountingStore(MemoryStore):
    """A store that is asked for usage."""

    def __init__(self, answer: Callable[[str], Deferred[Usage]]) -> None:
        super().__init__()
        self.answer = answer
        self.asked: list[str] = []

    def usage(self, account: Account) -> Deferred[Usage]:
        """As told."""
        self.asked.append(account.mailbox)
        return self.answer(account.mailbox)


class SurveyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = CountingStore(lambda _: succeed(Usage(1, 1)))
        self.directory = MemoryDirectory({})
        mailboxes = AllMailboxes(self.directory, self.store, maybeDeferred, hosts=())
        recipients = Recipients(self.directory, self.store, lambda _: Limits())
        self.survey = Survey(mailboxes, recipients, maybeDeferred, self.clock.seconds)

    def add(self, count: int) -> None:
        for number in range(count):
            self.store.add(f"user{number:05}")

    def counted(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.survey.counted())

    def test_it_counts_once_for_all_who_ask_within_a_while(self) -> None:
        self.add(40)
        for _ in range(3):
            self.assertEqual(len(self.successResultOf(self.counted())), 40)
        self.assertEqual(len(self.store.asked), 40)
        self.clock.advance(KEPT)
        self.successResultOf(self.counted())
        self.assertEqual(len(self.store.asked), 80)

    def test_a_change_is_seen_at_once_also_during_a_count(self) -> None:
        self.add(1)
        waiting: Deferred[Usage] = Deferred()
        self.store.answer = lambda _: waiting
        first = self.counted()
        self.survey.forget()
        self.store.answer = lambda _: succeed(Usage(2, 2))
        waiting.callback(Usage(1, 1))
        self.successResultOf(first)
        (one,) = self.successResultOf(self.counted())
        self.assertEqual(one.usage, Usage(2, 2))

    def test_a_count_that_takes_long_is_kept_for_longer(self) -> None:
        self.add(1)

        def slowly(_: str) -> Deferred[Usage]:
            self.clock.advance(10)
            return succeed(Usage())

        self.store.answer = slowly
        self.successResultOf(self.counted())
        self.clock.advance(89)
        self.successResultOf(self.counted())
        self.assertEqual(len(self.store.asked), 1)
        self.clock.advance(1)
        self.successResultOf(self.counted())
        self.assertEqual(len(self.store.asked), 2)

    def test_a_clock_that_is_set_back_keeps_no_old_count(self) -> None:
        self.add(1)
        self.clock.advance(1000)
        self.successResultOf(self.counted())
        self.clock.rightNow = 1.0
        self.successResultOf(self.counted())
        self.assertEqual(len(self.store.asked), 2)

    def test_few_mailboxes_are_looked_at_at_once_and_ten_thousand_in_the_end(self) -> None:
        self.add(10_000)
        waiting: list[Deferred[Usage]] = []

        def later(_: str) -> Deferred[Usage]:
            waiting.append(Deferred())
            return waiting[-1]

        self.store.answer = later
        asked = self.counted()
        most = 0
        while waiting:
            most = max(most, len(waiting))
            now, waiting[:] = list(waiting), []
            for one in now:
                one.callback(Usage(1, 1))
        self.assertEqual(len(self.successResultOf(asked)), 10_000)
        self.assertEqual(most, AT_ONCE)

    def test_a_mailbox_that_cannot_be_read_keeps_its_row_with_the_reason(self) -> None:
        self.add(2)
        self.store.answer = lambda name: (
            fail(MailboxUnusable("broken")) if name == "user00000" else succeed(Usage(1, 1))
        )
        first, second = self.successResultOf(self.counted())
        self.assertEqual((first.usage, first.problem), (None, "broken"))
        self.assertEqual((second.usage, second.problem), (Usage(1, 1), ""))

    def test_an_outage_fails_all_and_the_next_who_asks_tries_again(self) -> None:
        self.add(3)
        self.store.answer = lambda _: fail(DirectoryDown("no answer"))
        self.failureResultOf(self.counted(), DirectoryDown)
        self.store.answer = lambda _: succeed(Usage(1, 1))
        self.assertEqual(len(self.successResultOf(self.counted())), 3)


class SomeAtOnceTests(SynchronousTestCase):
    def test_known_usage_of_many_mailboxes_is_not_gone_through_in_one_turn(self) -> None:
        seen = list[int]()

        async def work(number: int) -> None:
            seen.append(number)

        waiting: Deferred[Any] = Deferred()
        Deferred.fromCoroutine(some_at_once(work, range(3 * AT_ONCE), lambda _: waiting))
        self.assertEqual(len(seen), AT_ONCE)
        waiting.callback(None)
        self.assertEqual(len(seen), 3 * AT_ONCE)

    def test_the_first_failure_is_the_failure_of_all(self) -> None:
        async def work(number: int) -> int:
            if number == 20:
                raise StoreDown("down")
            return number

        done = Deferred.fromCoroutine(some_at_once(work, range(15), maybeDeferred))
        self.assertEqual(self.successResultOf(done), list(range(15)))
        failed = Deferred.fromCoroutine(some_at_once(work, range(100), maybeDeferred))
        self.failureResultOf(failed, StoreDown)
