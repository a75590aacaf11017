"""A mailbox has one session at a time, in the whole cluster, where that is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.errors import MaildropBusy, NoSuchMailbox, Overloaded, StoreDown
from gateway.events import BackEndAsked, BackEndDown
from gateway.model import Account, Reason
from gateway.observe.outage import Outages
from gateway.postgresql.database import Database
from gateway.store.cluster.leases import RENEW, SESSIONS, Leases
from gateway.store.cluster.sql.lease_rows import LEASE, take_lease
from gateway.store.cluster.store import ClusterOptions
from gateway.testing.store_contract import ALICE, BOB, read_all, run_now
from relay import Relay

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]

DESK = Reason(operator="token desk")


class ExclusiveTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        options = ClusterOptions(create=False, exclusive=True)
        self.one, self.other = (self.bench.gateway(self, options=options) for _ in range(2))

    def open(self, store: Any, account: Account = ALICE) -> Any:
        """A session's maildrop, and what ends the session."""
        return self.successResultOf(store.open(account, None))

    def busy(self, store: Any) -> None:
        """Somebody else has Alice's mailbox."""
        self.failureResultOf(store.open(ALICE, None), MaildropBusy)

    def pass_time(self, seconds: float) -> None:
        """Let the database's clock go on."""
        self.bench.change(
            f"UPDATE pop3gw.lease SET until = until - {seconds} * interval '1 second'"
        )

    def test_a_second_session_is_refused_by_every_gateway_until_the_first_has_ended(self) -> None:
        _, end = self.open(self.one)
        self.busy(self.one)
        self.busy(self.other)
        self.open(self.other, BOB)
        end()
        _, end = self.open(self.one)
        self.busy(self.other)
        end()
        self.bench.engines.until(lambda: len(self.bench.read("SELECT FROM pop3gw.lease")) == 1)
        self.open(self.other)

    def test_what_the_session_before_has_removed_the_next_one_does_not_list(self) -> None:
        self.bench.deliver(b"one\r\n")
        self.bench.deliver(b"two\r\n")
        maildrop, end = self.open(self.one)
        self.successResultOf(maildrop.finish({0}, set()))
        end()
        maildrop, _ = self.open(self.one)
        body = self.successResultOf(maildrop.retrieve(0))
        self.assertEqual(read_all(self, body), b"two\r\n")

    def test_an_end_that_is_called_twice_ends_nobody_elses_session(self) -> None:
        _, end = self.open(self.one)
        end()
        self.open(self.one)
        end()
        self.busy(self.one)

    def test_the_mailboxes_of_a_gateway_that_has_died_are_free_after_a_while(self) -> None:
        self.open(self.one)
        self.pass_time(LEASE - 5)
        self.busy(self.other)
        self.pass_time(6)
        self.open(self.other)

    def test_a_lease_whose_answer_came_too_late_keeps_the_user_out_of_no_session(self) -> None:
        engines = self.bench.engines
        ((mailbox,),) = self.bench.read(
            f"SELECT id FROM pop3gw.mailbox WHERE name = '{ALICE.mailbox}'"
        )
        late = [StoreDown("no answer in time")]

        def take(database: Database, mailbox: int, holder: UUID) -> bool:
            taken = take_lease(database, mailbox, holder)
            if late:
                raise late.pop()
            return taken

        database = Database(engines.url)
        self.addCleanup(database.close)
        leases = Leases(engines.reactor, database, run_now, run_now, SESSIONS._replace(take=take))
        self.addCleanup(leases.close)
        self.failureResultOf(self.take(leases, mailbox), StoreDown)
        self.busy(self.other)
        end = self.successResultOf(self.take(leases, mailbox))
        self.failureResultOf(self.take(leases, mailbox), MaildropBusy)
        end()
        self.open(self.other)

    def test_a_lease_is_given_back_though_no_thread_was_free_in_time(self) -> None:
        engines = self.bench.engines
        ((mailbox,),) = self.bench.read(
            f"SELECT id FROM pop3gw.mailbox WHERE name = '{ALICE.mailbox}'"
        )
        database = Database(engines.url)
        self.addCleanup(database.close)
        is_full = False

        def run(work: Callable[[], Any]) -> Deferred[Any]:
            return fail(Overloaded()) if is_full else run_now(work)

        leases = Leases(engines.reactor, database, run, run_now)
        self.addCleanup(leases.close)
        end = self.successResultOf(self.take(leases, mailbox))
        is_full = True
        self.failureResultOf(self.take(leases, mailbox), Overloaded)
        end()
        self.open(self.other)

    def take(self, leases: Leases, mailbox: int) -> Any:
        """A lease of a gateway whose rows are the test's."""
        return Deferred.fromCoroutine(leases.take(mailbox))

    def test_an_outage_in_which_leases_are_renewed_is_a_line_when_it_begins(self) -> None:
        engines, clock = self.bench.engines, Clock()
        relay = Relay(engines.postgresql.port)
        self.addCleanup(relay.stop)
        events: list[object] = []
        watch = Outages(events.append).watch
        database = Database(engines.url_by(relay.port), timeout=1, watch=watch)
        self.addCleanup(database.close)
        leases = Leases(clock, database, run_now, run_now)
        ((mailbox,),) = self.bench.read(
            f"SELECT id FROM pop3gw.mailbox WHERE name = '{ALICE.mailbox}'"
        )
        self.successResultOf(self.take(leases, mailbox))
        lines: list[object] = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)
        relay.go_away()
        for _ in range(2):
            clock.advance(RENEW)
        asked = [one for one in events if isinstance(one, BackEndAsked) and not one.answered]
        self.assertEqual(len(asked), 2)
        self.assertEqual(len([one for one in events if isinstance(one, BackEndDown)]), 1)
        self.assertEqual(lines, [])

    def test_a_session_keeps_its_mailbox_as_long_as_it_takes(self) -> None:
        self.open(self.one)
        self.pass_time(LEASE - 1)
        # The renewal is due in a while, by the clock of the process: now.
        due = self.renewal()
        self.assertLessEqual(due.getTime() - self.bench.engines.reactor.seconds(), RENEW)
        due.reset(0)
        self.bench.engines.until(lambda: self.left() > LEASE - 5)
        self.busy(self.other)

    def test_a_store_that_a_reload_has_replaced_keeps_the_mailboxes_of_its_sessions(self) -> None:
        _, end = self.open(self.one)
        self.one.close()
        self.pass_time(LEASE - 1)
        due = self.renewal()
        due.reset(0)
        self.bench.engines.until(lambda: self.left() > LEASE - 5)
        end()
        self.bench.engines.until(lambda: not self.bench.read("SELECT FROM pop3gw.lease"))

    def renewal(self) -> Any:
        """The timer of the first gateway's next renewal."""
        calls = self.bench.engines.reactor.getDelayedCalls()
        (due,) = (call for call in calls if call.func == self.one._leases._renew)
        return due

    def left(self) -> float:
        """Seconds to the end of the only lease."""
        ((left,),) = self.bench.read(
            "SELECT extract(epoch FROM until - now())::float8 FROM pop3gw.lease"
        )
        return float(left)

    def test_a_mailbox_with_such_a_session_is_neither_renamed_nor_deleted(self) -> None:
        _, end = self.open(self.one)
        carol = Account("carol", "carol")
        self.failureResultOf(self.other.rename(ALICE, carol), MaildropBusy)
        self.failureResultOf(self.other.delete(ALICE, DESK), MaildropBusy)
        end()
        self.bench.engines.until(lambda: not self.bench.read("SELECT FROM pop3gw.lease"))
        self.successResultOf(self.other.rename(ALICE, carol))

    def test_a_login_that_fails_leaves_no_lease(self) -> None:
        nobody = Account("nobody", "nobody")
        self.failureResultOf(self.one.open(nobody, None), NoSuchMailbox)
        self.assertEqual(self.bench.read("SELECT FROM pop3gw.lease"), [])
