"""The audit of a cluster: entries are there exactly if the change is, and all gateways see them."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import pytest

from cluster_engines import ClusterBench, Waits
from gateway.errors import BadValue, MessageGone, NotSupported, StoreDown
from gateway.model import Account, AuditEntry, AuditLines, AuditQuery, Peer, Reason
from gateway.operations.mail.audit import search_audit
from gateway.postgresql.database import Cursor, Database
from gateway.store.cluster import removal
from gateway.store.cluster.sql import audit, changes
from gateway.store.cluster.sql.changes import Locked
from gateway.store.cluster.store import ClusterOptions
from gateway.testing.store_contract import ALICE, read_all
from memory_tools import OperationCase
from relay import Relay

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]

DESK = Reason(operator="token desk")

RULE = Reason(rule="unread 60d")


class AuditCase(Waits, OperationCase):
    def setUp(self) -> None:
        super().setUp()
        self.bench = ClusterBench(self)
        self.store = self.bench.store

    def deliver(self, messages: int) -> None:
        """Messages to Alice."""
        for number in range(messages):
            self.bench.deliver(b"Message-ID: <%d@example.org>\r\n\r\nbody\r\n" % number)

    def quit(self, store: Any, *marked: int, session: str = "s1") -> Any:
        """A session that ends with these messages marked, and the first one retrieved."""
        peer = Peer(host="192.0.2.7", secure=True, session=session)
        maildrop, _ = self.successResultOf(store.open(ALICE, peer))
        return maildrop.finish(set(marked), {0})

    def said(self) -> list[tuple[str, str]]:
        """Action and unique-id of each entry, the oldest first."""
        return [(one.action, one.uid) for one in self.bench.trail.lines]

    def search(self, **arguments: Any) -> list[AuditEntry]:
        """What an operator finds."""
        return [*self.ask(search_audit, **arguments).items]

    def uids(self, **arguments: Any) -> list[int]:
        """The unique-ids of that."""
        return [int(one.uid) for one in self.search(**arguments)]

    def find(self, query: AuditQuery, cursor: str = "", **more: Any) -> AuditLines:
        """What the rows have."""
        return audit.search(self.bench.engines.owner, query, cursor, **more)


class OneTransactionTests(AuditCase):
    def test_a_change_that_is_rolled_back_leaves_no_entry(self) -> None:
        self.deliver(2)
        written: list[int] = []

        def fail_later(cursor: Cursor, box: Locked, uids: Collection[int]) -> None:
            changes.hide(cursor, box, uids)
            cursor.execute("SELECT count(*) FROM pop3gw.audit")
            written.append(cursor.fetchall()[0][0])
            raise StoreDown("it cannot be finished")

        removing = removal.Removal(self.bench.engines.owner, audited=True)
        with self.assertRaises(StoreDown):
            removing._change(ALICE.mailbox, ["1", "2"], "hide", fail_later, RULE)
        self.assertEqual(written, [2])
        self.assertEqual(self.said(), [])
        self.assertEqual(len(self.bench.contents()), 2)

    def test_a_connection_that_breaks_before_the_commit_leaves_no_entry(self) -> None:
        self.deliver(1)
        relay, store = self.relayed()
        maildrop, _ = self.successResultOf(store.open(ALICE, None))
        relay.away_after = b"INSERT INTO pop3gw.audit"
        self.failureResultOf(maildrop.finish({0}, set()), StoreDown)
        self.assertEqual(self.said(), [])
        self.assertEqual(len(self.bench.contents()), 1)

    def relayed(self) -> tuple[Relay, Any]:
        """A relay before PostgreSQL, and a store behind it."""
        relay = Relay(self.bench.engines.postgresql.port)
        self.addCleanup(relay.stop)
        database = Database(self.bench.engines.url_by(relay.port), timeout=3)
        return relay, self.bench.gateway(self, database=database)

    def test_what_is_repeated_after_a_lost_answer_has_one_entry_for_each_message(self) -> None:
        self.deliver(6)
        relay, store = self.relayed()
        steps = [
            lambda: self.quit(store, 0, 1),
            lambda: store.hide(ALICE, ["3", "4"], RULE),
            lambda: store.restore(ALICE, ["3"], DESK),
            lambda: store.purge(ALICE, ["4"], DESK),
            lambda: store.remove(ALICE, ["5"], RULE),
            lambda: store.delete(ALICE, DESK),
        ]
        for number, step in enumerate(steps, 1):
            relay.lose_answer_to = b"COMMIT"
            self.successResultOf(step())
            self.assertEqual(relay.cuts, number)
        self.assertEqual(
            self.said(),
            [
                *(("discard", "1"), ("discard", "2"), ("hide", "3"), ("hide", "4")),
                *(("restore", "3"), ("purge", "4"), ("discard", "5")),
                *(("discard", "3"), ("discard", "6")),
            ],
        )

    def test_entries_that_are_refused_keep_the_messages_and_name_the_cure(self) -> None:
        self.deliver(2)
        self.bench.trail.fails = True
        self.addCleanup(setattr, self.bench.trail, "fails", False)
        failure = self.failureResultOf(self.quit(self.store, 1), StoreDown)
        self.assertRegex(str(failure.value), "permission denied .*; grant the role what docs/")
        self.assertEqual(len(self.bench.contents()), 2)
        # What was retrieved is marked all the same.
        self.assertEqual(self.bench.read_count(), 1)
        self.assertEqual(self.said(), [])

    def test_a_disk_without_room_for_entries_keeps_the_messages(self) -> None:
        self.deliver(1)
        self.bench.change(
            "CREATE FUNCTION pop3gw.fill() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full'; END $$"
        )
        self.addCleanup(self.bench.change, "DROP FUNCTION pop3gw.fill CASCADE")
        self.bench.change(
            "CREATE TRIGGER fill BEFORE INSERT ON pop3gw.audit EXECUTE FUNCTION pop3gw.fill()"
        )
        self.failureResultOf(self.store.remove(ALICE, ["1"], RULE), StoreDown)
        self.assertEqual(len(self.bench.contents()), 1)

    def test_a_message_id_of_any_octets_is_no_reason_to_keep_a_message(self) -> None:
        for named in (b"<\0@x>", b"<" + b"\xff" * 2000 + b">", b"<\xed\xa0\x80>", b""):
            self.bench.deliver(b"Message-ID: " + named + b"\r\n\r\nbody\r\n")
        self.assertIsNone(self.successResultOf(self.quit(self.store, 0, 1, 2, 3)))
        first, second, _, last = self.bench.trail.lines
        self.assertEqual((first.message_id, last.message_id), ("<\ufffd@x>", None))
        self.assertEqual(len(second.message_id or ""), 998)
        self.assertEqual([one.uid for one in self.search(message_id="<\0@x>")], ["1"])

    def test_without_days_no_entry_is_written_and_a_search_names_the_setting(self) -> None:
        self.deliver(1)
        self.store = self.bench.gateway(self, options=ClusterOptions(create=False, audit_days=0))
        self.assertIsNone(self.successResultOf(self.quit(self.store, 0)))
        self.assertEqual((self.said(), self.bench.contents()), ([], []))
        error = self.fault(search_audit)
        self.assertIsInstance(error, NotSupported)
        self.assertIn("store.audit_days", str(error))


class OpenElsewhereTests(AuditCase):
    """Another gateway changes a mailbox that a session of this one has open."""

    def test_a_session_of_a_mailbox_that_another_gateway_renames_goes_on_under_its_new_name(
        self,
    ) -> None:
        self.deliver(2)
        maildrop, _ = self.successResultOf(self.store.open(ALICE, None))
        carol = Account("carol", "carol")
        self.successResultOf(self.bench.gateway(self).rename(ALICE, carol))
        # The old name belongs to other mail, which the session has not seen.
        self.bench.add(ALICE.mailbox)
        self.bench.deliver(b"new\r\n")
        body = self.successResultOf(maildrop.retrieve(1))
        self.assertEqual(read_all(self, body), b"Message-ID: <1@example.org>\r\n\r\nbody\r\n")
        self.successResultOf(maildrop.finish({0}, {1}))
        (line,) = self.bench.trail.lines
        self.assertEqual((line.mailbox, line.uid), ("carol", "1"))
        left = [self.successResultOf(self.store.scan(one)) for one in (carol, ALICE)]
        self.assertEqual([len(messages) for messages in left], [1, 1])

    def test_a_session_of_a_mailbox_that_another_gateway_deletes_finds_its_messages_gone(
        self,
    ) -> None:
        self.deliver(2)
        maildrop, _ = self.successResultOf(self.store.open(ALICE, None))
        self.successResultOf(self.bench.gateway(self).delete(ALICE, DESK))
        self.bench.add(ALICE.mailbox)
        self.bench.deliver(b"new\r\n")
        self.failureResultOf(maildrop.retrieve(1), MessageGone)
        self.successResultOf(maildrop.finish({0}, {1}))
        self.assertEqual(self.said(), [("discard", "1"), ("discard", "2")])
        self.assertEqual(self.bench.contents(), [b"new\r\n"])


class SearchTests(AuditCase):
    def remove_in_turn(self, messages: int) -> None:
        """Two gateways remove Alice's messages in turn, the oldest first."""
        self.deliver(messages)
        stores = (self.store, self.bench.gateway(self))
        for number in range(messages):
            session = f"s{number % 2}"
            self.assertIsNone(
                self.successResultOf(self.quit(stores[number % 2], 0, session=session))
            )

    def test_entries_of_two_gateways_are_found_the_newest_first_with_all_that_is_known(
        self,
    ) -> None:
        self.remove_in_turn(4)
        found = self.search()
        self.assertEqual([int(one.uid) for one in found], [4, 3, 2, 1])
        self.assertEqual([one.session for one in found], ["s1", "s0", "s1", "s0"])
        times = [one.at for one in found]
        self.assertEqual(times, sorted(times, reverse=True))
        newest = found[0]
        self.assertEqual((newest.action, newest.mailbox), ("discard", ALICE.mailbox))
        self.assertEqual((newest.message_id, newest.client), ("<3@example.org>", "192.0.2.7"))
        self.assertEqual((newest.rule, newest.operator, newest.read), ("", "", None))
        self.assertEqual(newest.octets, len(b"Message-ID: <3@example.org>\r\n\r\nbody\r\n"))
        self.assertLess(newest.received, newest.at)

    def test_entries_fit_all_that_is_asked_for(self) -> None:
        self.remove_in_turn(4)
        at = [one.at for one in self.search()]
        self.assertEqual(self.uids(session="s0"), [3, 1])
        self.assertEqual(self.uids(session="s0", message_id="2@example.org"), [3])
        self.assertEqual(self.uids(mailbox=ALICE.mailbox, session="s1"), [4, 2])
        self.assertEqual(self.uids(mailbox="nobody"), [])
        self.assertEqual(self.uids(mailbox="'; DROP TABLE pop3gw.audit"), [])
        self.assertEqual(self.uids(action="hide"), [])
        self.assertEqual(self.uids(since=at[2], until=at[0]), [3, 2])
        self.assertEqual(self.uids(since=math.inf), [])
        self.assertEqual(self.uids(since=-1e300, until=1e300), [4, 3, 2, 1])
        self.assertEqual(self.uids(mailbox="\ud800\0"), [])

    def test_a_search_goes_on_behind_the_last_entry_though_more_are_written(self) -> None:
        self.remove_in_turn(5)
        pages, cursor = [], ""
        while True:
            page = self.ask(search_audit, most=2, cursor=cursor)
            pages.append([int(one.uid) for one in page.items])
            cursor = page.cursor
            if not cursor:
                break
            self.deliver(1)
            self.assertIsNone(self.successResultOf(self.quit(self.store, 0)))
        self.assertEqual(pages, [[5, 4], [3, 2], [1]])

    def test_a_search_reads_so_many_rows_at_most_and_its_cursor_leads_on(self) -> None:
        self.remove_in_turn(7)
        for fields, expected in (
            ({"uid": "1"}, [[], [], ["1"]]),
            ({"uid": "4"}, [[], ["4"], []]),
            ({"uid": "5", "mailbox": ALICE.mailbox}, [["5"], [], []]),
            ({}, [["7", "6", "5"], ["4", "3", "2"], ["1"]]),
        ):
            pages, cursor = [], ""
            while not pages or cursor:
                found = self.find(AuditQuery(fields), cursor, most=5, page=3)
                pages.append([one.uid for one in found.lines])
                cursor = found.cursor
            self.assertEqual(pages, expected)

    def test_a_search_by_mailbox_reads_only_rows_of_it(self) -> None:
        self.remove_in_turn(3)
        self.bench.change(
            "INSERT INTO pop3gw.audit (at, action, mailbox, uid, octets, received,"
            " rule, session, client, operator) SELECT now(), 'hide', 'carol', number, 1, now(),"
            " '', '', '', '' FROM generate_series(1, 50) AS number"
        )
        found = self.find(AuditQuery({"mailbox": ALICE.mailbox}), most=5, page=5)
        self.assertEqual(([one.uid for one in found.lines], found.cursor), (["3", "2", "1"], ""))

    def test_a_cursor_that_is_none_is_an_error_that_says_where_they_come_from(self) -> None:
        for cursor in ("x", "1", "1:2:3", "-1:2", "1:" + "9" * 50, "9" * 17 + ":1", "١:٢"):
            error = self.fault(search_audit, cursor=cursor)
            self.assertIsInstance(error, BadValue)
            self.assertIn("answer before", str(error))
        self.assertEqual(self.search(cursor="9" * 16 + ":" + "9" * 18), [])


class ExpiryTests(AuditCase):
    def age(self, days: float, *uids: int) -> None:
        """Let time pass since the removal of these."""
        self.bench.change(
            f"UPDATE pop3gw.audit SET at = at - {days} * interval '1 day'"
            f" WHERE uid::integer IN ({', '.join(map(str, uids))})"
        )

    def test_entries_that_are_too_old_go_some_at_a_time_and_no_others(self) -> None:
        self.deliver(6)
        self.assertIsNone(self.successResultOf(self.quit(self.store, *range(6))))
        self.age(31, 2, 3, 5)
        self.age(29, 4)
        options = ClusterOptions(create=False, audit_days=30)
        store = self.bench.gateway(self, options=options)
        steps = [self.successResultOf(store.collect(2)) for _ in range(3)]
        self.assertEqual(steps, [2, 1, 0])
        self.assertEqual(sorted(uid for _, uid in self.said()), ["1", "4", "6"])

    def test_a_gateway_without_days_removes_no_entry(self) -> None:
        self.deliver(2)
        self.assertIsNone(self.successResultOf(self.quit(self.store, 0, 1)))
        self.age(1000, 1)
        leader = self.bench.gateway(self, options=ClusterOptions(create=False, audit_days=0))
        self.assertEqual(self.successResultOf(leader.collect(10)), 0)
        self.assertEqual(len(self.said()), 2)

    def test_they_go_while_s3_is_away(self) -> None:
        self.deliver(1)
        self.assertIsNone(self.successResultOf(self.quit(self.store, 0)))
        self.age(91, 1)
        self.bench.change("UPDATE pop3gw.gone SET at = at - interval '2 days'")
        relay = Relay(self.bench.engines.s3.port)
        self.addCleanup(relay.stop)
        relay.go_away()
        requests = self.bench.engines.requests(
            self.bench.bucket, url=f"http://127.0.0.1:{relay.port}", attempts=1
        )
        store = self.bench.gateway(self, blobs=type(self.bench.blobs())(requests))
        self.failureResultOf(store.collect(10), StoreDown)
        self.assertEqual(self.said(), [])
