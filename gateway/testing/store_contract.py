"""What every store promises, as a suite: give it a store and it is a TestCase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import LargerThanQuota, MessageGone, NoSuchMailbox, OverQuota
from gateway.interfaces import (
    IBody,
    IDelivery,
    IIncoming,
    IMailboxAdmin,
    IMailboxes,
    IMaildrop,
    IRetentionStore,
    IStore,
)
from gateway.model import Account, Form, Limits, Reason, Terms, Usage
from gateway.wire.body import Canonical

__all__ = [
    "ALICE",
    "BOB",
    "NO_LIMITS",
    "Bench",
    "DeliveryBench",
    "admit",
    "creating_tests",
    "delivery_tests",
    "read_all",
    "run_now",
    "store_tests",
]

ALICE = Account(name="alice@example.org", mailbox="alice@example.org")
BOB = Account(name="bob@example.org", mailbox="bob@example.org")
NO_LIMITS = Limits()


def admit(usage: Usage, size: int, limits: Limits) -> None:
    """A verdict: nothing beyond the limits, but one message up to the grace."""
    octets, messages = limits.octets, limits.messages
    if octets is not None:
        if size > octets:
            raise LargerThanQuota
        if usage.octets >= octets or usage.octets + size > octets + limits.grace_octets:
            raise OverQuota
    if messages is not None and usage.messages >= messages:
        raise OverQuota


class Bench(Protocol):
    """A store, and the ways in which the world around it acts on a mailbox."""

    store: Any

    def deliver(self, content: bytes) -> None:
        """Another program puts a message into Alice's mailbox."""

    def expunge_first(self) -> None:
        """Another program removes the oldest message of Alice's mailbox."""

    def contents(self) -> list[bytes]:
        """Everything that is in Alice's mailbox, as it is stored."""

    def read_count(self) -> int:
        """How many of Alice's messages are marked as read."""


def read_all(test: SynchronousTestCase, body: Any) -> bytes:
    """The message as RETR would send it, before dot-stuffing."""
    steps = Canonical() if body.form is Form.STORED else None
    data = b""
    while (chunk := body.read_now()) != b"":
        if chunk is None:
            chunk = test.successResultOf(body.read())
        data += steps.feed(chunk) if steps else chunk
    body.close()
    return data + (steps.finish() if steps else b"")


def store_tests(make_bench: Callable[[SynchronousTestCase], Bench]) -> type[SynchronousTestCase]:
    """The suite for the store that ``make_bench`` makes anew for each test."""

    class StoreTests(SynchronousTestCase):
        def setUp(self) -> None:
            self.bench = make_bench(self)

        def open(self) -> Any:
            """Alice's maildrop, as at a login."""
            maildrop, self.give_back = self.successResultOf(self.bench.store.open(ALICE, None))
            return maildrop

        def listing(self, maildrop: Any) -> Any:
            """What a session lists."""
            return self.successResultOf(maildrop.listing())

        def test_it_provides_what_it_says(self) -> None:
            self.assertTrue(IStore.providedBy(self.bench.store))
            self.assertTrue(IMaildrop.providedBy(self.open()))

        def test_a_user_is_told_what_all_are_until_the_realm_knows_better(self) -> None:
            maildrop = self.open()
            self.assertEqual(maildrop.terms, Terms())
            maildrop.terms = Terms(expire="7")
            self.assertEqual(self.open().terms, Terms())

        def test_an_empty_mailbox_has_an_empty_listing(self) -> None:
            self.assertEqual(len(self.listing(self.open())), 0)

        def test_messages_are_listed_in_the_order_of_delivery(self) -> None:
            for number in range(3):
                self.bench.deliver(b"%d\r\n" % number * (number + 1))
            self.assertEqual(list(self.listing(self.open()).sizes), [3, 6, 9])

        def test_a_size_is_what_is_sent(self) -> None:
            odd = [b"", b"a", b"a\n", b"a\r\nb", b"a\nb\r\n", b".\n..\n", b"\0\xff\r", b"a\rb\n"]
            for content in odd:
                self.bench.deliver(content)
            maildrop = self.open()
            sizes = self.listing(maildrop).sizes
            for index, content in enumerate(odd):
                body = self.successResultOf(maildrop.retrieve(index))
                self.assertTrue(IBody.providedBy(body))
                sent = read_all(self, body)
                self.assertEqual((len(sent), content), (sizes[index], content))

        def test_ids_increase_and_are_never_used_again(self) -> None:
            for _ in range(3):
                self.bench.deliver(b"same\r\n")
            maildrop = self.open()
            ids = list(map(int, self.listing(maildrop).uids))
            self.assertEqual(ids, sorted(set(ids)))
            self.successResultOf(maildrop.finish({2}, set()))
            self.bench.deliver(b"same\r\n")
            again = list(map(int, self.listing(self.open()).uids))
            self.assertEqual(again[:2], ids[:2])
            self.assertGreater(again[2], ids[2])

        def test_a_session_does_not_see_what_comes_after_its_login(self) -> None:
            self.bench.deliver(b"one\r\n")
            maildrop = self.open()
            self.bench.deliver(b"two\r\n")
            self.assertEqual(len(self.listing(maildrop)), 1)
            self.assertEqual(len(self.listing(self.open())), 2)

        def test_a_message_that_vanished_is_gone_and_the_others_are_there(self) -> None:
            self.bench.deliver(b"one\r\n")
            self.bench.deliver(b"two\r\n")
            maildrop = self.open()
            self.bench.expunge_first()
            self.failureResultOf(maildrop.retrieve(0), MessageGone)
            body = self.successResultOf(maildrop.retrieve(1))
            self.assertEqual(read_all(self, body), b"two\r\n")

        def test_finish_removes_what_is_marked_and_nothing_else(self) -> None:
            for number in range(4):
                self.bench.deliver(b"%d\r\n" % number)
            self.successResultOf(self.open().finish({1, 3}, set()))
            self.assertEqual(self.bench.contents(), [b"0\r\n", b"2\r\n"])

        def test_removing_what_another_program_removed_is_no_failure(self) -> None:
            self.bench.deliver(b"one\r\n")
            maildrop = self.open()
            self.bench.expunge_first()
            self.assertIsNone(self.successResultOf(maildrop.finish({0}, set())))

        def test_abandon_removes_nothing_and_marks_what_was_read(self) -> None:
            self.bench.deliver(b"one\r\n")
            self.bench.deliver(b"two\r\n")
            self.successResultOf(self.open().abandon({0}))
            self.assertEqual(self.bench.contents(), [b"one\r\n", b"two\r\n"])
            self.assertEqual(self.bench.read_count(), 1)

        def test_marking_as_read_changes_no_id(self) -> None:
            self.bench.deliver(b"one\r\n")
            maildrop = self.open()
            before = list(self.listing(maildrop).uids)
            self.successResultOf(maildrop.finish(set(), {0}))
            self.assertEqual(list(self.listing(self.open()).uids), before)

        def test_two_sessions_may_have_one_mailbox_open(self) -> None:
            self.bench.deliver(b"one\r\n")
            first, second = self.open(), self.open()
            self.successResultOf(first.finish({0}, set()))
            self.failureResultOf(second.retrieve(0), MessageGone)

        def test_an_unknown_mailbox_is_refused_where_none_is_made(self) -> None:
            stranger = Account(name="x", mailbox="nobody@example.org")
            self.failureResultOf(self.bench.store.open(stranger, None), NoSuchMailbox)

    return StoreTests


class DeliveryBench(Bench, Protocol):
    """A store that takes mail in for Alice and Bob, and judges by ``admit``."""

    def left_over(self) -> list[str]:
        """What deliveries have left that is no message."""


def delivery_tests(
    make_bench: Callable[[SynchronousTestCase], DeliveryBench],
) -> type[SynchronousTestCase]:
    """The suite for a store that takes mail in."""

    class DeliveryTests(SynchronousTestCase):
        def setUp(self) -> None:
            self.bench = make_bench(self)
            self.store = self.bench.store

        def receive(self, *pieces: bytes, account: Account = ALICE) -> Any:
            """A message of these pieces, on its way."""
            incoming = self.successResultOf(self.store.receive(account))
            for piece in pieces:
                self.assertIsNone(self.successResultOf(incoming.write(piece)))
            return incoming

        def commit(self, incoming: Any, account: Account = ALICE, **limits: Any) -> None:
            """Put it into one mailbox."""
            done = incoming.commit(account, Limits(**limits))
            self.assertIsNone(self.successResultOf(done))

        def send(self, *pieces: bytes, **limits: Any) -> None:
            """The whole way of a message into a mailbox."""
            incoming = self.receive(*pieces)
            self.commit(incoming, **limits)
            self.close(incoming)

        def close(self, incoming: Any) -> None:
            """Give back what the message took; nothing may be left."""
            self.assertIsNone(self.successResultOf(incoming.close()))
            self.assertEqual(self.bench.left_over(), [])

        def shown(self, account: Account = ALICE) -> list[bytes]:
            """The content of every message that POP3 shows."""
            maildrop, give_back = self.successResultOf(self.store.open(account, None))
            listing = self.successResultOf(maildrop.listing())
            contents = []
            for index, size in enumerate(listing.sizes):
                contents.append(read_all(self, self.successResultOf(maildrop.retrieve(index))))
                self.assertEqual(len(contents[-1]), size)
            give_back()
            return contents

        def usage(self, account: Account = ALICE) -> Usage:
            """What the mailbox holds."""
            usage: Usage = self.successResultOf(self.store.usage(account))
            return usage

        def test_it_provides_what_it_says(self) -> None:
            self.assertTrue(IDelivery.providedBy(self.store))
            self.assertTrue(IMailboxes.providedBy(self.store))
            incoming = self.receive()
            self.assertTrue(IIncoming.providedBy(incoming))
            self.close(incoming)

        def test_nothing_is_seen_before_a_commit_and_all_of_it_after(self) -> None:
            incoming = self.receive(b"Subject: one\r\n", b"\r\nbody\r\n")
            self.assertEqual(self.shown(), [])
            self.commit(incoming)
            self.assertEqual(self.shown(), [b"Subject: one\r\n\r\nbody\r\n"])
            self.close(incoming)
            self.assertEqual(self.shown(), [b"Subject: one\r\n\r\nbody\r\n"])

        def test_a_session_that_began_before_does_not_change(self) -> None:
            self.send(b"one\r\n")
            maildrop, _ = self.successResultOf(self.store.open(ALICE, None))
            self.send(b"two\r\n")
            self.assertEqual(len(self.successResultOf(maildrop.listing())), 1)
            self.successResultOf(maildrop.finish({0}, set()))
            self.assertEqual(self.shown(), [b"two\r\n"])

        def test_without_a_commit_nothing_is_left(self) -> None:
            self.close(self.receive(b"one\r\n"))
            self.close(self.receive(b"x" * 400_000, b"x" * 400_000))
            self.assertEqual(self.shown(), [])
            self.assertEqual(self.usage(), Usage())

        def test_octets_come_back_as_they_were_written_however_they_were_cut(self) -> None:
            line = bytes(range(256)).replace(b"\n", b"").replace(b"\r", b"") + b"\r\n"
            contents = [b"", b"\r\n", b".\r\n..\r\n", b"a\rb\r\n", line * 4000]
            for content in contents:
                for cut in (1 + len(content) // 3, 100_000):
                    pieces = [content[at : at + cut] for at in range(0, len(content), cut)]
                    self.send(*pieces)
            self.assertEqual(self.shown(), [content for content in contents for _ in range(2)])

        def test_a_last_line_that_is_not_whole_gets_its_end(self) -> None:
            self.send(b"one\r\ntwo")
            self.assertEqual(self.shown(), [b"one\r\ntwo\r\n"])
            self.assertEqual(self.usage(), Usage(10, 1))

        def test_every_recipient_gets_it(self) -> None:
            incoming = self.receive(b"one\r\n", account=BOB)
            self.commit(incoming, ALICE)
            self.commit(incoming, BOB)
            self.close(incoming)
            self.assertEqual((self.shown(), self.shown(BOB)), ([b"one\r\n"], [b"one\r\n"]))

        def test_who_is_named_twice_gets_it_twice(self) -> None:
            incoming = self.receive(b"one\r\n")
            self.commit(incoming)
            self.commit(incoming)
            self.close(incoming)
            self.assertEqual(self.shown(), [b"one\r\n"] * 2)

        def test_one_who_has_no_room_is_refused_and_the_others_are_not(self) -> None:
            for full in (ALICE, BOB):
                incoming = self.receive(b"four\r\n")
                commits = {
                    account.name: incoming.commit(
                        account, Limits(octets=2 if account is full else 1000)
                    )
                    for account in (ALICE, BOB)
                }
                self.failureResultOf(commits.pop(full.name), LargerThanQuota)
                (fine,) = commits.values()
                self.assertIsNone(self.successResultOf(fine))
                self.close(incoming)
            self.assertEqual((self.shown(), self.shown(BOB)), ([b"four\r\n"], [b"four\r\n"]))

        def test_what_is_there_counts_and_what_was_refused_does_not(self) -> None:
            for _ in range(2):
                self.send(b"four\r\n", octets=15)
            incoming = self.receive(b"four\r\n")
            self.failureResultOf(incoming.commit(ALICE, Limits(octets=15)), OverQuota)
            self.close(incoming)
            self.assertEqual(self.usage(), Usage(12, 2))
            self.send(b"4\r\n", octets=15, messages=3)
            self.assertEqual(self.usage(), Usage(15, 3))
            incoming = self.receive(b"four\r\n")
            self.failureResultOf(incoming.commit(ALICE, Limits(messages=3)), OverQuota)
            self.close(incoming)
            self.assertEqual(len(self.shown()), 3)

        def test_one_message_may_go_beyond_by_the_grace(self) -> None:
            self.send(b"12345678\r\n", octets=15, grace_octets=10)
            self.send(b"12345678\r\n", octets=15, grace_octets=10)
            incoming = self.receive(b"\r\n")
            limits = Limits(octets=15, grace_octets=10)
            self.failureResultOf(incoming.commit(ALICE, limits), OverQuota)
            self.close(incoming)

        def test_what_is_removed_makes_room(self) -> None:
            self.send(b"12345678\r\n", octets=15)
            self.send(b"\r\n", octets=15)
            maildrop, _ = self.successResultOf(self.store.open(ALICE, None))
            self.successResultOf(maildrop.finish({0}, set()))
            self.assertEqual(self.usage(), Usage(2, 1))
            self.send(b"12345678\r\n", octets=15)

        def test_mail_that_others_delivered_counts(self) -> None:
            self.bench.deliver(b"12345678\r\n")
            self.assertEqual(self.usage(), Usage(10, 1))
            incoming = self.receive(b"12345678\r\n")
            self.failureResultOf(incoming.commit(ALICE, Limits(octets=15)), OverQuota)
            self.close(incoming)

        def test_ids_are_in_the_order_of_delivery(self) -> None:
            incoming = self.receive(b"last\r\n")
            for number in range(12):
                self.send(b"%d\r\n" % number)
            self.commit(incoming)
            self.close(incoming)
            wanted = [b"%d\r\n" % number for number in range(12)] + [b"last\r\n"]
            self.assertEqual(self.shown(), wanted)
            maildrop, _ = self.successResultOf(self.store.open(ALICE, None))
            ids = list(map(int, self.successResultOf(maildrop.listing()).uids))
            self.assertEqual(ids, sorted(set(ids)))

        def test_it_tells_of_mailboxes_that_are_there_and_makes_none(self) -> None:
            self.send(b"one\r\n")
            others = [Account(name=name, mailbox=name) for name in ("x@example.org", "../x")]
            present = self.store.present([*others, ALICE])
            self.assertEqual(self.successResultOf(present), [ALICE])
            names = self.successResultOf(self.store.names())
            self.assertIn(ALICE.mailbox, names)
            self.assertNotIn("x@example.org", names)

        def test_an_unknown_mailbox_is_refused_where_none_is_made(self) -> None:
            stranger = Account(name="x", mailbox="nobody@example.org")
            self.failureResultOf(self.store.prepare(stranger), NoSuchMailbox)
            self.failureResultOf(self.store.receive(stranger), NoSuchMailbox)
            self.failureResultOf(self.store.usage(stranger), NoSuchMailbox)
            incoming = self.receive(b"one\r\n")
            self.failureResultOf(incoming.commit(stranger, NO_LIMITS), NoSuchMailbox)
            self.commit(incoming)
            self.close(incoming)
            self.assertEqual(self.shown(), [b"one\r\n"])
            self.assertNotIn(stranger.mailbox, self.successResultOf(self.store.names()))

    return DeliveryTests


def creating_tests(
    make_bench: Callable[[SynchronousTestCase], Bench],
) -> type[SynchronousTestCase]:
    """The suite for an ``IDelivery`` and ``IMailboxes`` that creates missing mailboxes."""
    carol = Account(name="carol@example.org", mailbox="carol@example.org")

    class CreatingTests(SynchronousTestCase):
        def setUp(self) -> None:
            self.store: Any = make_bench(self).store

        def is_there(self) -> bool:
            """Whether Carol has a mailbox."""
            return carol.mailbox in self.successResultOf(self.store.names())

        def look(self) -> None:
            """All that reads of a mailbox and changes nothing."""
            self.assertEqual(self.successResultOf(self.store.usage(carol)), Usage())
            self.assertEqual(self.successResultOf(self.store.present([carol])), [])
            looks: list[Any] = []
            if IRetentionStore.providedBy(self.store):
                looks += [self.store.scan, self.store.scan_readonly, self.store.list_hidden]
            if IMailboxAdmin.providedBy(self.store):
                looks += [self.store.contents, lambda it: self.store.header(it, "1")]
            for look in looks:
                # A missing mailbox is an empty one, or there is none.
                looked = look(carol).addErrback(lambda failure: failure.trap(NoSuchMailbox) and [])
                self.assertEqual(self.successResultOf(looked), [])

        def test_a_login_creates_a_mailbox(self) -> None:
            _, give_back = self.successResultOf(self.store.open(carol, None))
            give_back()
            self.assertTrue(self.is_there())

        def test_what_prepares_a_delivery_creates_a_mailbox_also_beside_a_look(self) -> None:
            prepared, usage = self.store.prepare(carol), self.store.usage(carol)
            self.assertIsNone(self.successResultOf(prepared))
            self.assertEqual(self.successResultOf(usage), Usage())
            self.assertTrue(self.is_there())

        def test_a_look_creates_none(self) -> None:
            self.look()
            self.assertFalse(self.is_there())

        def test_a_mailbox_that_was_deleted_or_renamed_does_not_come_back_by_a_look(self) -> None:
            store, other = self.store, Account(name="dave@example.org", mailbox="dave@example.org")
            if not IMailboxAdmin.providedBy(self.store):
                return
            self.successResultOf(store.prepare(carol))
            self.successResultOf(store.rename(carol, other))
            self.look()
            self.successResultOf(store.rename(other, carol))
            self.successResultOf(store.delete(carol, Reason(operator="token desk")))
            self.look()
            self.assertFalse(self.is_there())

    return CreatingTests


def run_now(work: Callable[[], Any]) -> Deferred[Any]:
    """A worker that has done the work before it returns."""
    return execute(work)
