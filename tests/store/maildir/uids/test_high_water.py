"""No unique-id that a client was shown ever means another message, whatever becomes of the list."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_maildir import MaildirCase
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import LedgerUnusable, MailboxUnusable, StoreDown
from gateway.interfaces import HighWater
from gateway.state.memory import MemoryState
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.store.maildir.uids.high_water import BLOCK, Mark
from gateway.store.maildir.uids.uidlines import HIGHEST
from gateway.testing.store_contract import ALICE, NO_LIMITS, run_now


class HighWaterCase(MaildirCase):
    def setUp(self) -> None:
        super().setUp()
        self.marks: HighWater = MemoryState().high_water
        self.list = Path(self.maildir, "dovecot-uidlist")
        self.shown: dict[str, bytes] = {}
        self.number = 0
        self.store = self.started()

    def started(self, now: float | None = None) -> MaildirStore:
        """A process that has just begun."""
        more: dict[str, Any] = {} if now is None else {"now_ns": lambda: int(now * 1e9)}
        reading = MaildirOptions(high_water=self.marks)
        return MaildirStore(self.bench.root, "{name}", run_now, reading=reading, **more)

    def by_lmtp(self, count: int) -> None:
        for _ in range(count):
            self.number += 1
            incoming = self.successResultOf(self.store.receive(ALICE))
            incoming.write(b"%d\r\n" % self.number)
            self.successResultOf(incoming.commit(ALICE, NO_LIMITS))
            self.successResultOf(incoming.close())

    def by_others(self, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.bench.deliver(b"%d\r\n" % self.number)

    def look(self) -> dict[str, bytes]:
        """Log in; what was shown under an id before is what is shown under it now."""
        maildrop = self.open(self.store)
        found = {uid: self.message(maildrop, index) for index, uid in enumerate(self.ids(maildrop))}
        again = {uid for uid in found if self.shown.get(uid, found[uid]) != found[uid]}
        self.assertEqual(again, set(), "ids that mean another message")
        self.shown |= found
        return found

    def remove_all(self) -> None:
        for kind in ("new", "cur"):
            for name in os.listdir(f"{self.maildir}/{kind}"):
                os.unlink(f"{self.maildir}/{kind}/{name}")


@pytest.mark.conformance("X-C0008", "O-C0040", "P-20")
class ComeAgainTests(HighWaterCase):
    def test_a_lost_list_begins_beyond_what_many_messages_in_one_second_got(self) -> None:
        for deliver in (self.by_others, self.by_lmtp):
            deliver(30)
            self.look()
            self.remove_all()
            self.list.unlink()
            deliver(30)
            self.look()
            self.store = self.started()
            self.list.unlink()
            self.look()

    def test_a_restart_raises_no_mark_that_is_high_enough(self) -> None:
        marks, raised = self.marks, list[int]()

        def counting(place: str, least: int) -> int:
            raised.append(least)
            return marks(place, least)

        self.by_lmtp(3)
        self.look()
        self.marks = counting
        self.store = self.started()
        self.look()
        self.assertEqual(raised, [0])
        self.by_others(BLOCK + 1)
        self.look()
        self.assertEqual(len([least for least in raised if least]), 1)

    def test_a_clock_that_was_set_back_brings_no_id_again(self) -> None:
        self.by_lmtp(3)
        self.look()
        self.list.unlink()
        self.remove_all()
        self.store = self.started(now=1_000_000_000.0)
        self.by_lmtp(3)
        self.look()

    def test_an_older_list_is_gone_on_from_where_its_successor_was(self) -> None:
        for restart in (False, True):
            for deliver in (self.by_others, self.by_lmtp):
                deliver(3)
                self.look()
                old = self.list.read_bytes()
                deliver(5)
                self.look()
                self.remove_all()
                if restart:
                    self.store = self.started()
                self.list.write_bytes(old)
                deliver(5)
                self.look()

    def test_an_older_list_that_goes_beyond_what_lmtp_knew_of_is_noticed_there(self) -> None:
        self.by_lmtp(3)
        self.by_others(3)
        self.look()
        old = self.list.read_bytes()
        self.by_others(3)
        self.look()
        self.remove_all()
        with self.list.open("r+b") as file:  # the same inode
            file.truncate(len(old))
        self.by_lmtp(3)
        self.look()

    def test_another_process_goes_on_beyond_what_this_one_gave(self) -> None:
        others = self.started()
        for _ in range(3):
            self.by_lmtp(2)
            self.look()
            self.store, others = others, self.store
            self.list.unlink()
            self.remove_all()

    def test_ids_that_dovecot_gave_and_clients_saw_do_not_come_again(self) -> None:
        self.by_others(1)
        (name,) = os.listdir(f"{self.maildir}/new")
        self.uidlist(f"3 V7 N3000000001\n3000000000 :{name}\n")
        self.look()
        self.list.unlink()
        self.remove_all()
        self.by_others(1)
        self.look()

    def test_ids_that_were_carried_over_do_not_come_again(self) -> None:
        self.by_others(1)
        (name,) = os.listdir(f"{self.maildir}/new")
        self.uidlist(f"3 V7 N5\n4 P3000000000 :{name}\n")
        self.look()
        self.list.unlink()
        self.remove_all()
        self.by_others(1)
        (uid,) = self.look()
        self.assertGreater(int(uid), 3_000_000_000)


@pytest.mark.conformance("X-C0008", "O-C0040", "P-20")
class RestoredTests(HighWaterCase):
    def test_after_a_restore_of_everything_ids_that_were_moved_ahead_are_new(self) -> None:
        self.by_lmtp(3)
        self.look()
        old, mark = self.list.read_bytes(), self.marks(self.maildir, 0)
        self.by_lmtp(50)
        self.look()
        self.remove_all()
        self.list.write_bytes(old)
        self.marks = MemoryState().high_water
        self.marks(self.maildir, mark)
        self.store = self.started()
        self.successResultOf(self.store.move_ids(ALICE, 1_000_000))
        self.assertIn(b" N", self.list.read_bytes())
        self.by_lmtp(50)
        self.look()

    def test_nor_does_a_list_that_was_begun_since_the_backup_begin_as_it_did(self) -> None:
        now = 1_700_000_000
        self.store = self.started(now)
        # More than one in each second of its life.
        self.by_others(30)
        self.look()
        self.remove_all()
        self.list.unlink()
        state = MemoryState()
        self.successResultOf(state.raise_high_water(1_000_000))
        self.marks = state.high_water
        self.store = self.started(now + 5)
        self.assertEqual(self.successResultOf(self.store.move_ids(ALICE, 1_000_000)), 0)
        self.by_others(30)
        self.look()

    def test_nor_does_what_was_raised_too_far_keep_a_list_from_beginning(self) -> None:
        state = MemoryState()
        self.successResultOf(state.raise_high_water(HIGHEST))
        self.marks = state.high_water
        self.store = self.started()
        self.by_others(1)
        self.look()

    def test_ids_that_have_run_out_are_not_moved(self) -> None:
        self.by_others(1)
        self.look()
        before = self.list.read_bytes()
        self.failureResultOf(self.store.move_ids(ALICE, HIGHEST), MailboxUnusable)
        self.assertEqual(self.list.read_bytes(), before)


STEPS = ("lmtp", "others", "look", "remove", "lose", "save", "restore", "restart", "switch")


@pytest.mark.conformance("X-C0008", "O-C0040", "P-20")
class AnythingTests(HighWaterCase):
    @given(st.lists(st.sampled_from(STEPS), max_size=30))
    def test_whatever_happens_to_the_list_an_id_means_one_message(self, steps: list[str]) -> None:
        self.setUp()
        other, saved = self.started(), b""
        for step in steps:
            if step == "lmtp":
                self.by_lmtp(2)
            elif step == "others":
                self.by_others(2)
            elif step == "look":
                self.look()
            elif step == "remove":
                self.remove_all()
            elif step == "lose":
                self.list.unlink(missing_ok=True)
            elif step == "save" and self.list.exists():
                saved = self.list.read_bytes()
            elif step == "restore" and saved:
                self.list.write_bytes(saved)
            elif step == "restart":
                self.store = self.started()
            elif step == "switch":
                self.store, other = other, self.store
        self.look()


class SaidTests(HighWaterCase):
    def said(self) -> list[str]:
        with capturedLogs() as events:
            self.by_others(1)
            self.look()
        return [text for text in map(formatEvent, events) if "uidlist is" in text]

    def test_a_list_that_is_lost_or_older_is_logged_once(self) -> None:
        self.by_others(3)
        self.look()
        old = self.list.read_bytes()
        self.store = self.started()
        self.assertEqual(self.said(), [])
        self.store = self.started()
        self.list.write_bytes(old)
        (line,) = self.said()
        self.assertIn(f"{self.maildir}: the uidlist is older", line)
        self.assertEqual(self.said(), [])
        self.list.unlink()
        (line,) = self.said()
        self.assertIn(f"{self.maildir}: the uidlist is missing", line)

    def test_one_that_is_older_within_a_run_is_noticed_by_one_id(self) -> None:
        self.by_others(1)
        self.look()
        old = self.list.read_bytes()
        self.by_others(1)
        self.look()
        self.list.write_bytes(old)
        self.assertEqual(len(self.said()), 1)

    def test_an_older_list_is_noticed_at_the_login_and_told_of_once(self) -> None:
        self.by_others(2)
        self.look()
        old = self.list.read_bytes()
        for restart in (False, True):
            self.store = self.started()
            self.by_others(1)
            self.look()
            self.remove_all()
            self.list.write_bytes(old)
            if restart:
                self.store = self.started()
            with capturedLogs() as events:
                self.look()
                self.look()
            self.assertEqual(len([one for one in map(formatEvent, events) if "older" in one]), 1)
            self.assertEqual(self.said(), [])

    def test_a_mailbox_that_is_new_is_nothing_to_say(self) -> None:
        self.assertEqual(self.said(), [])


class CostTests(HighWaterCase):
    def test_a_message_costs_nothing_and_a_block_one_write(self) -> None:
        asked: list[int] = []
        marks = MemoryState().high_water

        def counting(maildir: str, least: int) -> int:
            asked.append(least)
            return marks(maildir, least)

        self.marks = counting
        self.store = self.started()
        self.by_lmtp(1)
        self.look()
        before = len(asked)
        for _ in range(10):
            self.by_lmtp(1)
            self.look()
        self.assertEqual(len(asked), before)
        self.by_others(BLOCK)
        self.look()
        self.assertEqual(len([least for least in asked[before:] if least]), 1)


class TroubleTests(HighWaterCase):
    def failing(self, *_: object) -> int:
        raise LedgerUnusable("ledger.sqlite3: is damaged")

    def test_mail_goes_on_where_nothing_can_be_remembered_and_the_log_says_so(self) -> None:
        self.by_lmtp(2)
        self.look()
        self.marks = self.failing
        self.store = self.started()
        with capturedLogs() as events:
            self.by_others(2)
            self.assertEqual(len(self.look()), 4)
            self.look()
        (line,) = [formatEvent(event) for event in events]
        self.assertIn("ledger.sqlite3: is damaged", line)

    def test_a_list_that_is_lost_then_too_waits_for_it(self) -> None:
        self.by_lmtp(2)
        self.look()
        self.list.unlink()
        self.marks = self.failing
        self.failureResultOf(self.started().open(ALICE, None), StoreDown)

    def test_a_number_that_no_mailbox_gets_to_locks_nobody_out(self) -> None:
        for least in (HIGHEST, 2**40):
            with contextlib.suppress(FileNotFoundError):
                self.list.unlink()
            self.marks(self.maildir, least)
            self.store = self.started()
            self.by_others(1)
            self.look()


class ThreadsTests(SynchronousTestCase):
    def test_threads_that_begin_with_a_mailbox_at_once_share_what_is_known(self) -> None:
        threads, reading = 4, MaildirOptions()
        begun = Barrier(threads)

        def begin(maildir: str) -> Mark:
            begun.wait()
            return reading.mark_of(maildir)

        with ThreadPoolExecutor(threads) as pool:
            for number in range(50):
                marks = list(pool.map(begin, [f"/mail/{number}"] * threads))
                self.assertEqual(len(set(map(id, marks))), 1)

    def test_of_what_threads_note_the_furthest_counts(self) -> None:
        mark = Mark("/mail")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(mark.note, range(20_000)))
        self.assertEqual(mark.reached, 19_999)
