"""The first reading ever of a long mailbox costs a few calls a message, and no system calls."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from gateway.store.maildir.listing.reader import Reader
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.uids.uidlist import NAME
from support.calls import calls_of

LONG_AGO = 1_600_000_000

EXAMINE = ("open", "stat", "lstat", "fsync", "write")


class FirstReadingTests(SynchronousTestCase):
    def reader(self, messages: int, sizes: str = ",S=2,W=3", verify_octets: int = 0) -> Reader:
        """Of a mailbox that nobody has opened."""
        path = tempfile.mkdtemp(dir=os.path.abspath("."))
        for folder in ("tmp", "new", "cur"):
            os.mkdir(f"{path}/{folder}")
        for number in range(messages):
            name = f"{LONG_AGO + number}.M{number}P1.host{sizes}:2,S"
            with open(f"{path}/cur/{name}", "wb") as file:
                file.write(b"a\n")
            os.utime(f"{path}/cur/{name}", (LONG_AGO, LONG_AGO))
        for folder in ("new", "cur"):
            os.utime(f"{path}/{folder}", (0, LONG_AGO))
        return Reader(path, MaildirOptions(create=False, verify_octets=verify_octets))

    def system_calls(self, reader: Reader) -> dict[str, int]:
        counted = {name: mock.patch.object(os, name, wraps=getattr(os, name)) for name in EXAMINE}
        calls = {name: patch.start() for name, patch in counted.items()}
        try:
            self.assertTrue(reader.read(None).bases)
        finally:
            for patch in counted.values():
                patch.stop()
        return {name: call.call_count for name, call in calls.items()}

    def test_messages_with_sizes_in_their_names_cost_no_system_calls(self) -> None:
        few, many = self.system_calls(self.reader(3)), self.system_calls(self.reader(300))
        self.assertEqual(few, many)
        self.assertEqual(many["fsync"], 2)  # The uidlist and its directory.

    def test_others_cost_one_look_each(self) -> None:
        few, many = (self.system_calls(self.reader(count, ",W=3")) for count in (3, 300))
        self.assertEqual(many["lstat"] - few["lstat"], 297)
        self.assertEqual(many["open"], few["open"])

    def test_only_as_many_are_opened_as_may_be_verified(self) -> None:
        least, some = (
            self.system_calls(self.reader(50, verify_octets=octets))["open"]
            for octets in (0, 5 * 17_000)
        )
        self.assertEqual(some - least, 5)

    def test_a_message_costs_a_few_calls(self) -> None:
        def calls(messages: int, verify_octets: int) -> int:
            path = self.reader(messages)._path

            def first() -> None:
                Path(path, NAME).unlink(missing_ok=True)
                Reader(path, MaildirOptions(create=False, verify_octets=verify_octets)).read(None)

            return calls_of(first)

        def each(verify_octets: int) -> float:
            return (calls(800, verify_octets) - calls(100, verify_octets)) / 700

        self.assertLess(each(0), 10)
        self.assertLess(each(16 * 1024 * 1024), 60)  # Read, to verify its size.
