"""What an administrator is told of full mailboxes, on fakes and a clock that is advanced."""

from __future__ import annotations

import os
from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.directory.memory import MemoryDirectory
from gateway.errors import StoreDown
from gateway.jobs.digest import Digest
from gateway.jobs.quota_warnings import QuotaWarner
from gateway.mailboxes.recipients import Recipients, admit
from gateway.model import Account, Level, Limits, Usage
from gateway.quota.notice import Row
from gateway.state.ledger import Ledger, LedgerState
from gateway.state.memory import MemoryLeader
from gateway.store.memory import MemoryStore

ROOT, ALICE, BOB, CAROL = (f"{name}@example.org" for name in ("root", "alice", "bob", "carol"))
LIMITS = Limits(octets=1000, warn_octets=500)
DAY = 86_400.0


class Office:
    """An administrator, three users, and what is remembered of them."""

    def __init__(self, case: SynchronousTestCase, to: str = ROOT) -> None:
        self.clock = Clock()
        self.store = MemoryStore(admit=admit)
        for name in (ROOT, ALICE, BOB, CAROL):
            self.store.add(name)
        self.directory = MemoryDirectory(dict.fromkeys((ROOT, ALICE, BOB, CAROL), "x"))
        self.recipients = Recipients(self.directory, self.store, lambda _: LIMITS)
        self.told: list[list[Row]] = []
        self.to = to
        path = case.mktemp()
        os.mkdir(path)
        self.open = lambda: LedgerState(path, maybeDeferred)
        self.state = self.open()
        self.ledger = Ledger(path)
        case.addCleanup(self.ledger.close)
        case.addCleanup(lambda: self.state.close())
        self.digest = self.made()

    def made(self) -> Digest:
        """One of the processes that send it."""
        return Digest(
            self.recipients,
            self.directory,
            self.store,
            self.state,
            self.compose,
            to=self.to,
            interval=DAY,
            clock=self.clock,
            now=self.clock.seconds,
        )

    def compose(self, rows: Sequence[Row]) -> bytes:
        """A digest, kept besides."""
        self.told.append(list(rows))
        return b"Subject: digest\r\n\r\n"

    def find(self, name: str, found: Level) -> None:
        """A look has found a mailbox at a level."""
        octets = {Level.NORMAL: 0, Level.WARN: 600, Level.OVER: 1000}[found]
        self.store.mailboxes[name].deliver(b"x" * octets)
        self.ledger.weigh(name, found, self.clock.seconds(), DAY)

    @property
    def sent(self) -> int:
        """How many digests the administrator has."""
        messages = self.store.mailboxes[ROOT].messages.values()
        return len([one for one in messages if one.startswith(b"Subject: digest")])


class DigestTests(SynchronousTestCase):
    def send(self, office: Office) -> None:
        self.assertIsNone(self.successResultOf(office.digest.send()))

    def test_the_digest_lists_nearly_full_and_full_mailboxes_with_usage(self) -> None:
        office = Office(self)
        office.find(ALICE, Level.OVER)
        office.find(BOB, Level.WARN)
        office.find(CAROL, Level.NORMAL)
        self.send(office)
        self.assertEqual(
            office.told,
            [
                [
                    Row(ALICE, Level.OVER, Usage(1000, 1), LIMITS),
                    Row(BOB, Level.WARN, Usage(600, 1), LIMITS),
                ]
            ],
        )
        self.assertEqual(office.sent, 1)

    def test_nothing_is_sent_while_there_is_nobody_to_tell_of(self) -> None:
        office = Office(self)
        office.find(CAROL, Level.NORMAL)
        self.send(office)
        self.assertEqual((office.sent, office.told), (0, []))
        office.find(ALICE, Level.WARN)
        self.send(office)
        self.assertEqual(office.sent, 1)

    def test_it_comes_once_an_interval_through_restarts_and_from_many_processes(self) -> None:
        office = Office(self)
        office.find(ALICE, Level.OVER)
        for _ in range(3):
            self.send(office)
            office.state.close()
            office.state = office.open()
            office.digest = office.made()
        office.clock.advance(DAY - 1)
        self.send(office)
        self.assertEqual(office.sent, 1)
        office.clock.advance(1)
        self.send(office)
        self.assertEqual(office.sent, 2)

    def test_it_comes_into_a_mailbox_that_is_full_itself(self) -> None:
        office = Office(self)
        office.find(ROOT, Level.OVER)
        self.send(office)
        self.assertEqual(office.sent, 1)

    def test_one_that_could_not_be_sent_is_sent_the_next_time(self) -> None:
        office = Office(self)
        office.find(ALICE, Level.OVER)
        receive = office.store.receive
        for error in (StoreDown("down"), ZeroDivisionError()):
            office.store.receive = lambda _, error=error: fail(error)  # type: ignore[method-assign,misc]
            self.send(office)
        self.assertEqual(office.sent, 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        office.store.receive = receive  # type: ignore[method-assign]
        self.send(office)
        self.assertEqual(office.sent, 1)

    def test_of_two_processes_that_have_found_the_same_only_one_sends(self) -> None:
        office = Office(self)
        office.find(ALICE, Level.OVER)
        usage, answers = office.store.usage, list[Deferred[Usage]]()

        def later(_: Account) -> Deferred[Usage]:
            answers.append(Deferred())
            return answers[-1]

        office.store.usage = later  # type: ignore[method-assign]
        both = [office.digest.send(), office.made().send()]
        office.store.usage = usage  # type: ignore[method-assign]
        for answer in answers:
            answer.callback(Usage(1000, 1))
        for one in both:
            self.successResultOf(one)
        self.assertEqual((len(answers), office.sent), (2, 1))

    def test_a_mailbox_that_nobody_has_any_more_or_that_cannot_be_counted_is_left_out(self) -> None:
        office = Office(self)
        for name in (ALICE, BOB, "gone@example.org"):
            office.ledger.weigh(name, Level.OVER, 0, DAY)
        del office.store.mailboxes[BOB]
        self.send(office)
        ((row,),) = office.told
        self.assertEqual(row.mailbox, ALICE)

    def test_an_unknown_administrator_gets_no_digest_and_that_is_logged(self) -> None:
        office = Office(self, to="nobody@example.org")
        office.find(ALICE, Level.OVER)
        self.send(office)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertTrue(office.ledger.is_digest_due("nobody@example.org", 0, DAY))

    def test_it_follows_a_round_and_tells_what_that_has_found(self) -> None:
        office = Office(self)
        office.store.mailboxes[ALICE].deliver(b"x" * 600)
        quota_warner = QuotaWarner(
            office.recipients,
            office.directory,
            office.store,
            office.state,
            MemoryLeader(),
            lambda *_: b"Subject: warned\r\n\r\n",
            interval=DAY,
            now=office.clock.seconds,
            after_round=office.digest.send,
        )
        quota_warner.start(office.clock, 3600, lambda: succeed([ALICE, BOB]))
        for _ in range(24):
            office.clock.advance(3600)
        self.assertEqual(office.sent, 1)
        office.clock.advance(3600)
        self.assertEqual(office.sent, 2)
        self.assertEqual([[row.mailbox for row in rows] for rows in office.told], [[ALICE]] * 2)
        self.successResultOf(quota_warner.stop())
