"""What an operator asks of retention: previews in parts, orders, hidden mail, the forecast."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from gateway.config.retention import Retention
from gateway.errors import ConfigError, NoSuchMailbox, StoreDown
from gateway.mailboxes.pieces import PIECE
from gateway.model import DueDay, LastScan, Reason, RetentionOrder
from gateway.operations.mail import retention, retention_forecast, stored_mail
from gateway.operations.mail.retention import StorePreview, sum_of
from gateway.operations.tools import Verified
from gateway.retention.forecast import DAY
from operator_tools import Desk

NOW = 1_800_000_000.0
TODAY = int(NOW // DAY)
SCAN = LastScan("any 1d", due=None, looked=NOW - 5, messages=200)
STOPPED = SCAN._replace(stopped="200 of 200 would go", looked=NOW - 50)


class OperationCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.desk = Desk(Retention(enabled=True, policy="unread 60d, read 7d, hide 14d"), now=NOW)

    def ask(self, operation: Any, **arguments: Any) -> Any:
        """What an operation answers."""
        return self.successResultOf(Deferred.fromCoroutine(operation(self.desk.tools, **arguments)))

    def fault(self, operation: Any, **arguments: Any) -> Exception:
        """How an operation fails."""
        asked = Deferred.fromCoroutine(operation(self.desk.tools, **arguments))
        return self.failureResultOf(asked).value


class PreviewTests(OperationCase):
    def test_all_mailboxes_are_previewed_in_parts_by_name_and_none_twice(self) -> None:
        names = [f"u{number:02}" for number in range(25)]
        for name in reversed(names):
            self.desk.add(name, 2, 61 * DAY)
        found, after, parts = [], "", 0
        while True:
            part = self.ask(retention.preview, after=after, most=10)
            found += [one.mailbox for one in part.items]
            self.assertEqual(part.total, 25)
            parts += 1
            if part.following is None:
                break
            after = part.following
        self.assertEqual((found, parts), (names, 3))

    def test_a_part_that_takes_long_ends_early_and_says_where_to_go_on(self) -> None:
        for name in ("a", "b", "c"):
            self.desk.add(name, 1, 61 * DAY)
        self.desk.seconds_each_call = 2.0
        part = self.ask(retention.preview)
        self.assertEqual((part.mailboxes, part.following), (2, "b"))
        self.assertEqual(self.ask(retention.preview, after="b").following, None)

    def test_a_mailbox_that_cannot_be_read_is_named_and_the_others_are_shown(self) -> None:
        self.desk.add("alice", 1, 61 * DAY)
        self.desk.add("bob", 1, 61 * DAY)
        self.desk.store.broken["alice"] = StoreDown("its disk is gone")
        part = self.ask(retention.preview)
        self.assertEqual([one.mailbox for one in part.items], ["bob"])
        self.assertEqual(part.failed, (retention.NoPreview("alice", "its disk is gone"),))

    def test_a_preview_of_one_mailbox_names_each_message_page_by_page(self) -> None:
        uids = self.desk.add("alice", 5, 61 * DAY)
        self.desk.add("alice", 1, DAY)
        pages = [
            self.ask(retention.preview_mailbox, mailbox="alice", page=page, per_page=2)
            for page in range(4)
        ]
        self.assertEqual([one.uid for page in pages for one in page.due], sorted(uids))
        self.assertEqual((pages[0].preview.would_go, pages[0].preview.messages), (5, 6))
        self.assertEqual(pages[0].due[0].rule, "unread")

    def test_a_preview_changes_nothing(self) -> None:
        self.desk.add("alice", 3, 61 * DAY)
        before = dict(self.desk.store.mail["alice"])
        self.ask(retention.preview)
        self.ask(retention.preview_mailbox, mailbox="alice")
        self.assertEqual((self.desk.store.mail["alice"], self.desk.store.removals), (before, []))

    def test_a_server_knows_which_hidden_mail_was_expected_to_go_and_does_not_stop_for_it(
        self,
    ) -> None:
        self.desk.add("alice", 1, DAY)
        self.desk.store.add_hidden("alice", 200, age=15 * DAY)
        policy = self.desk.section.policy
        scan = LastScan(policy, due=NOW - 5 * DAY, looked=NOW - 10 * DAY, messages=1)
        self.successResultOf(self.desk.state.keep_scan("alice", scan))
        alone = self.ask(retention.preview)
        self.assertIn("200 of 200", str(alone.items[0].stops))
        self.assertIn("200 of 200", str(sum_of(StorePreview(), alone).stops))
        tools = evolve(self.desk.tools, verify=lambda *_: succeed(Verified("", False)))
        asked = Deferred.fromCoroutine(retention.preview(tools))
        found = self.successResultOf(asked)
        self.assertEqual((found.items[0].would_purge, found.items[0].stops), (200, None))
        self.assertIsNone(sum_of(StorePreview(), found).stops)

    def test_a_mailbox_without_a_policy_has_no_preview(self) -> None:
        self.desk = Desk(Retention(), now=NOW)
        self.desk.add("alice", 1, DAY)
        self.assertEqual(self.ask(retention.preview).items, ())
        found = self.ask(retention.preview_mailbox, mailbox="alice")
        self.assertEqual((found.preview.policy, found.due), ("", ()))


class OrderTests(OperationCase):
    def setUp(self) -> None:
        super().setUp()
        for name, scan in (("bob", SCAN), ("alice", STOPPED)):
            self.successResultOf(self.desk.state.keep_scan(name, scan))

    def orders(self) -> dict[str, RetentionOrder]:
        """What the leader will find."""
        return dict(self.successResultOf(self.desk.state.orders()))

    def test_a_release_without_a_mailbox_is_for_those_that_are_stopped(self) -> None:
        done = self.ask(retention.release)
        self.assertEqual((done.mailboxes, [one.mailbox for one in done.ordered]), (1, ["alice"]))
        self.assertEqual(self.orders(), {"alice": RetentionOrder(NOW, NOW, "any 1d")})

    def test_what_is_asked_of_some_mailboxes_reads_the_scans_of_no_others(self) -> None:
        self.desk.add("alice", 1, DAY)
        self.patch(self.desk.state, "last_scans", lambda *_: fail(AssertionError("reads all")))
        tools = evolve(self.desk.tools, verify=lambda *_: succeed(Verified("", False)))
        for asked in (
            retention.run(tools, mailbox="alice"),
            retention.release(tools, mailbox="alice"),
            retention.preview_mailbox(tools, mailbox="alice"),
            retention.preview(tools),
        ):
            self.successResultOf(Deferred.fromCoroutine(asked))
        self.assertEqual(self.orders(), {"alice": RetentionOrder(NOW, NOW, "any 1d")})

    def test_a_run_without_a_mailbox_is_for_all(self) -> None:
        self.assertEqual(self.ask(retention.run).mailboxes, 2)
        self.assertEqual(self.orders()["bob"], RetentionOrder(NOW))

    def test_a_mailbox_that_retention_does_not_know_gets_no_order(self) -> None:
        for operation in (retention.run, retention.release):
            error = self.fault(operation, mailbox="nobody")
            self.assertIsInstance(error, NoSuchMailbox)
            self.assertIn("nobody: retention has not looked there yet", str(error))
        self.assertEqual(self.orders(), {})

    def test_no_order_is_taken_while_retention_is_not_enabled(self) -> None:
        self.desk.section = Retention(policy="unread 60d")
        for operation in (retention.run, retention.release):
            error = self.fault(operation, mailbox="alice")
            self.assertIsInstance(error, ConfigError)
            self.assertIn("retention.enabled: is false", str(error))
        self.assertEqual(self.orders(), {})

    def test_those_that_are_stopped_can_be_listed_alone(self) -> None:
        everything = self.ask(retention.list_scans)
        self.assertEqual([one.mailbox for one in everything.items], ["alice", "bob"])
        stopped = self.ask(retention.list_scans, stopped=True)
        self.assertEqual((stopped.total, stopped.items[0].stopped), (1, "200 of 200 would go"))
        self.assertEqual(self.ask(retention.list_scans, page=1, per_page=1).items[0].mailbox, "bob")

    def test_a_list_of_more_than_a_piece_is_paged_as_one(self) -> None:
        names = [f"u{number:05}" for number in range(2 * PIECE + 5)]
        for name in names:
            self.desk.state.keep_scan(name, SCAN)
        whole = ["alice", "bob", *names]
        for page in (0, PIECE // 100 - 1, PIECE // 100, 2 * PIECE // 100, 999):
            found = self.ask(retention.list_scans, page=page)
            here = whole[page * 100 : (page + 1) * 100]
            self.assertEqual([one.mailbox for one in found.items], here)
            self.assertEqual(found.total, len(whole))


class HiddenTests(OperationCase):
    def test_hidden_messages_are_listed_and_come_back(self) -> None:
        one, two = self.desk.add("alice", 2, DAY)
        self.desk.store.away["alice"] = self.desk.store.mail["alice"]
        self.desk.store.mail["alice"] = {}
        listed = self.ask(stored_mail.list_hidden, mailbox="alice")
        self.assertEqual(({hidden.uid for hidden in listed.items}, listed.total), ({one, two}, 2))
        done = self.ask(stored_mail.restore, mailbox="alice", uids=(two, "x"))
        self.assertEqual(done, stored_mail.Restored("alice", 2, 1))
        self.assertEqual(list(self.desk.store.mail["alice"]), [two])
        self.assertEqual(self.ask(stored_mail.restore, mailbox="alice").restored, 1)
        self.assertEqual(self.desk.store.restorers, [Reason(operator="uid 0")] * 2)


class ForecastTests(OperationCase):
    def keep(self, name: str, scan: LastScan, *due: DueDay) -> None:
        """What the leader has found in a mailbox."""
        self.successResultOf(self.desk.state.keep_scan(name, scan))
        self.successResultOf(self.desk.state.keep_forecast(name, due))

    def test_it_has_90_days_and_sums_all_mailboxes(self) -> None:
        self.keep("alice", STOPPED, DueDay(TODAY - 3, 2, 10), DueDay(TODAY + 1, 1, 5))
        self.keep("bob", SCAN, DueDay(TODAY + 1, 4, 7), DueDay(TODAY + 89, 1, 1))
        found = self.ask(retention_forecast.forecast)
        self.assertEqual(len(found.days), 90)
        self.assertEqual(
            [
                (int(one.begins // DAY) - TODAY, one.messages, one.octets)
                for one in found.days
                if one.messages
            ],
            [(0, 2, 10), (1, 5, 12), (89, 1, 1)],
        )
        self.assertEqual((found.mailboxes, found.stopped, found.oldest), (2, 1, NOW - 50))

    def test_sums_are_made_once_in_five_minutes(self) -> None:
        self.keep("alice", SCAN, DueDay(TODAY, 2, 10))
        self.assertEqual(self.ask(retention_forecast.forecast).days[0].messages, 2)
        self.keep("bob", SCAN, DueDay(TODAY, 1, 1))
        self.assertEqual(self.ask(retention_forecast.forecast).days[0].messages, 2)
        self.desk.now += retention_forecast.FRESH + 1
        self.assertEqual(self.ask(retention_forecast.forecast).days[0].messages, 3)

    def test_more_mailboxes_than_are_read_at_once_are_all_counted(self) -> None:
        for number in range(retention_forecast.PIECE * 2 + 1):
            self.keep(f"u{number}", SCAN, DueDay(TODAY, 1, 3))
        day = self.ask(retention_forecast.forecast).days[0]
        self.assertEqual((day.messages, day.octets), (1001, 3003))

    def test_nothing_is_known_before_the_first_scan(self) -> None:
        found = self.ask(retention_forecast.forecast)
        self.assertEqual((found.mailboxes, found.oldest), (0, None))
        self.assertEqual({one.messages for one in found.days}, {0})
