"""What only a Maildir's delivery has: names, links, locks, threads, full disks, races."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

from test_store_contract import MaildirBench
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from answers import result
from disks import no_room
from gateway.errors import (
    GatewayError,
    MailboxUnusable,
    NoRoom,
    NoSuchMailbox,
    Overloaded,
    OverQuota,
    StoreDown,
)
from gateway.model import Account, Limits, Quota, Usage
from gateway.store.maildir.delivery.incoming import HELD, host_part
from gateway.store.maildir.folders.moves import _renameat2
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import ALICE, BOB, NO_LIMITS, admit, run_now

DAY = 86_400 * 10**9
"""In ns."""

NAME = re.compile(r"[0-9]{10}\.M[0-9]{6}P[0-9]+Q[0-9]+\.[^:/]+,S=([0-9]+),W=\1")


class Later:
    """A worker whose work is done when a test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.jobs.append((work, done))
        return done

    def do_one(self) -> None:
        work, done = self.jobs.pop(0)
        run_now(work).chainDeferred(done)

    def do_all(self) -> None:
        while self.jobs:
            self.do_one()


class DeliveryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = MaildirBench(self)
        self.root = self.bench.root
        self.store = self.bench.store

    def path(self, account: Account, *names: str) -> str:
        return "/".join([self.root, account.mailbox, *names])

    def files(self, account: Account = ALICE, folder: str = "new") -> list[str]:
        return sorted(os.listdir(self.path(account, folder)))

    def receive(self, content: bytes = b"one\r\n", account: Account = ALICE) -> Any:
        incoming = self.successResultOf(self.store.receive(account))
        self.successResultOf(incoming.write(content))
        return incoming

    def send(self, *accounts: Account, content: bytes = b"one\r\n", limits: Limits = NO_LIMITS):  # type: ignore[no-untyped-def]
        """Deliver; how each commit ended."""
        incoming = self.receive(content, accounts[0])
        ends: list[Any] = []
        for account in accounts:
            incoming.commit(account, limits).addBoth(ends.append)
        self.successResultOf(incoming.close())
        return [getattr(end, "value", end) for end in ends]

    def another(self, run: Callable[[Callable[[], Any]], Deferred[Any]] = run_now, **more: Any):  # type: ignore[no-untyped-def]
        reading = MaildirOptions(create=more.pop("create", False), lock_timeout=0.2)
        return MaildirStore(self.root, "{name}", run, reading=reading, admit=admit, **more)


class FormTests(DeliveryCase):
    def test_a_name_is_unique_and_tells_both_sizes(self) -> None:
        for _ in range(3):
            self.assertEqual(self.send(ALICE, content=b"a\r\nb"), [None])
        names = self.files()
        self.assertEqual(len(names), 3)
        for name in names:
            self.assertTrue(NAME.fullmatch(name), name)
            self.assertTrue(name.endswith(f".{host_part(socket.gethostname())},S=6,W=6"), name)

    def test_what_a_hosts_name_has_in_it_ends_no_part_of_a_name(self) -> None:
        self.assertEqual(host_part("a/b:c"), "a\\057b\\072c")

    def test_it_has_its_line_in_the_uidlist_before_anybody_logs_in(self) -> None:
        self.send(ALICE)
        self.send(ALICE)
        with open(self.path(ALICE, "dovecot-uidlist")) as file:
            head, *lines = file.read().splitlines()
        self.assertRegex(head, r"3 V\d+ N\d+ G[0-9a-f]{32}")
        uids, names = zip(*(line.split(" :") for line in lines), strict=True)
        self.assertEqual(sorted(names), self.files())
        self.assertEqual(int(uids[1]), int(uids[0]) + 1)
        before = os.stat(self.path(ALICE, "dovecot-uidlist"))
        maildrop, _ = self.successResultOf(self.store.open(ALICE, None))
        self.assertEqual(tuple(self.successResultOf(maildrop.listing()).uids), uids)
        after = os.stat(self.path(ALICE, "dovecot-uidlist"))
        self.assertEqual((before.st_size, before.st_ino), (after.st_size, after.st_ino))

    def test_ids_go_on_where_any_other_program_left_them(self) -> None:
        path = self.path(ALICE, "dovecot-uidlist")
        lists = {
            "3 V7 N5 G0\n": 5,
            "3 V7 N5 G0\n9 :gone\n": 10,
            "3 V7 N5 G0\n9 P500 :carried\n": 501,
            "3 V7 N5 G0\n9 :gone\n10 :to": 10,
            "1 7 30\n29 gone:2,S\n": 30,
            "3 V0 N5 G0\n9 :gone\n": 10,
        }
        for text, wanted in lists.items():
            with open(path, "w") as file:
                file.write(text)
            # One that remembers what the list said before would take this for an older one.
            self.store = self.another()
            self.send(ALICE)
            with open(path) as file:
                last = file.read().splitlines()[-1]
            self.assertEqual(int(last.partition(" ")[0]), wanted, text)

    def test_a_uidlist_that_is_none_refuses_and_leaves_nothing(self) -> None:
        with open(self.path(ALICE, "dovecot-uidlist"), "w") as file:
            file.write("garbage\n")
        (end,) = self.send(ALICE)
        self.assertIsInstance(end, MailboxUnusable)
        self.assertEqual((self.files(), self.bench.left_over()), ([], []))

    def test_the_file_is_for_its_owner_only(self) -> None:
        os.chmod(self.path(ALICE), 0o755)
        self.send(ALICE)
        status = os.stat(self.path(ALICE, "new", *self.files()))
        self.assertEqual(status.st_mode & 0o777, 0o600 | (0o755 & 0o660))
        self.assertEqual(status.st_mode & 0o007, 0)

    def test_tmp_is_cleared_though_the_clock_was_set_back_by_days(self) -> None:
        now = time.time_ns() + 100 * DAY
        self.store = MaildirStore(self.root, "{name}", run_now, now_ns=lambda: now)
        self.send(ALICE)
        open(self.path(ALICE, "tmp", "left"), "w").close()
        now -= 10 * DAY
        self.send(ALICE)
        self.assertEqual(self.files(folder="tmp"), [])

    def test_a_file_that_another_delivery_moves_meanwhile_keeps_no_other_in_tmp(self) -> None:
        now = time.time_ns() + 100 * DAY
        self.store = MaildirStore(self.root, "{name}", run_now, now_ns=lambda: now)
        for name in ("one", "two", "three"):
            open(self.path(ALICE, "tmp", name), "w").close()
        really_unlink, moved = os.unlink, []

        def unlink(path: str, **options: Any) -> None:
            really_unlink(path, **options)
            if not moved and os.path.basename(path) in ("one", "two", "three"):
                moved.append(path)
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

        with mock.patch.object(os, "unlink", unlink):
            self.assertEqual(self.send(ALICE), [None])
        self.assertEqual((len(moved), self.files(folder="tmp")), (1, []))

    def test_a_maildir_that_is_not_there_is_made_where_that_is_wanted(self) -> None:
        carol = Account(name="carol", mailbox="carol")
        store = self.another(create=True)
        self.assertEqual(self.successResultOf(store.usage(carol)), Usage())
        self.store = self.another(create=True)
        dave = Account(name="dave", mailbox="dave")
        self.assertEqual(self.send(dave, carol), [None, None])
        self.assertEqual((len(self.files(dave)), len(self.files(carol))), (1, 1))

    def test_a_maildir_that_went_away_is_noticed(self) -> None:
        self.send(ALICE)
        os.rename(self.path(ALICE), self.path(ALICE) + ".old")
        (end,) = self.send(ALICE)
        self.assertIsInstance(end, NoSuchMailbox)

    def test_a_large_message_makes_a_maildir_again_that_went_away_as_a_small_one_does(self) -> None:
        self.store = self.another(create=True)
        self.send(ALICE)
        shutil.rmtree(self.path(ALICE))
        self.assertEqual(self.send(ALICE, content=b"x" * HELD), [None])
        self.assertEqual(len(self.files()), 1)

    def test_a_maildir_that_went_away_is_noticed_by_any_step_of_a_large_message(self) -> None:
        self.send(ALICE)
        os.rename(self.path(ALICE), self.path(ALICE) + ".old")
        incoming = self.successResultOf(self.store.receive(ALICE))
        self.failureResultOf(incoming.write(b"x" * HELD), NoSuchMailbox)
        # Not what is left of it.
        self.failureResultOf(incoming.commit(ALICE, NO_LIMITS), NoSuchMailbox)
        self.successResultOf(incoming.close())
        self.failureResultOf(self.store.receive(ALICE), NoSuchMailbox)


class SeveralTests(DeliveryCase):
    def inodes(self, *accounts: Account) -> set[int]:
        return {
            os.stat(self.path(account, "new", name)).st_ino
            for account in accounts
            for name in self.files(account)
        }

    def test_several_recipients_share_one_copy(self) -> None:
        self.assertEqual(self.send(ALICE, BOB), [None, None])
        self.assertEqual(len(self.inodes(ALICE, BOB)), 1)

    def no_link(self, number: int) -> Callable[..., None]:
        really_link = os.link

        def link(source: str, target: str, **options: Any) -> None:
            if source.startswith("/proc/"):
                raise OSError(number, os.strerror(number))
            really_link(source, target, **options)

        return link

    def test_what_cannot_be_linked_is_copied_and_synced(self) -> None:
        content = b"x" * 76 + b"\r\n"
        content *= 30_000
        for number in (errno.EXDEV, errno.EMLINK, errno.EPERM):
            with mock.patch(
                "gateway.store.maildir.delivery.incoming.os.link", self.no_link(number)
            ):
                self.assertEqual(self.send(ALICE, BOB, content=content), [None, None])
        self.assertEqual(len(self.inodes(ALICE, BOB)), 6)
        for name in self.files(BOB):
            with open(self.path(BOB, "new", name), "rb") as file:
                self.assertEqual(file.read(), content)
        self.assertEqual(self.bench.left_over(), [])

    def test_where_they_may_not_share_each_has_a_file_of_its_own(self) -> None:
        self.store = MaildirStore(self.root, "{name}", run_now, share=False)
        for content in (b"one\r\n", b"x" * 400_000 + b"\r\n"):
            self.assertEqual(self.send(ALICE, BOB, content=content), [None, None])
        self.assertEqual(len(self.inodes(ALICE, BOB)), 4)
        self.assertEqual(self.bench.left_over(), [])

    def test_owners_do_not_share_a_file(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("only root can give files away")
        os.chown(self.path(BOB), 12345, 12346)
        for first, second in ((ALICE, BOB), (BOB, ALICE)):
            self.assertEqual(self.send(first, second), [None, None])
        for name in self.files(BOB):
            status = os.stat(self.path(BOB, "new", name))
            self.assertEqual((status.st_uid, status.st_gid, status.st_nlink), (12345, 12346, 1))
        self.assertEqual(len(self.inodes(ALICE, BOB)), 4)

    def test_what_the_first_writes_into_his_file_reaches_no_other(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("only root can give files away")
        os.chown(self.path(ALICE), 12345, 12345)
        large = b"x" * HELD
        for content, added in ((b"x", b""), (b"x", b"z"), (large, b""), (large, b"z")):
            incoming = self.receive(content)
            self.successResultOf(incoming.commit(ALICE, NO_LIMITS))
            (name,) = self.files()
            self.rewrite(self.path(ALICE, "new", name), added)
            self.failureResultOf(incoming.commit(BOB, NO_LIMITS), StoreDown)
            self.successResultOf(incoming.close())
            self.assertEqual((self.files(BOB), self.bench.left_over()), ([], []))
            os.unlink(self.path(ALICE, "new", name))

    def test_what_the_first_writes_into_tmp_reaches_no_other(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("only root can give files away")
        os.chown(self.path(ALICE), 12345, 12345)
        incoming = self.receive(b"x" * HELD)
        self.rewrite(self.path(ALICE, "tmp", *self.files(folder="tmp")))
        self.failureResultOf(incoming.commit(BOB, NO_LIMITS), StoreDown)
        self.successResultOf(incoming.close())
        self.assertEqual((self.files(BOB), self.bench.left_over()), ([], []))

    def rewrite(self, path: str, added: bytes = b"") -> None:
        with open(path, "r+b") as file:
            file.write(b"y")
            file.seek(0, os.SEEK_END)
            file.write(added)

    def test_the_second_gets_it_though_the_first_has_already_removed_it(self) -> None:
        incoming = self.receive(b"one\r\n")
        self.successResultOf(incoming.commit(ALICE, NO_LIMITS))
        os.unlink(self.path(ALICE, "new", *self.files()))
        self.successResultOf(incoming.commit(BOB, NO_LIMITS))
        self.successResultOf(incoming.close())
        with open(self.path(BOB, "new", *self.files(BOB)), "rb") as file:
            self.assertEqual(file.read(), b"one\r\n")

    def test_the_others_get_it_where_the_firsts_maildir_is_broken(self) -> None:
        incoming = self.receive(b"one\r\n")
        os.rmdir(self.path(ALICE, "tmp"))
        with open(self.path(ALICE, "tmp"), "w"):
            pass
        self.failureResultOf(incoming.commit(ALICE, NO_LIMITS), MailboxUnusable)
        self.successResultOf(incoming.commit(BOB, NO_LIMITS))
        self.successResultOf(incoming.close())
        self.assertEqual(len(self.files(BOB)), 1)


class TurnTests(DeliveryCase):
    def setUp(self) -> None:
        super().setUp()
        self.later = Later()
        self.store = self.another(self.later.run)
        for account in (ALICE, BOB):
            self.store.receive(account)
        self.later.do_all()

    def test_a_small_message_costs_one_visit_to_a_worker(self) -> None:
        incoming = self.receive()
        done = incoming.commit(ALICE, NO_LIMITS)
        self.assertEqual(len(self.later.jobs), 1)
        self.later.do_one()
        self.assertIsNone(self.successResultOf(done))
        self.assertIsNone(self.successResultOf(incoming.close()))
        self.assertEqual(self.later.jobs, [])

    def test_usage_costs_a_visit_only_where_another_program_wrote_it(self) -> None:
        first = self.receive().commit(ALICE, Limits(octets=1000))
        self.later.do_all()
        self.successResultOf(first)
        self.used(visits=1, octets=5)
        second = self.receive().commit(ALICE, Limits(octets=1000))
        self.later.do_all()
        self.successResultOf(second)
        self.used(visits=0, octets=10)
        with open(self.path(ALICE, "maildirsize"), "a") as file:
            file.write("100 1\n")
        self.used(visits=1, octets=110)
        os.unlink(self.path(ALICE, "maildirsize"))
        self.used(visits=1, octets=10)

    def used(self, *, visits: int, octets: int) -> None:
        usage = self.store.usage(ALICE)
        self.assertEqual(len(self.later.jobs), visits)
        self.later.do_all()
        self.assertEqual(self.successResultOf(usage).octets, octets)

    def test_what_comes_meanwhile_is_written_meanwhile_and_goes_in_together(self) -> None:
        commits = [self.receive().commit(ALICE, NO_LIMITS) for _ in range(5)]
        self.assertEqual(len(self.later.jobs), 5)
        self.later.do_one()
        self.assertEqual(len(self.files()), 1)
        for _ in range(4):
            self.later.do_one()
        # The first of the four has gone in by itself meanwhile, or all of them together.
        self.assertLessEqual(len(self.later.jobs), 1)
        self.later.do_all()
        for done in commits:
            self.assertIsNone(self.successResultOf(done))
        self.assertEqual(len(self.files()), 5)

    def test_never_two_threads_are_in_one_mailbox(self) -> None:
        commits = [self.receive().commit(ALICE, NO_LIMITS) for _ in range(3)]
        first = self.later.jobs.pop(0)
        self.later.do_all()
        self.assertEqual(self.files(), [])
        self.later.jobs.append(first)
        self.later.do_all()
        for done in commits:
            self.assertIsNone(self.successResultOf(done))

    def test_the_others_wait_for_the_first_to_write_it(self) -> None:
        incoming = self.receive()
        commits = [incoming.commit(account, NO_LIMITS) for account in (ALICE, BOB, BOB)]
        self.assertEqual(len(self.later.jobs), 1)
        self.later.do_all()
        for done in commits:
            self.assertIsNone(self.successResultOf(done))
        self.assertEqual((len(self.files()), len(self.files(BOB))), (1, 2))

    def test_a_line_that_is_lost_while_a_piece_is_written_leaves_nothing(self) -> None:
        incoming = self.successResultOf(self.store.receive(ALICE))
        written = incoming.write(b"x" * HELD)
        self.assertNoResult(written)
        closed = incoming.close()
        self.assertNoResult(closed)
        self.later.do_all()
        self.assertIsNone(self.successResultOf(closed))
        self.assertEqual(self.bench.left_over(), [])

    def test_with_no_worker_to_be_had_it_fails_and_nothing_is_left(self) -> None:
        incoming = self.successResultOf(self.store.receive(ALICE))
        incoming.write(b"x" * HELD)
        self.later.do_all()
        self.successResultOf(self.cleared(incoming))
        self.assertEqual(self.bench.left_over(), [])

    def cleared(self, incoming: Any) -> Deferred[None]:
        closed: Deferred[None] = incoming.close()
        work, done = self.later.jobs.pop()
        done.errback(Overloaded("full"))
        del work
        return closed

    def test_a_large_message_is_not_held_in_memory(self) -> None:
        incoming = self.successResultOf(self.store.receive(ALICE))
        for _ in range(40):
            incoming.write(b"0123456\r\n" * 10_000)
            self.later.do_all()
            self.assertLess(incoming._draft.held, HELD)
        done = incoming.commit(ALICE, NO_LIMITS)
        self.later.do_all()
        self.assertIsNone(self.successResultOf(done))
        self.assertTrue(self.files()[0].endswith(",S=3600000,W=3600000"))


class TroubleTests(DeliveryCase):
    def test_a_full_disk_at_any_step_says_so_and_leaves_nothing(self) -> None:
        self.send(ALICE, limits=Limits(octets=10_000))
        steps = [
            *(("open", "tmp/*"), ("write", "tmp/*"), ("fsync", "tmp/*")),
            *(("rename", "tmp/*"), ("link", "dovecot-uidlist.lock*")),
            *(("write", "dovecot-uidlist"), ("fsync", "new")),
        ]
        for number in (errno.ENOSPC, errno.EDQUOT):
            for call, files in steps:
                with no_room(call, f"*/{ALICE.mailbox}/{files}", number):
                    (end,) = self.send(ALICE, limits=Limits(octets=10_000))
                step = f"{call} {files}"
                self.assertIsInstance(end, NoRoom, step)
                self.assertEqual((len(self.files()), self.bench.left_over()), (1, []), step)
                self.assertEqual(self.successResultOf(self.store.usage(ALICE)), Usage(5, 1), step)
        self.assertEqual(self.send(ALICE, limits=Limits(octets=10_000)), [None])
        maildrop, _ = self.successResultOf(self.store.open(ALICE, None))
        self.assertEqual(len(self.successResultOf(maildrop.listing())), 2)

    def test_a_large_message_that_has_no_room_is_given_up_at_once(self) -> None:
        incoming = self.successResultOf(self.store.receive(ALICE))
        with no_room("write", f"*/{ALICE.mailbox}/tmp/*"):
            self.failureResultOf(incoming.write(b"x" * HELD), NoRoom)
        self.assertEqual(self.bench.left_over(), [])
        self.failureResultOf(incoming.commit(ALICE, NO_LIMITS), NoRoom)
        self.successResultOf(incoming.close())

    def test_the_error_of_a_large_message_names_the_file_that_it_is_in(self) -> None:
        def disk_error(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        incoming = self.receive(b"x" * HELD)
        file = self.path(ALICE, "tmp", *self.files(folder="tmp"))
        with mock.patch.object(os, "fsync", disk_error):
            error = self.failureResultOf(incoming.commit(BOB, NO_LIMITS), StoreDown).value
        self.assertEqual(str(error), f"{file}: Input/output error")
        self.successResultOf(incoming.close())
        incoming = self.receive(b"x" * HELD)
        file = self.path(ALICE, "tmp", *self.files(folder="tmp"))
        with mock.patch.object(os, "write", disk_error):
            error = self.failureResultOf(incoming.write(b"x" * HELD), StoreDown).value
        self.assertEqual(str(error), f"{file}: Input/output error")
        self.successResultOf(incoming.close())

    def test_another_programs_lock_is_waited_for_and_then_given_up(self) -> None:
        self.store = self.another()
        with open(self.path(ALICE, "dovecot-uidlist.lock"), "w") as file:
            file.write("dovecot")
        (end,) = self.send(ALICE)
        self.assertIsInstance(end, StoreDown)
        self.assertEqual((self.files(), self.bench.left_over()), ([], []))

    def test_what_was_placed_is_delivered_and_counted_though_its_lock_cannot_be_removed(
        self,
    ) -> None:
        limits = Limits(octets=10_000)
        self.send(ALICE, limits=limits)
        with no_room("unlink", "*.lock", errno.EIO):
            self.assertEqual(self.send(ALICE, content=b"three\r\n", limits=limits), [None])
        self.assertEqual(len(self.files()), 2)
        self.assertEqual(self.successResultOf(self.store.usage(ALICE)), Usage(12, 2))

    def test_what_was_linked_is_delivered_though_its_first_name_stays(self) -> None:
        _renameat2.cache_clear()
        self.addCleanup(_renameat2.cache_clear)
        old_library = mock.patch.object(ctypes, "CDLL", return_value=object())
        with old_library, no_room("unlink", "*/tmp/*", errno.EIO):
            self.assertEqual(self.send(ALICE), [None])
        self.assertEqual(len(self.files()), 1)

    def test_what_was_copied_and_linked_is_delivered_though_its_first_name_stays(self) -> None:
        _renameat2.cache_clear()
        self.addCleanup(_renameat2.cache_clear)
        self.store = self.another(share=False)
        old_library = mock.patch.object(ctypes, "CDLL", return_value=object())
        for stays in (BOB.mailbox, "*"):
            with old_library, no_room("unlink", f"*/{stays}/tmp/*", errno.EIO):
                self.assertEqual(self.send(ALICE, BOB), [None, None])
        inodes = {
            os.stat(self.path(account, "new", name)).st_ino
            for account in (ALICE, BOB)
            for name in self.files(account)
        }
        self.assertEqual((len(self.files()), len(self.files(BOB)), len(inodes)), (2, 2, 4))

    def test_what_was_removed_in_quit_is_told_even_if_the_lock_is_not_to_be_had(self) -> None:
        import fcntl

        limits = Limits(octets=10_000)
        self.store = self.another()
        for _ in range(3):
            self.send(ALICE, limits=limits)
        maildrop, _ = self.successResultOf(self.store.open(ALICE, None))
        held = os.open(self.path(ALICE), os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        self.successResultOf(maildrop.finish({0, 2}, set()))
        os.close(held)
        with open(self.path(ALICE, "maildirsize")) as size:
            self.assertEqual(size.read().splitlines()[-1], "-10 -2")
        self.assertEqual(self.successResultOf(self.store.usage(ALICE)), Usage(5, 1))


class QuotaTests(DeliveryCase):
    def size_file(self) -> str:
        with open(self.path(ALICE, "maildirsize")) as file:
            return file.read()

    def test_without_limits_nothing_is_counted_but_what_is_there_is_kept_right(self) -> None:
        self.send(ALICE)
        self.assertFalse(os.path.exists(self.path(ALICE, "maildirsize")))
        self.assertEqual(self.successResultOf(self.store.usage(ALICE)), Usage(5, 1))
        self.assertEqual(self.size_file(), "0S\n5 1\n")
        self.send(ALICE)
        self.assertEqual(self.size_file(), "0S\n5 1\n5 1\n")

    def test_usage_notes_the_quota_of_the_directory(self) -> None:
        account = Account(name="a", mailbox=ALICE.mailbox, quota=Quota(octets=99, messages=3))
        self.successResultOf(self.store.usage(account))
        self.assertEqual(self.size_file(), "99S,3C\n0 0\n")

    def test_nobody_is_refused_for_a_sum_that_is_wrong(self) -> None:
        limits = Limits(octets=1000)
        self.send(ALICE, limits=limits)
        with open(self.path(ALICE, "maildirsize"), "a") as file:
            file.write("994 7\n")
        self.assertEqual(self.send(ALICE, limits=limits), [None])
        self.assertEqual(self.size_file(), "1000S\n5 1\n5 1\n")

    def test_a_new_limit_is_written_down(self) -> None:
        self.send(ALICE, limits=Limits(octets=1000))
        self.send(ALICE, limits=Limits(octets=2000, messages=9))
        self.assertEqual(self.size_file(), "2000S,9C\n5 1\n5 1\n")

    def test_what_goes_in_together_counts_for_each_other(self) -> None:
        later = Later()
        self.store = self.another(later.run)
        self.store.receive(ALICE)
        later.do_all()
        limits = Limits(octets=22, grace_octets=5)
        ends: list[Any] = []
        for _ in range(10):
            self.receive().commit(ALICE, limits).addBoth(ends.append)
        later.do_all()
        refused = [end for end in ends if end is not None]
        self.assertEqual((len(ends), len(refused)), (10, 5))
        for end in refused:
            end.trap(OverQuota)
        self.assertEqual(len(self.files()), 5)


class RaceTests(DeliveryCase):
    LIMITS = Limits(octets=20_000, grace_octets=500)

    def held(self) -> int:
        folder = self.path(ALICE, "new")
        return sum(os.stat(f"{folder}/{name}").st_size for name in os.listdir(folder))

    def fill(self) -> None:
        self.send(ALICE, content=b"x" * 17_998 + b"\r\n", limits=self.LIMITS)

    def test_fifty_deliveries_by_ten_processes_do_not_go_beyond_the_grace(self) -> None:
        self.fill()
        command = [sys.executable, __file__, os.path.abspath(self.root)]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        racers = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
            )
            for _ in range(10)
        ]
        for racer in racers:
            assert racer.stdout is not None
            self.assertEqual(racer.stdout.readline(), "ready\n")
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        ends = "".join(racer.communicate(timeout=60)[0] for racer in racers)
        delivered = ends.count("delivered")
        self.assertEqual(delivered + ends.count("OverQuota"), 50)
        self.assertEqual(self.held(), 18_000 + 300 * delivered)
        self.assertLessEqual(self.held(), 20_500)
        self.assertEqual(delivered, 7)
        self.assertEqual(
            self.successResultOf(self.store.usage(ALICE)), Usage(self.held(), 1 + delivered)
        )
        self.assertEqual(self.bench.left_over(), [])

    def test_fifty_deliveries_on_threads_do_not_go_beyond_the_grace(self) -> None:
        self.fill()
        ends: list[Any] = []
        here = threading.Lock()

        def race(number: int) -> None:
            # Each thread is a process of its own, as far as the store knows.
            ends_here = deliver_all(self.root, 5)
            with here:
                ends.extend(ends_here)
            del number

        with ThreadPoolExecutor(10) as pool:
            list(pool.map(race, range(10)))
        self.assertEqual((len(ends), ends.count("delivered")), (50, 7))
        self.assertLessEqual(self.held(), 20_500)


def deliver_all(root: str, count: int) -> list[str]:
    """Deliver messages of 300 octets; how each delivery ended."""
    store = MaildirStore(root, "{name}", run_now, admit=admit)
    ends: list[str] = []

    def refused(failure: Any) -> None:
        failure.trap(GatewayError)
        ends.append(type(failure.value).__name__)

    for _ in range(count):
        incoming = result(store.receive(ALICE))
        incoming.write(b"x" * 298 + b"\r\n")
        incoming.commit(ALICE, RaceTests.LIMITS).addCallbacks(
            lambda _: ends.append("delivered"), refused
        )
        incoming.close()
    return ends


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    print("\n".join(deliver_all(sys.argv[1], 5)))
