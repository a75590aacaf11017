"""The lock that is shared with Dovecot."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from disks import no_room
from gateway.errors import MailboxUnusable, StoreDown
from gateway.store.maildir.folders.dotlock import STALE, dotlock
from gateway.store.maildir.folders.files import store_error
from gateway.store.maildir.folders.place import opened


class DotlockTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = self.mktemp()
        os.mkdir(directory)
        self.path = f"{directory}/dovecot-uidlist"
        self.lock = self.path + ".lock"
        self.time = 0.0
        """Seconds that everybody has slept."""

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def monotonic(self) -> float:
        return self.time

    def take(self, now: float = 0.0) -> bool:
        """Take the lock when the clock shows ``now``."""
        times = {"now": self.monotonic, "unix_time": lambda: now + self.time}
        with self.held(sleep=self.sleep, **times):
            return os.path.exists(self.lock)

    @contextmanager
    def held(self, **times: Any) -> Iterator[None]:
        directory, name = os.path.split(self.path)
        with opened(directory, folders=()) as maildir, dotlock(maildir, name, timeout=5, **times):
            yield

    def left(self) -> list[str]:
        return os.listdir(os.path.dirname(self.path))

    def test_the_lock_file_stands_while_it_is_held_and_not_after(self) -> None:
        self.assertTrue(self.take())
        self.assertEqual(self.left(), ["dovecot-uidlist.lock.pop3gw"])

    def test_a_lock_makes_no_file_but_the_first_time_and_is_always_young(self) -> None:
        self.take()
        ours = f"{self.lock}.pop3gw"
        inode = os.stat(ours).st_ino
        os.utime(ours, (0, 0))
        with self.held():
            status = os.stat(self.lock)
            self.assertEqual(status.st_ino, inode)
            self.assertGreater(status.st_mtime, 1)

    def test_what_a_death_or_another_start_of_the_machine_left_is_made_anew(self) -> None:
        for content in (b"", b"pop3gw of another boot"):
            with open(f"{self.lock}.pop3gw", "wb") as file:
                file.write(content)
            self.assertTrue(self.take())
            with open(f"{self.lock}.pop3gw", "rb") as file:
                self.assertNotEqual(file.read(), content)

    def test_another_programs_lock_is_waited_for_and_then_given_up(self) -> None:
        with open(self.lock, "w") as file:
            file.write("3 V1 N2\n")
        os.utime(self.lock, (0, 0))
        error = self.assertRaises(StoreDown, self.take)
        self.assertIn(self.lock, str(error))
        self.assertGreaterEqual(self.time, 5)
        self.assertTrue(os.path.exists(self.lock))

    def test_a_lock_that_is_given_back_meanwhile_is_taken(self) -> None:
        open(self.lock, "w").close()
        os.utime(self.lock, (0, 0))

        def sleep(seconds: float) -> None:
            self.time += seconds
            if self.time > 1:
                os.unlink(self.lock)

        times = {"now": self.monotonic, "unix_time": self.monotonic}
        with self.held(sleep=sleep, **times):
            self.assertTrue(os.path.exists(self.lock))

    def test_a_lock_older_than_dovecots_limit_is_taken_over(self) -> None:
        open(self.lock, "w").close()
        os.utime(self.lock, (0, 0))
        self.assertTrue(self.take(now=STALE + 1))

    def test_a_lock_with_a_time_that_is_yet_to_come_is_as_old_as_that_was_set(self) -> None:
        for ahead in (60, STALE + 1, 3600 * 24 * 365 * 4):
            open(self.lock, "w").close()
            written = time.time()
            os.utime(self.lock, (written + ahead, written + ahead))
            self.time = 0.0
            self.assertRaises(StoreDown, self.take, now=written)
            self.assertTrue(os.path.exists(self.lock))
            self.assertTrue(self.take(now=written + STALE + 1))

    def test_a_wait_ends_in_time_though_the_clock_is_set_back_meanwhile(self) -> None:
        open(self.lock, "w").close()
        written = time.time()

        def unix_time() -> float:
            return written + self.time - (1800 if self.time > 1 else 0)

        with (
            self.assertRaises(StoreDown),
            self.held(sleep=self.sleep, now=self.monotonic, unix_time=unix_time),
        ):
            self.fail("another program has it")
        self.assertLess(self.time, 6)

    def test_a_lock_that_no_program_touches_is_taken_over_though_the_clock_was_set_back(
        self,
    ) -> None:
        for back in (1800, 3 * 3600):
            open(self.lock, "w").close()
            then = time.time() - back
            self.assertRaises(StoreDown, self.take, now=then)
            self.time += STALE
            self.assertTrue(self.take(now=then))

    def test_a_lock_that_its_program_touches_is_left_to_it_though_the_clock_was_set_back(
        self,
    ) -> None:
        open(self.lock, "w").close()
        written = time.time()
        for touched in range(1, 4):
            self.assertRaises(StoreDown, self.take, now=written - 1800)
            self.time += STALE
            os.utime(self.lock, (written + touched, written + touched))
        self.assertTrue(os.path.exists(self.lock))

    def test_a_lock_on_a_file_server_whose_clock_is_hours_ahead_is_not_broken_at_once(self) -> None:
        open(self.lock, "w").close()
        self.assertRaises(StoreDown, self.take, now=time.time() - 3 * 3600)
        self.assertTrue(os.path.exists(self.lock))

    def test_a_lock_left_by_a_dead_process_of_ours_is_taken_over_at_once(self) -> None:
        child = os.fork()
        if child == 0:  # pragma: no cover - the child dies with the lock in its hands
            with self.held():
                os._exit(0)
        os.waitpid(child, 0)
        self.assertTrue(os.path.exists(self.lock))
        self.assertTrue(self.take())
        self.assertLess(self.time, 1)

    def test_neither_a_link_nor_a_fifo_in_place_of_a_lock_is_opened(self) -> None:
        os.symlink("/nowhere", self.lock)
        error = self.assertRaises(OSError, self.take)
        self.assertEqual(error.errno, errno.ELOOP)
        os.unlink(self.lock)
        os.mkfifo(self.lock)
        os.utime(self.lock, (0, 0))
        self.assertRaises(StoreDown, self.take)
        self.assertTrue(self.take(now=STALE + 1))

    def test_a_directory_in_place_of_a_lock_is_the_administrators_to_move(self) -> None:
        for name in (f"{self.lock}.pop3gw", self.lock):
            os.mkdir(name)
            error = store_error(self.assertRaises(OSError, self.take, now=2 * STALE))
            self.assertIsInstance(error, MailboxUnusable)
            self.assertEqual(str(error), f"{name}: Is a directory in place of a file: move it away")
            os.rmdir(name)
        self.assertTrue(self.take())

    def test_a_lock_that_is_another_programs_by_now_is_left_alone(self) -> None:
        with self.held():
            os.unlink(self.lock)  # Dovecot took it for a dead program's
            open(self.lock, "w").close()
        self.assertTrue(os.path.exists(self.lock))
        os.unlink(self.lock)
        with self.held():
            os.unlink(self.lock)
        self.assertFalse(os.path.exists(self.lock))

    def test_one_that_cannot_be_removed_is_logged_and_fails_nothing_that_was_done(self) -> None:
        with capturedLogs() as events, no_room("unlink", "*.lock", errno.EIO), self.held():
            pass
        self.assertIn(f"{self.lock} stays", formatEvent(events[-1]))
        # Ours is taken over at once.
        self.assertTrue(self.take())

    def test_our_own_threads_take_turns(self) -> None:
        with self.held(), self.assertRaises(StoreDown):
            self.take()

    def test_a_failure_inside_gives_the_lock_back(self) -> None:
        with self.assertRaises(ZeroDivisionError), self.held():
            raise ZeroDivisionError
        self.assertTrue(self.take())
