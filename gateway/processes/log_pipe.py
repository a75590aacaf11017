"""The log of a worker: lines through a pipe to the parent, which writes them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from threading import Lock

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gateway.observe.log_file import until_writable

MOST_WAITING = 2**20
"""Octets of lines that wait at most for a parent that does not read; later ones are dropped."""

AGAIN = 0.2
"""Seconds until lines that wait are tried again."""

LONGEST = 64 * 1024
"""Octets after which the parent cuts a line."""


class LinePipe:
    """Writes to a pipe without ever blocking; any thread may call ``write``."""

    def __init__(
        self,
        descriptor: int,
        clock: IReactorTime,
        may_wait: Callable[[], bool],
    ) -> None:
        """``descriptor``: of the pipe, which becomes non-blocking.

        ``may_wait``: whether ``clock`` may be used: the reactor runs, in this thread.
        """
        self._descriptor = descriptor
        self._clock = clock
        self._may_wait = may_wait
        self._waiting: deque[bytes] = deque()
        self._octets = 0
        self._dropped = 0
        self._scheduled = False
        self._lock = Lock()
        os.set_blocking(descriptor, False)

    def write(self, lines: bytes) -> None:
        """Write whole lines, now or when the parent reads again."""
        with self._lock:
            if self._octets + len(lines) > MOST_WAITING:
                self._dropped += lines.count(b"\n")
            else:
                self._waiting.append(lines)
                self._octets += len(lines)
            self._write()
            again = bool(self._waiting) and not self._scheduled and self._may_wait()
            self._scheduled = self._scheduled or again
        if again:
            self._clock.callLater(AGAIN, self._try_again)

    def _try_again(self) -> None:
        self._scheduled = False
        self.write(b"")

    def _write(self) -> None:
        while self._waiting or self._dropped:
            if not self._waiting:
                text = f"dropped {self._dropped} lines of the log: the parent did not read them\n"
                self._waiting.append(text.encode())
                self._octets, self._dropped = len(text), 0
            piece = self._waiting[0]
            try:
                written = os.write(self._descriptor, piece) if piece else 0
            except BlockingIOError:
                return
            except OSError:
                # The parent is gone: nobody reads any of it.
                written = len(piece)
            self._octets -= written
            if written < len(piece):
                self._waiting[0] = piece[written:]
            else:
                self._waiting.popleft()

    def finish(self, seconds: float) -> None:
        """Write what waits, at the end of the process; block for ``seconds`` at most."""
        if self._waiting:
            until_writable(self._descriptor, seconds)
            self.write(b"")


class Lines:
    """Octets of a pipe to whole lines."""

    log = Logger()

    def __init__(self, take: Callable[[bytes], object]) -> None:
        """``take`` is called with one or more whole lines."""
        self._take = take
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take octets as they arrive."""
        whole, end, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest
        if end:
            self._hand_on(whole + end)
        elif len(rest) > LONGEST:
            self.finish()

    def finish(self) -> None:
        """The pipe is closed: what has come is the last line."""
        rest, self._rest = self._rest, b""
        if rest:
            self._hand_on(rest + b"\n")

    def _hand_on(self, lines: bytes) -> None:
        try:
            self._take(lines)
        except Exception:
            # Twisted closes the pipe if its reader raises, and nothing opens it again.
            self.log.failure("internal error: lines of another process")
