"""The log of a server: which lines wait, in which order they come out, and in which pieces."""

from __future__ import annotations

import errno
import os
from threading import Thread
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.events import ConnectionRefused, POP3SessionEnded
from gateway.model import Connection
from gateway.observe.log import emit_to_log
from gateway.observe.log_file import BATCH, FLUSH_AFTER, BufferedLog, Reopened, publish, write_to
from gateway.observe.log_form import Line

CLIENT = Connection("1f", "192.0.2.1")


def ended(end: str = "quit") -> POP3SessionEnded:
    """A session's end."""
    return POP3SessionEnded(CLIENT, end, "alice", "TLSv1.3", "PASS", 1, 20, 0, 0, 0, 3, 1.25, "")


class BufferedLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.written: list[bytes] = []
        self.may_wait = True
        self.log = BufferedLog(self.written.append, self.clock.callLater, lambda: self.may_wait)
        self.logger = Logger("pop3gw.test", observer=self.log)

    @property
    def lines(self) -> list[str]:
        """Each line without its time and origin."""
        text = b"".join(self.written).decode()
        return [line.split(": ", 1)[1] for line in text.splitlines()]

    def test_lines_are_written_together_and_in_time(self) -> None:
        self.logger.info("one")
        self.logger.info("two")
        self.assertEqual(self.written, [])
        self.clock.advance(FLUSH_AFTER)
        self.assertEqual(len(self.written), 1)
        self.assertEqual(self.lines, ["one", "two"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.logger.info("three")
        self.clock.advance(FLUSH_AFTER)
        self.assertEqual(self.lines, ["one", "two", "three"])

    def test_lines_of_another_process_come_after_those_that_wait(self) -> None:
        self.logger.info("own")
        self.log.pass_on(b"then info worker: one\nthen info worker: two\n")
        self.logger.info("after")
        self.log.flush()
        self.assertEqual(self.lines, ["own", "one", "two", "after"])

    def test_what_is_wrong_is_written_at_once_behind_all_that_came_before(self) -> None:
        for level in (LogLevel.warn, LogLevel.error, LogLevel.critical):
            self.written.clear()
            self.logger.info("before")
            self.logger.emit(level, "wrong")
            self.assertEqual(self.lines, ["before", "wrong"], level)

    def test_nothing_waits_where_no_timer_may_be_set(self) -> None:
        self.logger.info("before")
        self.may_wait = False
        self.logger.info("from a thread, or at the end")
        self.assertEqual(self.lines, ["before", "from a thread, or at the end"])

    def test_a_write_has_whole_lines_that_a_pipe_keeps_together(self) -> None:
        for number in range(1000):
            self.logger.info("line {number}", number=number)
        self.log.flush()
        self.assertEqual(self.lines, [f"line {number}" for number in range(1000)])
        self.assertLess(len(self.written), 20)
        for piece in self.written:
            self.assertLessEqual(len(piece), BATCH)
            self.assertTrue(piece.endswith(b"\n"))

    def test_a_line_longer_than_that_is_one_write(self) -> None:
        self.logger.info("short")
        self.logger.info("{long}", long="x" * 10_000)
        self.log.flush()
        self.assertEqual([len(piece) > BATCH for piece in self.written], [False, True])

    def test_who_comes_while_another_writes_leaves_the_line_to_that_one(self) -> None:
        def write(data: bytes) -> None:
            if not self.written:
                self.written.append(data)
                self.logger.error("meanwhile")
                self.assertEqual(len(self.written), 1)
            else:
                self.written.append(data)

        log = BufferedLog(write, self.clock.callLater, lambda: False)
        self.logger = Logger("pop3gw.test", observer=log)
        self.logger.info("one")
        self.assertEqual(self.lines, ["one", "meanwhile"])

    def test_a_full_disk_breaks_nothing_that_logs_and_what_it_lost_is_counted(self) -> None:
        is_full = True

        def write(data: bytes) -> None:
            if is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.written.append(data)

        self.log = BufferedLog(write, self.clock.callLater, lambda: True)
        self.logger = Logger("pop3gw.test", observer=self.log)
        self.logger.info("one")
        self.log.flush()
        self.log.pass_on(b"then info worker: two\nthen info worker: three\n")
        self.logger.info("four")
        self.clock.advance(FLUSH_AFTER)
        is_full = False
        self.logger.info("five")
        self.clock.advance(FLUSH_AFTER)
        self.logger.info("six")
        self.clock.advance(FLUSH_AFTER)
        # The disk may have had room for a part of a line.
        self.assertEqual(self.written[0][:1], b"\n")
        self.written[0] = self.written[0][1:]
        lost = "could not write the log: lost 4 lines: No space left on device"
        self.assertEqual(self.lines, [lost, "five", "six"])

    def test_an_event_that_has_no_line_loses_no_other_one(self) -> None:
        first, broken, last = (self.made(ended(end)) for end in ("idle", "quit", "kicked"))
        broken["line"] = Line(broken["line"].row, "no event")
        for event in (first, broken, last):
            self.log(event)
        self.log.flush()
        self.assertEqual([line.split()[0] for line in self.lines], ["end=idle", "end=kicked"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_events_are_rendered_together_and_none_waits_for_many_others(self) -> None:
        for _ in range(1000):
            self.log(self.made(ended()))
        self.assertGreater(len(self.lines), 950)
        self.log.flush()
        self.assertEqual(len(self.lines), 1000)
        self.assertLess(len(self.written), 100)

    def test_a_line_has_its_time_its_origin_and_its_level(self) -> None:
        self.log({**self.made(ended()), "log_time": 86_400 * 365.25 * 40})
        self.log.flush()
        (line,) = b"".join(self.written).decode().splitlines()
        self.assertRegex(
            line,
            r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} info session_end: end=quit ",
        )

    def made(self, event: Any) -> dict[str, Any]:
        """What the log's subscriber makes of an event."""
        with capturedLogs() as events:
            emit_to_log(event)
        return dict(events[0])

    def test_no_reason_begins_a_line_of_its_own(self) -> None:
        self.log(self.made(ConnectionRefused(CLIENT, "pop3", "one\ntwo")))
        self.logger.info("three\nfour")
        self.log.flush()
        text = b"".join(self.written)
        self.assertIn(rb'reason="one\ntwo"', text)
        self.assertIn(b"three\n\tfour\n", text)

    def test_a_traceback_is_there(self) -> None:
        try:
            raise ZeroDivisionError("x")
        except ZeroDivisionError:
            self.logger.failure("internal error", Failure())
        text = b"".join(self.written)
        self.assertIn(b"internal error\n\tTraceback ", text)
        self.assertIn(b"ZeroDivisionError: x", text)

    def test_octets_that_are_no_text_are_shown(self) -> None:
        self.logger.info("{name}", name="\udcff")
        self.log.flush()
        self.assertEqual(self.lines, ["\\udcff"])


class WriteTests(SynchronousTestCase):
    def test_all_is_written_where_the_pipe_is_full_and_does_not_block(self) -> None:
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        os.set_blocking(write, False)
        with self.assertRaises(BlockingIOError):
            while True:
                os.write(write, b"x" * 4096)
        data = b"line\n" * 10_000
        got: list[bytes] = []

        def read_all() -> None:
            with os.fdopen(os.dup(read), "rb") as pipe:
                got.append(pipe.read())

        os.set_blocking(read, True)
        reader = Thread(target=read_all)
        reader.start()
        write_to(write)(data)
        os.close(write)
        reader.join()
        self.assertTrue(got[0].endswith(data))

    def test_two_processes_may_append_to_one_file(self) -> None:
        path = self.mktemp()
        ends = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for _ in range(2)]
        logs = [BufferedLog(write_to(end), Clock().callLater, lambda: True) for end in ends]
        for _ in range(100):
            for number, log in enumerate(logs):
                Logger("x", observer=log).info("line of {number}", number=number)
        for log, end in zip(logs, ends, strict=True):
            log.flush()
            os.close(end)
        with open(path) as file:
            lines = file.read().splitlines()
        self.assertEqual(len(lines), 200)
        self.assertEqual(sum(line.endswith("line of 1") for line in lines), 100)


class File:
    """As Twisted's ``LogFile``: closed for good once it could not be rotated."""

    def __init__(self, written: list[bytes]) -> None:
        self.written = written
        self.is_closed = False

    def write(self, data: bytes) -> None:
        """Write, and rotate before that where it is due."""
        if self.is_closed:
            raise ValueError("I/O operation on closed file.")
        if data == b"due\n":
            self.rotate()
        self.written.append(data)

    def rotate(self) -> None:
        """Close, and find no room for another file."""
        self.is_closed = True
        raise OSError(errno.ENOSPC, "No space left on device")


class ReopenedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.written: list[bytes] = []
        self.file = Reopened(lambda: File(self.written))

    def test_a_file_that_could_not_be_rotated_is_opened_again(self) -> None:
        self.file.write(b"one\n")
        self.assertRaises(OSError, self.file.write, b"due\n")
        self.file.write(b"two\n")
        self.assertRaises(OSError, self.file.rotate)
        self.file.write(b"three\n")
        self.assertEqual(self.written, [b"one\n", b"two\n", b"three\n"])

    def test_one_that_cannot_be_opened_again_is_tried_at_each_write(self) -> None:
        files = iter([File(self.written), None, File(self.written)])

        def reopen() -> File:
            file = next(files)
            if file is None:
                raise OSError(errno.EMFILE, "Too many open files")
            return file

        self.file = Reopened(reopen)
        for lines in (b"due\n", b"one\n"):
            self.assertRaises(OSError, self.file.write, lines)
        self.file.write(b"two\n")
        self.assertEqual(self.written, [b"two\n"])


class PublishTests(SynchronousTestCase):
    def test_lines_of_another_process_become_events_of_their_origin_and_level(self) -> None:
        written: list[bytes] = []
        log = BufferedLog(written.append, Clock().callLater, lambda: False)
        Logger("pop3gw.test", observer=log).warn("{what}", what="{disk} full [sda#1]")
        written.append(b"no time and no origin\n")
        with capturedLogs() as events:
            publish(b"".join(written))
        self.assertEqual(
            [(one["log_namespace"], one["log_level"], formatEvent(one)) for one in events],
            [
                ("pop3gw.processes", LogLevel.warn, "pop3gw.test: {disk} full [sda#1]"),
                ("pop3gw.processes", LogLevel.info, "no time and no origin"),
            ],
        )

    def test_the_lines_of_a_traceback_stay_together(self) -> None:
        written: list[bytes] = []
        log = BufferedLog(written.append, Clock().callLater, lambda: False)
        Logger("pop3gw.test", observer=log).error("one\ntwo\nthree")
        with capturedLogs() as events:
            publish(b"".join(written))
        self.assertEqual([formatEvent(one) for one in events], ["pop3gw.test: one\ntwo\nthree"])
