"""What an operator does to mailboxes and their messages, over each kind of store."""

from __future__ import annotations

import errno
import os
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ENGINES, ClusterBench, Waits
from disks import no_room
from gateway.app.parts.retention import policies_of
from gateway.app.parts.tools import tools_of
from gateway.app.server.questions import Questions, SingleProcess
from gateway.config.quota import DomainQuota, Quota
from gateway.config.retention import DomainRetention, Retention
from gateway.config.settings import DirectorySettings, Settings
from gateway.directory.memory import MemoryDirectory
from gateway.errors import (
    AskFailed,
    BadMailboxName,
    BadRequest,
    DirectoryDown,
    GatewayError,
    LedgerUnusable,
    MailboxExists,
    MaildropBusy,
    MessageGone,
    NoSuchMailbox,
    NotConfirmed,
    NotSupported,
    OnHold,
    StoreDown,
)
from gateway.model import Account, LastLogin, LastScan, Level
from gateway.model import Quota as AccountQuota
from gateway.operations.mail import mailbox_list, mailboxes, messages, stored_mail, unique_ids
from gateway.operations.mail.mailboxes import SESSIONS_IN
from gateway.operations.tools import Tools
from gateway.postgresql.database import Database
from gateway.state.cluster.state import ClusterState
from gateway.state.memory import MemoryState
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.store.memory import MemoryStore
from gateway.testing.retention_store_contract import Trail
from gateway.testing.store_contract import run_now

T = TypeVar("T")

DAY = 86_400
NOW = 1_750_000_000.0
MAIL = (
    b"From: =?utf-8?q?J=C3=B6rg?= <joerg@example.org>\r\nSubject: <script>alert(1)</script>\r\n"
    b"Message-ID: <%d@example.org>\r\n\r\nsecret body\r\n"
)

ODD = "jörg & <b>søn<b> 100%@example.org"


class OperatorCase(SynchronousTestCase):
    """A server with its parts in memory, and Alice's, Bob's and an odd name's mailboxes."""

    def setUp(self) -> None:
        self.trail: Any = Trail()
        self.state: Any = MemoryState()
        self.sessions: dict[str, int] = {}
        self.silent = ""
        self.directory: MemoryDirectory | None = None
        self.accounts = {
            "alice": Account(
                name="alice",
                mailbox="alice@example.org",
                quota=AccountQuota(octets=1000),
                retention="unread 60d, hide 14d",
            ),
            "bob": Account(name="bob", mailbox="bob@example.net"),
            "held": Account(name="held", mailbox="held@example.org", retention="any 1d, hold"),
        }
        self.settings = Settings(
            quota=Quota(octets="5000", domains={"example.net": DomainQuota(messages=7)}),
            retention=Retention(
                enabled=True, domains={"example.net": DomainRetention(policy="read 7d")}
            ),
        )
        self.store: Any = self.make_store()
        for name in ("alice@example.org", "bob@example.net", "held@example.org", ODD):
            self.add(name)

    def make_store(self) -> Any:
        return MemoryStore(audit=self.trail, now=lambda: NOW)

    def add(self, name: str) -> None:
        self.store.add(name)

    def deliver(self, name: str, count: int = 1) -> None:
        for number in range(count):
            self.store.mailboxes[name].deliver(MAIL % number)

    @property
    def tools(self) -> Tools:
        questions = Questions()
        questions.answer(SESSIONS_IN, self.count_sessions)
        made = tools_of(
            self.settings,
            self.directory or MemoryDirectory({}, self.accounts),
            self.store,
            self.state,
            policies=policies_of(self.settings.retention),
            processes=SingleProcess(questions),
            run=maybeDeferred,
            now=lambda: NOW,
        )
        return evolve(made, operator="token desk")

    def count_sessions(self, mailbox: str) -> int:
        if self.silent:
            raise AskFailed(self.silent)
        return self.sessions.get(mailbox, 0)

    def get(self, asked: Coroutine[Any, Any, T]) -> T:
        return self.successResultOf(Deferred.fromCoroutine(asked))

    def refused(self, kind: type[GatewayError], asked: Coroutine[Any, Any, Any]) -> str:
        return str(self.failureResultOf(Deferred.fromCoroutine(asked), kind).value)

    def uids(self, mailbox: str, show: Any = "shown") -> list[str]:
        page = self.get(messages.list_messages(self.tools, mailbox=mailbox, show=show, sort="uid"))
        return [row.uid for row in page.items]

    def said(self) -> list[tuple[str, str, str]]:
        lines = self.trail.lines
        return [(line.action, line.uid, line.cause.operator) for line in lines]


class ListTests(OperatorCase):
    def names(self, **arguments: Any) -> list[str]:
        page = self.get(mailbox_list.list_mailboxes(self.tools, **arguments))
        return [row.mailbox for row in page.items]

    def test_the_fullest_comes_first_and_pages_have_the_rest(self) -> None:
        self.deliver("bob@example.net", 3)
        self.deliver("alice@example.org", 1)
        self.assertEqual(self.names()[:2], ["bob@example.net", "alice@example.org"])
        page = self.get(mailbox_list.list_mailboxes(self.tools, page=1, per_page=3))
        self.assertEqual((len(page.items), page.total), (1, 4))
        self.assertEqual(self.names(page=1000), [])

    def test_a_part_of_the_name_is_searched_in_any_case(self) -> None:
        self.assertEqual(self.names(search="ALICE"), ["alice@example.org"])
        self.assertEqual(self.names(search="<B>SØN"), [ODD])
        self.assertEqual(self.names(search="100%"), [ODD])
        self.assertEqual(self.names(search="nobody"), [])
        self.assertEqual(self.names(search=".*"), [])

    def test_every_order_has_all_mailboxes_once(self) -> None:
        self.deliver("alice@example.org", 2)
        self.deliver("bob@example.net", 3)
        for order in ("octets", "messages", "share", "mailbox", "last_login"):
            self.assertEqual(len(set(self.names(sort=order))), 4, order)
        self.assertEqual(self.names(sort="mailbox"), sorted(self.names()))
        self.assertEqual(self.names(sort="messages")[0], "bob@example.net")

    def test_the_share_is_that_of_the_nearer_limit(self) -> None:
        # 7 messages are allowed in example.net, and 1000 octets to Alice.
        self.deliver("bob@example.net", 6)
        self.deliver("alice@example.org", 2)
        self.assertEqual(self.names(sort="share")[:2], ["bob@example.net", "alice@example.org"])
        rows = {row.mailbox: row for row in self.get(mailbox_list.list_mailboxes(self.tools)).items}
        self.assertAlmostEqual(rows["bob@example.net"].share or 0, 6 / 7)

    def test_who_has_not_logged_in_for_the_longest_time_comes_first(self) -> None:
        old, new = LastLogin(1.0, "PASS", "local"), LastLogin(2.0, "PASS", "local")
        self.state.keep_logins({"bob@example.net": new, "alice@example.org": old})
        names = self.names(sort="last_login")
        self.assertEqual(names[-2:], ["alice@example.org", "bob@example.net"])
        row = self.get(mailbox_list.list_mailboxes(self.tools, search="bob")).items[0]
        self.assertEqual(row.last_login, 2.0)

    def test_a_row_says_where_limits_and_policy_come_from(self) -> None:
        rows = {row.mailbox: row for row in self.get(mailbox_list.list_mailboxes(self.tools)).items}
        alice, bob, odd = rows["alice@example.org"], rows["bob@example.net"], rows[ODD]
        self.assertEqual((alice.limit_octets, alice.limit_octets_from), (1000, "account"))
        self.assertEqual((bob.limit_octets, bob.limit_octets_from), (5000, "default"))
        self.assertEqual((bob.limit_messages, bob.limit_messages_from), (7, "domain example.net"))
        self.assertEqual((odd.limit_messages, odd.limit_messages_from), (None, ""))
        self.assertEqual((alice.policy, alice.policy_from), ("unread 60d, hide 14d", "account"))
        self.assertEqual((bob.policy, bob.policy_from), ("read 7d", "domain example.net"))
        self.assertEqual((odd.policy, odd.policy_from, odd.owner), ("", "", None))
        self.assertEqual((alice.owner, alice.level, alice.hidden), ("alice", "normal", 0))
        self.assertTrue(rows["held@example.org"].on_hold)

    def test_hidden_messages_and_levels_are_told(self) -> None:
        self.deliver("alice@example.org", 12)
        uids = self.uids("alice@example.org")
        self.get(
            messages.hide_messages(self.tools, mailbox="alice@example.org", uids=tuple(uids[:2]))
        )
        row = self.get(mailbox_list.list_mailboxes(self.tools, search="alice")).items[0]
        self.assertEqual((row.hidden, row.messages, row.level), (2, 10, "over"))

    def test_one_mailbox_is_told_with_its_parts_its_scan_and_its_sessions(self) -> None:
        name = "alice@example.org"
        self.deliver(name, 3)
        self.get(messages.hide_messages(self.tools, mailbox=name, uids=self.first(name, 1)))
        self.state.keep_scan(name, LastScan("any 1d", 9.0, 5.0, 2, "too many"))
        self.sessions[name] = 2
        told = self.get(mailbox_list.show_mailbox(self.tools, mailbox=name))
        self.assertEqual((told.shown_messages, told.mailbox.hidden, told.sessions), (2, 1, 2))
        self.assertEqual((told.scanned, told.next_scan, told.stopped), (5.0, 9.0, "too many"))
        self.assertEqual(told.policy_error, "")

    def test_one_mailbox_is_told_without_reading_the_scans_of_all(self) -> None:
        name = "alice@example.org"
        self.deliver(name, 1)
        self.state.keep_scan(name, LastScan("any 1d", 9.0, 5.0, 2))
        self.patch(self.state, "last_scans", lambda *_: fail(AssertionError("reads all scans")))
        told = self.get(mailbox_list.show_mailbox(self.tools, mailbox=name))
        self.assertEqual((told.scanned, told.next_scan), (5.0, 9.0))

    def first(self, name: str, count: int) -> tuple[str, ...]:
        return tuple(self.uids(name)[:count])

    def test_a_policy_with_an_error_is_told_and_counts_as_hold(self) -> None:
        self.accounts["bob"] = evolve(self.accounts["bob"], retention="nonsense")
        told = self.get(mailbox_list.show_mailbox(self.tools, mailbox="bob@example.net"))
        self.assertIn("nonsense", told.policy_error)
        self.assertTrue(told.mailbox.on_hold)

    def test_a_mailbox_that_nobody_has_is_not_found(self) -> None:
        for name in ("carol@example.org", "", "../etc", "a\nb", "x" * 500, "bob"):
            self.refused(NoSuchMailbox, mailbox_list.show_mailbox(self.tools, mailbox=name))
            self.refused(NoSuchMailbox, messages.list_messages(self.tools, mailbox=name))


class DirectoryTests(OperatorCase):
    """Mailboxes in home directories, which only a directory knows, and a directory that is down."""

    def in_homes(self) -> None:
        root = self.mktemp()
        for name, account in self.accounts.items():
            home = os.path.abspath(f"{root}/{name}")
            self.accounts[name] = evolve(account, home=home)
            for kind in ("tmp", "new", "cur"):
                os.makedirs(f"{home}/Maildir/{kind}")
            with open(f"{home}/Maildir/new/1700000001.M1P1.host", "wb") as file:
                file.write(MAIL % 1)
        self.accounts["none"] = Account(name="none", mailbox="none", home=f"{root}/none")
        self.store = MaildirStore(root, "{home}/Maildir", run_now, audit=self.trail)

    def test_those_of_the_directory_that_exist_are_listed_in_every_order(self) -> None:
        self.in_homes()
        wanted = {"alice@example.org", "bob@example.net", "held@example.org"}
        for sort in ("mailbox", "octets", "messages", "share", "last_login"):
            page = self.get(mailbox_list.list_mailboxes(self.tools, sort=sort))
            self.assertEqual({row.mailbox for row in page.items}, wanted)
            self.assertEqual({row.messages for row in page.items}, {1})

    def test_they_are_shown_changed_and_deleted_and_not_renamed(self) -> None:
        self.in_homes()
        name = "alice@example.org"
        self.assertEqual(
            self.get(mailbox_list.show_mailbox(self.tools, mailbox=name)).shown_messages, 1
        )
        rename = mailboxes.rename(self.tools, mailbox=name, target="anna@example.org")
        self.assertIn("in the directory", self.refused(NotSupported, rename))
        self.assertIsNone(self.successResultOf(self.state.find_rename(name)))
        told = self.get(mailboxes.delete(self.tools, mailbox=name, confirm=name))
        self.assertEqual(told.messages, 1)
        self.refused(NoSuchMailbox, mailbox_list.show_mailbox(self.tools, mailbox=name))
        none = mailbox_list.show_mailbox(self.tools, mailbox="none")
        self.refused(NoSuchMailbox, none)

    def test_while_the_directory_is_down_rows_say_so(self) -> None:
        class Down(MemoryDirectory):
            def owner(self, mailbox: str) -> Deferred[Account | None]:  # noqa: ARG002
                return fail(DirectoryDown("no answer"))

        self.directory = Down({}, self.accounts)
        page = self.get(mailbox_list.list_mailboxes(self.tools))
        self.assertEqual(len(page.items), 4)
        self.assertEqual({row.problem for row in page.items}, {"no answer"})
        # A mailbox that may be on hold is not touched.
        delete = mailboxes.delete(self.tools, mailbox=ODD, confirm=ODD)
        self.refused(DirectoryDown, delete)


class MessageTests(OperatorCase):
    name = "alice@example.org"

    def rows(self, **arguments: Any) -> Any:
        return self.get(messages.list_messages(self.tools, mailbox=self.name, **arguments)).items

    def test_each_message_says_when_it_goes_and_why(self) -> None:
        self.deliver(self.name, 2)
        first, second = self.uids(self.name)
        self.get(messages.hide_messages(self.tools, mailbox=self.name, uids=(first,)))
        rows = {row.uid: row for row in self.rows()}
        shown, hidden = rows[second], rows[first]
        self.assertIsNone(shown.hidden)
        self.assertAlmostEqual(shown.due, shown.received + 60 * DAY, delta=1)
        self.assertEqual(shown.why, "unread for 60 days after receipt")
        self.assertIsNone(hidden.received)
        self.assertAlmostEqual(hidden.due, hidden.hidden + 14 * DAY, delta=1)
        self.assertEqual(hidden.why, "hidden for 14 days")
        self.assertEqual([row.uid for row in self.rows(show="hidden")], [first])
        self.assertEqual([row.uid for row in self.rows(show="shown")], [second])

    def test_without_a_time_it_says_why(self) -> None:
        cases = {
            "held@example.org": "on hold",
            ODD: "no retention policy",
            "bob@example.net": "no rule of its policy applies: read 7d",
        }
        for self.name, text in cases.items():
            self.deliver(self.name)
            (row,) = self.rows()
            self.assertIsNone(row.due)
            self.assertIn(text, row.why)
        self.accounts["bob"] = evolve(self.accounts["bob"], retention="nonsense")
        self.assertIn("has an error", self.rows()[0].why)
        self.settings = evolve(self.settings, retention=Retention())
        self.assertIn("retention is off", self.rows()[0].why)

    def test_they_are_sorted_and_paged(self) -> None:
        self.deliver(self.name, 12)
        uids = [row.uid for row in self.rows(sort="uid")]
        self.assertEqual(uids, sorted(uids, key=int))
        self.assertEqual([row.uid for row in self.rows(sort="uid", descending=True)], uids[::-1])
        self.assertEqual([row.uid for row in self.rows(sort="uid", page=1, per_page=5)], uids[5:10])
        for order in ("received", "octets", "due"):
            self.assertEqual({row.uid for row in self.rows(sort=order)}, set(uids))

    def test_a_header_is_decoded_and_the_body_is_never_told(self) -> None:
        self.deliver(self.name)
        (uid,) = self.uids(self.name)
        told = self.get(messages.show_header(self.tools, mailbox=self.name, uid=uid))
        self.assertEqual(told.sender, "Jörg <joerg@example.org>")
        self.assertEqual(told.subject, "<script>alert(1)</script>")
        self.assertEqual((told.message_id, told.date), ("<0@example.org>", None))
        self.assertNotIn("secret", repr(told))
        self.refused(MessageGone, messages.show_header(self.tools, mailbox=self.name, uid="99"))

    def test_hiding_and_removing_leave_lines_that_name_the_operator(self) -> None:
        self.deliver(self.name, 3)
        first, second, third = self.uids(self.name)
        tools = self.tools
        self.get(messages.hide_messages(tools, mailbox=self.name, uids=(first, first)))
        gone = self.get(
            messages.remove_messages(tools, mailbox=self.name, uids=(first, second, "no such id"))
        )
        self.assertEqual((gone.wanted, gone.done), (3, 2))
        self.assertEqual(
            self.said(),
            [
                ("hide", first, "token desk"),
                ("discard", second, "token desk"),
                ("purge", first, "token desk"),
            ],
        )
        self.assertEqual(self.uids(self.name, "all"), [third])

    def test_on_hold_messages_are_hidden_and_not_removed(self) -> None:
        self.name = "held@example.org"
        self.deliver(self.name, 1)
        uids = tuple(self.uids(self.name))
        remove = messages.remove_messages
        said = self.refused(OnHold, remove(self.tools, mailbox=self.name, uids=uids))
        self.assertIn("Take hold out of its retention policy", said)
        self.get(messages.hide_messages(self.tools, mailbox=self.name, uids=uids))
        self.refused(OnHold, remove(self.tools, mailbox=self.name, uids=uids))
        self.assertEqual(self.uids(self.name, "hidden"), list(uids))

    def test_a_list_of_no_ids_restores_nothing_and_no_list_restores_all(self) -> None:
        self.deliver(self.name, 2)
        uids = tuple(self.uids(self.name))
        self.get(messages.hide_messages(self.tools, mailbox=self.name, uids=uids))
        restore = stored_mail.restore
        self.refused(BadRequest, restore(self.tools, mailbox=self.name, uids=()))
        self.assertEqual(self.uids(self.name, "hidden"), list(uids))
        restored = self.get(restore(self.tools, mailbox=self.name))
        self.assertEqual(restored.restored, len(uids))

    def test_an_empty_name_is_no_mailbox(self) -> None:
        for done in (
            mailboxes.rename(self.tools, mailbox=self.name, target=""),
            mailboxes.delete(self.tools, mailbox="", confirm=""),
            mailboxes.rename(self.tools, mailbox="", target="new"),
            messages.remove_messages(self.tools, mailbox="", uids=("1",)),
        ):
            self.refused(GatewayError, done)
        self.assertEqual(self.said(), [])

    def test_without_a_message_that_is_there_nothing_is_said_to_be_done(self) -> None:
        for change in (messages.hide_messages, messages.remove_messages, stored_mail.restore):
            self.refused(BadRequest, change(self.tools, mailbox=self.name, uids=()))
            for uids in (("99",), ("../x", "y")):
                self.refused(MessageGone, change(self.tools, mailbox=self.name, uids=uids))
        self.assertEqual(self.said(), [])


class RenameTests(OperatorCase):
    name, target = "alice@example.org", "anna@example.org"

    def rename(self, mailbox: str = "", target: str = "") -> Coroutine[Any, Any, Any]:
        return mailboxes.rename(
            self.tools, mailbox=mailbox or self.name, target=target or self.target
        )

    def test_mail_and_state_have_the_new_name(self) -> None:
        self.deliver(self.name, 2)
        uids = self.uids(self.name)
        self.state.keep_scan(self.name, LastScan("any 1d", 9.0, 5.0, 2))
        self.state.weigh(self.name, Level.OVER, 5.0, DAY)
        self.state.keep_logins({self.name: LastLogin(1.0, "PASS", "local")})
        told = self.get(self.rename())
        self.assertEqual((told.mailbox, told.was, told.owner), (self.target, self.name, "alice"))
        self.assertEqual(self.uids(self.target), uids)
        scans = self.successResultOf(self.state.last_scans("", 99))
        levels = self.successResultOf(self.state.warning_states(Level.NORMAL))
        logins = self.successResultOf(self.state.find_logins([self.name, self.target]))
        for known in (scans, levels, logins):
            self.assertEqual(list(known), [self.target])
        self.assertEqual(list(self.successResultOf(self.state.orders())), [self.target])
        self.refused(NoSuchMailbox, messages.list_messages(self.tools, mailbox=self.name))

    def test_it_is_refused_onto_an_existing_one_itself_or_a_bad_name(self) -> None:
        self.deliver(self.name)
        self.refused(MailboxExists, self.rename(target="bob@example.net"))
        self.refused(MailboxExists, self.rename(target=self.name))
        self.refused(NoSuchMailbox, self.rename(mailbox="carol@example.org"))
        self.assertIsNone(self.successResultOf(self.state.find_rename(self.name)))
        self.assertEqual(len(self.uids(self.name)), 1)

    def test_it_is_refused_while_a_session_has_it_open(self) -> None:
        self.sessions[self.name] = 1
        self.assertIn("a session has", self.refused(MaildropBusy, self.rename()))
        self.sessions[self.name] = 2
        self.assertIn("2 sessions have", self.refused(MaildropBusy, self.rename()))
        self.sessions.clear()
        self.get(self.rename())

    def test_it_is_no_way_out_of_a_hold(self) -> None:
        self.assertIn("hold", self.refused(OnHold, self.rename("held@example.org")))
        self.accounts["anna"] = Account(name="anna", mailbox=self.target, retention="hold")
        self.get(self.rename("held@example.org"))

    def test_a_second_run_ends_what_a_crash_interrupted(self) -> None:
        self.deliver(self.name, 2)
        self.state.keep_scan(self.name, LastScan("any 1d", 9.0, 5.0, 2))
        # The process died after the store had renamed the mail.
        self.state.begin_rename(self.name, self.target)
        new = Account(name=self.target, mailbox=self.target)
        self.successResultOf(self.store.rename(self.accounts["alice"], new))
        self.assertTrue(self.get(self.rename()).resumed)
        self.assertEqual(list(self.successResultOf(self.state.last_scans("", 99))), [self.target])
        self.refused(NoSuchMailbox, self.rename())

    def test_a_run_that_died_before_the_store_renamed_begins_anew(self) -> None:
        self.deliver(self.name, 2)
        self.state.begin_rename(self.name, self.target)
        self.assertFalse(self.get(self.rename()).resumed)
        self.assertEqual(len(self.uids(self.target)), 2)

    def test_mail_that_came_to_the_old_name_after_a_crash_is_not_taken_for_the_old(self) -> None:
        self.state.begin_rename(self.name, self.target)
        new = Account(name=self.target, mailbox=self.target)
        self.successResultOf(self.store.rename(self.accounts["alice"], new))
        self.add(self.name)
        self.deliver(self.name)
        self.assertIn("look at both", self.refused(MailboxExists, self.rename()))
        self.assertEqual(len(self.uids(self.name)), 1)
        self.assertIsNone(self.successResultOf(self.state.find_rename(self.name)))

    def test_where_the_state_fails_it_says_that_the_mail_is_renamed(self) -> None:
        class Failing(MemoryState):
            def finish_rename(self, mailbox: str) -> Deferred[None]:
                if self.fails:
                    raise LedgerUnusable("ledger.sqlite3: is damaged")
                return super().finish_rename(mailbox)

            fails = True

        self.state = Failing()
        self.deliver(self.name, 2)
        said = self.refused(StoreDown, self.rename())
        self.assertIn("is renamed to", said)
        self.assertIn("run it again", said)
        self.state.fails = False
        self.assertTrue(self.get(self.rename()).resumed)


class DeleteTests(OperatorCase):
    name = "alice@example.org"

    def delete(self, **arguments: Any) -> Coroutine[Any, Any, Any]:
        return mailboxes.delete(self.tools, **{"mailbox": self.name, **arguments})

    def test_a_dry_run_counts_and_removes_nothing(self) -> None:
        self.deliver(self.name, 3)
        self.get(
            messages.hide_messages(
                self.tools, mailbox=self.name, uids=tuple(self.uids(self.name)[:1])
            )
        )
        told = self.get(self.delete(dry_run=True))
        self.assertEqual((told.messages, told.hidden_messages, told.dry_run), (3, 1, True))
        self.assertEqual(told.octets, 3 * len(MAIL % 0))
        self.assertEqual(len(self.uids(self.name, "all")), 3)

    def test_without_the_right_name_to_confirm_nothing_is_removed(self) -> None:
        self.deliver(self.name)
        for confirm in ("", "alice", "Alice@example.org", f"{self.name} "):
            self.assertIn(self.name, self.refused(NotConfirmed, self.delete(confirm=confirm)))
        self.assertEqual(len(self.uids(self.name)), 1)

    def test_all_of_it_goes_after_lines_that_name_the_operator(self) -> None:
        self.deliver(self.name, 2)
        uids = self.uids(self.name)
        self.state.keep_scan(self.name, LastScan("any 1d", 9.0, 5.0, 2))
        told = self.get(self.delete(confirm=self.name))
        self.assertEqual((told.messages, told.dry_run, told.owner), (2, False, "alice"))
        self.assertEqual(self.said(), [("discard", uid, "token desk") for uid in uids])
        self.assertEqual(self.successResultOf(self.state.last_scans("", 99)), {})
        self.refused(NoSuchMailbox, self.delete(confirm=self.name))

    def test_on_hold_or_open_it_is_refused(self) -> None:
        self.sessions[self.name] = 1
        self.refused(MaildropBusy, self.delete(confirm=self.name))
        held = "held@example.org"
        self.assertTrue(self.get(self.delete(mailbox=held, dry_run=True)).on_hold)
        self.refused(OnHold, self.delete(mailbox=held, confirm=held))
        self.assertEqual(self.said(), [])

    def test_a_hold_counts_also_if_another_server_has_the_mailbox_now(self) -> None:
        held = "held@example.org"
        self.settings = evolve(self.settings, directory=DirectorySettings(hosts=("here",)))
        self.accounts["held"] = evolve(self.accounts["held"], host="other")
        self.deliver(held, 2)
        uids = tuple(self.uids(held))
        self.refused(OnHold, self.delete(mailbox=held, confirm=held))
        self.refused(OnHold, messages.remove_messages(self.tools, mailbox=held, uids=uids))
        to = {"mailbox": held, "target": "new@example.org"}
        self.refused(OnHold, mailboxes.rename(self.tools, **to))
        found = self.get(mailbox_list.show_mailbox(self.tools, mailbox=held)).mailbox
        self.assertEqual((found.on_hold, found.owner), (True, "held"))
        self.assertEqual(self.uids(held), list(uids))

    def test_while_nobody_knows_who_has_it_open_it_is_refused(self) -> None:
        self.deliver(self.name)
        self.silent = "no answer of worker 2"
        to = {"mailbox": self.name, "target": "new@example.org"}
        for asked in (self.delete(confirm=self.name), mailboxes.rename(self.tools, **to)):
            self.assertEqual(self.refused(AskFailed, asked), self.silent)
        self.assertEqual((self.said(), len(self.uids(self.name))), ([], 1))

    def test_names_of_any_characters_are_deleted_by_that_name_only(self) -> None:
        self.deliver(ODD)
        self.get(self.delete(mailbox=ODD, confirm=ODD))
        self.assertEqual(len(self.said()), 1)
        names = [row.mailbox for row in self.get(mailbox_list.list_mailboxes(self.tools)).items]
        self.assertNotIn(ODD, names)


class OtherTests(OperatorCase):
    def test_usage_is_counted_again(self) -> None:
        self.deliver("bob@example.net", 2)
        told = self.get(mailboxes.recalculate(self.tools, mailbox="bob@example.net"))
        self.assertEqual(told.messages, 2)
        self.refused(NoSuchMailbox, mailboxes.recalculate(self.tools, mailbox="nobody"))

    def test_the_ids_of_one_mailbox_move_ahead(self) -> None:
        self.deliver("bob@example.net", 2)
        before = self.uids("bob@example.net")
        move = unique_ids.move_mailbox_ids
        told = self.get(move(self.tools, mailbox="bob@example.net", by=500))
        self.assertGreater(told.next_uid or 0, int(before[-1]) + 500)
        self.deliver("bob@example.net", 1)
        self.assertGreaterEqual(int(self.uids("bob@example.net")[-1]), told.next_uid)
        # None: a Maildir has no list before its first message.
        self.assertIn(self.get(move(self.tools, mailbox=ODD)).next_uid, (10_001, None))
        self.refused(NoSuchMailbox, move(self.tools, mailbox="nobody@example.org"))

    def test_a_name_that_none_can_have_is_no_target_of_a_rename(self) -> None:
        self.deliver("bob@example.net", 1)
        for name in ("", "a\0b"):
            rename = mailboxes.rename(self.tools, mailbox="bob@example.net", target=name)
            self.refused(BadMailboxName, rename)
        self.assertIsNone(self.successResultOf(self.state.find_rename("bob@example.net")))
        self.assertEqual(len(self.uids("bob@example.net")), 1)

    def test_a_store_that_cannot_do_it_says_so(self) -> None:
        self.store = object()
        for asked in (
            mailboxes.delete(self.tools, mailbox="bob@example.net", dry_run=True),
            mailboxes.recalculate(self.tools, mailbox="bob@example.net"),
            mailbox_list.list_mailboxes(self.tools),
        ):
            self.refused(NotSupported, asked)


class OfMaildirs:
    """The same over Maildirs."""

    def make_store(self: Any) -> Any:
        self.root = self.mktemp()
        return MaildirStore(
            self.root,
            "{name}",
            run_now,
            reading=MaildirOptions(high_water=self.state.high_water),
            audit=self.trail,
        )

    def add(self: Any, name: str) -> None:
        for kind in ("tmp", "new", "cur"):
            os.makedirs(f"{self.root}/{name}/{kind}")

    def deliver(self: Any, name: str, count: int = 1) -> None:
        for number in range(count):
            self.count = getattr(self, "count", 0) + 1
            file = f"{self.root}/{name}/new/{1_700_000_000 + self.count}.M{self.count}P1.host"
            with open(file, "wb") as message:
                message.write(MAIL % number)


class MaildirListTests(OfMaildirs, ListTests):
    pass


class MaildirMessageTests(OfMaildirs, MessageTests):
    pass


class MaildirRenameTests(OfMaildirs, RenameTests):
    def test_a_name_that_cannot_be_a_directory_is_refused(self) -> None:
        for name in ("../x", "a/b", ".x", "x" * 300, "a\0b"):
            self.refused(BadMailboxName, self.rename(target=name))
        self.assertIsNone(self.successResultOf(self.state.find_rename(self.name)))

    def test_an_outage_after_the_mail_is_renamed_leaves_the_rest_to_a_second_run(self) -> None:
        self.deliver(self.name, 2)
        self.state.keep_scan(self.name, LastScan("any 1d", 9.0, 5.0, 2))
        with no_room("fsync", f"*{self.root}", errno.EIO), no_room("stat", "*/cur", errno.EIO):
            self.assertIn("run it again", self.refused(StoreDown, self.rename()))
        self.assertTrue(self.get(self.rename()).resumed)
        self.assertEqual(list(self.successResultOf(self.state.last_scans("", 99))), [self.target])


class MaildirDeleteTests(OfMaildirs, DeleteTests):
    pass


class MaildirOtherTests(OfMaildirs, OtherTests):
    pass


class OfCluster(Waits):
    """The same over a cluster, and with its state."""

    pytestmark: ClassVar = [
        pytest.mark.usefixtures("engines"),
        pytest.mark.xdist_group("cluster"),
    ]

    def make_store(self: Any) -> Any:
        self.bench = ClusterBench(self)
        ENGINES[0].clear()
        self.trail = self.bench.trail
        self.state = ClusterState(Database(ENGINES[0].url), run_now)
        self.addCleanup(self.state.close)
        return self.bench.store

    def add(self: Any, name: str) -> None:
        self.bench.add(name)

    def deliver(self: Any, name: str, count: int = 1) -> None:
        for number in range(count):
            self.bench.deliver(MAIL % number, self.bench.add(name))


class ClusterListTests(OfCluster, ListTests):
    pass


class ClusterMessageTests(OfCluster, MessageTests):
    pass


class ClusterRenameTests(OfCluster, RenameTests):
    pass


class ClusterDeleteTests(OfCluster, DeleteTests):
    pass


class ClusterOtherTests(OfCluster, OtherTests):
    pass
