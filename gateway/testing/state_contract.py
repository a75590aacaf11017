"""What every ``IState`` and every ``ILeader`` promises, as suites."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from gateway.interfaces import RAISED, ILeader, IState
from gateway.model import (
    DueDay,
    KnownExpire,
    LastLogin,
    LastScan,
    Level,
    RetentionOrder,
    WarningState,
)

__all__ = ["leader_tests", "state_tests"]

NORMAL, WARN, OVER = Level
DAY = 86_400.0
SCAN = LastScan("unread 60d", due=9.5, looked=1.5, messages=3)
STOPPED = LastScan("read 7d", due=None, looked=2.0, messages=0, stopped="too many", hidden=7)

Open = Callable[[], Any]
"""Opens one more, as another process does: all of a test share what they hold."""


def state_tests(make: Callable[[SynchronousTestCase], Open]) -> type[SynchronousTestCase]:
    """The suite for the ``IState`` that what ``make`` returns opens."""

    class StateTests(SynchronousTestCase):
        def setUp(self) -> None:
            self.open = make(self)
            self.state = self.open()

        def get(self, what: str, *arguments: object, of: Any = None) -> Any:
            """What a method answers, of ``self.state`` or another."""
            return self.successResultOf(getattr(of or self.state, what)(*arguments))

        def warnings(self, least: Level = NORMAL) -> dict[str, WarningState]:
            """The mailboxes at ``least`` or above."""
            return dict(self.get("warning_states", least))

        def test_it_provides_what_it_says(self) -> None:
            verifyObject(IState, self.state)

        def test_another_process_sees_it_all(self) -> None:
            self.get("weigh", "jörg", WARN, 5.0, DAY)
            self.get("take_digest", "root", 5.0, DAY)
            self.get("keep_scan", "jörg", SCAN)
            self.get("add_order", "jörg", RetentionOrder(1.0, 1.0, "any 1d"))
            self.state.high_water("/mail/jörg", 7)
            other = self.open()
            warned = {"jörg": WarningState(WARN, warned=5.0)}
            self.assertEqual(self.get("warning_states", NORMAL, of=other), warned)
            self.assertFalse(self.get("is_digest_due", "root", 6.0, DAY, of=other))
            self.assertEqual(self.get("last_scans", "", 9, of=other), {"jörg": SCAN})
            self.assertEqual(list(self.get("orders", of=other)), ["jörg"])
            self.assertEqual(other.high_water("/mail/jörg", 0), 7)

        # -- warnings ----------------------------------------------------------

        def test_one_level_after_the_other_warns_once_in_an_interval(self) -> None:
            found = [
                (0.0, WARN),
                (1.0, WARN),
                (2.0, OVER),
                (3.0, NORMAL),
                (4.0, OVER),
                (DAY + 2, OVER),
            ]
            notices = [self.get("weigh", "alice", level, now, DAY).notice for now, level in found]
            self.assertEqual(notices, [WARN, None, OVER, None, None, OVER])
            state = WarningState(OVER, warned=0.0, over=DAY + 2)
            self.assertEqual(self.warnings(), {"alice": state})

        def test_of_two_processes_only_one_warns(self) -> None:
            both = (self.state, self.open())
            notices = [self.get("weigh", "alice", WARN, 5.0, DAY, of=one).notice for one in both]
            self.assertEqual(notices, [WARN, None])

        def test_mailboxes_are_listed_by_name_from_a_level_on(self) -> None:
            for mailbox, level in (("jörg", WARN), ("bob", OVER), ("alice", OVER), ("x", NORMAL)):
                self.get("weigh", mailbox, level, 0.0, DAY)
            self.assertEqual(list(self.warnings()), ["alice", "bob", "jörg"])
            self.assertEqual(list(self.warnings(OVER)), ["alice", "bob"])

        def test_who_had_room_for_long_enough_is_forgotten(self) -> None:
            self.get("weigh", "alice", WARN, 0.0, DAY)
            change = self.get("weigh", "alice", NORMAL, DAY, DAY)
            self.assertEqual(change, (WarningState(WARN, 0.0), WarningState(), None))
            self.assertEqual(self.warnings(), {})

        def test_a_warning_that_could_not_be_sent_is_due_again(self) -> None:
            for level, first, second in ((WARN, 0.0, 1.0), (OVER, 2.0, 3.0)):
                change = self.get("weigh", "alice", level, first, DAY)
                self.assertTrue(self.get("take_back", "alice", change))
                self.assertIs(self.get("weigh", "alice", level, second, DAY).notice, level)

        def test_what_others_have_changed_since_is_not_taken_back(self) -> None:
            change = self.get("weigh", "alice", WARN, 0.0, DAY)
            self.get("weigh", "alice", OVER, 1.0, DAY)
            self.assertFalse(self.get("take_back", "alice", change))
            state = WarningState(OVER, warned=0.0, over=1.0)
            self.assertEqual(self.warnings(), {"alice": state})

        # -- digests -----------------------------------------------------------

        def test_a_digest_is_due_once_in_an_interval_for_each_address(self) -> None:
            self.assertTrue(self.get("is_digest_due", "root", 5.0, DAY))
            self.assertEqual(self.get("take_digest", "root", 5.0, DAY), (None, 5.0))
            self.assertIsNone(self.get("take_digest", "root", DAY, DAY))
            self.assertFalse(self.get("is_digest_due", "root", DAY, DAY))
            self.assertEqual(self.get("take_digest", "other", DAY, DAY), (None, DAY))
            self.assertEqual(self.get("take_digest", "root", DAY + 5, DAY), (5.0, DAY + 5))

        def test_of_two_processes_only_one_sends_a_digest(self) -> None:
            both = (self.state, self.open())
            claims = [self.get("take_digest", "root", 5.0, DAY, of=one) for one in both]
            self.assertEqual(claims, [(None, 5.0), None])

        def test_a_digest_that_could_not_be_sent_is_due_again(self) -> None:
            claim = None
            for now in (0.0, DAY):
                claim = self.get("take_digest", "root", now, DAY)
                self.assertTrue(self.get("return_digest", "root", claim))
                self.assertFalse(self.get("return_digest", "root", claim))
                claim = self.get("take_digest", "root", now, DAY)
            self.assertEqual(claim, (0.0, DAY))

        def test_a_digest_from_the_future_keeps_silent_for_one_interval_only(self) -> None:
            self.get("take_digest", "root", 100 * DAY, DAY)
            self.assertFalse(self.get("is_digest_due", "root", 0.0, DAY))
            self.assertIsNone(self.get("take_digest", "root", DAY - 1, DAY))
            self.assertEqual(self.get("take_digest", "root", DAY, DAY), (0.0, DAY))

        # -- retention ---------------------------------------------------------

        def test_the_last_scan_of_each_mailbox_is_kept_until_it_is_forgotten(self) -> None:
            for mailbox, scan in (("jörg", STOPPED), ("jörg", SCAN), ("alice", STOPPED)):
                self.get("keep_scan", mailbox, scan)
            self.assertEqual(self.get("last_scans", "", 9), {"alice": STOPPED, "jörg": SCAN})
            self.get("forget_scan", "jörg")
            self.get("forget_scan", "nobody")
            self.assertEqual(self.get("last_scans", "", 9), {"alice": STOPPED})

        def test_scans_are_read_in_pieces_in_the_order_of_names(self) -> None:
            names = ["a", "b", "z@example.org", "é", "\U0001f600"]
            for name in reversed(names):
                self.get("keep_scan", name, SCAN)
            pieces = [self.get("last_scans", after, 2) for after in ("", "b", "é", names[-1])]
            self.assertEqual([[*one] for one in pieces], [names[:2], names[2:4], names[4:], []])
            self.assertEqual(pieces[0], {"a": SCAN, "b": SCAN})

        def test_scans_of_some_mailboxes_are_found_by_name(self) -> None:
            for name, scan in (("alice", SCAN), ("jörg", STOPPED), ("carol", SCAN)):
                self.get("keep_scan", name, scan)
            asked = ["jörg", "nobody", "", "\udcff", "no\0name", "alice"]
            found = {"alice": SCAN, "jörg": STOPPED}
            self.assertEqual(self.get("find_scans", asked, of=self.open()), found)
            self.assertEqual(self.get("find_scans", []), {})

        def test_an_order_is_done_once_and_one_given_meanwhile_stays(self) -> None:
            first = RetentionOrder(1.0)
            self.get("add_order", "alice", first)
            self.assertEqual(self.get("orders"), {"alice": first})
            release = RetentionOrder(2.0, 2.0, "any 1d")
            self.get("add_order", "alice", release)
            self.get("finish_order", "alice", first)
            self.assertEqual(self.get("orders"), {"alice": release})
            self.get("finish_order", "alice", release)
            self.assertEqual(self.get("orders"), {})

        def test_an_order_leaves_the_release_before_it_and_a_release_replaces_it(self) -> None:
            orders = [RetentionOrder(1.0), RetentionOrder(2.0, 2.0, "any 1d"), RetentionOrder(3.0)]
            for order in orders:
                self.get("add_order", "alice", order)
            both = RetentionOrder(3.0, 2.0, "any 1d")
            self.assertEqual(self.get("orders"), {"alice": both})
            self.get("finish_order", "alice", orders[1])
            self.get("finish_order", "alice", both._replace(policy="any 2d"))
            self.assertEqual(self.get("orders"), {"alice": both})
            self.get("add_order", "alice", RetentionOrder(2.5, 2.5, "any 3d"))
            last = RetentionOrder(3.0, 2.5, "any 3d")
            self.assertEqual(self.get("orders"), {"alice": last})
            self.get("finish_order", "alice", last)
            self.assertEqual(self.get("orders"), {})

        def test_what_is_removed_is_counted_by_day(self) -> None:
            counts = [(1, 5), (1, 0), (1, 7), (2, 1), (1, 1)]
            totals = [self.get("count_removed", *one) for one in counts]
            self.assertEqual(totals, [5, 5, 12, 1, 1])

        def test_what_is_purged_is_counted_by_day_beside_what_is_removed(self) -> None:
            other = self.open()
            self.get("count_removed", 1, 5)
            counts = [(1, 2), (1, 0), (1, 7)]
            totals = [self.get("count_purged", *one, of=other) for one in counts]
            self.assertEqual(totals, [2, 2, 9])
            self.assertEqual(self.get("count_removed", 1, 1), 6)
            self.assertEqual(self.get("count_purged", 1, 1), 10)
            self.assertEqual(self.get("count_purged", 2, 1), 1)
            self.assertEqual(self.get("count_removed", 2, 0), 0)

        def test_the_forecast_of_each_mailbox_is_kept_until_it_is_empty(self) -> None:
            first, second = (
                [DueDay(20_000, 3, 4096)],
                [DueDay(20_001, 1, 2**40), DueDay(20_090, 2, 0)],
            )
            for mailbox, due in (("jörg", first), ("jörg", second), ("alice", first)):
                self.get("keep_forecast", mailbox, due)
            self.get("keep_forecast", "nobody", [])
            self.assertEqual(
                self.get("forecasts", "", 9, of=self.open()), {"alice": first, "jörg": second}
            )
            self.get("keep_forecast", "alice", [])
            self.assertEqual(self.get("forecasts", "", 9), {"jörg": second})

        def test_forecasts_are_read_in_pieces_in_the_order_of_names(self) -> None:
            names = ["a", "b", "z@example.org", "é", "\U0001f600"]
            for name in reversed(names):
                self.get("keep_forecast", name, [DueDay(1, 1, 1)])
            read, after = [], ""
            while piece := self.get("forecasts", after, 2):
                self.assertLessEqual(len(piece), 2)
                read += piece
                after = read[-1]
            self.assertEqual(read, names)

        def test_what_one_process_announces_all_do(self) -> None:
            self.assertIsNone(self.get("find_expire"))
            for known in (KnownExpire("7 USER", 9.5), KnownExpire("", 99.5)):
                self.get("keep_expire", known)
                self.assertEqual(self.get("find_expire", of=self.open()), known)

        # -- mailboxes ---------------------------------------------------------

        def know(self, mailbox: str) -> None:
            """Record something of every kind."""
            self.get("weigh", mailbox, OVER, 5.0, DAY)
            self.get("keep_scan", mailbox, SCAN)
            self.get("add_order", mailbox, RetentionOrder(1.0, 1.0, "any 1d"))
            self.get("keep_forecast", mailbox, [DueDay(1, 2, 3)])
            self.get("keep_logins", {mailbox: LastLogin(5.0, "PASS", "local")})

        def known(self) -> list[list[str]]:
            """The names of the mailboxes that something of each kind is known of."""
            found = ("warning_states", NORMAL), ("orders",)
            names = [sorted(self.get(*one)) for one in found]
            paged = ("last_scans", "forecasts", "last_logins")
            return [*names, *(sorted(self.get(one, "", 9)) for one in paged)]

        def test_what_is_known_of_a_renamed_mailbox_goes_to_its_new_name(self) -> None:
            for mailbox in ("alice", "bob", "old carol"):
                self.know(mailbox)
            self.assertIsNone(self.get("find_rename", "alice"))
            self.get("begin_rename", "alice", "old carol")
            self.assertEqual(self.get("find_rename", "alice", of=self.open()), "old carol")
            self.assertEqual(self.known(), [["alice", "bob", "old carol"]] * 5)
            for _ in range(2):
                self.get("finish_rename", "alice")
                self.assertEqual(self.known(), [["bob", "old carol"]] * 5)
            self.assertIsNone(self.get("find_rename", "alice"))
            self.assertEqual(self.get("last_scans", "", 9)["old carol"], SCAN)

        def test_a_rename_that_changed_nothing_is_dropped(self) -> None:
            self.know("alice")
            self.get("begin_rename", "alice", "bob")
            self.get("begin_rename", "alice", "carol")
            self.assertEqual(self.get("find_rename", "alice"), "carol")
            self.get("drop_rename", "alice")
            self.get("finish_rename", "alice")
            self.assertEqual(self.known(), [["alice"]] * 5)

        def test_of_a_deleted_mailbox_nothing_is_known(self) -> None:
            self.know("alice")
            self.know("bob")
            for _ in range(2):
                self.get("forget_mailbox", "alice")
                self.assertEqual(self.known(), [["bob"]] * 5)

        # -- logins ------------------------------------------------------------

        def test_the_later_login_to_a_mailbox_stays_whoever_stores_it_last(self) -> None:
            first = LastLogin(5.0, "PASS", "local")
            later = LastLogin(9.0, "NTLM", "public")
            other = self.open()
            self.get("keep_logins", {"jörg": later, "alice": first})
            self.get("keep_logins", {"jörg": first, "alice": later}, of=other)
            for one in (self.state, other):
                logins = self.get("last_logins", "", 9, of=one)
                self.assertEqual(logins, {"alice": later, "jörg": later})

        def test_logins_are_read_in_pieces_and_by_name(self) -> None:
            login = LastLogin(5.0, "PASS", "private")
            names = ["a", "b", "z@example.org", "é", "\U0001f600", 'q"\\\n']
            self.get("keep_logins", dict.fromkeys(names, login))
            read, after = [], ""
            while piece := self.get("last_logins", after, 2):
                self.assertLessEqual(len(piece), 2)
                read += piece
                after = read[-1]
            self.assertEqual(read, sorted(names))
            asked = [*names[3:], "nobody"]
            found = self.get("find_logins", asked)
            self.assertEqual(found, dict.fromkeys(names[3:], login))
            self.assertEqual(self.get("find_logins", []), {})

        def test_it_is_known_since_when_logins_are_stored(self) -> None:
            self.assertIsNone(self.get("logins_since"))
            self.get("keep_logins", {})
            self.assertIsNone(self.get("logins_since"))
            for at in (7.0, 5.0, 9.0):
                self.get("keep_logins", {"alice": LastLogin(at, "PASS", "local")})
            self.assertEqual(self.get("logins_since", of=self.open()), 7.0)

        # -- unique-ids --------------------------------------------------------

        def test_no_number_is_known_at_first_and_to_ask_changes_nothing(self) -> None:
            self.assertEqual(self.state.high_water("/mail/alice", 0), 0)
            self.assertEqual(self.state.high_water("/mail/alice", 0), 0)

        def test_a_number_only_ever_rises_and_each_maildir_has_its_own(self) -> None:
            for least, number in ((500, 500), (400, 500), (0, 500)):
                self.assertEqual(self.state.high_water("/mail/a", least), number)
            self.assertEqual(self.state.high_water("/home/bob/Maildir", 2**32 - 1), 2**32 - 1)
            self.assertEqual(self.state.high_water("/mail/b", 0), 0)

        def test_all_numbers_are_raised_at_once(self) -> None:
            self.state.high_water("/a", 500)
            self.state.high_water("/b", 7)
            self.get("raise_high_water", 1000)
            numbers = [self.state.high_water(path, 0) for path in ("/a", "/b", "/c")]
            self.assertEqual(numbers, [1500, 1007, 0])

        def test_it_is_known_by_how_much_all_were_raised(self) -> None:
            self.assertEqual(self.state.high_water(RAISED, 0), 0)
            for by in (1000, 7):
                self.get("raise_high_water", by)
            self.assertEqual(self.open().high_water(RAISED, 0), 1007)

        def test_a_path_may_be_of_any_octets(self) -> None:
            odd = os.fsdecode(b"/home/\xff\n/Maildir")
            self.assertEqual(self.state.high_water(odd, 7), 7)
            self.assertEqual(self.state.high_water(odd, 0), 7)

    return StateTests


def leader_tests(make: Callable[[SynchronousTestCase], Open]) -> type[SynchronousTestCase]:
    """The suite for the ``ILeader`` that what ``make`` returns opens, one for each process."""

    class LeaderTests(SynchronousTestCase):
        def setUp(self) -> None:
            open_one = make(self)
            self.one, self.other = open_one(), open_one()

        def leads(self, candidate: Any) -> Any:
            """Whether it is the leader."""
            return self.successResultOf(candidate.is_leader())

        def test_it_provides_what_it_says(self) -> None:
            verifyObject(ILeader, self.one)

        def test_only_one_leads_for_as_long_as_it_does_not_resign(self) -> None:
            for _ in range(2):
                self.assertEqual((self.leads(self.one), self.leads(self.other)), (True, False))

        def test_who_has_asked_knows_whether_anybody_leads(self) -> None:
            self.assertEqual((self.one.is_led, self.other.is_led), (False, False))
            self.assertEqual((self.leads(self.one), self.leads(self.other)), (True, False))
            self.assertEqual((self.one.is_led, self.other.is_led), (True, True))

        def test_another_leads_once_the_leader_has_resigned(self) -> None:
            self.leads(self.one)
            for _ in range(2):
                self.successResultOf(self.one.resign())
            self.assertEqual((self.leads(self.other), self.leads(self.one)), (True, False))

        def test_who_has_resigned_does_not_lead_again(self) -> None:
            self.leads(self.one)
            self.successResultOf(self.one.resign())
            self.assertFalse(self.leads(self.one))

        def test_who_does_not_lead_cannot_resign_for_another(self) -> None:
            self.leads(self.one)
            self.successResultOf(self.other.resign())
            self.assertEqual((self.leads(self.other), self.leads(self.one)), (False, True))

    return LeaderTests
