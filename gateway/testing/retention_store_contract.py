"""What every store promises to retention, as a suite: give it a store and it is a TestCase."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import MessageGone, NoSuchMailbox, StoreDown
from gateway.interfaces import IHidingMaildrop, IRetentionStore
from gateway.model import Account, Peer, Reason, Removed, StoredMessage, Usage
from gateway.testing.store_contract import ALICE, Bench, read_all

__all__ = [
    "RULE",
    "KeepingBench",
    "Trail",
    "keeping_tests",
]

RULE = Reason(rule="unread 60d")


class Trail:
    """An ``Audit`` that remembers, and fails when told to."""

    def __init__(self) -> None:
        self.lines: list[Removed] = []
        self.fails = False

    def __call__(self, removed: Iterable[Removed]) -> None:
        if self.fails:
            raise StoreDown("the audit's disk is full")
        self.lines += removed


class KeepingBench(Bench, Protocol):
    """A store that ``trail`` hears of, with mail for Alice."""

    trail: Trail


def keeping_tests(
    make_bench: Callable[[SynchronousTestCase], KeepingBench],
) -> type[SynchronousTestCase]:
    """The suite for an ``IRetentionStore``."""

    class KeepingTests(SynchronousTestCase):
        def setUp(self) -> None:
            self.bench = make_bench(self)
            self.store = self.bench.store

        def deliver(self, messages: int) -> list[str]:
            """Deliver them; the unique-ids of all there are."""
            for number in range(messages):
                header = b"Subject: %d\r\nMessage-ID: <%d@example.org>\r\n" % (number, number)
                self.bench.deliver(header + b"\r\n%d\r\n" % number)
            return list(self.shown())

        def shown(self) -> dict[str, bytes]:
            """Unique-id and content of all that POP3 shows."""
            maildrop, give_back = self.successResultOf(self.store.open(ALICE, None))
            uids = self.successResultOf(maildrop.listing()).uids
            bodies = [self.successResultOf(maildrop.retrieve(at)) for at in range(len(uids))]
            give_back()
            return {uid: read_all(self, body) for uid, body in zip(uids, bodies, strict=True)}

        def ask(self, what: str, *arguments: Any) -> Any:
            """The result of a call that the store answers at once."""
            return self.successResultOf(getattr(self.store, what)(ALICE, *arguments))

        def scan(self) -> dict[str, StoredMessage]:
            """Every message, as retention sees it."""
            return {kept.uid: kept for kept in self.ask("scan")}

        def test_ids_can_be_moved_ahead_and_those_that_are_there_stay(self) -> None:
            before = self.deliver(2)
            beginning = self.ask("move_ids", 5000)
            self.assertGreaterEqual(beginning, int(before[-1]) + 5001)
            *first, last = self.deliver(1)
            self.assertEqual(first, before)
            self.assertGreaterEqual(int(last), beginning)

        def test_the_ids_of_a_mailbox_that_never_had_a_message_move_too(self) -> None:
            # Since the backup it may have had some.
            beginning = self.ask("move_ids", 5000)
            (uid,) = self.deliver(1)
            self.assertGreaterEqual(int(uid), max(beginning, 5001))

        def said(self) -> list[tuple[str, str]]:
            """What the audit says."""
            return [(line.action, line.uid) for line in self.bench.trail.lines]

        def test_it_provides_what_it_says(self) -> None:
            self.assertTrue(IRetentionStore.providedBy(self.store))

        def test_a_scan_has_what_a_login_has(self) -> None:
            self.assertEqual(self.scan(), {})
            self.deliver(3)
            scanned, shown = self.scan(), self.shown()
            self.assertEqual(scanned.keys(), shown.keys())
            for uid, kept in scanned.items():
                self.assertEqual(kept.octets, len(shown[uid]))
                self.assertGreater(kept.received, 1_600_000_000)
                self.assertIsNone(kept.read)

        def test_ids_that_a_scan_has_seen_first_are_those_of_the_next_login(self) -> None:
            self.bench.deliver(b"one\r\n")
            self.bench.deliver(b"two\r\n")
            uids = list(self.scan())
            self.assertEqual(sorted(uids, key=int), list(self.shown()))

        def test_what_was_fetched_is_read_and_the_rest_is_not(self) -> None:
            first, second = self.deliver(2)
            maildrop, _ = self.successResultOf(self.store.open(ALICE, None))
            self.successResultOf(maildrop.finish(set(), {1}))
            scanned = self.scan()
            self.assertIsNone(scanned[first].read)
            read = scanned[second].read
            assert read is not None
            self.assertGreaterEqual(read, scanned[second].received)

        def test_what_is_discarded_is_gone_and_nothing_else_is(self) -> None:
            uids = self.deliver(4)
            self.assertEqual(self.ask("remove", [uids[0], uids[2]], RULE), 2)
            self.assertEqual(list(self.shown()), [uids[1], uids[3]])
            self.assertEqual(list(self.ask("list_hidden")), [])
            self.assertEqual(self.ask("remove", uids, RULE), 2)
            self.assertEqual(self.shown(), {})

        def test_the_audit_has_a_line_for_each_with_all_that_is_known(self) -> None:
            uids = self.deliver(2)
            kept = self.scan()[uids[1]]
            self.ask("remove", [uids[1], "no such id", uids[1]], RULE)
            (line,) = self.bench.trail.lines
            wanted = Removed(
                action="discard",
                mailbox=ALICE.mailbox,
                uid=uids[1],
                message_id="<1@example.org>",
                size=kept.octets,
                received=kept.received,
                read=None,
                cause=RULE,
            )
            self.assertEqual(line, wanted)

        def test_where_the_audit_cannot_be_written_nothing_is_removed(self) -> None:
            uids = self.deliver(3)
            self.ask("hide", uids[:1], RULE)
            self.bench.trail.fails = True
            for what, of in (("remove", uids[1:]), ("hide", uids[1:]), ("purge", uids[:1])):
                self.failureResultOf(getattr(self.store, what)(ALICE, of, RULE), StoreDown)
            self.assertEqual(list(self.shown()), uids[1:])
            self.assertEqual([kept.uid for kept in self.ask("list_hidden")], uids[:1])

        def test_one_that_is_no_longer_there_is_not_counted_and_not_audited(self) -> None:
            uids = self.deliver(2)
            self.bench.expunge_first()
            self.assertEqual(self.ask("remove", uids[:1], RULE), 0)
            self.assertEqual(self.ask("hide", uids[:1], RULE), 0)
            self.assertEqual(self.ask("purge", uids, RULE), 0)
            self.assertEqual(self.ask("restore", uids), 0)
            self.assertEqual(self.bench.trail.lines, [])
            self.assertEqual(list(self.shown()), uids[1:])

        def test_what_is_hidden_pop3_does_not_show_and_takes_no_room(self) -> None:
            uids = self.deliver(3)
            before = self.scan()
            self.assertEqual(self.ask("hide", uids[:2], RULE), 2)
            self.assertEqual(list(self.shown()), uids[2:])
            self.assertEqual(list(self.scan()), uids[2:])
            octets = before[uids[2]].octets
            self.assertEqual(self.ask("usage"), Usage(octets, 1))
            hidden = {kept.uid: kept for kept in self.ask("list_hidden")}
            self.assertEqual(set(hidden), set(uids[:2]))
            for uid, kept in hidden.items():
                self.assertEqual(kept.octets, before[uid].octets)
                self.assertGreaterEqual(kept.received, before[uid].received)
            self.assertEqual(self.said(), [("hide", uid) for uid in uids[:2]])

        def test_what_is_hidden_is_not_discarded_and_not_hidden_again(self) -> None:
            uids = self.deliver(2)
            self.ask("hide", uids, RULE)
            self.assertEqual(self.ask("hide", uids, RULE), 0)
            self.assertEqual(self.ask("remove", uids, RULE), 0)
            self.assertEqual(len(self.ask("list_hidden")), 2)

        def test_what_is_restored_has_its_old_id_and_its_content(self) -> None:
            uids = self.deliver(4)
            before = self.shown()
            self.ask("hide", uids[:3], RULE)
            self.assertEqual(self.ask("restore", [uids[2], uids[0], uids[0]]), 2)
            self.assertEqual(self.shown(), {uid: before[uid] for uid in (*uids[2:], uids[0])})
            self.assertEqual([kept.uid for kept in self.ask("list_hidden")], uids[1:2])
            self.assertEqual(self.ask("restore", uids), 1)
            self.assertEqual(self.shown(), before)
            self.assertEqual(self.ask("usage").messages, 4)
            self.assertEqual(self.said(), [("hide", uid) for uid in uids[:3]])

        def test_what_comes_later_gets_no_id_of_what_is_hidden_or_back(self) -> None:
            uids = self.deliver(3)
            self.ask("hide", uids, RULE)
            more = set(self.deliver(2))
            self.assertTrue(more.isdisjoint(uids))
            self.ask("restore", uids)
            self.assertEqual(set(self.deliver(1)) & set(uids), set(uids))
            self.assertEqual(len(self.shown()), 6)

        def test_what_is_restored_is_as_young_as_what_comes_now(self) -> None:
            (uid,) = self.deliver(1)
            self.ask("hide", [uid], RULE)
            (hidden,) = self.ask("list_hidden")
            self.ask("restore", [uid])
            self.assertGreaterEqual(self.scan()[uid].received, hidden.received - 0.1)

        def test_what_was_read_is_read_when_it_comes_back(self) -> None:
            (uid,) = self.deliver(1)
            maildrop, _ = self.successResultOf(self.store.open(ALICE, None))
            self.successResultOf(maildrop.finish(set(), {0}))
            self.ask("hide", [uid], RULE)
            self.ask("restore", [uid])
            self.assertIsNotNone(self.scan()[uid].read)

        def test_it_can_be_hidden_and_restored_again_and_again(self) -> None:
            uids = self.deliver(2)
            before = self.shown()
            for _ in range(3):
                self.assertEqual(self.ask("hide", uids[:1], RULE), 1)
                self.assertEqual(self.ask("restore", uids[:1]), 1)
                self.assertEqual(self.shown(), before)

        def test_a_purge_removes_what_is_hidden_and_nothing_else(self) -> None:
            uids = self.deliver(3)
            self.ask("hide", uids[:2], RULE)
            self.assertEqual(self.ask("purge", [uids[0], uids[2]], Reason(rule="hidden 14d")), 1)
            self.assertEqual([kept.uid for kept in self.ask("list_hidden")], uids[1:2])
            self.assertEqual(list(self.shown()), uids[2:])
            self.assertEqual(self.said()[2:], [("purge", uids[0])])
            line = self.bench.trail.lines[-1]
            self.assertEqual(line.message_id, "<0@example.org>")
            self.assertEqual(line.cause.rule, "hidden 14d")
            self.assertEqual(self.ask("restore", uids), 1)

        def quit(self, mind: object, *marked: int, hold: bool = False) -> Any:
            """A session that ends with these messages marked, maybe under a hold."""
            maildrop, _ = self.successResultOf(self.store.open(ALICE, mind))
            return (maildrop.hide if hold else maildrop.finish)(set(marked), {0})

        def test_what_a_session_removes_is_audited_with_who_it_was(self) -> None:
            uids = self.deliver(3)
            peer = Peer(host="192.0.2.7", secure=True, session="k3x9")
            self.assertIsNone(self.successResultOf(self.quit(peer, 1, 2)))
            self.assertEqual(self.said(), [("discard", uid) for uid in uids[1:]])
            line = self.bench.trail.lines[0]
            self.assertEqual(line.cause, Reason(session="k3x9", client="192.0.2.7"))
            self.assertEqual(line.message_id, "<1@example.org>")
            self.assertEqual(line.mailbox, ALICE.mailbox)

        def test_a_mind_that_says_nothing_names_nobody(self) -> None:
            self.deliver(1)
            self.assertIsNone(self.successResultOf(self.quit(object(), 0)))
            self.assertEqual(self.bench.trail.lines[0].cause, Reason())

        def test_where_the_audit_cannot_be_written_quit_removes_nothing(self) -> None:
            uids = self.deliver(3)
            self.bench.trail.fails = True
            self.failureResultOf(self.quit(None, 1, 2), StoreDown)
            self.assertEqual(list(self.shown()), uids)
            self.assertEqual(self.bench.read_count(), 1)
            self.bench.trail.fails = False
            self.assertIsNone(self.successResultOf(self.quit(None, 1, 2)))
            self.assertEqual(list(self.shown()), uids[:1])

        def test_two_sessions_that_remove_the_same_message_leave_one_line(self) -> None:
            self.deliver(1)
            drops = [self.successResultOf(self.store.open(ALICE, None))[0] for _ in range(2)]
            for maildrop in drops:
                self.assertIsNone(self.successResultOf(maildrop.finish({0}, set())))
            self.assertEqual(len(self.bench.trail.lines), 1)

        def test_under_a_hold_a_session_hides_what_it_removes(self) -> None:
            uids = self.deliver(3)
            before = self.shown()
            peer = Peer(host="192.0.2.7", secure=True, session="k3x9")
            maildrop, _ = self.successResultOf(self.store.open(ALICE, peer))
            self.assertTrue(IHidingMaildrop.providedBy(maildrop))
            self.assertIsNone(self.successResultOf(maildrop.hide({0, 2}, {1})))
            self.assertEqual(self.bench.read_count(), 1)
            self.assertEqual(list(self.shown()), uids[1:2])
            self.assertEqual({kept.uid for kept in self.ask("list_hidden")}, {uids[0], uids[2]})
            self.assertEqual(self.said(), [("hide", uids[0]), ("hide", uids[2])])
            self.assertEqual(self.bench.trail.lines[0].cause.session, "k3x9")
            self.assertEqual(self.ask("restore", uids), 2)
            self.assertEqual(self.shown(), before)

        def test_under_a_hold_too_nothing_goes_where_the_audit_cannot_be_written(self) -> None:
            uids = self.deliver(2)
            self.bench.trail.fails = True
            self.failureResultOf(self.quit(None, 1, hold=True), StoreDown)
            self.assertEqual(list(self.shown()), uids)

        def test_under_a_hold_removing_what_is_gone_is_no_failure(self) -> None:
            self.deliver(2)
            maildrop, _ = self.successResultOf(self.store.open(ALICE, None))
            self.bench.expunge_first()
            self.assertIsNone(self.successResultOf(maildrop.hide({0}, set())))
            self.assertEqual(self.ask("list_hidden"), [])

        def test_a_session_that_is_open_finds_it_gone_and_ends_well(self) -> None:
            uids = self.deliver(2)
            maildrop, _ = self.successResultOf(self.store.open(ALICE, None))
            self.ask("hide", uids[:1], RULE)
            self.failureResultOf(maildrop.retrieve(0), MessageGone)
            self.assertIsNone(self.successResultOf(maildrop.finish({0}, {1})))
            self.assertEqual([kept.uid for kept in self.ask("list_hidden")], uids[:1])
            self.assertEqual(list(self.shown()), uids[1:])

        def test_an_unknown_mailbox_is_refused_where_none_is_made(self) -> None:
            stranger = Account(name="x", mailbox="nobody@example.org")
            for what in ("scan", "scan_readonly", "list_hidden"):
                self.failureResultOf(getattr(self.store, what)(stranger), NoSuchMailbox)
            self.failureResultOf(self.store.restore(stranger, ["1"]), NoSuchMailbox)
            for what in ("remove", "hide", "purge"):
                done = getattr(self.store, what)(stranger, ["1"], RULE)
                self.failureResultOf(done, NoSuchMailbox)

    return KeepingTests
