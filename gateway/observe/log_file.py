"""The log of a server: lines rendered and written in batches."""

from __future__ import annotations

import os
import re
import select
from collections import deque
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Protocol

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from zope.interface import implementer

from gateway.observe.log_form import Line, line_of

FLUSH_AFTER = 0.5
"""Seconds that a line waits at most for others."""

BATCH = 4096
"""Octets in one write: POSIX keeps that many together in a pipe (PIPE_BUF on Linux)."""

USUAL = 200
"""Octets of a line that waits for others to be rendered, more or less."""

_AT_ONCE = {LogLevel.warn, LogLevel.error, LogLevel.critical}


@implementer(ILogObserver)
class BufferedLog:
    """A log observer that writes whole lines, many at a time.

    A line of level info or debug waits for others, if a timer will write it.  Any
    other line is written at once, after all that wait, so lines keep their order.
    Several processes may write to one file that is open for appending.

    A line of an event, which does not change, is rendered when it is written: twenty lines
    in a row cost a third of what each costs in the midst of a session.
    """

    log = Logger()

    def __init__(
        self,
        write: Callable[[bytes], object],
        later: Callable[[float, Callable[[], object]], object],
        may_wait: Callable[[], bool],
    ) -> None:
        """``write`` takes whole lines; ``later`` is ``reactor.callLater``.

        ``may_wait``: whether ``later`` may be called: the reactor runs, in this thread.
        """
        self._write = write
        self._later = later
        self._may_wait = may_wait
        self._lines: deque[bytes | LogEvent] = deque()
        """Lines, and events that are to be rendered."""
        self._octets = 0
        """How long they are, more or less."""
        self._scheduled = False
        self._writing = Lock()
        self._lost = 0
        """Lines that could not be written, since a write went well."""
        self._why = ""

    def __call__(self, event: LogEvent) -> None:
        """Take an event; never fails for one that can be formatted, whatever the disk does."""
        size = USUAL
        line: bytes | LogEvent = event
        if type(event.get("line")) is not Line:
            if not (line := line_of(event)):
                return
            size = len(line)
        if self._octets + size > BATCH:
            self.flush()
        self._octets += size
        self._lines.append(line)
        if event.get("log_level") in _AT_ONCE or not self._may_wait():
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._later(FLUSH_AFTER, self._flush_in_time)

    def pass_on(self, lines: bytes) -> None:
        """Write lines that the log of another process has made, after all that wait."""
        self._lines.append(lines)
        self.flush()

    def _flush_in_time(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Write all lines that wait.

        A thread or a signal handler that comes while another writes leaves its
        lines to that one, which looks again before it ends.
        """
        while self._lines and self._writing.acquire(blocking=False):
            try:
                self._octets = 0
                self._write_all()
            finally:
                self._writing.release()

    def _write_all(self) -> None:
        while self._lines:
            batch = b"".join(self._batch())
            try:
                if self._lost:
                    self._write(self._loss())
                    self._lost = 0
                self._write(batch)
            except Exception as error:
                # A full disk must not end what logs, nor the reading of a worker's pipe.
                self._lost += batch.count(b"\n")
                self._why = str(getattr(error, "strerror", None) or error)

    def _loss(self) -> bytes:
        line = line_of(
            {
                "log_format": "could not write the log: lost {lines} lines: {reason}",
                "log_level": LogLevel.error,
                "log_namespace": self.log.namespace,
                "lines": self._lost,
                "reason": self._why,
            }
        )
        # The last write may have ended within a line.
        return b"\n" + line

    def _batch(self) -> Iterator[bytes]:
        size = 0
        while self._lines:
            line = self._lines.popleft()
            if not isinstance(line, bytes):
                try:
                    line = line_of(line)
                except Exception:
                    # Not for this line's sake are the others lost; this one comes behind them.
                    self.log.failure("an event has no line")
                    continue
            if size and size + len(line) > BATCH:
                self._lines.appendleft(line)
                return
            size += len(line)
            yield line


class RotatedFile(Protocol):
    """A ``LogFile`` of Twisted."""

    def write(self, data: bytes) -> object:
        """Write lines, to another file if it is time."""

    def rotate(self) -> object:
        """Go on in another file."""


class Reopened:
    """A ``LogFile`` that is opened again if it is closed, as one that could not be rotated is."""

    def __init__(self, reopen: Callable[[], RotatedFile]) -> None:
        """``reopen`` opens the file."""
        self._reopen = reopen
        self._file = reopen()

    def write(self, lines: bytes) -> None:
        """As ``LogFile.write``."""
        try:
            self._file.write(lines)
        except ValueError:
            # It is closed.  After other faults it stays: the user may be one who cannot open it.
            self._file = self._reopen()
            self._file.write(lines)

    def rotate(self) -> None:
        """As ``LogFile.rotate``."""
        self._file.rotate()


_LINE = re.compile(r"(?s)\S+ (debug|info|warn|error) (.*)")


def publish(lines: bytes) -> None:
    """Hand lines that the log of another process has made to the log of this one, as events."""
    whole = lines.decode("utf-8", "backslashreplace").removesuffix("\n")
    # Further lines of one message are indented.
    for text in re.split(r"\n(?!\t)", whole):
        text = text.replace("\n\t", "\n")
        found = _LINE.fullmatch(text)
        level, line = found.groups() if found else ("info", text)
        Logger("pop3gw.processes").emit(LogLevel.lookupByName(level), "{line}", line=line)


def write_to(descriptor: int) -> Callable[[bytes], None]:
    """A function that writes octets to an open file, all of them."""

    def write(data: bytes) -> None:
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:
                # Somebody else made the pipe non-blocking.
                until_writable(descriptor)

    return write


def until_writable(descriptor: int, seconds: float | None = None) -> None:
    """Wait until a pipe takes more; for ``seconds`` at most, or without limit.  Blocks."""
    # Unlike select, it takes descriptors of any number.
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    room.poll(None if seconds is None else seconds * 1000)
