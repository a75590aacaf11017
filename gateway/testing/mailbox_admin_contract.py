"""What a store promises to operators of mailboxes, as a suite: give it a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from gateway.errors import (
    BadMailboxName,
    GatewayError,
    MailboxExists,
    MessageGone,
    NoSuchMailbox,
    StoreDown,
)
from gateway.interfaces import IMailboxAdmin
from gateway.model import Account, Contents, Reason, Usage, UsageChange
from gateway.testing.retention_store_contract import RULE, KeepingBench
from gateway.testing.store_contract import ALICE, BOB, read_all

__all__ = ["mailbox_admin_tests"]

CAROL = Account(name="carol@example.org", mailbox="carol@example.org")
DESK = Reason(operator="token desk")


def mailbox_admin_tests(
    make_bench: Callable[[SynchronousTestCase], KeepingBench],
) -> type[SynchronousTestCase]:
    """The suite for an ``IMailboxAdmin`` that is an ``IRetentionStore`` too."""

    class MailboxAdminTests(SynchronousTestCase):
        def setUp(self) -> None:
            self.bench = make_bench(self)
            self.store = self.bench.store

        def deliver(self, messages: int) -> list[str]:
            """Deliver them; the unique-ids of all there are."""
            for number in range(messages):
                header = b"Subject: %d\r\nMessage-ID: <%d@example.org>\r\n" % (number, number)
                self.bench.deliver(header + b"\r\n%d\r\n" % number)
            return list(self.shown())

        def ask(self, what: str, *arguments: Any, of: Account = ALICE) -> Any:
            """The result of a call that the store answers at once."""
            return self.successResultOf(getattr(self.store, what)(of, *arguments))

        def refused(
            self, kind: type[GatewayError], what: str, *arguments: Any, of: Account = ALICE
        ) -> str:
            """The text of the error of a call."""
            failure = self.failureResultOf(getattr(self.store, what)(of, *arguments), kind)
            return str(failure.value)

        def shown(self, account: Account = ALICE) -> dict[str, bytes]:
            """Unique-id and content of all that POP3 shows."""
            maildrop, give_back = self.successResultOf(self.store.open(account, None))
            uids = self.successResultOf(maildrop.listing()).uids
            bodies = [self.successResultOf(maildrop.retrieve(at)) for at in range(len(uids))]
            give_back()
            return {uid: read_all(self, body) for uid, body in zip(uids, bodies, strict=True)}

        def said(self) -> list[tuple[str, str, str]]:
            """What the audit says."""
            lines = self.bench.trail.lines
            return [(line.action, line.mailbox, line.uid) for line in lines]

        def test_it_provides_what_it_says(self) -> None:
            verifyObject(IMailboxAdmin, self.store)

        def test_nothing_is_done_to_a_mailbox_that_does_not_exist(self) -> None:
            self.refused(NoSuchMailbox, "contents", of=CAROL)
            self.refused(NoSuchMailbox, "header", "1", of=CAROL)
            self.refused(NoSuchMailbox, "recalculate", of=CAROL)
            self.refused(NoSuchMailbox, "rename", BOB, of=CAROL)
            self.refused(NoSuchMailbox, "delete", DESK, of=CAROL)
            self.assertNotIn(CAROL.mailbox, self.successResultOf(self.store.names()))

        # -- contents, headers, usage --------------------------------------------

        def test_contents_tell_what_is_shown_and_what_is_hidden(self) -> None:
            self.assertEqual(self.ask("contents"), Contents())
            uids = self.deliver(3)
            sizes = [len(content) for content in self.shown().values()]
            self.ask("hide", uids[:1], RULE)
            told = self.ask("contents")
            self.assertEqual(told.shown, Usage(sum(sizes[1:]), 2))
            self.assertEqual(told.hidden, Usage(sizes[0], 1))
            self.assertEqual(told.total, Usage(sum(sizes), 3))

        def test_a_header_is_there_for_what_is_shown_and_what_is_hidden(self) -> None:
            uids = self.deliver(2)
            self.ask("hide", uids[:1], RULE)
            for number, uid in enumerate(uids):
                self.assertTrue(self.ask("header", uid).startswith(b"Subject: %d\r\n" % number))

        def test_a_header_of_a_message_that_is_gone_is_none(self) -> None:
            uids = self.deliver(2)
            self.bench.expunge_first()
            for uid in (uids[0], "no such id", "../../etc/passwd", ""):
                self.refused(MessageGone, "header", uid)

        def test_of_a_large_message_at_most_64_kib_are_read(self) -> None:
            self.bench.deliver(b"Subject: x\r\n" + b"X-Long: y\r\n" * 20_000 + b"\r\nbody\r\n")
            (uid,) = self.shown()
            self.assertLessEqual(len(self.ask("header", uid)), 64 * 1024)

        def test_a_recalculation_counts_what_is_there(self) -> None:
            self.deliver(2)
            self.ask("recalculate")
            octets = sum(len(content) for content in self.shown().values())
            self.assertEqual(
                self.ask("recalculate"), UsageChange(Usage(octets, 2), Usage(octets, 2))
            )
            self.bench.expunge_first()
            after = self.ask("recalculate").after
            self.assertEqual(after.messages, 1)
            self.assertEqual(self.ask("usage"), after)

        # -- rename ---------------------------------------------------------------

        def test_a_renamed_mailbox_has_all_its_mail_and_its_unique_ids(self) -> None:
            uids = self.deliver(4)
            before = self.shown()
            maildrop, give_back = self.successResultOf(self.store.open(ALICE, None))
            self.successResultOf(maildrop.finish(set(), {1}))
            give_back()
            self.ask("hide", uids[2:3], RULE)
            told = self.ask("contents")
            read = {kept.uid for kept in self.ask("scan") if kept.read is not None}
            self.ask("rename", CAROL)
            self.assertEqual(self.ask("contents", of=CAROL), told)
            self.assertEqual(self.ask("restore", uids[2:3], of=CAROL), 1)
            self.assertEqual(self.shown(CAROL), before)
            scanned = self.ask("scan", of=CAROL)
            self.assertEqual({kept.uid for kept in scanned if kept.read is not None}, read)
            self.assertEqual(read, {uids[1]})
            self.assertEqual(self.ask("usage", of=CAROL).messages, 4)

        def test_the_old_name_is_free_after_a_rename(self) -> None:
            self.deliver(1)
            self.ask("rename", CAROL)
            names = self.successResultOf(self.store.names())
            self.assertEqual(names, [BOB.mailbox, CAROL.mailbox])
            self.refused(NoSuchMailbox, "contents")
            self.ask("rename", ALICE, of=CAROL)
            self.assertEqual(len(self.shown()), 1)

        def test_a_mailbox_is_not_renamed_to_one_that_exists_or_to_itself(self) -> None:
            before = self.deliver(2)
            for target in (BOB, ALICE):
                self.refused(MailboxExists, "rename", target)
            self.assertEqual(list(self.shown()), before)
            self.assertEqual(self.shown(BOB), {})

        def test_a_mailbox_is_not_renamed_to_a_name_that_none_can_have(self) -> None:
            before = self.deliver(1)
            for name in ("", "a\0b"):
                self.refused(BadMailboxName, "rename", Account(name=name, mailbox=name))
            self.assertEqual(list(self.shown()), before)

        def test_what_comes_after_a_rename_gets_no_id_of_before(self) -> None:
            before = self.deliver(2)
            self.ask("rename", CAROL)
            self.ask("rename", ALICE, of=CAROL)
            self.assertTrue(set(self.deliver(1)) > set(before))

        def test_a_session_that_is_open_during_a_rename_never_gets_other_octets(self) -> None:
            self.deliver(2)
            before = list(self.shown().values())
            maildrop, give_back = self.successResultOf(self.store.open(ALICE, None))
            self.ask("rename", CAROL)
            got: list[bytes] = []
            opened = maildrop.retrieve(0)
            opened.addCallbacks(
                lambda body: got.append(read_all(self, body)),
                lambda failure: failure.trap(GatewayError),
            )
            give_back()
            self.assertIn(got, ([], [before[0]]))

        # -- delete ---------------------------------------------------------------

        def test_a_deleted_mailbox_is_gone_with_a_line_for_each_message(self) -> None:
            uids = self.deliver(3)
            self.ask("hide", uids[:1], RULE)
            told = self.ask("contents")
            del self.bench.trail.lines[:]
            self.assertEqual(self.ask("delete", DESK), told)
            self.assertEqual(self.successResultOf(self.store.names()), [BOB.mailbox])
            lines = self.bench.trail.lines
            expected = {("purge", uids[0]), ("discard", uids[1]), ("discard", uids[2])}
            self.assertEqual({(line.action, line.uid) for line in lines}, expected)
            self.assertEqual({line.cause for line in lines}, {DESK})
            ids = {line.message_id for line in lines}
            self.assertEqual(ids, {f"<{number}@example.org>" for number in range(3)})
            self.refused(NoSuchMailbox, "delete", DESK)

        def test_without_the_audit_no_message_and_no_mailbox_is_deleted(self) -> None:
            before = self.deliver(2)
            self.bench.trail.fails = True
            self.refused(StoreDown, "delete", DESK)
            self.assertEqual(list(self.shown()), before)
            self.bench.trail.fails = False
            self.assertEqual(self.ask("delete", DESK).total.messages, 2)

        def test_a_session_that_is_open_during_a_deletion_finds_nothing(self) -> None:
            self.deliver(2)
            maildrop, give_back = self.successResultOf(self.store.open(ALICE, None))
            self.ask("delete", DESK)
            self.failureResultOf(maildrop.retrieve(0), GatewayError)
            give_back()

        def test_an_empty_mailbox_is_deleted_without_a_line(self) -> None:
            self.assertEqual(self.ask("delete", DESK), Contents())
            self.assertEqual(self.said(), [])

        # -- messages -------------------------------------------------------------

        def test_each_line_names_the_operator(self) -> None:
            uids = self.deliver(3)
            self.ask("hide", uids[:2], DESK)
            self.ask("restore", uids[:1], DESK)
            self.ask("purge", uids[1:2], DESK)
            self.ask("remove", uids[2:], DESK)
            name = ALICE.mailbox
            self.assertEqual(
                self.said(),
                [
                    ("hide", name, uids[0]),
                    ("hide", name, uids[1]),
                    ("restore", name, uids[0]),
                    ("purge", name, uids[1]),
                    ("discard", name, uids[2]),
                ],
            )
            self.assertEqual({line.cause for line in self.bench.trail.lines}, {DESK})

        def test_without_the_audit_nothing_is_restored_for_an_operator(self) -> None:
            uids = self.deliver(1)
            self.ask("hide", uids, DESK)
            self.bench.trail.fails = True
            self.refused(StoreDown, "restore", uids, DESK)
            self.assertEqual(self.shown(), {})

    return MailboxAdminTests
