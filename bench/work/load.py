"""The client: many POP3 conversations in one thread, as lean as Python allows.

Its own CPU is not counted, but it shares the machine with the servers.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import select
import socket
import ssl
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

_BUFFER = memoryview(bytearray(262_144))


class LoadFailed(Exception):
    """A server said or did something else than the row expects."""


class Step(NamedTuple):
    """One command and what ends its reply; an empty command waits for the greeting."""

    command: bytes
    lines: bool = False
    expect: bytes = b"+OK"


QUIT = Step(b"QUIT\r\n")


def login(name: str, password: str) -> list[Step]:
    """From the greeting to the transaction state."""
    return [
        Step(b""),
        Step(f"USER {name}\r\n".encode()),
        Step(f"PASS {password}\r\n".encode()),
    ]


class Tickets:
    """TLS sessions to resume: each line takes the newest one and leaves its own."""

    def __init__(self) -> None:
        self.newest: ssl.SSLSession | None = None
        self.lines = 0
        self.resumed = 0

    def leave(self, line: ssl.SSLSocket) -> None:
        """Count a line that ends, and take its session."""
        self.lines += 1
        self.resumed += bool(line.session_reused)
        self.newest = line.session


class Line:
    """One connection; TLS when a context is given, resumed when it has tickets."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext | None,
        host: str = "127.0.0.1",
        tickets: Tickets | None = None,
    ) -> None:
        self.born = time.perf_counter()
        self.handshaking = context is not None
        self._tickets = tickets
        line = socket.create_connection((host, port), timeout=10)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.setblocking(False)
        self.socket = line
        if context is not None:
            session = None if tickets is None else tickets.newest
            self.socket = context.wrap_socket(line, do_handshake_on_connect=False, session=session)

    def close(self) -> None:
        """Leave the session for others and close the socket."""
        if self._tickets is not None and isinstance(self.socket, ssl.SSLSocket):
            self._tickets.leave(self.socket)
        self.socket.close()

    def handshake(self) -> None:
        """Go on with the TLS handshake, if there is one, as far as possible."""
        if self.handshaking and isinstance(self.socket, ssl.SSLSocket):
            try:
                self.socket.do_handshake()
            except ssl.SSLWantReadError:
                return
        self.handshaking = False


class Talk:
    """Steps to go through on a line; with ``ends`` the server closes it after the last."""

    __slots__ = ("_head", "_steps", "_tail", "body", "ends", "line", "sent", "step")

    def __init__(self, line: Line, steps: Iterable[Step], ends: bool) -> None:
        self.line = line
        self.ends = ends
        self._steps = iter(steps)
        self.step: Step | None = None
        self.sent = line.born
        self._head = self._tail = b""
        self.body = 0

    def go_on(self) -> bool:
        """Send the next command; False when there is none left."""
        self.step = next(self._steps, None)
        if self.step is None:
            return False
        self._head = self._tail = b""
        self.body = 0
        if self.step.command:
            self.sent = time.perf_counter()
            self.line.socket.sendall(self.step.command)
        return True

    def read(self) -> bool | None:
        """True: the reply is complete.  False: more must come.  None: the line is closed."""
        while True:
            try:
                count = self.line.socket.recv_into(_BUFFER)
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            except ConnectionResetError:
                count = 0
            if count == 0:
                return None
            self._take(count)
            if self._complete():
                return True
            if count < len(_BUFFER) and not isinstance(self.line.socket, ssl.SSLSocket):
                return False

    def _take(self, count: int) -> None:
        if b"\r\n" not in self._head:
            self._head += bytes(_BUFFER[: min(count, 512)])
        self._tail = (self._tail + bytes(_BUFFER[max(0, count - 5) : count]))[-5:]
        self.body += count

    def _complete(self) -> bool:
        if self.step is None:
            raise LoadFailed(f"nothing was asked, but {self._head[:80]!r} came")
        if self._tail[-2:] != b"\r\n":
            return False
        if not self._head.startswith(self.step.expect):
            asked = self.step.command.split(b" ")[0].strip() or b"the greeting"
            raise LoadFailed(f"{asked!r}: expected {self.step.expect!r}, got {self._head[:80]!r}")
        if self.step.lines and self._tail != b"\r\n.\r\n":
            return False
        self.body -= self._head.index(b"\r\n") + 2
        return True


class Tally:
    """What a load took: times in seconds, octets of replies without status lines."""

    def __init__(self) -> None:
        self.replies = array("d")
        self.sessions = array("d")
        self.octets = 0
        self.seconds = 0.0


def converse(talks: Iterator[Talk], at_once: int, limit: float = 120.0) -> Tally:
    """Hold all ``talks``, ``at_once`` of them at a time; fails after ``limit`` seconds."""
    tally = Tally()
    begun = time.perf_counter()
    poll = select.epoll()
    open_now: dict[int, Talk] = {}
    try:
        while True:
            while len(open_now) < at_once and (talk := next(talks, None)) is not None:
                number = talk.line.socket.fileno()
                open_now[number] = talk
                poll.register(number, select.EPOLLIN)
                talk.line.handshake()
                if not talk.line.handshaking:
                    talk.go_on()
            if not open_now:
                break
            for number, _ in poll.poll(1.0):
                if _advance(open_now[number], tally):
                    poll.unregister(number)
                    _leave(open_now.pop(number))
            if time.perf_counter() - begun > limit:
                raise LoadFailed(f"not done after {limit:.0f} s")
    finally:
        poll.close()
    tally.seconds = time.perf_counter() - begun
    return tally


def _advance(talk: Talk, tally: Tally) -> bool:
    """Take what has come; True when the talk is over."""
    if talk.line.handshaking:
        talk.line.handshake()
        if talk.line.handshaking:
            return False
        talk.go_on()
    while (complete := talk.read()) is True:
        now = time.perf_counter()
        tally.replies.append(now - talk.sent)
        tally.octets += talk.body
        if not talk.go_on():
            tally.sessions.append(now - talk.line.born)
            if not talk.ends:
                return True
    if complete is None and talk.step is not None:
        raise LoadFailed(f"the line was closed before the reply to {talk.step.command[:4]!r}")
    return complete is None


def _leave(talk: Talk) -> None:
    if talk.ends:
        talk.line.close()


def tls_context() -> ssl.SSLContext:
    """TLS 1.3 only, nothing verified; no session resumed but by ``Tickets``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Probe:
    """Another user's session in a process of its own: NOOP every ``rate_limit`` seconds.

    Its replies' times show how long other sessions are held up meanwhile.
    """

    def __init__(self, port: int, steps: Sequence[Step], rate_limit: float = 0.003) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_probe, args=(theirs, port, steps, rate_limit))
        self._process.start()
        if not self._pipe.poll(20) or self._pipe.recv() != "ready":
            self.stop()
            raise LoadFailed("the probe could not log in")

    def stop(self) -> list[float]:
        """The times of all replies since the last call, in seconds; ends the process."""
        times: list[float] = []
        try:
            if self._process.is_alive():
                self._pipe.send("stop")
                if self._pipe.poll(20):
                    times = self._pipe.recv()
        except (EOFError, OSError):
            pass
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return times


def _probe(
    pipe: multiprocessing.connection.Connection, port: int, steps: Sequence[Step], rate_limit: float
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for step in steps:
            if step.command:
                line.sendall(step.command)
            if not line.recv(512).startswith(b"+OK"):
                pipe.send("refused")
                return
        pipe.send("ready")
        times = []
        while not pipe.poll():
            begun = time.perf_counter()
            line.sendall(b"NOOP\r\n")
            line.recv(512)
            times.append(time.perf_counter() - begun)
            time.sleep(rate_limit)
        pipe.recv()
        line.sendall(b"QUIT\r\n")
        line.recv(512)
        pipe.send(times)
