"""The log of a worker: it blocks nobody and loses nothing without a word."""

from __future__ import annotations

import errno
import fcntl
import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.processes.log_pipe import AGAIN, LONGEST, MOST_WAITING, LinePipe, Lines


class LinePipeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.reading, writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.writing = writing
        self.pipe = LinePipe(writing, self.clock, lambda: True)
        self.addCleanup(self.close)

    def close(self) -> None:
        """Close both ends."""
        for end in (self.reading, self.writing):
            if end:
                os.close(end)

    def read(self) -> bytes:
        """All that the parent can read now."""
        found = b""
        while True:
            try:
                found += os.read(self.reading, 2**20)
            except BlockingIOError:
                return found

    def test_lines_are_written_at_once(self) -> None:
        self.pipe.write(b"one\ntwo\n")
        self.assertEqual(self.read(), b"one\ntwo\n")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lines_wait_for_a_parent_that_does_not_read(self) -> None:
        lines = [b"%06d %s\n" % (number, b"x" * 200) for number in range(2000)]
        for line in lines:
            self.pipe.write(line)
        found = b""
        while len(found) < sum(map(len, lines)):
            found += self.read()
            self.clock.advance(AGAIN)
        self.assertEqual(found, b"".join(lines))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_too_much_is_dropped_and_counted(self) -> None:
        line = b"x" * 1023 + b"\n"
        for _ in range(3000):
            self.pipe.write(line)
        found = b""
        while self.clock.getDelayedCalls():
            found += self.read()
            self.clock.advance(AGAIN)
        found += self.read()
        *kept, told = found.splitlines(keepends=True)
        self.assertEqual(set(kept), {line})
        self.assertLessEqual(len(kept), (MOST_WAITING + 2**16) // 1024)
        text = b"dropped %d lines of the log: the parent did not read them\n"
        self.assertEqual(told, text % (3000 - len(kept)))

    def test_a_parent_that_is_gone_costs_nothing(self) -> None:
        os.close(self.reading)
        self.reading = 0
        for _ in range(2000):
            self.pipe.write(b"x" * 1023 + b"\n")
        self.pipe.finish(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_the_end_what_waits_is_written(self) -> None:
        self.pipe.write(b"x" * 2**17 + b"\n")
        self.read()
        self.pipe.finish(1)
        self.assertTrue(self.read())

    def test_a_descriptor_of_any_number_is_waited_for(self) -> None:
        high = fcntl.fcntl(self.writing, fcntl.F_DUPFD, 1100)
        self.addCleanup(os.close, high)
        pipe = LinePipe(high, self.clock, lambda: True)
        pipe.write(b"x" * 2**17 + b"\n")
        self.read()
        pipe.finish(1)
        self.assertTrue(self.read())


class LinesTests(SynchronousTestCase):
    @given(st.lists(st.binary().map(lambda line: line.replace(b"\n", b"")), max_size=8), st.data())
    def test_where_the_pipe_is_cut_does_not_matter(
        self, lines: list[bytes], data: st.DataObject
    ) -> None:
        stream, seen = b"".join(line + b"\n" for line in lines), list[bytes]()
        taker = Lines(seen.append)
        while stream:
            cut = data.draw(st.integers(1, len(stream)))
            taker.feed(stream[:cut])
            stream = stream[cut:]
        taker.finish()
        self.assertEqual(b"".join(seen), b"".join(line + b"\n" for line in lines))
        self.assertTrue(all(one.endswith(b"\n") for one in seen))

    def test_the_last_line_of_a_process_that_died_is_kept(self) -> None:
        seen: list[bytes] = []
        taker = Lines(seen.append)
        taker.feed(b"Segmentation fault")
        taker.finish()
        self.assertEqual(seen, [b"Segmentation fault\n"])

    def test_a_line_without_end_costs_bounded_memory(self) -> None:
        seen: list[bytes] = []
        taker = Lines(seen.append)
        for _ in range(100):
            taker.feed(b"x" * 4096)
        self.assertLessEqual(max(map(len, seen)), LONGEST + 4096 + 1)

    def test_a_fault_of_what_takes_the_lines_does_not_close_the_pipe(self) -> None:
        seen: list[bytes] = []

        def take(lines: bytes) -> None:
            if lines == b"one\n":
                raise OSError(errno.ENOSPC, "No space left on device")
            seen.append(lines)

        taker = Lines(take)
        # Twisted closes a pipe if its reader raises, and the process has no log any more.
        taker.feed(b"one\n")
        taker.feed(b"two\n")
        self.assertEqual(seen, [b"two\n"])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
