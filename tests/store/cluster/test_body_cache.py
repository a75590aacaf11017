"""Bodies on the local disk."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, execute, fail
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import Overloaded
from gateway.store.cluster.bodies.body_cache import ABANDONED, LARGEST, WAITING, BodyCache
from gateway.testing.store_contract import run_now

ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))


class Threads:
    """Do work when a test says so."""

    def __init__(self) -> None:
        self.is_full = False
        self._waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Take work, unless the queue is full."""
        if self.is_full:
            return fail(Overloaded("disk: 100 pieces of work wait"))
        self._waiting.append((work, Deferred()))
        return self._waiting[-1][1]

    def work(self) -> None:
        """Do all that waits, side by side, and then tell of it."""
        waiting, self._waiting = self._waiting, []
        done = [(execute(work), answer) for work, answer in waiting]
        for result, answer in done:
            result.chainDeferred(answer)


class BodyCacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def cache(self, most: int = 1000, run: object = run_now) -> BodyCache:
        """A process' cache."""
        made = BodyCache(str(self.directory), most, run)  # type: ignore[arg-type]
        self.addCleanup(made.close)
        return made

    def begun(self, threads: Threads, most: int = 1000) -> BodyCache:
        """A cache that has made its directory, with the first body, which it does not keep."""
        cache = self.cache(most, threads.run)
        for _ in range(2):
            self.successResultOf(cache.keep(UUID(int=9), b"0123456789"))
        self.assertEqual([*self.directory.iterdir()], [])
        threads.work()
        threads.work()
        self.assertIsNone(self.found(cache, UUID(int=9)))
        self.assertEqual(len([*self.directory.iterdir()]), 1)
        return cache

    def keep(self, cache: BodyCache, key: UUID, text: bytes) -> None:
        """Keep a body."""
        self.assertTrue(cache.wants(len(text)))
        self.assertIsNone(self.successResultOf(cache.keep(key, text)))

    def found(self, cache: BodyCache, key: UUID, length: int = 10) -> bytes | None:
        """A body, if it is there."""
        found: bytes | None = self.successResultOf(Deferred.fromCoroutine(cache.find(key, length)))
        return found

    def test_a_body_that_was_kept_is_found(self) -> None:
        cache = self.cache()
        self.assertIsNone(self.found(cache, ONE))
        self.keep(cache, ONE, b"0123456789")
        self.assertEqual(self.found(cache, ONE), b"0123456789")

    def test_the_body_that_was_read_longest_ago_goes_first(self) -> None:
        cache = self.cache(most=25)
        for key in (ONE, TWO):
            self.keep(cache, key, b"0123456789")
        self.found(cache, ONE)
        self.keep(cache, THREE, b"0123456789")
        found = [self.found(cache, key) is not None for key in (ONE, TWO, THREE)]
        self.assertEqual(found, [True, False, True])
        self.assertEqual(len([*self.directory.glob("*/*")]), 2)

    def test_a_body_twice_counts_once(self) -> None:
        cache = self.cache(most=20)
        for key in (ONE, TWO, TWO, TWO):
            self.keep(cache, key, b"0123456789")
        self.assertEqual(self.found(cache, ONE), b"0123456789")

    def test_a_large_body_is_not_kept_nor_one_that_is_larger_than_the_cache(self) -> None:
        self.assertFalse(self.cache(most=LARGEST * 2).wants(LARGEST + 1))
        self.assertFalse(self.cache(most=100).wants(101))

    def test_a_file_that_is_gone_or_has_another_length_is_not_used(self) -> None:
        cache = self.cache()
        for spoil in (os.unlink, lambda path: os.truncate(path, 4)):
            self.keep(cache, ONE, b"0123456789")
            (path,) = self.directory.glob("*/*")
            spoil(path)
            self.assertIsNone(self.found(cache, ONE))
        self.keep(cache, ONE, b"0123456789")
        self.assertEqual(self.found(cache, ONE), b"0123456789")

    def test_a_file_that_cannot_be_read_is_not_used_and_is_removed(self) -> None:
        cache = self.cache()

        def broken(*_: object) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        for read in (broken, lambda *_: b"01234"):
            self.keep(cache, ONE, b"0123456789")
            undo = [self.patch(os, "preadv", broken), self.patch(os, "pread", read)]
            self.assertIsNone(self.found(cache, ONE))
            for patched in undo:
                patched.restore()
            self.assertEqual([*self.directory.glob("*/*")], [])

    def test_a_body_of_which_memory_has_a_part_or_nothing_is_read_from_the_disk(
        self,
    ) -> None:
        cache = self.cache(most=LARGEST)
        text = bytes(range(250)) * 800
        self.keep(cache, ONE, text)
        (path,) = self.directory.glob("*/*")
        for start in (64 * 1024, 0):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), start, 0, os.POSIX_FADV_DONTNEED)
            self.assertEqual(self.found(cache, ONE, len(text)), text)

    def test_whatever_the_kernel_says_of_its_memory_a_body_is_whole(self) -> None:
        cache, text = self.cache(), b"0123456789"
        self.keep(cache, ONE, text)

        def part(_: int, buffers: tuple[bytearray], *__: object) -> int:
            buffers[0][:4] = text[:4]
            return 4

        def failing(code: int) -> Callable[..., int]:
            def fail(*_: object) -> int:
                raise OSError(code, os.strerror(code))

            return fail

        for preadv in (part, lambda *_: 0, failing(errno.EAGAIN), failing(errno.EOPNOTSUPP)):
            undo = self.patch(os, "preadv", preadv)
            self.assertEqual(self.found(cache, ONE), text)
            undo.restore()

    def test_a_body_that_is_written_already_is_not_written_again(self) -> None:
        threads = Threads()
        cache = self.begun(threads)
        first, second = cache.keep(ONE, b"0123456789"), cache.keep(ONE, b"0123456789")
        self.successResultOf(second)
        self.assertNoResult(first)
        threads.work()
        self.successResultOf(first)
        self.assertEqual(self.found(cache, ONE), b"0123456789")
        self.successResultOf(cache.keep(ONE, b"0123456789"))
        self.assertTrue(cache.wants(10))

    def test_threads_that_are_busy_cost_a_body_and_not_the_cache(self) -> None:
        threads = Threads()
        threads.is_full = True
        cache = self.cache(run=threads.run)
        self.keep(cache, ONE, b"0123456789")
        threads.is_full = False
        cache.close()
        cache = self.begun(threads)
        threads.is_full = True
        self.keep(cache, ONE, b"0123456789")
        self.assertIsNone(self.found(cache, ONE))
        threads.is_full = False
        kept = cache.keep(ONE, b"0123456789")
        threads.work()
        self.successResultOf(kept)
        self.assertEqual(self.found(cache, ONE), b"0123456789")

    def test_while_the_disk_is_slow_memory_is_bounded(self) -> None:
        cache = self.begun(Threads(), most=10**9)
        kept = 0
        while cache.wants(LARGEST) and kept < 1000:
            cache.keep(UUID(int=kept), bytes(LARGEST))
            kept += 1
        self.assertEqual(kept, WAITING // LARGEST)

    def test_a_disk_that_fails_costs_the_cache_and_no_message(self) -> None:
        cache = self.cache()
        self.keep(cache, ONE, b"0123456789")
        (place,) = self.directory.iterdir()
        # A write fails, and whatever is here goes.
        (place / f"{TWO.hex}.new").mkdir()
        self.keep(cache, TWO, b"0123456789")
        self.assertFalse(cache.wants(10))
        self.assertIsNone(self.found(cache, ONE))
        self.assertEqual([*self.directory.iterdir()], [])
        self.successResultOf(cache.keep(THREE, b"0123456789"))
        self.assertEqual([*self.directory.iterdir()], [])

    def test_a_directory_that_cannot_be_used_is_a_fault_that_names_the_setting(self) -> None:
        with self.assertRaisesRegex(ValueError, "^body_cache: /nonexistent: No such file"):
            BodyCache("/nonexistent", 1000, run_now)

    def test_what_a_killed_process_has_left_is_removed_and_what_a_living_one_has_is_not(
        self,
    ) -> None:
        living = self.cache()
        self.keep(living, ONE, b"0123456789")
        dead = self.directory / "bodies-dead"
        dead.mkdir()
        (dead / "body").write_bytes(b"x")
        young = self.directory / "bodies-young"
        young.mkdir()
        long_ago = time.time() - ABANDONED - 1
        for place in self.directory.iterdir():
            if place != young:
                os.utime(place, (long_ago, long_ago))
        self.keep(self.cache(), ONE, b"0123456789")
        self.assertFalse(dead.exists())
        self.assertTrue(young.exists())
        self.assertEqual(self.found(living, ONE), b"0123456789")

    def test_nobody_else_may_read_it_and_nothing_is_left_at_the_end(self) -> None:
        cache = self.cache()
        self.keep(cache, ONE, b"0123456789")
        (place,) = self.directory.iterdir()
        self.assertEqual(place.stat().st_mode & 0o777, 0o700)
        cache.close()
        self.assertEqual([*self.directory.iterdir()], [])

    def test_the_files_are_removed_in_a_thread_and_nothing_is_written_beside_it(self) -> None:
        threads = Threads()
        cache = self.begun(threads)
        kept = cache.keep(ONE, b"0123456789")
        threads.work()
        self.successResultOf(kept)
        late = cache.keep(TWO, b"0123456789")
        cache.close()
        self.assertIsNone(self.found(cache, ONE))
        self.assertEqual(len([*self.directory.glob("*/*")]), 1)
        threads.work()
        self.successResultOf(late)
        self.assertEqual([*self.directory.iterdir()], [])

    def test_what_no_thread_removes_at_the_end_the_next_process_removes(self) -> None:
        threads = Threads()
        cache = self.begun(threads)
        threads.is_full = True
        cache.close()
        (place,) = self.directory.iterdir()
        long_ago = time.time() - ABANDONED - 1
        os.utime(place, (long_ago, long_ago))
        self.keep(self.cache(), ONE, b"0123456789")
        self.assertFalse(place.exists())

    def test_a_directory_that_is_made_after_the_end_is_removed(self) -> None:
        threads = Threads()
        cache = self.cache(run=threads.run)
        self.keep(cache, ONE, b"0123456789")
        cache.close()
        threads.work()
        threads.work()
        self.assertEqual([*self.directory.iterdir()], [])

    def test_a_directory_that_cannot_be_made_is_tried_once(self) -> None:
        cache = self.cache()
        self.directory.rmdir()
        self.keep(cache, ONE, b"0123456789")
        self.assertFalse(cache.wants(10))
        self.directory.mkdir()
        self.successResultOf(cache.keep(ONE, b"0123456789"))
        self.assertEqual([*self.directory.iterdir()], [])
