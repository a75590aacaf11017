"""Small messages are read in one step; what a client gets is what ``retrieve`` would give it."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from test_store_contract import MaildirBench
from twisted.trial.unittest import SynchronousTestCase

from gateway.interfaces import IQuickMaildrop
from gateway.model import Form
from gateway.store.maildir import maildrop as maildrop_module
from gateway.store.maildir.folders.files import CHUNK, read_at_once
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import ALICE, read_all, run_now
from gateway.wire.body import Canonical, DotStuffing

OCTETS = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b"\0", b"\xe9", b"x" * 70]), max_size=30
).map(b"".join)


class SmallCase(SynchronousTestCase):
    def put(self, stored: bytes, name: str = "1700000000.M1P1.host:2,") -> None:
        """A mailbox with one message."""
        self.bench = MaildirBench(self)
        self.path = Path(self.bench.maildir, "cur", name)
        self.path.write_bytes(stored)

    def open(self, **reading: bool) -> IQuickMaildrop:
        """The mailbox, as after a restart."""
        options = MaildirOptions(create=False, **reading)  # type: ignore[arg-type]
        store = MaildirStore(self.bench.root, "{name}", run_now, reading=options)
        maildrop, self.release = self.successResultOf(store.open(ALICE, None))
        self.store = store
        return IQuickMaildrop(maildrop)

    def size(self, maildrop: IQuickMaildrop) -> int:
        """The size of the message as LIST tells it."""
        return int(self.successResultOf(maildrop.listing()).sizes[0])


def sent(octets: bytes, form: Form) -> bytes:
    """The octets as RETR sends them, without the last line."""
    text = Canonical()
    canonical = text.feed(octets) + text.finish() if form is Form.STORED else octets
    return canonical if form is Form.CLEAN else DotStuffing().feed(canonical)


class SmallMessageTests(SmallCase):
    @given(OCTETS)
    def test_it_is_sent_as_any_other_message(self, stored: bytes) -> None:
        self.put(stored)
        # The first reads by the size in the name or the uidlist, the second as measured.
        for _ in range(2):
            quick, other = self.open(), self.open()
            small = quick.small_message(0)
            body = self.successResultOf(other.retrieve(0))
            wanted = sent(read_all(self, body), body.form)
            if not stored:
                self.assertIsNone(small)
                continue
            assert small is not None
            self.assertEqual(sent(*small), wanted)
            self.assertEqual(quick.small_message(0) and sent(*quick.small_message(0)), wanted)

    @given(OCTETS.filter(bool))
    def test_its_size_is_measured_by_the_way(self, stored: bytes) -> None:
        self.put(stored, "1700000000.M1P1.host,S=7,W=9:2,")
        maildrop = self.open()
        small = maildrop.small_message(0)
        assert small is not None
        text = Canonical()
        octets = len(text.feed(stored) + text.finish())
        self.release()
        maildrop, self.release = self.successResultOf(self.store.open(ALICE, None))
        self.assertEqual(self.size(IQuickMaildrop(maildrop)), octets)

    def test_nuls_are_replaced_where_that_is_set(self) -> None:
        self.put(b"a\0b\n")
        self.assertEqual(self.open(no_nuls=True).small_message(0), (b"a\x80b\r\n", Form.CANONICAL))

    def test_what_is_not_small_not_there_or_not_as_listed_is_left_to_retrieve(self) -> None:
        self.put(b"x" * CHUNK + b"\n")
        self.assertIsNone(self.open().small_message(0))
        self.put(gzip.compress(b"a\n"))
        self.assertIsNone(self.open().small_message(0))
        for text in (b"a\r\n", b"a\n"):
            self.put(text)
            maildrop = self.open()
            self.assertIsNotNone(maildrop.small_message(0))
            os.utime(self.path, (1, 1))
            self.assertIsNone(maildrop.small_message(0))
        self.put(b"a\n")
        maildrop = self.open()
        for changed in (b"ab\n", b"\n", b""):
            self.path.write_bytes(changed)
            self.assertIsNone(maildrop.small_message(0))
        self.path.unlink()
        self.assertIsNone(maildrop.small_message(0))
        self.path.symlink_to("/etc/passwd")
        self.assertIsNone(maildrop.small_message(0))
        self.path.unlink()
        os.mkfifo(self.path)
        self.assertIsNone(maildrop.small_message(0))

    def test_one_that_another_session_measures_meanwhile_is_converted_all_the_same(self) -> None:
        self.put(b".a\nb\n", "1700000000.M1P1.host,S=5,W=7:2,")
        os.utime(self.path, (1, 1))
        maildrop = self.open(verify_octets=0)

        def read(file: int, most: int) -> bytes:
            maildrop._look_at(maildrop._place(), 0, maildrop._snapshot.files[0]).close()
            return read_at_once(file, most)

        with mock.patch.object(maildrop_module, "read_at_once", read):
            small = maildrop.small_message(0)
        assert small is not None
        self.assertEqual(sent(*small), b"..a\r\nb\r\n")

    def test_one_that_was_touched_is_removed_after_it_was_sent(self) -> None:
        self.put(b"a\n")
        maildrop = self.open()
        assert maildrop.small_message(0) is not None
        os.utime(self.path, (1, 1))
        self.assertIsNone(maildrop.small_message(0))
        self.successResultOf(maildrop.retrieve(0)).close()
        self.assertIsNotNone(maildrop.small_message(0))
        self.successResultOf(maildrop.finish([0], [0]))
        self.assertFalse(self.path.exists())
