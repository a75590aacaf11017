"""What every store promises to a copy of mailboxes, as a suite: give it a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.errors import MaildropBusy, NoSuchMailbox
from gateway.interfaces import IBody, IMailboxClosing, IMailboxTransfer
from gateway.model import Account, CopiedMessage, Form, MailboxImage, Usage
from gateway.testing.retention_store_contract import RULE, KeepingBench
from gateway.testing.store_contract import ALICE, BOB, NO_LIMITS, read_all

__all__ = ["transfer_tests"]

CAROL = Account(name="carol@example.org", mailbox="carol@example.org")
"""An account without a mailbox."""

LONG_AGO = 1_500_000_000.25

DAY = 86_400.0


@implementer(IBody)
class _Text:
    """A message in two pieces."""

    form = Form.CANONICAL

    def __init__(self, text: bytes) -> None:
        self._pieces = [text[:7], text[7:], b""]

    def read_now(self) -> bytes | None:
        """Nothing comes at once but the end."""
        return None if self._pieces[0] else b""

    def read(self) -> Deferred[bytes]:
        """The next piece."""
        return succeed(self._pieces.pop(0))

    def close(self) -> None:
        """Nothing to close."""


def message(uid: str, **more: Any) -> CopiedMessage:
    """A message of another store."""
    plain = CopiedMessage(uid, 0, LONG_AGO, None, None, None, None)
    return plain._replace(**more)


def image_of(*messages: CopiedMessage, next_uid: int = 1000) -> MailboxImage:
    """A mailbox in another store."""
    return MailboxImage(messages, next_uid, "")


def transfer_tests(
    make_bench: Callable[[SynchronousTestCase], KeepingBench],
) -> type[SynchronousTestCase]:
    """The suite for a store with ``IMailboxTransfer`` and ``IMailboxClosing``.

    Alice's mailbox is copied from, Bob's is copied to.
    """

    class TransferTests(SynchronousTestCase):
        def setUp(self) -> None:
            self.bench = make_bench(self)
            self.store = self.bench.store

        def ask(self, what: str, account: Account, *arguments: Any) -> Any:
            """The result of a call."""
            return self.successResultOf(getattr(self.store, what)(account, *arguments))

        def busy(self, what: str, account: Account, *arguments: Any) -> str:
            """A call fails, since the mailbox is closed; what it says."""
            failed = getattr(self.store, what)(account, *arguments)
            return str(self.failureResultOf(failed, MaildropBusy).value)

        def deliver(self, count: int) -> list[str]:
            """Alice gets messages; returns the unique-ids of all she has."""
            for number in range(count):
                self.bench.deliver(b"Subject: %d\r\n\r\n%s\r\n" % (number, b"x" * number))
            return [one.uid for one in self.ask("scan", ALICE)]

        def take(self, *messages: CopiedMessage) -> None:
            """Bob's closed mailbox gets messages, and is made like an image of them."""
            self.ask("mark_away", BOB, "copy")
            for one in messages:
                text = _Text(b"Subject: %s\r\n\r\n" % one.uid.encode())
                self.ask("take", BOB, "copy", one, text)
            self.ask("adjust", BOB, "copy", image_of(*messages))

        def listed(self, account: Account = BOB) -> list[str]:
            """The unique-ids that a login shows, in order."""
            maildrop, give_back = self.ask("open", account, None)
            uids = list(self.successResultOf(maildrop.listing()).uids)
            give_back()
            return uids

        def send(self, account: Account) -> Deferred[None]:
            """A message is delivered."""

            async def send() -> None:
                incoming = await self.store.receive(account)
                try:
                    await incoming.write(b"new\r\n")
                    await incoming.commit(account, NO_LIMITS)
                finally:
                    await incoming.close()

            return Deferred.fromCoroutine(send())

        def assert_near(self, time: float | None, other: float | None) -> None:
            """Two times are equal, as far as stores keep them."""
            assert time is not None
            assert other is not None
            self.assertLess(abs(time - other), 0.002)

        def test_it_provides_what_it_says(self) -> None:
            self.assertTrue(IMailboxTransfer.providedBy(self.store))
            self.assertTrue(IMailboxClosing.providedBy(self.store))

        # -- from it -------------------------------------------------------------

        def test_a_mailbox_that_is_missing_is_not_made_by_a_look_at_it(self) -> None:
            self.failureResultOf(self.store.inspect(CAROL), NoSuchMailbox)
            self.failureResultOf(self.store.inspect(CAROL), NoSuchMailbox)

        def test_an_empty_mailbox_has_an_empty_image(self) -> None:
            image = self.ask("inspect", ALICE)
            self.assertEqual((list(image.messages), image.away, image.left_out), ([], "", 0))

        def test_an_image_has_what_a_login_lists_and_then_what_is_hidden(self) -> None:
            first, second, third, fourth = self.deliver(4)
            self.ask("hide", ALICE, [second], RULE)
            maildrop, _ = self.ask("open", ALICE, None)
            self.successResultOf(maildrop.finish(set(), {0}))
            image = self.ask("inspect", ALICE)
            self.assertEqual([one.uid for one in image.messages], [first, third, fourth, second])
            self.assertEqual([one.read is not None for one in image.messages], [True] + 3 * [False])
            self.assertEqual(
                [one.hidden is not None for one in image.messages], 3 * [False] + [True]
            )
            self.assertGreater(image.messages[3].hidden, LONG_AGO)
            self.assertGreater(image.next_uid, int(fourth))

        def test_each_message_can_be_read_shown_or_hidden(self) -> None:
            _, second = self.deliver(2)
            self.ask("hide", ALICE, [second], RULE)
            for number, one in enumerate(self.ask("inspect", ALICE).messages):
                body = self.ask("open_message", ALICE, one)
                text = b"Subject: %d\r\n\r\n%s\r\n" % (number, b"x" * number)
                self.assertEqual(read_all(self, body), text)
                self.assertEqual(one.octets, len(text))

        def test_a_version_stays_while_the_octets_do(self) -> None:
            (first,) = self.deliver(1)
            before = self.ask("inspect", ALICE).messages[0].version
            maildrop, _ = self.ask("open", ALICE, None)
            self.successResultOf(maildrop.finish(set(), {0}))
            after = self.ask("inspect", ALICE).messages[0]
            self.assertEqual((after.uid, after.version), (first, before))

        # -- to it ---------------------------------------------------------------

        def test_a_message_keeps_its_id_its_times_its_mark_and_its_octets(self) -> None:
            plain = message("7")
            read = message("8", read=LONG_AGO + DAY)
            hidden = message("9", hidden=LONG_AGO + 2 * DAY, read=LONG_AGO + DAY)
            self.take(plain, read, hidden)
            for wanted, found in zip(
                (plain, read, hidden), self.ask("inspect", BOB).messages, strict=True
            ):
                self.assertEqual(found.uid, wanted.uid)
                self.assert_near(found.received, wanted.received)
                self.assertEqual(found.read is None, wanted.read is None)
                self.assertEqual(found.hidden is None, wanted.hidden is None)
                text = read_all(self, self.ask("open_message", BOB, found))
                self.assertEqual(text, b"Subject: %s\r\n\r\n" % wanted.uid.encode())
            (listed,) = self.ask("list_hidden", BOB)
            self.assert_near(listed.received, hidden.hidden)
            self.ask("mark_away", BOB, "")
            self.assertEqual(self.listed(), ["7", "8"])

        def test_ids_may_be_any_text_and_numbers_in_any_order(self) -> None:
            uids = [
                "0000001100000001",
                "5",
                "a/b:c,U=d",
                "3",
                "99999999999999999999",
                "4",
                "x" * 70,
            ]
            self.take(*map(message, uids))
            self.assertEqual([one.uid for one in self.ask("inspect", BOB).messages], uids)
            self.ask("mark_away", BOB, "")
            self.assertEqual(self.listed(), uids)

        def test_a_new_message_comes_last_with_an_id_that_neither_place_gave(self) -> None:
            self.take(message("40"), message("b"), message("30"), message("2000", hidden=LONG_AGO))
            self.ask("mark_away", BOB, "")
            self.successResultOf(self.send(BOB))
            *copied, new = self.listed()
            self.assertEqual(copied, ["40", "b", "30"])
            self.assertGreater(int(new), 2000)
            self.ask("restore", BOB, ["2000"])
            self.assertEqual(sorted(self.listed()), sorted(["40", "b", "30", "2000", new]))

        def test_the_next_id_is_above_that_of_the_other_place(self) -> None:
            self.take()
            self.ask("adjust", BOB, "copy", image_of(next_uid=123_456))
            self.assertGreaterEqual(self.ask("inspect", BOB).next_uid, 123_456)
            self.ask("mark_away", BOB, "")
            self.successResultOf(self.send(BOB))
            self.assertGreaterEqual(int(self.listed()[0]), 123_456)

        def test_a_message_that_comes_again_is_there_once(self) -> None:
            kept = message("5"), message("x"), message("6", hidden=LONG_AGO)
            self.take(*kept)
            self.take(*kept)
            self.assertEqual(
                [one.uid for one in self.ask("inspect", BOB).messages], ["5", "x", "6"]
            )
            self.assertEqual(self.ask("contents", BOB).total.messages, 3)

        def test_what_the_other_place_has_lost_goes_and_nothing_else(self) -> None:
            first, second, third = message("1"), message("2"), message("3", hidden=LONG_AGO)
            self.take(first, second, third, message("4", hidden=LONG_AGO))
            self.ask("adjust", BOB, "copy", image_of(second, third))
            self.assertEqual([one.uid for one in self.ask("inspect", BOB).messages], ["2", "3"])
            self.assertEqual(self.bench.trail.lines, [])

        def test_marks_follow_those_of_the_other_place(self) -> None:
            self.take(message("1"), message("2", read=LONG_AGO))
            self.ask("adjust", BOB, "copy", image_of(message("1", read=LONG_AGO), message("2")))
            found = [one.read is not None for one in self.ask("inspect", BOB).messages]
            self.assertEqual(found, [True, False])

        def test_what_was_hidden_or_restored_since_is_so_or_comes_again(self) -> None:
            self.take(message("1"), message("2", hidden=LONG_AGO))
            wanted = message("1", hidden=LONG_AGO + DAY), message("2", received=LONG_AGO + DAY)
            self.ask("adjust", BOB, "copy", image_of(*wanted))
            there = {one.uid for one in self.ask("inspect", BOB).messages}
            for one in wanted:
                if one.uid not in there:
                    self.ask("take", BOB, "copy", one, _Text(b"text\r\n"))
            found = {one.uid: one for one in self.ask("inspect", BOB).messages}
            self.assert_near(found["1"].hidden, LONG_AGO + DAY)
            self.assertIsNone(found["2"].hidden)
            self.assert_near(found["2"].received, LONG_AGO + DAY)

        def test_the_order_follows_that_of_the_other_place(self) -> None:
            one, two, three = (message(uid) for uid in "123")
            self.take(one, two, three)
            self.ask("adjust", BOB, "copy", image_of(two, three, one))
            self.ask("mark_away", BOB, "")
            self.assertEqual(self.listed(), ["2", "3", "1"])
            self.successResultOf(self.send(BOB))
            self.assertEqual(self.listed()[:3], ["2", "3", "1"])

        def test_usage_is_that_of_what_was_copied(self) -> None:
            self.take(message("1"), message("2"), message("3", hidden=LONG_AGO))
            self.assertEqual(self.ask("usage", BOB), Usage(2 * len(b"Subject: 1\r\n\r\n"), 2))
            self.ask("adjust", BOB, "copy", image_of(message("2")))
            self.assertEqual(self.ask("usage", BOB), Usage(len(b"Subject: 1\r\n\r\n"), 1))

        def test_nothing_is_copied_into_a_mailbox_that_is_served(self) -> None:
            self.take(message("1"))
            self.ask("mark_away", BOB, "")
            self.busy("take", BOB, "copy", message("2"), _Text(b"text\r\n"))
            self.busy("adjust", BOB, "copy", image_of())

        def test_nothing_is_copied_into_a_mailbox_with_the_mark_of_another_copy(self) -> None:
            self.take(message("1"))
            self.busy("mark_away", BOB, "copy 2", "copy 1")
            self.ask("mark_away", BOB, "copy 2", "copy")
            self.busy("take", BOB, "copy", message("2"), _Text(b"text\r\n"))
            self.busy("adjust", BOB, "copy", image_of())
            self.busy("mark_away", BOB, "", "copy")
            self.assertEqual([one.uid for one in self.ask("inspect", BOB).messages], ["1"])
            self.ask("mark_away", BOB, "", "copy 2")
            self.assertEqual(self.listed(), ["1"])
            self.assertEqual(self.listed(), ["1"])

        # -- closing -------------------------------------------------------------

        def check_closed(self, account: Account) -> None:
            """Nobody comes in, and nothing changes."""
            before = self.ask("inspect", account).messages
            uids = [one.uid for one in before]
            self.busy("open", account, None)
            self.failureResultOf(self.send(account), MaildropBusy)
            self.busy("remove", account, uids, RULE)
            self.busy("hide", account, uids, RULE)
            self.busy("purge", account, uids, RULE)
            self.busy("restore", account, uids)
            self.assertEqual(self.ask("inspect", account).messages, before)

        def test_a_mailbox_that_is_held_is_closed_until_it_is_released(self) -> None:
            uids = self.deliver(2)
            release = self.ask("hold", ALICE)
            self.check_closed(ALICE)
            self.busy("hold", ALICE)
            release()
            self.assertEqual(self.listed(ALICE), uids)
            self.assertEqual(self.ask("remove", ALICE, uids[:1], RULE), 1)
            self.ask("hold", ALICE)()

        def test_a_message_that_was_being_delivered_is_refused(self) -> None:
            self.ask("prepare", ALICE)
            incoming = self.ask("receive", ALICE)
            self.successResultOf(incoming.write(b"late\r\n"))
            self.ask("hold", ALICE)
            self.failureResultOf(incoming.commit(ALICE, NO_LIMITS), MaildropBusy)
            self.successResultOf(incoming.close())
            self.assertEqual(list(self.ask("inspect", ALICE).messages), [])
            self.assertEqual(self.bench.contents(), [])

        def test_a_session_that_is_open_reads_on_and_removes_nothing(self) -> None:
            self.deliver(2)
            maildrop, _ = self.ask("open", ALICE, None)
            self.ask("hold", ALICE)
            body = self.successResultOf(maildrop.retrieve(1))
            self.assertEqual(read_all(self, body), b"Subject: 1\r\n\r\nx\r\n")
            self.failureResultOf(maildrop.finish({0}, set()), MaildropBusy)
            self.successResultOf(maildrop.abandon({1}))
            messages = self.ask("inspect", ALICE).messages
            self.assertEqual([one.read for one in messages], [None, None])

        def test_a_mailbox_that_is_marked_away_is_closed_until_it_is_marked_otherwise(self) -> None:
            uids = self.deliver(2)
            self.ask("mark_away", ALICE, "copy 1")
            self.assertEqual(self.ask("inspect", ALICE).away, "copy 1")
            self.check_closed(ALICE)
            self.ask("hold", ALICE)()
            self.check_closed(ALICE)
            self.ask("mark_away", ALICE, "")
            self.assertEqual(self.ask("inspect", ALICE).away, "")
            self.assertEqual(self.listed(ALICE), uids)

        def test_a_missing_mailbox_is_made_when_it_is_marked(self) -> None:
            self.ask("mark_away", CAROL, "copy 1")
            image = self.ask("inspect", CAROL)
            self.assertEqual((list(image.messages), image.away), ([], "copy 1"))
            self.failureResultOf(self.send(CAROL), MaildropBusy)

        def test_a_mailbox_that_is_held_is_neither_renamed_nor_deleted(self) -> None:
            uids = self.deliver(2)
            release = self.ask("hold", ALICE)
            for text in (self.busy("rename", ALICE, CAROL), self.busy("delete", ALICE, RULE)):
                self.assertIn("wait until that has ended", text)
            self.assertEqual(len(self.ask("inspect", ALICE).messages), 2)
            release()
            self.ask("rename", ALICE, CAROL)
            self.assertEqual(self.listed(CAROL), uids)
            self.ask("delete", CAROL, RULE)

        def test_a_mailbox_that_is_marked_away_is_not_renamed(self) -> None:
            uids = self.deliver(2)
            self.ask("mark_away", ALICE, "copy 1")
            self.assertIn("rename it there", self.busy("rename", ALICE, CAROL))
            # Or the next login or delivery would make an empty mailbox of its name.
            self.busy("open", ALICE, None)
            self.ask("mark_away", ALICE, "")
            self.assertEqual(self.listed(ALICE), uids)

        def test_an_operator_can_delete_what_is_closed(self) -> None:
            self.take(message("1"))
            self.assertEqual(self.ask("delete", BOB, RULE).total.messages, 1)
            self.failureResultOf(self.store.inspect(BOB), NoSuchMailbox)

    return TransferTests
