"""Which logins share a reading of a listing, without a database."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import StoreDown
from gateway.store.cluster.snapshots import Snapshots
from gateway.store.cluster.sql.rows import State


class Mailbox:
    """A database with one mailbox, which only grows."""

    def __init__(self) -> None:
        self.messages = 0
        self.readings = 0

    @property
    def state(self) -> State:
        """As it is now."""
        return State(1, 1, self.messages, 0, self.messages + 1)

    def read(self, _query: str, parameters: dict[str, int]) -> list[tuple[Any, ...]]:
        """Its messages from a uid on."""
        self.readings += 1
        uids = range(max(parameters["since"], 1), self.messages + 1)
        numbers = b"".join(struct.pack(">qq", uid, 40) for uid in uids)
        return [(*self.state, numbers, bytes(16 * len(uids)), None)]


class SharingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.mailbox = Mailbox()
        self.held: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.snapshots = Snapshots(self.mailbox, self.run_later, 1000)  # type: ignore[arg-type]

    def run_later(self, work: Callable[[], Any]) -> Deferred[Any]:
        self.held.append((work, Deferred()))
        return self.held[-1][1]

    def answer(self) -> None:
        """One reading ends."""
        work, answer = self.held.pop(0)
        answer.callback(work())

    def test_all_who_come_during_a_reading_share_the_next_though_mail_comes_meanwhile(self) -> None:
        logins = [self.snapshots.current(self.mailbox.state)]
        for _ in range(10):
            self.mailbox.messages += 1
            logins.append(self.snapshots.current(self.mailbox.state))
        self.mailbox.messages += 1
        while self.held:
            self.answer()
        self.assertEqual([len(self.successResultOf(one)) for one in logins], [11] * 11)
        self.assertEqual(self.mailbox.readings, 2)

    def test_who_asks_for_what_was_read_meanwhile_needs_no_reading(self) -> None:
        logins = [self.snapshots.current(self.mailbox.state) for _ in range(5)]
        self.answer()
        for one in logins:
            self.successResultOf(one)
        self.assertEqual((self.mailbox.readings, self.held), (1, []))

    def test_a_failed_reading_fails_all_who_wait(self) -> None:
        logins = [self.snapshots.current(self.mailbox.state)]
        self.mailbox.messages += 1
        logins.append(self.snapshots.current(self.mailbox.state))
        self.held.pop()[1].errback(StoreDown("away"))
        for one in logins:
            self.failureResultOf(one, StoreDown)
        self.assertEqual(self.held, [])
