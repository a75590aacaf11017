"""What every store promises, as a suite: give it a store and it is a TestCase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import MessageGone, NoSuchMailbox
from gateway.interfaces import IBody, IMaildrop, IStore
from gateway.model import Account, Form
from gateway.wire.body import Canonical

ALICE = Account(name="alice@example.org", mailbox="alice@example.org")


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
            maildrop, self.give_back = self.successResultOf(self.bench.store.open(ALICE))
            return maildrop

        def listing(self, maildrop: Any) -> Any:
            return self.successResultOf(maildrop.listing())

        def test_it_provides_what_it_says(self) -> None:
            self.assertTrue(IStore.providedBy(self.bench.store))
            self.assertTrue(IMaildrop.providedBy(self.open()))

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
            self.failureResultOf(self.bench.store.open(stranger), NoSuchMailbox)

    return StoreTests


def run_now(work: Callable[[], Any]) -> Deferred[Any]:
    """A worker that has done the work before it returns."""
    from twisted.internet.defer import execute

    return execute(work)
