"""Ids that others gave are synced before they are shown, unless the kernel has surely done so."""

from __future__ import annotations

import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.store.maildir.listing.reader import Reader
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.listing.write_back import AFTER, WriteBack
from gateway.store.maildir.uids.uidlist import NAME
from support.calls import system_calls_of

START = 1_700_000_000
MAIL = f"{START}.M1P1.host,S=2,W=3"


class WriteBackTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.ahead = Clock(), float(START)
        self.write_back = WriteBack(self.now, self.clock.seconds)
        self.path = self.mktemp()
        for folder in ("tmp", "new", "cur"):
            os.makedirs(f"{self.path}/{folder}")
        with open(f"{self.path}/cur/{MAIL}:2,", "wb") as file:
            file.write(b"a\n")

    def now(self) -> float:
        return self.ahead + self.clock.seconds()

    def written(self, ago: float = 0) -> None:
        """Another program writes the uidlist."""
        with open(f"{self.path}/{NAME}", "w") as file:
            file.write(f"3 V7 N2\n1 :{MAIL}\n")
        os.utime(f"{self.path}/{NAME}", (0, self.now() - ago))

    def syncs(self, reader: Reader | None = None) -> int:
        """Of a login, the first one unless a reader is given."""
        reader = reader or self.reader()
        return system_calls_of(lambda: reader.read(None))["fsync"]

    def reader(self) -> Reader:
        options = MaildirOptions(create=False, verify_octets=0)
        return Reader(self.path, options, now=self.now, write_back=self.write_back)

    def test_what_was_just_written_is_synced_before_the_clock_has_jumped_and_after(self) -> None:
        self.written()
        self.assertEqual(self.syncs(), 1)
        self.ahead += AFTER + 100
        self.assertEqual(self.syncs(), 1)
        self.clock.advance(AFTER - 1)
        self.assertEqual(self.syncs(), 1)
        self.clock.advance(1)
        self.assertEqual(self.syncs(), 0)

    def test_small_jumps_that_add_up_are_one_jump(self) -> None:
        self.written()
        for _ in range(20):
            self.ahead += AFTER / 20
            self.assertEqual(self.syncs(), 1)

    def test_the_first_login_after_a_start_syncs_no_old_uidlist(self) -> None:
        self.written(ago=AFTER)
        self.assertEqual(self.syncs(), 0)

    def test_what_was_synced_after_a_jump_is_not_synced_again(self) -> None:
        self.written()
        self.ahead += AFTER + 100
        reader = self.reader()
        self.assertEqual([self.syncs(reader) for _ in range(3)], [1, 0, 0])

    def test_a_clock_that_was_set_back_costs_syncs_for_a_while_only(self) -> None:
        self.written(ago=10 * AFTER)
        self.ahead -= AFTER
        self.assertEqual(self.syncs(), 1)
        self.clock.advance(AFTER)
        self.assertEqual(self.syncs(), 0)
